"""A section of a comparison, in a shape that a terminal, Markdown and a page can show: sentences and a table.

Texts are as the files of users have them; whoever writes them makes them safe in its own format.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness_plugin.report.numbers import with_interval

Value = Mapping[str, Any]
"""An object of the JSON of a comparison."""


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and a table, which may be empty. `rows`: as many cells in each as in `head`."""

    title: str
    sentences: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def interval(found: Value, digits: int = 3) -> str:
    """A value with its 95 % interval; "-" for what is not known."""
    return with_interval(found["value"], found["low"], found["high"], digits)


def counted_interval(found: Value) -> str:
    """As `interval`, with the number of values that it rests on."""
    return interval(found) if found["value"] is None else f"{interval(found)}, n={found['n']}"


def aligned(section: Section) -> Iterable[str]:
    """The table of a section as lines of a terminal, in columns; none without rows."""
    table = [section.head, *section.rows] if section.rows else []
    widths = [max(len(row[k]) for row in table) for k in range(len(section.head))] if table else []
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
