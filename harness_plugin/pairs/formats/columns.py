"""What columns hold in all formats: cells of a table as values, JSON lists of turns, and what goes into `meta`."""

from collections.abc import Container, Mapping
from typing import Any

from harness_plugin.files.rows import parse_json
from harness_plugin.pairs.pair import plain

Fields = Mapping[str, Any]
"""A row as formats see it: column -> value."""


def rest(row: Fields, *used: str) -> dict[str, Any]:
    """What else a published row says, for `meta`: single values only, since its records repeat texts or are large."""
    unused = {name: value for name, value in row.items() if name not in used and value is not None}
    return {name: plain(value) for name, value in unused.items() if not isinstance(value, (Mapping, list, tuple))}


def json_turns(cell: Any) -> tuple[str, ...] | None:
    """The turns that a text cell spells as a JSON list of strings and nulls (empty turns); None where it does not."""
    if not isinstance(cell, str) or not cell.lstrip().startswith("["):
        return None
    try:
        value = parse_json(cell)
    except ValueError:
        return None
    if not isinstance(value, list) or not value or not all(turn is None or isinstance(turn, str) for turn in value):
        return None
    return tuple(turn or "" for turn in value)


def typed_cells(row: Fields, texts: Container[str], numbers: Container[str]) -> dict[str, Any]:
    """A row of a CSV file with types: cells of `numbers` become floats, that of `meta` becomes an object.

    An empty cell is null, but in `texts` an empty text. A cell that does not parse stays text, so that the format's own
    check refuses it by name.
    """
    return {name: cell if name in texts else _typed_cell(name, cell, numbers) for name, cell in row.items()}


def _typed_cell(name: str, cell: str, numbers: Container[str]) -> Any:
    if not cell:
        return None
    try:
        if name in numbers and "_" not in cell:  # float() takes 1_0 for ten
            return float(cell)
        return parse_json(cell) if name == "meta" else cell
    except ValueError:
        return cell
