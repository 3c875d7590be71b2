"""Folders of `arena-rm judge` -> a run: how often one chatbot is preferred to the others, prompt by prompt.

The chatbot is under test; the judge and the answers that it is compared with must be the same in both runs. Knows the
files that a judging leaves.
"""

import json
from collections.abc import Collection
from pathlib import Path

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import json_object, number, optional_text, text, wrong_value
from harness_plugin.files.opening import open_binary
from harness_plugin.files.printable import readable
from harness_plugin.files.rows import parse_json, whole_rows
from harness_plugin.gate.readers.identity import judge_fingerprints
from harness_plugin.gate.run import JUDGE, Item, Run, Texts, items_of, kept
from harness_plugin.tournament.match import ANSWERS_FILE
from harness_plugin.tournament.verdicts import VERDICTS_FILE

BOARD_FILE = "leaderboard.json"
METRICS = {"win_rate": True, "win_rate_hard": True}  # the first decides: soft preferences need a third fewer prompts


def read_judge_run(folder: Path, model: str | None = None) -> Run:
    """`model`: the chatbot under test; it may be left out where one chatbot met one baseline. Raises DataError for a
    run that is not whole and UsageError for a model that it does not have."""
    board = _board(folder)
    rows = [_checked(row, where) for where, row in whole_rows(folder / VERDICTS_FILE)]
    if board.get("battles") != len(rows):
        raise DataError(
            f"{folder / VERDICTS_FILE} has {len(rows)} verdicts and {BOARD_FILE} says {board.get('battles')!r}",
            "one of them is cut or of another run",
            "judge again",
        )
    identity = json_object(board.get("judge"), f"{folder / BOARD_FILE}: judge")
    if {r["judge"] for r in rows} != {identity.get("hash")}:
        raise DataError(
            f"the verdicts in {folder} are not all of the judge that {BOARD_FILE} names",
            "they cannot be compared",
            "judge again",
        )
    subject = _subject(rows, board.get("baseline"), model, folder)
    own = [r for r in rows if subject in (r["a"], r["b"])]
    opponents = sorted({r["b"] if r["a"] == subject else r["a"] for r in own})
    run = Run(
        JUDGE,
        str(folder),
        METRICS,
        judge_fingerprints(identity) | {"opponents": json.dumps(opponents)},
        {"model": subject},
        items_of((_item(r, subject, len(opponents) > 1) for r in own), str(folder)),
        texts=lambda ids: _texts(folder, subject, ids),
    )
    if board.get("baseline") is not None and len(opponents) == 1:
        _check_rate(run, board, folder)
    return run


def _board(folder: Path) -> dict:
    path = folder / BOARD_FILE
    if (folder / f"{VERDICTS_FILE}.part").exists():
        raise DataError(
            f"{folder} is a judging that was not finished",
            "some battles have no verdict",
            "repeat the `arena-rm judge` command, which continues",
        )
    with open_binary(path) as stream:
        content = stream.read()
    try:
        return json_object(parse_json(content.decode("utf-8")), str(path))
    except ValueError as e:
        raise DataError(f"{path} is not JSON ({e})", "a broken file proves nothing", "judge again") from e


def _checked(row: dict, where: str) -> dict:
    p = [number(row, name, where, 0, 1) for name in ("p_a", "p_b", "p_tie")]
    if abs(sum(p) - 1) > 1e-6:
        raise wrong_value("p_a + p_b + p_tie", sum(p), "1", where)
    a, b = text(row, "model_a", where), text(row, "model_b", where)
    if a == b:
        raise wrong_value("model_b", b, "another model than model_a", where)
    prompt = text(row, "prompt_key", where)
    return {
        "a": a,
        "b": b,
        "win_b": p[1] + p[2] / 2,
        "prompt": prompt,
        "key": text(row, "key", where),
        "judge": text(row, "judge", where),
        "category": optional_text(row, "category", where) or None,
        "lengths": (number(row, "length_a", where, 0), number(row, "length_b", where, 0)),
        # "12ab34cd-KEY", where KEY is the prompt's key, with -2 for a prompt that the benchmark repeats
        "place": text(row, "id", where).partition("-")[2] or prompt,
    }


def _subject(rows: list[dict], baseline, model: str | None, folder: Path) -> str:
    models = sorted({r[side] for r in rows for side in "ab"})
    if model is None:
        others = [m for m in models if m != baseline]
        if baseline in models and len(others) == 1:
            return others[0]
        raise UsageError(
            f"{folder} has {', '.join(map(repr, models[:9]))}",
            "which of them is under test is unknown",
            "say --model NAME",
        )
    if model not in models:
        raise UsageError(f"{folder} has no verdict on {model!r}", "", f"it has {', '.join(map(repr, models[:9]))}")
    return model


def _item(row: dict, subject: str, several: bool) -> Item:
    own_is_b = row["b"] == subject
    win = kept(row["win_b"] if own_is_b else 1 - row["win_b"])
    other, length = (row["a"], row["lengths"][0]) if own_is_b else (row["b"], row["lengths"][1])
    # The answers compared with have no hash of their own in a verdict; if they were changed, some length changed.
    fixed = {"length of the answer compared with": f"{length:.0f}"}
    values = {"win_rate": win, "win_rate_hard": (win > 0.5) + (win == 0.5) / 2}
    name = f"{row['place']} {other}" if several else row["place"]
    return Item(name, row["prompt"], values, fixed, row["key"], row["category"])


def _check_rate(run: Run, board: dict, folder: Path) -> None:
    """The leaderboard's win rate must follow from the verdicts, or the two are not of one run."""
    said = [
        m.get("win_rate")
        for m in board.get("models") or []
        if isinstance(m, dict) and m.get("model") == run.subject["model"]
    ]
    rates = [item.values["win_rate"] for item in run.items.values()]
    if len(said) != 1 or not isinstance(said[0], (int, float)) or abs(said[0] - sum(rates) / len(rates)) > 2e-4:
        raise DataError(
            f"{folder}: the win rate in {BOARD_FILE} does not follow from {VERDICTS_FILE}",
            "they are not of one run",
            "judge again",
        )


def _texts(folder: Path, subject: str, ids: Collection[str]) -> Texts:
    """Prompt and answer of some items, from the answers that a judging keeps; nothing where there are none."""
    wanted: dict[str, list[str]] = {}
    for id in ids:
        wanted.setdefault(id.partition(" ")[0], []).append(id)
    found: Texts = {}
    if not (folder / ANSWERS_FILE).is_file():
        return found
    for where, row in whole_rows(folder / ANSWERS_FILE):
        for id in wanted.get(row.get("prompt_key"), []):
            answers = json_object(row.get("answers"), f"{where}: answers")
            found[id] = {"prompt": readable(row.get("prompt")), "answer": readable(answers.get(subject, ""))}
    return found
