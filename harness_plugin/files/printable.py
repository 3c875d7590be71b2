"""Somebody's text in a form that can be written to a file, a terminal or a log."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

MOST_LISTED = 20
KEPT = "\n\t\u200c\u200d"  # not printable, and part of ordinary text: joiners of emoji and of some scripts
# What runners of CI take for a command: `::error::` at the start of a line (GitHub), `##[error]` and `##vso[...]`
# anywhere in it (GitHub's older form, Azure, TeamCity).
_COMMAND_AT_START = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
_COMMAND_ANYWHERE = re.compile(r"##(?=\w*\[)")


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


def log_line(value: Any, longest: int | None = None) -> str:
    """The text as a part of one line of a log (`one_line`), in which a runner sees no command wherever it stands."""
    return _COMMAND_ANYWHERE.sub("# #", one_line(value, longest).replace("::", ": :"))


def counted(count: int, noun: str) -> str:
    """The count with its noun, such as "1 pair" or "2 pairs"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def listed(items: Sequence[str], most: int = MOST_LISTED) -> str:
    """The items with commas between them; of many the first `most`, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def without_controls(text: str) -> str:
    """The text with every character written out, such as \\u001b, that could move the cursor, or hide or reorder
    others. The line feeds and tabs of a text stay. In JSON the value of a string does not change."""
    if text.replace("\n", "").isprintable():
        return text
    kept = (c.isprintable() or c in KEPT or unicodedata.category(c) == "Zs" for c in text)
    return "".join(c if keep else escaped(c) for c, keep in zip(text, kept, strict=True))


def without_commands(text: str, head: str = "") -> str:
    """The text with a space or an escape within what a runner takes for a command. `head`: what the first line holds
    before the text, without white space at its start."""
    first, feed, rest = text.partition("\n")
    if not head:
        first = _COMMAND_AT_START.sub(r"\1: ", first)
    elif head == ":" and first.startswith(":"):
        first = " " + first
    return _COMMAND_ANYWHERE.sub(r"#\\u0023", first + feed + _COMMAND_AT_START.sub(r"\1: ", rest))


def encodable(text: str, encoding: str) -> str:
    """The text with characters that the encoding lacks written out, as in JSON."""
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return "".join(c if _fits(c, encoding) else escaped(c) for c in text)


def escaped(character: str) -> str:
    """\\uXXXX, as JSON writes it: a surrogate pair for characters beyond U+FFFF."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))


def _fits(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
        return True
    except UnicodeEncodeError:
        return False
