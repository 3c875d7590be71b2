"""The values of a row, checked, and the words of the errors about them. Knows no format.

Every function takes the row or the value, the name of the field as the file spells it, and `where`: the file and the
row, for the message. Readers that add the place themselves (`placed`) leave `where` out.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from harness_plugin.errors import DataError

_LONGEST = 80
_LARGEST_WHOLE = 2.0**53


class RowError(DataError):
    """A row (or the object of a JSON file), or a value of it, that is not what its format promises. What to do depends
    on the kind of file, so that the reader of the file may say it (`remedy`)."""


def excerpt(value: Any) -> str:
    """The value as a message quotes it: its repr, cut to 80 characters."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def wrong_value(name: str, value: Any, allowed: str, where: str = "") -> RowError:
    """The error for a field whose value its format does not allow."""
    return RowError(f"{_prefix(where)}field {name} is {excerpt(value)}", f"allowed: {allowed}", "correct the row")


def missing_field(name: str, row: Mapping[str, Any], where: str = "") -> RowError:
    """The error for a row without a field that its format needs; it lists the fields that the row has."""
    names = ", ".join(sorted(map(str, row))) or "none"
    found = f"{_prefix(where)}field {name} is missing (fields found: {names})"
    return RowError(found, "its format needs it", "add it or name its column")


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""


def placed(error: DataError, where: str) -> DataError:
    """The same error, of the same type, with the place in front of it."""
    named = type(error)(f"{where}: {error.found}", error.why, error.do)
    named.__cause__ = error
    return named


@contextmanager
def remedy(do: str) -> Iterator[None]:
    """Errors about rows that leave the block (or the function that this decorates) advise `do`, such as "judge again"
    where a command wrote the file. Where several blocks surround an error, the innermost decides."""
    try:
        yield
    except RowError as error:
        raise DataError(error.found, error.why, do) from error


def is_absent(value: Any) -> bool:
    """Whether a value says that there is none: None, or a number that is not one, as tables write it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def text_value(name: str, value: Any, where: str = "") -> str:
    """The value, if it is a string, maybe an empty one, that UTF-8 can encode. Raises RowError."""
    if not isinstance(value, str):
        raise wrong_value(name, value, "a string", where)
    refuse_surrogates(name, value, where)
    return value


def refuse_surrogates(name: str, text: str, where: str = "") -> None:
    """Raises RowError for text with half of a surrogate pair, which UTF-8 and therefore tokenizers cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 10) : error.end + 10]
        allowed = f"text without lone surrogates (one stands at character {error.start}; tokenizers cannot read it)"
        raise wrong_value(name, near, allowed, where) from error


def json_object(value: Any, where: str) -> dict[str, Any]:
    """The value, if it is a JSON object; `where` names the value too. Raises RowError."""
    if not isinstance(value, dict):
        raise RowError(f"{where} is {excerpt(value)}", "allowed: an object", "correct the row")
    return value


def required(row: Mapping[str, Any], *names: str, where: str = "") -> list[Any]:
    """The values of fields that the row must have, null included. Raises RowError for the first that is missing."""
    for name in names:
        if name not in row:
            raise missing_field(name, row, where)
    return [row[name] for name in names]


def text(row: Mapping[str, Any], name: str, where: str = "") -> str:
    """The value of a field that the row must have: a string that is not empty. Raises RowError."""
    value = row.get(name)
    if not value and name not in row:
        raise missing_field(name, row, where)
    if value == "":
        raise wrong_value(name, value, "a string that is not empty", where)
    return text_value(name, value, where)


def optional_text(row: Mapping[str, Any], name: str, where: str = "") -> str | None:
    """The value of a field that may be missing, null or NaN and otherwise is a string. Raises RowError."""
    value = row.get(name)
    return None if is_absent(value) else text_value(name, value, where)


def optional_id(row: Mapping[str, Any], name: str) -> str:
    """The value of an id field: "" where it is missing, null or NaN; whole numbers become strings. Raises RowError."""
    return id_value(name, row.get(name))


def id_value(name: str, value: Any) -> str:
    """The value as an id, as `optional_id` gives it. A whole number may be a float, as tables hold it in a column with
    gaps, up to where floats have gaps themselves."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_WHOLE:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if is_absent(value):
        return ""
    if not isinstance(value, str):
        raise wrong_value(name, value, "a string, a whole number, or null")
    return text_value(name, value)


def number(row: Mapping[str, Any], name: str, where: str = "", low: float = -math.inf, high: float = math.inf) -> float:
    """The value of a field that the row must have: a finite number from `low` to `high`. Raises RowError; true and
    false are no numbers."""
    value = row.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            converted = float(value)
        except OverflowError:  # a whole number that no float can hold
            converted = math.inf
        if math.isfinite(converted) and low <= converted <= high:
            return converted
    if name not in row:
        raise missing_field(name, row, where)
    limits = "" if low == -math.inf and high == math.inf else f" from {low:g} to {high:g}"
    raise wrong_value(name, value, f"a finite number{limits}", where)


class GivenTwice(ValueError):
    """JSON in which an object has one name twice."""


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for name, value in items:
        if name in unique:
            raise GivenTwice(f"{excerpt(name)} is given twice")
        unique[name] = value
    return unique


# Python's own decoder takes the last of several values of one name without a word. This one raises GivenTwice. It is
# made once: making a decoder takes longer than checking the names of a row.
UNIQUE_NAMES = json.JSONDecoder(object_pairs_hook=_unique)
