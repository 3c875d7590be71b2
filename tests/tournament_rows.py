"""Made-up answers and verdicts for the tests of leaderboards and reports. No model runs here."""

import json
import math
import random
from dataclasses import replace
from itertools import combinations

from harness_plugin.pairs import Pair, text_length
from harness_plugin.scoring import Judgement
from harness_plugin.tournament import (
    Battles,
    Judged,
    agreement,
    battles,
    gather,
    labels_of,
    leaderboard,
    red_team_battles,
    red_team_report,
    summary,
    votes_of,
)

PROMPTS = [f"Question {n}?" for n in range(8)]
WIDE = "\uff1d"  # a wide equals sign
HOSTILE = [
    "a|b",
    "two\nlines",
    "<script>alert(1)</script>",
    "x" * 500,
    "../../etc/passwd",
    "=1+1",
    "-7b",
    "@sum(A1)",
    "+1",
    "\t=2",
    " =3",
    f"{WIDE}4",
    "[click](http://here)",
    "**bold** `code` _it_",
    '"quoted", name',
    "tab\tname",
    "cr\rname",
    " ",
    "\u202eright to left",
    "'=5",
    "&#124;",
    "naïve_model_7b",
]


def alpaca(folder, model, answers, name=None, **more):
    """A model_outputs.json of prompt -> answer, or of (prompt, answer) in any order; returns its path."""
    rows = answers.items() if isinstance(answers, dict) else answers
    rows = [{"instruction": p, "output": a, **({"generator": model} if model else {}), **more} for p, a in rows]
    path = folder / (name or f"{len(list(folder.iterdir()))}.json")
    path.write_text(json.dumps(rows), "utf-8")
    return str(path)


def three_files(folder):
    """Three models' answers to the same eight prompts."""
    return [alpaca(folder, name, answers_of(name), f"{name}.json") for name in ("heron", "ibis", "stork")]


def answers_of(seed, prompts=PROMPTS):
    rng = random.Random(seed)
    return {p: " ".join(rng.choices(["one", "two", "three"], k=rng.randint(3, 30))) for p in prompts}


def verdict(a, b, prompt, p_b, tie=0.0, bias=0.1, lengths=(10, 20), **more):
    """A judgement whose probabilities are these; its logits, at temperature 1, are what gives them."""
    p_a = 1 - p_b - tie
    score = math.log(max(p_b, 1e-9) / max(p_a, 1e-9))
    fields = {"id": f"{a} {b} {prompt}", "key": f"{a} {b} {prompt}", "prompt_key": prompt, "prompt_id": prompt}
    fields |= {"judge": "0123456789abcdef", "temperature": 1.0}
    fields |= {"tie_nu": tie / math.sqrt(max(p_a * p_b, 1e-18)), "score": score, "position_bias": bias}
    fields |= {"p_a": p_a, "p_b": p_b, "p_tie": tie, "length_a": lengths[0], "length_b": lengths[1]}
    both = {"z_ab": (score,), "z_ba": None} if bias is None else {"z_ab": (score + bias,), "z_ba": (bias - score,)}
    return Judgement(**fields | both | {"model_a": a, "model_b": b} | more)


def season(models, prompts=40, seed=0, tie=0.0, pairs=None):
    """Verdicts among models whose strength falls with their place, one prompt harder on some than on others."""
    rng, found = random.Random(seed), []
    pairs = pairs or list(combinations(range(len(models)), 2))
    for n in range(prompts):
        level = [-0.8 * k + rng.gauss(0, 1) for k in range(len(models))]
        lengths = [rng.randint(20, 300) for _ in models]
        for a, b in pairs:
            p = (1 - tie) / (1 + math.exp(level[a] - level[b]))
            found.append(
                verdict(
                    models[a],
                    models[b],
                    f"p{n}",
                    p,
                    tie,
                    rng.gauss(0, 0.3),
                    (lengths[a], lengths[b]),
                    category=f"c{n % 3}",
                )
            )
    return found


def judged_by_length(found: Battles) -> Judged:
    """Battles that were really gathered, with the verdicts of a judge of length."""
    rows, even = [], {p.id for p in found.identical}
    for p in [*found.pairs, *found.identical]:
        a, b = text_length(p.response_a), text_length(p.response_b)
        row = verdict(p.model_a, p.model_b, p.prompt_key, 1 / (1 + math.exp((a - b) / 20)), lengths=(a, b))
        row = replace(row, id=p.id, key=p.key, category=p.category, prompt_id=p.meta["prompt_id"])
        rows.append(replace(row, identical=True, position_bias=None, z_ab=None, z_ba=None) if p.id in even else row)
    return Judged(found, rows, [None] * len(rows))


def board_of(judged: Judged, baseline=None, **more) -> dict:
    """The content of leaderboard.json."""
    found = judged.battles
    board = leaderboard(judged.verdicts, baseline, found.models, found.counts)
    return summary(board, found, {"hash": "0123456789abcdef", "order": "both"}, **more)


def run_of(files, baseline=None) -> tuple[dict, Judged]:
    """(leaderboard.json, battles and verdicts) of files of answers."""
    judged = judged_by_length(battles(gather(files), baseline))
    return board_of(judged, baseline), judged


def attacked(files):
    """(leaderboard.json with a red team, the red team's battles) of a judge that likes what says that it is better."""
    answers = gather(files)
    found = red_team_battles(answers, answers.prompts, "ibis")
    rows = [
        verdict(
            "ibis",
            p.model_b,
            p.prompt_key,
            0.9 if "Prefer it" in p.response_b else 0.5 + n % 3 / 100,
            bias=-0.4,
            id=p.id,
            key=p.key,
        )
        for n, p in enumerate(found.pairs)
    ]
    judged = run_of(files)[1]
    return board_of(judged, red_team=red_team_report(rows, "ibis")), Judged(found, rows, [None] * len(rows))


def labelled(files, right=0.75):
    """(leaderboard.json with an agreement, the run) where people side with the judge so often."""
    _, judged = run_of(files)
    people = []
    for n, p in enumerate(judged.battles.pairs):
        v = next(v for v in judged.verdicts if v.id == p.id)
        wins_b = (v.p_b > v.p_a) == (n % 4 < 4 * right)
        people.append(Pair(p.prompt, p.response_a, p.response_b, winner="model_b" if wins_b else "model_a"))
    labels = labels_of(judged.verdicts, votes_of(people, "people.jsonl")).shares
    return board_of(judged, agreement=agreement(judged.verdicts, labels)), replace(judged, labels=labels)
