"""Which format a row has, by its columns."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.checked import excerpt
from harness_plugin.pairs.column_names import looks_like_answer, looks_like_part, side_free
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.formats.format import AnswerFormat
from harness_plugin.pairs.formats.naming import NOTHING_NAMED, Naming
from harness_plugin.pairs.formats.registry import ANSWER_FORMATS, FORMATS, PAIR_FORMATS, get_format

_OF_NAMED_FIELDS = ("canonical", "chosen_rejected")
"""The formats that columns make which a user names for their fields."""


def detect_format(row: Mapping[str, Any], naming: Naming = NOTHING_NAMED) -> str:
    """The name of the format of pairs whose columns the row has, under the names that `naming` gives them.

    Raises DataError, listing the columns found and the formats known, where no format or more than one fits, and where
    the row holds a single answer instead of a pair. Columns that are named for the fields of a canonical pair, or of a
    better and a worse answer, make such a pair, or one of the published format that has these fields in these columns.
    """
    fitting = [format.name for format in PAIR_FORMATS if format.matches(naming.renamed(row, format))]
    own = next((name for name in _OF_NAMED_FIELDS if name in fitting), None)
    if naming.fields and own is not None:
        published = [name for name in fitting if name != own and naming.agrees_with(get_format(name))]
        return published[0] if len(published) == 1 else own
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and (error := naming.without_column(row)) is not None:
        raise error
    if not fitting and any(format.matches(row) for format in ANSWER_FORMATS):
        raise DataError(
            "the file holds single answers of one model, not pairs",
            "there is nothing in it to compare",
            "judge them with `arena-rm judge` and another model's file, or put two models' answers side by side: one "
            "row with prompt, response_a and response_b each; if each row has two answers, name their columns (--field "
            "response_a=COLUMN --field response_b=COLUMN)",
        )
    if not fitting and (column := _holder(row)) is not None:
        raise _within(column)
    what = f"fit more than one format ({', '.join(fitting)})" if fitting else "fit no known format"
    raise DataError(
        f"the columns {what}; columns found: {_names(row)}",
        f"formats known: {', '.join(FORMATS)}",
        f"name the format (--format), or the columns of prompt and responses ({_options(row)}; for a better and a "
        "worse answer --field better=COLUMN --field worse=COLUMN); one model's answers are judged with "
        "`arena-rm judge`",
    )


def _options(row: Mapping[str, Any]) -> str:
    """The options that name prompt and responses, with the columns that look like them by their names, where two look
    like the answers of two sides."""
    columns = {"prompt": "COLUMN", "response_a": "COLUMN", "response_b": "COLUMN"}
    by_words: dict[tuple[str, ...], list[str]] = {}
    for column in filter(looks_like_answer, map(str, row)):
        by_words.setdefault(side_free(column), []).append(column)
    two = [sorted(names) for names in by_words.values() if len(names) == 2]
    if len(two) == 1:
        columns["response_a"], columns["response_b"] = two[0]
        prompts = [column for column in map(str, row) if looks_like_part(column)]
        columns["prompt"] = prompts[0] if len(prompts) == 1 else "COLUMN"
    return " ".join(f"--field {shlex.quote(f'{field}={column}')}" for field, column in columns.items())


def detect_answer_format(row: Mapping[str, Any], naming: Naming = NOTHING_NAMED) -> AnswerFormat:
    """The format of answers whose columns the row has, under the names that `naming` gives them. Raises DataError,
    listing the columns found and those known."""
    own_first = (
        sorted(ANSWER_FORMATS, key=lambda format: format.name != "canonical") if naming.fields else ANSWER_FORMATS
    )
    for format in own_first:
        if format.matches(naming.renamed(row, format)):
            return format
    if (error := naming.without_column(row)) is not None:
        raise error
    if any(format.matches(row) for format in PAIR_FORMATS):
        raise DataError(
            "the file holds pairs, not the answers of one model",
            "a leaderboard needs one file of answers for each model",
            "score the pairs with `arena-rm score`, or name the columns that hold prompt and response",
        )
    if (column := _holder(row)) is not None:
        raise _within(column)
    raise DataError(
        f"the columns fit no known format of answers; columns found: {_names(row)}",
        f"columns known: {'; '.join(' + '.join(sorted(format.columns.split())) for format in ANSWER_FORMATS)}",
        "name the columns that hold prompt and response (--field prompt=COLUMN --field response=COLUMN)",
    )


def _holder(row: Fields) -> str | None:
    """The column in which rows of a known format stand, as where a file wraps them into an object."""
    answers = [format for format in ANSWER_FORMATS if len(format.columns.split()) > 1]
    for column, value in row.items():
        for inner in _objects(value):
            if any(format.matches(inner) for format in PAIR_FORMATS) or any(one.matches(inner) for one in answers):
                return str(column)
    return None


def _objects(value: Any, depth: int = 2) -> Iterator[Fields]:
    """A value that is an object, and those within it, of each list the first."""
    if isinstance(value, Mapping):
        yield value
    if depth and isinstance(value, (Mapping, list, tuple)):
        for inner in value.values() if isinstance(value, Mapping) else value[:1]:
            yield from _objects(inner, depth - 1)


def _within(column: str) -> DataError:
    return DataError(
        f"the columns fit no known format, and those of what stands in {excerpt(column)} do",
        "rows are read from the top of a file, not from within an object",
        "write the rows that stand there into a file of their own",
    )


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, row))) or "none"
