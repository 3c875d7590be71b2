"""Somebody's text in a form that can be written to a file, a terminal or a log."""

from typing import Any


def readable(value: Any) -> str:
    """The text with "?" in place of half surrogate pairs, which cannot be written; several turns become one text."""
    if isinstance(value, (list, tuple)):
        value = "\n\n".join(map(str, value))
    return str(value).encode("utf-8", "replace").decode("utf-8")


def one_line(value: Any, longest: int | None = None) -> str:
    """The text on one line, cut to `longest` characters, of which the last is then an ellipsis.

    Every run of white space and of characters that print nothing (control characters, marks of direction, half
    surrogate pairs) becomes one space.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return line if longest is None or len(line) <= longest else line[: longest - 1] + "…"
