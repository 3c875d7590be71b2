"""Reads pairs from a file or from rows at hand: formats told or named, bad rows named or counted, ids made unique.

This file puts rows and formats (what a row means) together; the columns of a format are the format's own business.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import RowError, excerpt, placed
from harness_plugin.files.opening import display
from harness_plugin.files.rows import Row, only_like_first, read_rows
from harness_plugin.pairs.formats.canonical import refuse_json_cells
from harness_plugin.pairs.formats.columns import check_turns, typed_cells
from harness_plugin.pairs.formats.table import NUMBER_COLUMNS, TEXT_COLUMNS, PairFormat, detect_format, get_format
from harness_plugin.pairs.notes import listed, log
from harness_plugin.pairs.pair import FIELDS, REQUIRED, MissingAnswer, Pair, missing_answer, turn_count


@dataclass(frozen=True)
class PairFile:
    """What was read: pairs in the file's order with unique ids, the format, and the errors of rows left out: `skipped`,
    the bad rows, and `missing`, those in which an answer is absent."""

    pairs: list[Pair]
    format: str
    skipped: list[DataError]
    path: str
    missing: list[DataError] = field(default_factory=list)


def read_pairs(
    path: str | os.PathLike[str],
    format: str | None = None,
    skip_bad_rows: bool = False,
    fields: Mapping[str, str] | None = None,
    limit: int | None = None,
    until: str | None = None,
) -> PairFile:
    """The pairs of a file: JSON lines, a JSON array, CSV or parquet, plain or compressed; "-" is standard input, and a
    URI such as hf:// a file on another system.

    `limit`: only so many pairs, the first ones; `until`: only those up to the first pair with that id. The rest of the
    file is not read then.

    `format` is one of `FORMATS`, or None to tell it from the first row's columns. `fields` maps canonical field names
    to the file's own column names. A row without an id gets its content id, and a row that repeats another's id and
    content gets "-2", "-3" behind it. A row in which an answer, or a turn of one, is absent (null, NaN, fewer turns
    than the other answer or the prompt) makes no pair: it is listed in the log and in `missing`.

    Raises DataError with file, row, field, value and what was allowed for the first bad row; with `skip_bad_rows` these
    errors are collected in `skipped` instead, unless no row is good. Raises UsageError for an unknown format or field
    name.
    """
    format, fields = _checked_options(format, fields)
    bounds = limit, until
    return _read(read_rows(path), display(path), os.fspath(path), format, skip_bad_rows, fields, bounds)


def pairs_from_rows(
    rows: Iterable[Mapping[str, Any]],
    format: str | None = None,
    skip_bad_rows: bool = False,
    fields: Mapping[str, str] | None = None,
    source: str = "rows",
) -> PairFile:
    """The pairs of rows that are loaded already, such as those of a hub's data set; `source` names them in errors.

    Everything else is as in `read_pairs`.
    """
    format, fields = _checked_options(format, fields)
    numbered = (Row(f"row {number}", dict(row)) for number, row in enumerate(rows, start=1))
    return _read(numbered, source, source, format, skip_bad_rows, fields)


def pair_from_row(row: Mapping[str, Any], format: str) -> Pair | None:
    """The pair of one row of the named format, of several the first; None for a row that repeats another (lm-eval's
    swapped documents).

    Raises DataError for a field that is missing or not what the format allows.
    """
    return next(iter(_pairs(get_format(format), row)), None)


def _checked_options(format: str | None, fields: Mapping[str, str] | None) -> tuple[str | None, Mapping[str, str]]:
    if format is not None:
        get_format(format)
    if not fields:
        return format, {}
    for ours in sorted(fields):
        if ours not in FIELDS:
            raise UsageError(
                f"field {excerpt(ours)} is unknown", f"fields of a pair: {', '.join(FIELDS)}", "name one of them"
            )
    if format not in (None, "canonical"):
        raise UsageError(
            f"columns are named for format {format}",
            "a published format has its own columns",
            "name either the format or the columns",
        )
    return "canonical", fields


SKIP = "leave bad rows out with --skip-bad-rows"


class _Bad:
    """What happens to rows that make no pair: one without an answer is kept in `missing`; of bad ones the first raises
    and names the option that leaves such rows out, or all are kept in `errors`."""

    def __init__(self, skip: bool):
        self.skip = skip
        self.errors: list[DataError] = []
        self.missing: list[DataError] = []

    def __call__(self, error: DataError) -> None:
        if isinstance(error, MissingAnswer):
            self.missing.append(error)
            return
        if not self.skip:
            raise RowError(error.found, error.why, f"{error.do}, or {SKIP}") if isinstance(error, RowError) else error
        self.errors.append(error)


def _read(
    rows: Iterator[Row | DataError],
    name: str,
    path: str,
    format: str | None,
    skip: bool,
    fields: Mapping[str, str],
    bounds: tuple[int | None, str | None] = (None, None),
) -> PairFile:
    bad = _Bad(skip)
    good = _named(_readable(rows, bad), name, fields, bad)
    format_of_file, good = (get_format(format), good) if format else _detected(good, name, bad)
    placed = _converted(only_like_first(good, format_of_file.first_of), name, format_of_file, bad)
    placed = _bounded(placed, *bounds)
    pairs = _with_unique_ids(placed, name, format_of_file, bad)
    if not pairs:
        raise _nothing(name, bad)
    if bad.missing:
        places = listed([error.found.removeprefix(f"{name} ") for error in bad.missing])
        log.warning("%s: %d rows are left out, since an answer is missing: %s", name, len(bad.missing), places)
    return PairFile(pairs, format_of_file.name, bad.errors, path, bad.missing)


def _nothing(name: str, bad: _Bad) -> DataError:
    errors = bad.errors
    if bad.missing and not errors:
        error = DataError(
            f"no row of {name} has both answers ({len(bad.missing)} rows), first: {bad.missing[0].found}",
            bad.missing[0].why,
            bad.missing[0].do,
        )
        error.__cause__ = bad.missing[0]
        return error
    if not errors:
        return DataError(f"{name} has no pairs", "there is nothing to judge", "check how the file was made")
    error = DataError(f"every row of {name} is bad ({len(errors)}), first: {errors[0].found}", errors[0].why)
    error.__cause__ = errors[0]
    return error


def _readable(rows: Iterator[Row | DataError], bad: _Bad) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, DataError):
            bad(row)
        else:
            yield row


def _named(rows: Iterator[Row], name: str, fields: Mapping[str, str], bad: _Bad) -> Iterator[Row]:
    """Rows under our field names; a column that is named for a field but stands in no row is an error."""
    unseen = set(fields.values())
    row = None
    for row in rows:
        unseen -= set(row.value)
        missing = [ours for ours in REQUIRED if fields.get(ours, ours) not in row.value] if fields else []
        if missing:
            bad(placed(_no_column(missing[0], fields, row.value), f"{name} {row.place}"))
            continue
        value = {column: cell for column, cell in row.value.items() if column not in fields.values()}
        value |= {ours: row.value[column] for ours, column in fields.items() if column in row.value}
        yield replace(row, value=typed_cells(value, TEXT_COLUMNS, NUMBER_COLUMNS) if row.container == "csv" else value)
    if row is not None and unseen:
        column = sorted(unseen)[0]
        raise DataError(
            f"no row of {name} has the column {excerpt(column)}", "it was named for a field", "check its name"
        )


def _no_column(ours: str, fields: Mapping[str, str], row: Mapping[str, Any]) -> DataError:
    return DataError(
        f"column {excerpt(fields.get(ours, ours))} (for field {ours}) is missing",
        f"columns found: {', '.join(sorted(map(str, row))) or 'none'}",
        "name the column that holds it",
    )


def _detected(rows: Iterator[Row], name: str, bad: _Bad) -> tuple[PairFormat, Iterator[Row]]:
    """The format of the first row that fits one, and the rows from there on."""
    for row in rows:
        try:
            format = detect_format(row.value)
            if format == "canonical" and row.container not in ("jsonl", "json"):
                refuse_json_cells(row.value)
        except DataError as error:
            bad(placed(error, f"{name} {row.place}"))
        else:
            return get_format(format), itertools.chain([row], rows)
    raise _nothing(name, bad)


def _converted(rows: Iterator[Row], name: str, format: PairFormat, bad: _Bad) -> Iterator[tuple[str, Pair]]:
    for row in rows:
        try:
            pairs = _pairs(format, row.value)
        except DataError as error:
            bad(placed(error, f"{name} {row.place}"))
            continue
        for pair in pairs:
            yield row.place, pair


def _bounded(placed: Iterator[tuple[str, Pair]], limit: int | None, until: str | None) -> Iterator[tuple[str, Pair]]:
    """The first `limit` pairs, or those up to the one whose id is `until`; what follows is not read."""
    for number, (place, pair) in enumerate(placed, start=1):
        yield place, pair
        if number == limit or pair.id == until:
            return


def _pairs(format: PairFormat, row: Mapping[str, Any]) -> list[Pair]:
    """The pairs of a row. Raises DataError also for one whose sides do not answer the same turns."""
    found = format.pair(row)
    pairs = found if isinstance(found, list) else [] if found is None else [found]
    for pair in pairs:
        _check_turns(pair)
    return pairs


def _check_turns(pair: Pair) -> None:
    turns = {name: turn_count(getattr(pair, name)) for name in ("response_a", "response_b")}
    fewer, more = sorted(turns, key=lambda name: turns[name])
    if turns[fewer] < turns[more]:
        raise missing_answer(f"field {fewer} has {turns[fewer]} turns, and {more} has {turns[more]}")
    check_turns(pair.prompt, pair.response_a, "response_a")


def _with_unique_ids(placed: Iterator[tuple[str, Pair]], name: str, format: PairFormat, bad: _Bad) -> list[Pair]:
    """The pairs; one whose id and content an earlier one has gets a numbered id that no other row has."""
    rows = list(placed)
    taken = {pair.id for _, pair in rows}
    first: dict[str, tuple[str, str]] = {}
    count: dict[str, int] = {}
    pairs = []
    for place, pair in rows:
        earlier, key = first.setdefault(pair.id, (place, pair.key))
        if earlier == place:
            pairs.append(pair)
        elif key != pair.key and format.unique_ids:
            bad(_clash(name, place, pair.id, earlier))
        else:
            number = count.get(pair.id, 1) + 1
            while f"{pair.id}-{number}" in taken:
                number += 1
            count[pair.id] = number
            pairs.append(replace(pair, id=f"{pair.id}-{number}"))
    return pairs


def _clash(name: str, place: str, id: str, earlier: str) -> DataError:
    return DataError(
        f"{name} {place}: field id is {excerpt(id)}, the id of {earlier}, whose prompt or responses differ",
        "an id names one pair",
        "give each row its own id, or leave ids out",
    )
