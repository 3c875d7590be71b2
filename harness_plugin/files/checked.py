"""Values of a row, checked: what an error quotes of them and how it is worded. Knows no format."""

from collections.abc import Mapping
from typing import Any

from harness_plugin.errors import DataError

SKIP = "leave bad rows out with --skip-bad-rows"
"""What to do about a bad row, as the last of several ways."""


_SHOWN = 80


def shown(value: Any) -> str:
    """The value as a message quotes it: its repr, cut to a readable length."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def field_error(name: str, value: Any, allowed: str) -> DataError:
    """The error for a field whose value its format does not allow; the reader adds file and row."""
    return DataError(
        f"field {name} is {shown(value)}",
        f"allowed: {allowed}",
        f"correct the row, or {SKIP}",
    )


def refuse_surrogates(name: str, text: str) -> None:
    """Raises DataError for text that has half of a surrogate pair, which UTF-8 and so tokenizers cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 10) : error.end + 10]
        allowed = f"text without lone surrogates (one stands at character {error.start}; tokenizers cannot read it)"
        raise field_error(name, near, allowed) from error


def missing_field(name: str, row: Mapping[str, Any]) -> DataError:
    """The error for a row without a field that its format needs; it lists the fields found."""
    found = ", ".join(sorted(str(key) for key in row)) or "none"
    return DataError(
        f"field {name} is missing (fields found: {found})",
        "a row without it is no comparison",
        f"add it, name its column, or {SKIP}",
    )
