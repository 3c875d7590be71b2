"""Small stored runs of every kind that the gate reads, made without a model, for the tests of damage."""

import hashlib
import json
from pathlib import Path

import gate_rows
import tournament_rows

from harness_plugin.files import atomic_write
from harness_plugin.report.judge_folder import write_run
from harness_plugin.tournament import write_answers
from harness_plugin.tournament.folder import VERDICTS_FILE

STAMP = "2026-01-02T03-04-05.000001"
RESULTS = f"results_{STAMP}.json"


def judge_folder(folder: Path, worse: bool = False) -> Path:
    """What `arena-rm judge` leaves of a chatbot and its baseline, without pictures; the judge prefers long answers, and
    a worse chatbot gives short ones."""
    (folder / "answers").mkdir(parents=True)
    prompts = [f"Question {n}?" for n in range(40)]
    files = [
        tournament_rows.alpaca(folder / "answers", "ibis", dict.fromkeys(prompts, "of middle length"), "ibis.json"),
        tournament_rows.alpaca(
            folder / "answers",
            "heron",
            {p: "short" if worse else f"a longer answer to number {n % 7}" for n, p in enumerate(prompts)},
            "heron.json",
        ),
    ]
    board, judged = tournament_rows.run_of(files, "ibis")
    place = folder / "judged"
    place.mkdir()
    with atomic_write(place / VERDICTS_FILE) as out:
        for verdict in judged.verdicts:
            out.write(json.dumps(verdict.to_row()) + "\n")
    write_answers(place, judged.battles)
    write_run(place, board, judged, pictures=False)
    return place


def lm_eval_folder(folder: Path, task: str, rows: list[dict], better: dict[str, bool], **more) -> Path:
    """What lm-eval leaves of one task with --log_samples."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "results": {task: {}},
        "higher_is_better": {task: better},
        "versions": {task: 1.0},
        "n-shot": {task: 0},
        "n-samples": {task: {"original": len(rows), "effective": len(rows)}},
        "config": {"model": "dummy"},
        "model_name": "dummy",
        **more,
    }
    (folder / RESULTS).write_text(json.dumps(results), encoding="utf-8")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"samples_{task}_{STAMP}.jsonl").write_text(text, encoding="utf-8")
    return folder


def sums_folder(folder: Path, count: int = 300, wrong: int = 30) -> Path:
    """A task with a number per document; every `wrong`-th answer is wrong."""
    rows = [
        {
            "doc_id": n,
            "doc": {"question": f"{n} + {n}"},
            "doc_hash": hashlib.sha256(f"doc {n}".encode()).hexdigest(),
            "prompt_hash": hashlib.sha256(f"prompt {n}".encode()).hexdigest(),
            "target_hash": hashlib.sha256(f"target {n}".encode()).hexdigest(),
            "target": str(2 * n),
            "arguments": {"gen_args_0": {"arg_0": f"{n} + {n} ="}},
            "resps": [[str(2 * n)]],
            "filtered_resps": [str(2 * n)],
            "filter": "none",
            "metrics": ["acc"],
            "acc": float(n % wrong > 0),
        }
        for n in range(count)
    ]
    return lm_eval_folder(folder, "sums", rows, {"acc": True})


def pairs_folder(folder: Path, count: int = 30, skill: int = 1) -> Path:
    """The task arena_pairs: both orders of each pair; a judge of negative skill prefers the wrong side."""
    rows = []
    for n in range(count):
        doc = {
            "pair_id": f"p{n}",
            "prompt": f"Question {n}?",
            "response_a": f"no {n}",
            "response_b": f"yes {n}",
            "winner": gate_rows.WINNERS[n % 3],
            "category": f"c{n % 2}",
            "prompt_key": f"k{n}",
        }
        for swapped in (False, True):
            right = {"model_a": -1, "model_b": 1, "tie": 0}[gate_rows.WINNERS[n % 3]]
            odds = skill * right * (1 + n % 3) * (-1 if swapped else 1)
            if swapped:
                exchanged = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}[doc["winner"]]
                doc = doc | {"response_a": doc["response_b"], "response_b": doc["response_a"], "winner": exchanged}
            lls = [[str(-1 - odds / 2), "False"], [str(-1 + odds / 2), "False"], ["-2.0", "False"]]
            rows.append(
                {"doc": doc | {"swapped": swapped}, "filter": "none", "filtered_resps": lls, "doc_id": len(rows)}
            )
    return lm_eval_folder(folder, "arena_pairs", rows, {"acc": True}, config={"arena_rm": {"prompt_version": 1}})


def change_row(file: Path, number: int, **fields) -> None:
    """Overrides fields of one row of a JSON lines file; None as a name's value stays null, ... removes the field."""
    lines = file.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[number]) | fields
    lines[number] = json.dumps({name: value for name, value in row.items() if value is not ...})
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
