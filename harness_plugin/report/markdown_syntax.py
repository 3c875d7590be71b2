"""Markdown syntax: tables, and text from files made safe, whose names and answers can hold anything."""

import re
from collections.abc import Iterable

from harness_plugin.files.printable import one_line

LONGEST = 80  # characters of a name
# Anywhere, then at the start of a line: lists and underlined headings
MARKUP = re.compile(
    r"[|`<>&*\[\]\\~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\."
    r"|^[-+](?=\s|$)|^=|(?<=^\d)[.)](?=\s)|(?<=^\d\d)[.)](?=\s)"
)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; the cells must be safe in Markdown already."""
    head = list(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def safe(text: str) -> str:
    """Somebody's text in Markdown: one line of readable length, nothing in it that is markup, and no @mention."""
    line = one_line(text[: 4 * LONGEST])
    if len(line) > LONGEST or len(text) > 4 * LONGEST:
        line = f"{line[: LONGEST - 20]} ... {len(text)} characters"
    line = MARKUP.sub(lambda found: f"&#{ord(found[0])};", line)
    return line.replace("@", "@&#8203;") or "(blank)"
