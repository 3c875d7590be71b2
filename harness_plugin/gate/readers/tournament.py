"""Folders of `arena-rm judge` -> a run: how often one chatbot is preferred to the others, prompt by prompt.

The chatbot is under test; the judge and the answers that it is compared with must be the same in both runs. Knows the
files that a judging leaves.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import json_object, optional_text, remedy, text, wrong_value
from harness_plugin.files.printable import readable
from harness_plugin.files.rows import read_object, whole_rows
from harness_plugin.gate.readers.judge_fingerprints import judge_fingerprints
from harness_plugin.gate.stored_run import JUDGE, Item, JudgedBattle, Run, Texts, as_stored, is_value, items_of
from harness_plugin.scoring.judgement import Judgement, read_judgements
from harness_plugin.tournament.folder import ANSWERS_FILE, BOARD_FILE, PART, VERDICTS_FILE

METRICS = {"win_rate": True, "win_rate_hard": True}  # the first decides: soft preferences need a third fewer prompts


@remedy("judge again")
def read_judge_run(folder: Path, model: str | None = None) -> Run:
    """`model`: the chatbot under test; it may be left out where one chatbot met one baseline. Raises DataError for a
    run that is not whole and UsageError for a model that it does not have."""
    board = _board(folder)
    rows = _verdicts(folder)
    if board.get("battles") != len(rows):
        raise DataError(
            f"{folder / VERDICTS_FILE} has {len(rows)} verdicts and {BOARD_FILE} says {board.get('battles')!r}",
            "one of the two files is incomplete or belongs to another run",
            "judge again",
        )
    identity = json_object(board.get("judge"), f"{folder / BOARD_FILE}: judge")
    hash = text(identity, "hash", f"{folder / BOARD_FILE}: judge")
    if {r.judge for r in rows} != {hash}:
        raise DataError(
            f"the verdicts in {folder} are not all of the judge that {BOARD_FILE} names",
            "they cannot be compared",
            "judge again",
        )
    subject = _subject(rows, optional_text(board, "baseline", str(folder / BOARD_FILE)), model, folder)
    own = [r for r in rows if subject in (r.model_a, r.model_b)]
    opponents = sorted({name for r in own for name in _models(r)} - {subject})
    items = items_of((_item(r, subject, len(opponents) > 1) for r in own), str(folder))
    run = Run(
        JUDGE,
        str(folder),
        METRICS,
        judge_fingerprints(identity) | {"opponents": json.dumps(opponents)},
        {"model": subject},
        items,
        texts=lambda ids: _texts(folder, subject, {id: items[id].source for id in ids}),
    )
    if board.get("baseline") is not None and len(opponents) == 1:
        _check_rate(run, board, folder)
    return run


def _board(folder: Path) -> dict:
    if (folder / (VERDICTS_FILE + PART)).exists():
        raise DataError(
            f"{folder} is a run of `arena-rm judge` that was not finished",
            "some battles have no verdict",
            "repeat the `arena-rm judge` command, which continues",
        )
    return read_object(folder / BOARD_FILE)


def _verdicts(folder: Path) -> list[Judgement]:
    """The folder's verdicts, each between two models."""
    verdicts = list(read_judgements(whole_rows(folder / VERDICTS_FILE)))
    for n, v in enumerate(verdicts, start=1):
        if v.model_a is None or v.model_b is None or v.model_a == v.model_b:
            where = f"{folder / VERDICTS_FILE} verdict {n}"
            raise wrong_value("model_a and model_b", (v.model_a, v.model_b), "the names of two models", where)
    return verdicts


def _models(verdict: Judgement) -> list[str]:
    return [name for name in (verdict.model_a, verdict.model_b) if name is not None]


def _subject(rows: list[Judgement], baseline, model: str | None, folder: Path) -> str:
    models = sorted({name for r in rows for name in _models(r)})
    if model is None:
        others = [m for m in models if m != baseline]
        if baseline in models and len(others) == 1:
            return others[0]
        raise UsageError(
            f"{folder} has {', '.join(map(repr, models[:9]))}",
            "the gate compares one chatbot and does not choose between several",
            "name the chatbot with --model NAME",
        )
    if model not in models:
        raise UsageError(
            f"{folder} has no verdict on {model!r}",
            "the gate compares the verdicts on one chatbot",
            f"it has {', '.join(map(repr, models[:9]))}",
        )
    return model


def _item(verdict: Judgement, subject: str, several: bool) -> Item:
    """`several`: whether the subject met more than one model, which the item's name then tells apart."""
    own = verdict if verdict.model_b == subject else verdict.swapped()
    win = as_stored(own.win_b)
    # The answers compared with have no hash of their own in a verdict; if they were changed, some length changed.
    fixed = {"length of the answer compared with": "unknown" if own.length_a is None else str(own.length_a)}
    values = {"win_rate": win, "win_rate_hard": (win > 0.5) + (win == 0.5) / 2}
    name = f"{verdict.prompt_id} {own.model_a}" if several else verdict.prompt_id
    return Item(
        name,
        verdict.prompt_key,
        values,
        fixed,
        verdict.key,
        verdict.category,
        source=verdict.prompt_id,
        battle=JudgedBattle(verdict.key, verdict.model_b == subject, verdict.identical),
    )


def _check_rate(run: Run, board: dict, folder: Path) -> None:
    """The leaderboard's win rate must follow from the verdicts, or the two are not of one run."""
    said = [
        m.get("win_rate")
        for m in _list(board, "models", folder)
        if isinstance(m, dict) and m.get("model") == run.subject["model"]
    ]
    rates = [item.values["win_rate"] for item in run.items.values()]
    # A NaN is near no number: the comparison asks what holds, not what is wrong.
    near = [is_value(rate) and abs(rate - sum(rates) / len(rates)) <= 2e-4 for rate in said]
    if near != [True]:
        raise DataError(
            f"{folder}: the win rate in {BOARD_FILE} does not follow from {VERDICTS_FILE}",
            "the two files do not belong to one run",
            "judge again",
        )


def _list(board: dict, name: str, folder: Path) -> list:
    value = board.get(name) or []
    if not isinstance(value, list):
        raise wrong_value(name, value, "a list", str(folder / BOARD_FILE))
    return value


def _texts(folder: Path, subject: str, prompt_ids: Mapping[str, str]) -> Texts:
    """Prompt and answer of some items, by item id, from the answers that a run keeps; nothing where there are none."""
    wanted: dict[str, list[str]] = {}
    for id, prompt_id in prompt_ids.items():
        wanted.setdefault(prompt_id, []).append(id)
    found: Texts = {}
    if not (folder / ANSWERS_FILE).is_file():
        return found
    for where, row in whole_rows(folder / ANSWERS_FILE):
        for id in wanted.get(text(row, "prompt_key", where), []):
            answers = json_object(row.get("answers"), f"{where}: answers")
            found[id] = {"prompt": readable(row.get("prompt")), "answer": readable(answers.get(subject, ""))}
    return found
