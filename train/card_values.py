"""Values as Markdown for a model card: code, tables, numbers, and names without their folders."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import PurePosixPath, PureWindowsPath

from harness_plugin.files.printable import one_line

UNKNOWN = "not known"


def flattened(values: Mapping, prefix: str = "") -> Iterable[tuple[str, object]]:
    """(dotted name, value) of nested mappings, in their order."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{bare(str(name))}.")
        else:
            yield f"{prefix}{bare(str(name))}", value


def setting(value) -> str:
    """A setting of a recipe as text: a string without quotes, of a path only the last part, all else as JSON."""
    if isinstance(value, str):
        return bare(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(setting(item) for item in value) or "none"
    return json.dumps(value, ensure_ascii=False, default=str)


def bare(text: str) -> str:
    """The text; only its last part if it is an absolute path, of Unix or of Windows."""
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith("~"):
        return last_part(text)
    return text


def last_part(path: str) -> str:
    """The name of the file or folder at the end of a path."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "a folder"


def code(text: str) -> str:
    """The text as code that is safe in a sentence and in a table: one line, with pipes and backticks written so that
    every reader of Markdown shows them."""
    text = one_line(text)
    if not re.search(r"[|`\\]", text):
        return f"`{text}`" if text else UNKNOWN
    return "<code>" + "".join(c if c.isalnum() or c in " .,:/-" else f"&#{ord(c)};" for c in text) + "</code>"


def literal(text: str) -> str:
    """The text as a string literal of Python, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def block(text: str, language: str = "") -> str:
    """The text as a block of code, with a fence that is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def is_number(value) -> bool:
    """Whether the value is a finite real number; true and false are not numbers."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def number(value) -> str:
    """A number with three decimals; UNKNOWN for anything else."""
    return f"{value:.3f}" if is_number(value) else UNKNOWN


def count(value) -> str:
    """A whole number with separators; UNKNOWN for anything else."""
    return f"{value:,.0f}" if is_number(value) else UNKNOWN


def duration(seconds: float) -> str:
    """A time in hours, minutes or seconds."""
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
