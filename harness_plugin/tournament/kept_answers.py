"""The answers that a run judged, kept beside its verdicts, so that whoever looks at a verdict later can read them."""

import json
from pathlib import Path

from harness_plugin.files import atomic_write
from harness_plugin.pairs import Text
from harness_plugin.tournament.battles import Battles
from harness_plugin.tournament.folder import ANSWERS_FILE


def write_answers(folder: Path, battles: Battles) -> None:
    """`folder`/judged_answers.jsonl: a line per prompt with {"prompt_key", "prompt", "answers": model -> answer},
    sorted by key; a text of several turns is a list of them. Only what took part in a battle."""
    answers: dict[str, dict[str, Text]] = {}
    for pair in (*battles.pairs, *battles.identical):
        sides = ((pair.model_a, pair.response_a), (pair.model_b, pair.response_b))
        answers.setdefault(pair.meta["prompt_id"], {}).update({name: text for name, text in sides if name is not None})
    with atomic_write(folder / ANSWERS_FILE) as out:
        for key, given in sorted(answers.items()):
            row = {"prompt_key": key, "prompt": battles.prompts[key], "answers": dict(sorted(given.items()))}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
