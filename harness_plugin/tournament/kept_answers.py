"""The answers that a run judged, kept beside its verdicts, so that whoever looks at a verdict later can read them."""

import json
from pathlib import Path

from harness_plugin.errors import DataError
from harness_plugin.files import atomic_write
from harness_plugin.files.checked import json_object, remedy, text
from harness_plugin.files.rows import whole_rows
from harness_plugin.pairs import Pair, Text
from harness_plugin.scoring.judgement import Judgement, read_judgements
from harness_plugin.tournament.battles import Battles
from harness_plugin.tournament.folder import ANSWERS_FILE, PART, VERDICTS_FILE

_AGAIN = "run `arena-rm judge` again"


def write_answers(folder: Path, battles: Battles) -> None:
    """`folder`/judged_answers.jsonl: a line per prompt with {"prompt_key", "prompt", "answers": model -> answer},
    sorted by key; a text of several turns is a list of them. Only what took part in a battle."""
    with atomic_write(folder / ANSWERS_FILE) as out:
        for key, given in battles.met.items():
            row = {"prompt_key": key, "prompt": battles.prompts[key], "answers": given}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


@remedy(_AGAIN)
def read_verdicts(folder: Path) -> list[tuple[Pair, Judgement]]:
    """Every battle of a folder of `arena-rm judge` with its verdict, in the order of the verdicts.

    Raises DataError for a folder without verdicts or without the answers, for a run that was not finished, and where
    the texts are not those that were judged.
    """
    for name in (VERDICTS_FILE, ANSWERS_FILE):
        if not (folder / name).is_file():
            found = f"{folder} holds no {name}"
            raise DataError(found, "it is not the folder of a finished run of `arena-rm judge`", "name another folder")
    if (folder / (VERDICTS_FILE + PART)).exists():
        raise DataError(f"the run in {folder} was not finished", "some battles have no verdict", _AGAIN)
    prompts: dict[str, Text] = {}
    answers: dict[str, dict[str, Text]] = {}
    for where, row in whole_rows(folder / ANSWERS_FILE):
        key = text(row, "prompt_key", where)
        prompts[key], answers[key] = row.get("prompt", ""), json_object(row.get("answers"), f"{where}: answers")
    return [(_battle(v, prompts, answers, folder), v) for v in read_judgements(whole_rows(folder / VERDICTS_FILE))]


def _battle(v: Judgement, prompts: dict[str, Text], answers: dict[str, dict[str, Text]], folder: Path) -> Pair:
    given = answers.get(v.prompt_id, {})
    if v.model_a in given and v.model_b in given:
        pair = Pair(
            id=v.id,
            prompt=prompts[v.prompt_id],
            response_a=given[v.model_a],
            response_b=given[v.model_b],
            model_a=v.model_a,
            model_b=v.model_b,
            category=v.category,
        )
        if v.key in (pair.key, pair.swap().key):
            return pair
    raise DataError(
        f"{folder / ANSWERS_FILE} does not hold the texts of the battle {v.id} in {VERDICTS_FILE}",
        "the two files are not of one run",
        _AGAIN,
    )
