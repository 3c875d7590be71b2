"""Battles to label, votes on them as the page saves them, and a judged folder to draw from."""

import json

from tournament_rows import run_of

from harness_plugin.pairs import Pair
from harness_plugin.tournament import VERDICTS_FILE, write_answers


def judged_folder(folder, files):
    """A folder as `arena-rm judge` leaves it, as far as labelling reads it, judged by length."""
    _, judged = run_of(files)
    folder.mkdir()
    write_answers(folder, judged.battles)
    rows = "".join(json.dumps(v.to_row()) + "\n" for v in judged.verdicts)
    (folder / VERDICTS_FILE).write_text(rows, "utf-8")
    return judged


def pair(n, a="heron", b="ibis", **more):
    return Pair(prompt=f"Question {n}?", response_a=f"{a} {n}", response_b=f"{b} {n}", model_a=a, model_b=b, **more)


def vote(n, winner, annotator="Ann", both_bad=False, first="a", **more):
    row = pair(n).to_dict() | {
        "winner": winner,
        "annotator": annotator,
        "both_bad": both_bad,
        "skipped": winner is None,
    }
    return (
        row | {"sampling_probability": 0.25, "stratum": 1, "design": "d" * 16, "design_seed": 0, "first": first} | more
    )


def saved(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)
