"""What tests of several judges share: samples as lm-eval writes them, and the command run in this process."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tiny

from harness_plugin.cli import main
from harness_plugin.comparison.entries import Entry, Timing
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.scoring.judgement import judged

WINNERS = ("model_a", "model_b", "tie")
STAMP = "2026-01-02T03-04-05.000006"


def run(capsys, *args):
    """(exit code, stdout, stderr) of `arena-rm` in this process."""
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


def samples(folder: Path, pairs, opinion, model: str = "a-language-model", task: str = "arena_pairs") -> Path:
    """A folder with lm-eval's results and samples of pairs in both orders. `opinion(pair)`: the log-likelihoods of A, B
    and tie of the pair as it is shown."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for pair in pairs:
        for shown, swapped in ((pair, False), (pair.swap(), True)):
            doc = {name: value for name, value in shown.to_dict().items() if name not in ("id", "model_a", "model_b")}
            doc |= {"pair_id": pair.id, "swapped": swapped, "prompt_key": pair.prompt_key}
            rows.append({"doc": doc, "filter": "none", "filtered_resps": [[ll, False] for ll in opinion(shown)]})
    text = "".join(json.dumps({"doc_id": n, **row}) + "\n" for n, row in enumerate(rows))
    (folder / f"samples_{task}_{STAMP}.jsonl").write_text(text, encoding="utf-8")
    content = {"model_name": model, "n-samples": {task: {"effective": len(rows)}}, "config": {}}
    (folder / f"results_{STAMP}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def prefers_longer(pair):
    """Log-likelihoods of A, B and tie of a judge that prefers the longer response, and the first one a little."""
    a, b = pair.lengths
    z = math.log((b + 1) / (a + 1)) - 0.1
    return [-z / 2, z / 2, -1.0]


def votes(count: int, seed: int = 0, topic: str = "ask") -> list[Pair]:
    """Pairs with winners; every second prompt has two pairs. `topic`: the beginning of the prompts."""
    draw = np.random.default_rng(seed)
    return [
        Pair(
            f"{topic} {n - n % 3 % 2}",
            tiny.words(int(draw.integers(2, 30)), n),
            tiny.words(int(draw.integers(2, 30)), 500 + n),
            id=f"v{n}",
            winner=WINNERS[int(draw.choice(3, p=(0.4, 0.4, 0.2)))],
            category=("coding", "writing")[n % 2],
        )
        for n in range(count)
    ]


def opinions(pairs, label: str, skill: float, seed: int, tie_nu: float = 0.5, tokens: int = 100) -> Entry:
    """A made-up judge: its logit follows the winner as much as `skill` says."""
    draw = np.random.default_rng(seed)
    sign = {"model_a": -1.0, "model_b": 1.0, "tie": 0.0}
    s = np.array([skill * sign[str(pair.winner)] for pair in pairs]) + draw.normal(size=len(pairs))
    bias = 0.3 * draw.normal(size=len(pairs))
    reading = [{"tokens": tokens, "truncated": False, "kept": {}}] * len(pairs)
    found = judged(pairs, [(z,) for z in s + bias], [(z,) for z in bias - s], Calibration(1.0, tie_nu), label, reading)
    return Entry(label, "judged", {"hash": label}, {j.key: j for j in found}, Timing(2.0, len(pairs)))
