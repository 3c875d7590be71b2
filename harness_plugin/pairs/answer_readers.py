"""Reads files that hold one model's answers to many prompts; two of them make the pairs of a judgement.

This file puts rows and formats together; it must not know how two answers are matched or judged.
"""

import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from harness_plugin.errors import DataError
from harness_plugin.files.checked import excerpt, optional_id, placed, wrong_value
from harness_plugin.files.opening import display
from harness_plugin.files.printable import counted, listed
from harness_plugin.files.rows import Row, only_like_first, read_rows
from harness_plugin.pairs.answer import Answer, Question, Questions
from harness_plugin.pairs.formats.columns import check_turns, table_cells
from harness_plugin.pairs.formats.detection import detect_answer_format
from harness_plugin.pairs.formats.format import AnswerFormat
from harness_plugin.pairs.formats.naming import NOTHING_NAMED, Naming, checked_fields
from harness_plugin.pairs.formats.questions import QUESTIONS, question
from harness_plugin.pairs.formats.registry import (
    ANSWER_FIELDS,
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
)
from harness_plugin.pairs.notes import ColumnNotes, RepeatedPrompts, cleaned, log
from harness_plugin.pairs.pair import MissingAnswer
from harness_plugin.pairs.text_notes import say_texts


def read_outputs(
    path: str | os.PathLike[str],
    questions: str | os.PathLike[str] | Questions | None = None,
    model: str | None = None,
    fields: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> list[Answer]:
    """The answers of a file, in its order; compressed files, "-" and URIs as in `read_pairs`.

    `questions` is Arena-Hard's `question.jsonl`, or what `read_questions` gives for it, needed where the answers come
    without prompts. `model` is taken where the rows do not name one. `fields` maps `prompt`, `response`, `model`,
    `category` and parts of the prompt to the file's own columns, in any format; the columns `ignore` are left alone. A
    column `category` is used in every format. Of several samples of one answer the first counts, of several lm-eval
    filters too. A missing answer (null, NaN, or one with fewer turns than the prompt) has the response None. The log
    lists their rows, and says which columns were used for what.

    Raises DataError with file, row, field, value and what was allowed for a bad row, for a file of another kind, and
    where only some rows name a model and `model` is None; UsageError for an unknown field.
    """
    name = display(path)
    naming = Naming(checked_fields(fields, ANSWER_FIELDS), ignore)
    by_id = questions if isinstance(questions, Mapping) else {} if questions is None else read_questions(questions)
    rows = _rows(path, naming)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} has no answers", "there is nothing to judge", "check how the file was made")
    with _place(name, first):
        format = detect_answer_format(first.value, naming)
        naming.check(format)
    columns, repeated = ColumnNotes(format, naming.fields), RepeatedPrompts()
    answers: list[tuple[str, Answer]] = []
    for row in only_like_first(itertools.chain([first], rows), format.first_of):
        columns.add(row)
        with _place(name, row):
            answer = _answer(row, format, naming, by_id)
        answers.append((row.place, replace(answer, model=answer.model or model)))
        if not format.unique_ids:
            repeated.add((answer.id, answer.model), columns.unread(row.value))
    answers = _owned(answers)
    _check_models(name, answers)
    columns.say(name, counted(len(answers), "answer"))
    _check_given(name, answers, columns.used())
    say_texts(name, [(place, a.prompt) for place, a in answers], [(a.prompt, a.response) for _, a in answers])
    if not any(answer.model for _, answer in answers):
        columns.say_models(name)
    _say_missing(name, answers)
    _say_samples(name, answers)
    repeated.say(name)
    return _unrepeated(answers, name) if format.unique_ids else _numbered([answer for _, answer in answers])


def _rows(path: str | os.PathLike[str], naming: Naming = NOTHING_NAMED) -> Iterator[Row]:
    """The rows of a file in which every row counts: one that is left out would be a missing answer."""
    return cleaned(_good(read_rows(path)), display(path), naming)


def _good(rows: Iterable[Row | DataError]) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, DataError):
            raise row
        yield row


@contextmanager
def _place(name: str, row: Row) -> Iterator[None]:
    """Errors that leave the block name the file and the row."""
    try:
        yield
    except DataError as error:
        raise placed(error, f"{name} {row.place}") from error


def _answer(row: Row, format: AnswerFormat, naming: Naming, questions: Questions) -> Answer:
    """The answer of a row; missing where it lacks a turn."""
    naming.require(row.value, "prompt", "model", "category")
    value = table_cells(naming.renamed(row.value, format), row.container, TEXT_COLUMNS, NUMBER_COLUMNS)
    try:
        answer = _of_all_turns(format.answer(value, questions), format.column_of("response"))
    except DataError as error:
        raise naming.in_words_of_the_file(error, format) from error
    if "model" in naming.fields and not answer.model:
        raise wrong_value(naming.fields["model"], answer.model, "the name of the model that answered")
    category = optional_id(value, "category") or answer.category
    return replace(answer, category=category)


def _of_all_turns(answer: Answer, column: str) -> Answer:
    """The answer, missing where it lacks a turn; it stands in `column`. Raises RowError where it has more turns than
    the prompt."""
    if answer.response is None:
        return answer
    try:
        check_turns(answer.prompt, answer.response, column)
    except MissingAnswer:
        return replace(answer, response=None)
    return answer


def read_questions(path: str | os.PathLike[str]) -> dict[str, Question]:
    """The questions of a file such as Arena-Hard's `question.jsonl`, or of the requests of a batch, by their ids.

    Raises DataError for a bad row, and for two questions with one id.
    """
    questions: dict[str, Question] = {}
    columns = ColumnNotes(QUESTIONS, {})
    for row in _rows(path):
        columns.add(row)
        with _place(display(path), row):
            id, asked = question(table_cells(row.value, row.container, TEXT_COLUMNS, NUMBER_COLUMNS))
            if questions.setdefault(id, asked) != asked:
                raise DataError(
                    f"question {excerpt(id)} stood in an earlier row in other words",
                    "which of the two was answered is unknown",
                    "leave one of them out",
                )
    columns.say(display(path), counted(len(questions), "question"))
    return questions


def _owned(answers: list[tuple[str, Answer]]) -> list[tuple[str, Answer]]:
    """The answers; missing ones that name no model are those of the only model that the file names."""
    models = {answer.model for _, answer in answers} - {None}
    if len(models) != 1:
        return answers
    (model,) = models
    return [
        (place, answer if answer.model or answer.response is not None else replace(answer, model=model))
        for place, answer in answers
    ]


def _check_models(name: str, answers: list[tuple[str, Answer]]) -> None:
    """Raises DataError where some rows name a model and others do not: those would be the file's own model's."""
    named = [(place, answer.model) for place, answer in answers if answer.model]
    for place, answer in answers:
        if named and not answer.model:
            raise DataError(
                f"{name} {place} names no model, and {named[0][0]} names {excerpt(named[0][1])}",
                "whose answer it is is unknown",
                "fill the column in",
            )


def _check_given(name: str, answers: list[tuple[str, Answer]], used: Mapping[str, list[str]]) -> None:
    """Raises DataError where all conversations end with a question, and no column says which model gave no answer: the
    answers may then stand in a column that is not read."""
    found = used.get("response", [])
    within = bool(found) and {*found} <= {*used.get("prompt", ())}
    if within and "model" not in used and all(answer.response is None for _, answer in answers):
        raise DataError(
            f"{name} has no answers: {found[0]} ends with a question in every row",
            "there is nothing to judge",
            "name the column of the answers (--field response=COLUMN)",
        )


def _say_missing(name: str, answers: list[tuple[str, Answer]]) -> None:
    rows = [place for place, answer in answers if answer.response is None]
    if rows:
        log.warning("%s: %d of %s missing: %s", name, len(rows), counted(len(answers), "answer"), listed(rows))


def _say_samples(name: str, answers: list[tuple[str, Answer]]) -> None:
    rows = [place for place, answer in answers if answer.samples > 1]
    if rows:
        log.warning(
            "%s: several samples of the answer in %s, of which the first counts", name, counted(len(rows), "row")
        )


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
    """The answers, each to a question of its own. Raises DataError for a model's second answer to one question."""
    first: dict[tuple[str, str | None], str] = {}
    for place, answer in answers:
        earlier = first.setdefault((answer.id, answer.model), place)
        if earlier != place:
            raise DataError(
                f"{name} {place}: question {excerpt(answer.id)} was answered in {earlier} already",
                "which answer counts is unknown",
                "leave one of them out",
            )
    return [answer for _, answer in answers]
