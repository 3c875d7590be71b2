"""Reads files that hold one model's answers to many prompts; two of them make the pairs of a judgement.

This file puts rows and formats together; it must not know how two answers are matched or judged.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import excerpt, optional_id, placed
from harness_plugin.files.opening import display
from harness_plugin.files.rows import Row, only_like_first, read_rows
from harness_plugin.pairs.answer import Answer, Question
from harness_plugin.pairs.formats import arena_hard, canonical
from harness_plugin.pairs.formats.columns import check_turns, typed_cells
from harness_plugin.pairs.formats.table import NUMBER_COLUMNS, TEXT_COLUMNS, AnswerFormat, detect_answer_format
from harness_plugin.pairs.notes import listed, log
from harness_plugin.pairs.pair import MissingAnswer


def read_outputs(
    path: str | os.PathLike[str],
    questions: str | os.PathLike[str] | None = None,
    model: str | None = None,
    fields: Mapping[str, str] | None = None,
) -> list[Answer]:
    """The answers of a file, in its order; compressed files, "-" and URIs as in `read_pairs`.

    `questions` is Arena-Hard's `question.jsonl`, needed where the answers come without prompts. `model` is taken where
    the rows do not name one. `fields` maps `prompt`, `response`, `model` and `category` to the file's own columns; then
    no other format is looked for. Without it a column `category` is used in every format. Of several samples of one
    answer the first counts, of several lm-eval filters too. A missing answer (null, NaN, or one with fewer turns than
    the prompt) has the response None; the log lists their rows. Raises DataError with file, row, field, value and what
    was allowed for a bad row, and for a file of another kind; UsageError for an unknown field.
    """
    name, fields = display(path), fields or {}
    by_id = _read_questions(questions) if questions is not None else {}
    format = _own_format(fields) if fields else None
    rows = _rows(path, fields)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} has no answers", "there is nothing to judge", "check how the file was made")
    with _place(name, first):
        format = format or detect_answer_format(first.value)
    answers: list[tuple[str, Answer]] = []
    for row in only_like_first(itertools.chain([first], rows), format.first_of):
        with _place(name, row):
            answer = _of_all_turns(format.answer(row.value, by_id))
            category = answer.category if fields else optional_id(row.value, "category") or answer.category
        answers.append((row.place, replace(answer, model=answer.model or model, category=category)))
    _say_missing(name, answers)
    return _unrepeated(answers, name) if format.unique_ids else _numbered([answer for _, answer in answers])


def _of_all_turns(answer: Answer) -> Answer:
    """The answer, missing where it lacks a turn. Raises RowError where it has more turns than the prompt."""
    if answer.response is None:
        return answer
    try:
        check_turns(answer.prompt, answer.response, "response")
    except MissingAnswer:
        return replace(answer, response=None)
    return answer


def _say_missing(name: str, answers: list[tuple[str, Answer]]) -> None:
    rows = [place for place, answer in answers if answer.response is None]
    if rows:
        log.warning("%s: %d of %d answers are missing: %s", name, len(rows), len(answers), listed(rows))


def _rows(path: str | os.PathLike[str], fields: Mapping[str, str]) -> Iterator[Row]:
    """The rows of a file in which every row counts: one that is left out would be a missing answer."""
    texts = TEXT_COLUMNS | {fields[name] for name in ("prompt", "response") if name in fields}
    for row in read_rows(path):
        if isinstance(row, DataError):
            raise row
        yield replace(row, value=typed_cells(row.value, texts, NUMBER_COLUMNS)) if row.container == "csv" else row


@contextmanager
def _place(name: str, row: Row) -> Iterator[None]:
    """Errors that leave the block name the file and the row."""
    try:
        yield
    except DataError as error:
        raise placed(error, f"{name} {row.place}") from error


def _own_format(fields: Mapping[str, str]) -> AnswerFormat:
    """The format of a file whose columns the user named."""
    for name in sorted(set(fields) - set(canonical.ANSWER_COLUMNS)):
        allowed = f"fields of an answer: {', '.join(canonical.ANSWER_COLUMNS)}"
        raise UsageError(f"field {excerpt(name)} is unknown", allowed, "name those")
    return AnswerFormat("own columns", "", partial(canonical.answer, fields))


def _read_questions(path: str | os.PathLike[str]) -> dict[str, Question]:
    questions: dict[str, Question] = {}
    for row in _rows(path, {}):
        with _place(display(path), row):
            id, question = arena_hard.question(row.value)
        questions[id] = question
    return questions


def _numbered(answers: list[Answer]) -> list[Answer]:
    """Answers to prompts known by their content: a benchmark may repeat one, in the same order in each file."""
    count: Counter[str] = Counter()
    numbered = []
    for answer in answers:
        count[answer.id] += 1
        again = count[answer.id]
        numbered.append(replace(answer, id=f"{answer.id}-{again}") if again > 1 else answer)
    return numbered


def _unrepeated(answers: list[tuple[str, Answer]], name: str) -> list[Answer]:
    """The answers, each to a question of its own. Raises DataError for a second answer to one question."""
    first: dict[str, str] = {}
    for place, answer in answers:
        earlier = first.setdefault(answer.id, place)
        if earlier != place:
            raise DataError(
                f"{name} {place}: question {excerpt(answer.id)} was answered in {earlier} already",
                "which answer counts is unknown",
                "leave one of them out",
            )
    return [answer for _, answer in answers]
