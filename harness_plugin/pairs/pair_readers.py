"""Reads pairs from a file or from rows at hand: formats told or named, bad rows named or counted, ids made unique.

This file puts rows and formats (what a row means) together; the columns of a format are the format's own business.
"""

import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.checked import RowError, excerpt, placed
from harness_plugin.files.opening import display
from harness_plugin.files.printable import counted, listed
from harness_plugin.files.rows import Row, only_like_first, read_rows
from harness_plugin.pairs.formats.canonical import refuse_json_cells
from harness_plugin.pairs.formats.columns import check_pair, plain_lists, table_cells
from harness_plugin.pairs.formats.detection import detect_format
from harness_plugin.pairs.formats.format import PairFormat
from harness_plugin.pairs.formats.naming import Naming, checked_fields, winner_words
from harness_plugin.pairs.formats.registry import (
    COLUMNS_OF_PAIRS,
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    get_format,
)
from harness_plugin.pairs.notes import ColumnNotes, cleaned, log
from harness_plugin.pairs.pair import FIELDS, MissingAnswer, Pair, UnknownWinner
from harness_plugin.pairs.text_notes import say_contradictions, say_texts


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
    skip_bad_rows: bool | None = False,
    fields: Mapping[str, str] | None = None,
    winner_map: Mapping[str, str | None] | None = None,
    ignore: Collection[str] = (),
    limit: int | None = None,
    until: str | None = None,
    beside: Collection[str] = (),
) -> PairFile:
    """The pairs of a file: JSON lines, a JSON array, CSV or parquet, plain or compressed; "-" is standard input, and a
    URI such as hf:// a file on another system.

    `limit`: only so many pairs, the first ones; `until`: only those up to the first pair with that id. The rest of the
    file is not read then. `beside`: columns that the caller takes from `meta`, which the log names as used.

    `format` is one of `FORMATS`, or None to tell it from the first row's columns. `fields` maps the names of fields
    (those of a pair, parts of the prompt such as `system`, columns of the format) to the file's own columns;
    `winner_map` maps words in the column of winners to `model_a`, `model_b`, `tie` or `none`; the columns `ignore` are
    left alone. A row without an id gets its content id, and a row that repeats another's id and content gets "-2",
    "-3" behind it. A row in which an answer, or a turn of one, is absent (null, NaN, fewer turns than the other answer
    or the prompt) makes no pair: it is listed in the log and in `missing`. The log says which columns were used for
    what, and warns of a column that looks like a label where no winner was read.

    Raises DataError with file, row, field, value and what was allowed for the first bad row; with `skip_bad_rows` these
    errors are collected in `skipped` instead, unless no row is good; None is for callers without that option, of which
    the error then does not speak. Raises UsageError for an unknown format or field, or one that the format has no use
    for.
    """
    naming = _naming(format, fields, winner_map, ignore)
    return _read(read_rows(path), display(path), os.fspath(path), format, skip_bad_rows, naming, (limit, until), beside)


def pairs_from_rows(
    rows: Iterable[Mapping[str, Any]],
    format: str | None = None,
    skip_bad_rows: bool = False,
    fields: Mapping[str, str] | None = None,
    source: str = "rows",
    winner_map: Mapping[str, str | None] | None = None,
    ignore: Collection[str] = (),
) -> PairFile:
    """The pairs of rows that are loaded already, such as those of a hub's data set or of a data frame, whose lists may
    be arrays, and whose columns may have numbers for names; `source` names them in errors.

    Everything else is as in `read_pairs`.
    """
    naming = _naming(format, fields, winner_map, ignore)
    named = ({str(column): plain_lists(value) for column, value in row.items()} for row in rows)
    numbered = (Row(f"row {number}", row) for number, row in enumerate(named, start=1))
    return _read(numbered, source, source, format, skip_bad_rows, naming)


def pair_from_row(row: Mapping[str, Any], format: str) -> Pair | None:
    """The pair of one row of the named format, of several the first; None for a row that repeats another (lm-eval's
    swapped documents).

    Raises DataError for a field that is missing or not what the format allows.
    """
    return next(iter(_pairs(get_format(format), row)), None)


def _naming(
    format: str | None,
    fields: Mapping[str, str] | None,
    winner_map: Mapping[str, str | None] | None,
    ignore: Collection[str],
) -> Naming:
    naming = Naming(checked_fields(fields, FIELDS, COLUMNS_OF_PAIRS), ignore, winner_words(winner_map or {}))
    if format is not None:
        naming.check(get_format(format))
    return naming


SKIP = "leave bad rows out with --skip-bad-rows"
_WORDS = 'say what its words mean with --winner-map "WORD=model_a,..."'


class _Bad:
    """What happens to rows that make no pair: one without an answer is kept in `missing`; of bad ones the first raises
    and names the option that leaves such rows out, if there is one, or all are kept in `errors`."""

    def __init__(self, skip: bool | None):
        self.skip = skip
        self.errors: list[DataError] = []
        self.missing: list[DataError] = []

    def __call__(self, error: DataError) -> None:
        if isinstance(error, MissingAnswer):
            self.missing.append(error)
            return
        if not self.skip and isinstance(error, RowError):
            words = f"{_WORDS}, " if isinstance(error, UnknownWinner) else ""
            skip = "" if self.skip is None else f", or {SKIP}"
            raise RowError(error.found, error.why, f"{words}{error.do}{skip}")
        if not self.skip:
            raise error
        self.errors.append(error)


def _read(
    rows: Iterator[Row | DataError],
    name: str,
    path: str,
    format: str | None,
    skip: bool | None,
    naming: Naming,
    bounds: tuple[int | None, str | None] = (None, None),
    beside: Collection[str] = (),
) -> PairFile:
    bad = _Bad(skip)
    good = cleaned(_readable(rows, bad), name, naming)
    found, good = (get_format(format), good) if format else _detected(good, name, naming, bad)
    naming.check(found)
    columns = ColumnNotes(found, naming.fields, beside)
    named = _noted(only_like_first(good, found.first_of), columns, name, naming)
    converted = _converted(named, name, found, columns, naming, bad)
    placed = _bounded(converted, *bounds)
    pairs = _with_unique_ids(placed, name, found, bad)
    if not pairs:
        raise _nothing(name, bad)
    columns.say(name, counted(len(pairs), "pair"))
    sides = [(p.prompt, p.response_a) for p in pairs], [(p.prompt, p.response_b) for p in pairs]
    say_texts(name, [(f"id {pair.id}", pair.prompt) for pair in pairs], *sides)
    say_contradictions(name, pairs)
    if doubt := found.doubt(pairs):
        log.warning("%s: %s", name, doubt)
    _say_missing(name, bad)
    columns.say_labels(name, pairs)
    return PairFile(pairs, found.name, bad.errors, path, bad.missing)


def _say_missing(name: str, bad: _Bad) -> None:
    if bad.missing:
        places = listed([error.found.removeprefix(f"{name} ") for error in bad.missing])
        rows = counted(len(bad.missing), "row")
        log.warning("%s: %s left out, since an answer is missing: %s", name, rows, places)


def _nothing(name: str, bad: _Bad) -> DataError:
    errors = bad.errors
    if bad.missing and not errors:
        error = DataError(
            f"no row of {name} has both answers ({counted(len(bad.missing), 'row')}), first: {bad.missing[0].found}",
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


def _detected(rows: Iterator[Row], name: str, naming: Naming, bad: _Bad) -> tuple[PairFormat, Iterator[Row]]:
    """The format of the first row that fits one, and the rows from there on."""
    for row in rows:
        try:
            format = get_format(detect_format(row.value, naming))
            if format.name == "canonical" and row.container not in ("jsonl", "json"):
                refuse_json_cells(naming.renamed(row.value, format))
        except DataError as error:
            bad(placed(error, f"{name} {row.place}"))
        else:
            return format, itertools.chain([row], rows)
    raise _nothing(name, bad)


def _noted(rows: Iterator[Row], columns: ColumnNotes, name: str, naming: Naming) -> Iterator[Row]:
    """The rows, noted; a column that is named for a field but stands in no row is an error."""
    unseen = set(naming.fields.values())
    row = None
    for row in rows:
        unseen -= row.value.keys()
        columns.add(row)
        yield row
    if row is not None and unseen:
        raise DataError(
            f"no row of {name} has the column {excerpt(min(unseen))}", "it was named for a field", "check its name"
        )


def _converted(
    rows: Iterator[Row], name: str, format: PairFormat, columns: ColumnNotes, naming: Naming, bad: _Bad
) -> Iterator[tuple[str, Pair]]:
    for row in rows:
        try:
            pairs = _named_pairs(row, format, naming)
        except DataError as error:
            bad(placed(naming.in_words_of_the_file(error, format), f"{name} {row.place}"))
            continue
        columns.add_pairs(row, pairs)
        for pair in pairs:
            yield row.place, pair


def _bounded(placed: Iterator[tuple[str, Pair]], limit: int | None, until: str | None) -> Iterator[tuple[str, Pair]]:
    """The first `limit` pairs, or those up to the one whose id is `until`; what follows is not read."""
    for number, (place, pair) in enumerate(placed, start=1):
        yield place, pair
        if number == limit or pair.id == until:
            return


def _named_pairs(row: Row, format: PairFormat, naming: Naming) -> list[Pair]:
    """The pairs of a row whose columns and winners the user may have named."""
    cells = table_cells(naming.renamed(row.value, format), row.container, TEXT_COLUMNS, NUMBER_COLUMNS)
    value, winner = naming.own_winner(cells, format)
    changes: dict[str, Any] = {**naming.afterwards(row.value, format)}
    if winner is not None:
        changes["winner"] = winner
    return [replace(pair, **changes) if changes else pair for pair in _pairs(format, value)]


def _pairs(format: PairFormat, row: Mapping[str, Any]) -> list[Pair]:
    """The pairs of a row. Raises DataError also for one whose sides do not answer the same turns."""
    found = format.pair(row)
    pairs = found if isinstance(found, list) else [] if found is None else [found]
    for pair in pairs:
        check_pair(pair)
    return pairs


def _with_unique_ids(placed: Iterator[tuple[str, Pair]], name: str, format: PairFormat, bad: _Bad) -> list[Pair]:
    """The pairs; one whose id and content an earlier one has gets a numbered id that no other row has."""
    rows = list(placed)
    taken = {pair.id for _, pair in rows}
    first: dict[str, tuple[str, Pair]] = {}
    count: dict[str, int] = {}
    pairs: list[Pair] = []
    again: dict[str, None] = {}  # of a row with several pairs, the row
    for place, pair in rows:
        earlier, same = first.setdefault(pair.id, (place, pair))
        if same is pair:
            pairs.append(pair)
        elif same.key != pair.key and format.unique_ids:
            bad(_clash(name, place, pair.id, earlier))
        else:
            if same == pair and same.meta == pair.meta:
                again[place] = None
            number = count.get(pair.id, 1) + 1
            while f"{pair.id}-{number}" in taken:
                number += 1
            count[pair.id] = number
            pairs.append(replace(pair, id=f"{pair.id}-{number}"))
    if again:
        log.warning(
            "%s: %s an earlier one in everything that is read, and counts again: %s",
            name,
            "1 row repeats" if len(again) == 1 else f"{len(again)} rows repeat",
            listed([*again]),
        )
    return pairs


def _clash(name: str, place: str, id: str, earlier: str) -> DataError:
    return DataError(
        f"{name} {place}: field id is {excerpt(id)}, the id of {earlier}, whose prompt or responses differ",
        "an id names one pair",
        "give each row its own id, or leave ids out",
    )
