"""Rows of a file as dictionaries, each with its place: JSON lines, a JSON array, CSV or parquet.

This file knows containers and not what their columns mean. Where a row cannot be read, the error that names it stands
in its place, so that the caller can stop or count it.
"""

import csv
import io
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.checked import UNIQUE_NAMES, GivenTwice, RowError, excerpt, json_object
from harness_plugin.files.compression import Stream, uncompressed_name
from harness_plugin.files.json_array import array_values
from harness_plugin.files.json_columns import rows_of_object
from harness_plugin.files.opening import display, open_binary, text_lines, text_pieces
from harness_plugin.files.optional import optional_module
from harness_plugin.files.systems import without_query

_LARGEST_CELL = 2**31 - 1
_FIX = "correct the row"
_SEPARATORS = (",", ";", "\t", "|")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True)
class Row:
    """One row: its place for messages ("row 3") and its fields."""

    place: str
    value: dict[str, Any]
    container: str = "rows"
    """`jsonl`, `json`, `csv` (where numbers, lists and nothing at all are written as text), `parquet`, or `rows`."""


def read_rows(path: str | os.PathLike[str]) -> Iterator[Row | DataError]:
    """The rows of a file, numbered from 1: in JSON lines the line number, elsewhere the record (a header not counted).

    The container is told by the name (.csv, .tsv, .parquet, before a compression's suffix) and else by the first bytes.
    A row that cannot be read is yielded as the DataError that names it. Raises DataError where the file as a whole
    cannot be read.
    """
    name = display(path)
    with open_binary(path) as stream:
        container = _container(name, stream)
        yield from _READERS[container](stream, name)


def whole_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place for messages, fields) of each row of a file in which every row counts.

    Raises DataError where `read_rows` does and for the first row that cannot be read.
    """
    name = display(path)
    for row in read_rows(path):
        if isinstance(row, DataError):
            raise row
        yield f"{name} {row.place}", row.value


def only_like_first(rows: Iterable[Row], column: str | None) -> Iterator[Row]:
    """The rows that have in `column` what the first one has; all rows where `column` is None."""
    wanted: list[Any] = []
    for row in rows:
        value = row.value.get(column) if column is not None else None
        wanted = wanted or [value]
        if value == wanted[0]:
            yield row


def _container(name: str, stream: Stream) -> str:
    stem = uncompressed_name(without_query(name), stream)
    head = stream.peek(64)
    if not head:
        raise DataError(f"{name} is empty", "there is nothing to read", "check how the file was made")
    if stem.endswith(".parquet") or head.startswith(b"PAR1"):
        return "parquet"
    if stem.endswith((".csv", ".tsv")):
        return "csv"
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first == b"[":
        return "json"
    named_json = stem.endswith((".json", ".jsonl", ".ndjson"))
    return "jsonl" if named_json or first in (b"{", b"") else "csv"


def parse_json(text: str | bytes) -> Any:
    """`json.loads` with one kind of error.

    Raises ValueError also for nesting that is too deep and for numbers with more digits than Python converts.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_unique(text: str) -> Any:
    """As `parse_json`, for text in which each name of an object counts: raises GivenTwice, which is a ValueError, for
    one that is there twice."""
    try:
        return UNIQUE_NAMES.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object of a JSON file, plain or compressed. Raises DataError where the file cannot be read, RowError where
    it is not JSON or not an object."""
    name = display(path)
    with open_binary(path) as stream:
        content = stream.read()
    try:
        return json_object(parse_json(content.decode("utf-8")), name)
    except ValueError as error:  # a UnicodeDecodeError is one
        raise RowError(f"{name} is not JSON ({error})", "nothing in it can be read", "make the file again") from error


def _json_lines(stream: Stream, name: str) -> Iterator[Row | DataError]:
    """The rows of JSON lines, or of a file that is one object; in a .json file it may be written over several lines."""
    is_json = uncompressed_name(without_query(name), stream).endswith(".json")
    lines = (entry for entry in text_lines(stream, name, "row") if isinstance(entry[1], DataError) or entry[1].strip())
    head = list(itertools.islice(lines, 2))
    first = _row_of_text(*head[0], name) if head else None
    if isinstance(first, Row) and len(head) == 1:
        yield from _of_object(first.value, name, is_json)
        return
    if is_json and not isinstance(first, Row):
        head += lines
        value = _joined_object(head, name)
        if value is not None:
            yield from _of_object(value, name, is_json)
            return
    for number, line in itertools.chain(head, lines):
        yield _row_of_text(number, line, name)


def _joined_object(lines: list[tuple[int, str | DataError]], name: str) -> dict[str, Any] | None:
    """The object that the lines are together; None where they are no JSON. Raises RowError for a name that an object in
    it has twice, and DataError where one of its lines is not UTF-8: without it the rest may be an object, too."""
    text = "".join(line for _, line in lines if not isinstance(line, DataError))
    try:
        value = parse_json(text)
    except ValueError:
        return None
    for _, line in lines:
        if isinstance(line, DataError):
            raise line
    try:
        parse_unique(text)
    except GivenTwice as error:
        raise _given_twice(name, error) from error
    return value if isinstance(value, dict) else None


def _of_object(value: dict[str, Any], name: str, is_json: bool) -> Iterator[Row | DataError]:
    try:
        for number, row in enumerate(rows_of_object(value, name, is_json), start=1):
            yield Row(f"row {number}", row, "jsonl")
    except RowError as error:
        yield error


def _row_of_text(number: int, line: str | DataError, name: str) -> Row | DataError:
    return line if isinstance(line, DataError) else _row_of_line(line, f"row {number}", name)


def _row_of_line(line: str, place: str, name: str) -> Row | DataError:
    try:
        value = parse_unique(line)
    except GivenTwice as error:
        value = error
    except ValueError as error:
        found = f"{name} {place}: {excerpt(line.strip())} is not JSON ({error})"
        return RowError(found, "allowed: one object per line", _FIX)
    return _row_of_value(value, place, name, "jsonl")


def _row_of_value(value: Any, place: str, name: str, container: str) -> Row | DataError:
    if isinstance(value, dict):
        return Row(place, value, container)
    if isinstance(value, GivenTwice):
        return _given_twice(f"{name} {place}", value)
    found = f"{name} {place}: {excerpt(value)} is not an object"
    return RowError(found, "allowed: an object with named fields", _FIX)


def _given_twice(where: str, error: GivenTwice) -> RowError:
    return RowError(f"{where}: {error}", "allowed: each name once, since only one of its values can count", _FIX)


def _json_array(stream: Stream, name: str) -> Iterator[Row | DataError]:
    number = 0
    try:
        for number, value in enumerate(array_values(text_pieces(stream, name)), start=1):
            yield _row_of_value(value, f"row {number}", name, "json")
    except ValueError as error:
        raise DataError(
            f"{name} is not JSON (after row {number}: {error})", "it begins as a JSON array", "make the file again"
        ) from error


def _csv_rows(stream: Stream, name: str) -> Iterator[Row | DataError]:
    # The csv module's limit is one for the whole process; 128 KiB, its default, is less than a long answer.
    csv.field_size_limit(max(_LARGEST_CELL, csv.field_size_limit()))
    lines = _decoded(stream, name)
    before, first = 0, next(lines, "")
    while first and _is_before_header(first):
        before, first = before + 1, next(lines, "")
    reader = csv.reader(itertools.chain([first], lines), delimiter=_separator(first), strict=True)
    header: list[str] | None = None
    number = 0
    try:
        for cells in reader:
            if header is None:
                header = _header(cells, name)
            elif any(cells):  # a line of separators alone is an empty line, as spreadsheets write them at the end
                number += 1
                yield _row_of_cells(header, cells, f"row {number} (line {before + reader.line_num})", name)
    except csv.Error as error:
        raise DataError(
            f"{name} row {number + 1} (line {before + reader.line_num}): not CSV ({error})",
            "what follows cannot be told apart",
            "check the quotes of this row, or write the file again",
        ) from error


def _is_before_header(line: str) -> bool:
    """Whether a line stands before the header: an empty one, or what tells Excel by what columns are separated."""
    return line.strip().strip('"').lower() in ("", "sep=", *(f"sep={separator}" for separator in _SEPARATORS))


def _decoded(stream: Stream, name: str) -> Iterator[str]:
    """The lines, which may end with a carriage return alone: cells in quotes are put together again by the reader."""
    for _, line in text_lines(stream, name):
        if isinstance(line, DataError):
            raise line
        yield from _LINE.findall(line) if "\r" in line else [line]


def _separator(header: str) -> str:
    """What separates the columns of a header line: a comma, unless another separator stands in it more often; what
    quotes or brackets enclose, as in winner (a|b|tie), does not count. A line that ends within quotes is not looked
    at."""
    if header.count('"') % 2:
        return ","
    names = re.sub(r'"[^"]*"|\([^()]*\)', "", header)
    return max(_SEPARATORS, key=names.count)


def _header(cells: list[str], name: str) -> list[str]:
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, start=1)]
    _refuse_repeated(names, name)
    return names


def _refuse_repeated(columns: list[str], name: str) -> None:
    """Raises DataError where two columns of the file have one name."""
    column, count = next(iter(Counter(columns).most_common(1)), ("", 0))
    if count > 1:
        raise DataError(
            f"{name} has more than one column {column!r}", "which one counts is unknown", "rename one of them"
        )


def _row_of_cells(header: list[str], cells: list[str], place: str, name: str) -> Row | DataError:
    if len(cells) == len(header):
        return Row(place, dict(zip(header, cells, strict=True)), "csv")
    return RowError(
        f"{name} {place}: {len(cells)} cells, starting {excerpt(cells[0])}",
        f"allowed: {len(header)} cells, as the header has",
        _FIX,
    )


def _parquet_rows(stream: Stream, name: str) -> Iterator[Row | DataError]:
    parquet = optional_module("pyarrow.parquet", "pyarrow", f"{name} is a parquet file")
    number = 0
    try:
        file = parquet.ParquetFile(_seekable(stream))
        _refuse_repeated(file.schema_arrow.names, name)
        for batch in file.iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                number += 1
                yield Row(f"row {number}", value, "parquet")
    except (OSError, ValueError) as error:  # Arrow's own errors derive from these two
        raise DataError(
            f"{name} is not a readable parquet file (after row {number}: {error})",
            "only part of it could be read",
            "fetch or make it again",
        ) from error


def _seekable(stream: Stream) -> io.BufferedIOBase:
    # A gzip stream says that it can seek, but it cannot seek from its end.
    return stream if isinstance(stream, io.BufferedReader) and stream.seekable() else io.BytesIO(stream.read())


_READERS = {"jsonl": _json_lines, "json": _json_array, "csv": _csv_rows, "parquet": _parquet_rows}
