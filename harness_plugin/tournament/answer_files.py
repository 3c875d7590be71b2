"""The files that hold chatbots' answers: which ones a name or a folder stands for, and whose answers a file holds.

Knows no battle and no score.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from harness_plugin.errors import UsageError
from harness_plugin.files.compression import PACKED
from harness_plugin.files.printable import listed
from harness_plugin.pairs import Answer, read_outputs, read_questions
from harness_plugin.tournament.folder import is_companion, is_of_report

log = logging.getLogger("lm_eval.arena_rm")

KINDS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
SUFFIXES = (*(kind + packed for kind in KINDS for packed in ("", *PACKED)), ".parquet")


def find_files(places: list[str]) -> list[str]:
    """The files named, and those in the folders named (not in folders inside), sorted. What else lies in a folder is
    named in a warning. Raises UsageError for a folder without any."""
    found = set()
    for place in places:
        if not Path(place).is_dir():
            found.add(place)
            continue
        there = sorted(p for p in Path(place).iterdir() if not is_companion(p.name))
        inside = [p for p in there if p.is_file() and p.name.lower().endswith(SUFFIXES)]
        if not inside:
            raise UsageError(
                f"{place} holds no file of answers",
                f"it is searched for {', '.join(KINDS)}, also compressed, and .parquet; folders inside it are not",
                "name the files",
            )
        others = sorted({*there} - {*inside})
        left = [p.name + "/" * p.is_dir() for p in others if not is_of_report(p.name)]
        if left:
            log.warning("%s: not read, name them if they hold answers: %s", place, listed(left))
        found |= {str(p) for p in inside}
    return sorted(found)


def read_files(
    files: list[str],
    questions: str | None = None,
    fields: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> dict[str, list[Answer]]:
    """The answers of each file; the options are those of `read_outputs`. Raises UsageError for questions that no answer
    is to."""
    asked = None if questions is None else read_questions(questions)
    read = {file: read_outputs(file, asked, fields=fields, ignore=ignore) for file in files}
    if asked is not None and not any(answer.id in asked for outputs in read.values() for answer in outputs):
        raise UsageError(
            f"no answer is to one of the questions in {questions}",
            "answers that come with their prompts are judged on these, and the questions have no effect",
            "leave --questions out",
        )
    return read


def model_of(file: str, output: Answer, names: Mapping[str, str]) -> str:
    """Whose answer it is: the name that the file has in `names`, else the one in its row, else the file's own name, or
    its folder's where lm-eval or AlpacaEval chose the file's."""
    return names.get(file) or output.model or _model_name(file)


def _model_name(file: str) -> str:
    stem = _stem(file)
    if stem == "model_outputs" or stem.startswith("samples_"):
        return Path(file).resolve().parent.name or stem
    return stem


def _stem(file: str) -> str:
    name = Path(file).name
    return next((name[: -len(s)] for s in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(s)), name)


def say_shared_names(read: Mapping[str, list[Answer]], names: Mapping[str, str]) -> None:
    """Warns of several files of one name that name no model: their answers count as one chatbot's."""
    files: dict[str, dict[Path, str]] = {}
    for file, outputs in read.items():
        stem = _stem(file)
        if file not in names and stem == _model_name(file) and not any(output.model for output in outputs):
            files.setdefault(stem, {}).setdefault(Path(file).resolve(), file)
    for stem, same in files.items():
        if len(same) > 1:
            log.warning(
                "%s: no row names a model, so by the files' names all answers are of %r; rename the files if they are "
                "of different chatbots",
                listed(list(same.values())),
                stem,
            )
