"""What columns hold in all formats: cells of a table as values, JSON lists of turns, and what goes into `meta`."""

from collections.abc import Container, Mapping
from typing import Any

from harness_plugin.files.rows import parse_json
from harness_plugin.pairs.pair import plain

Fields = Mapping[str, Any]

_CSV_TEXT = {
    "prompt",
    "response_a",
    "response_b",
    "chosen",
    "rejected",
    "instruction",
    "output_1",
    "output_2",
    "output",
}
_CSV_NUMBERS = {"p_b", "preference", "winner_model_a", "winner_model_b", "winner_tie"}


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


def from_text_cells(row: Fields, prose: Container[str] = ()) -> dict[str, Any]:
    """A CSV row with types: an empty cell is null where the column holds no prose; numbers and `meta` are parsed.

    `prose` names more columns that hold it. A cell that does not parse stays text, for the format's own check to
    refuse it by name.
    """
    return {name: cell if name in prose else _typed_cell(name, cell) for name, cell in row.items()}


def _typed_cell(name: str, cell: str) -> Any:
    if name in _CSV_TEXT:
        return cell
    if not cell:
        return None
    try:
        if name in _CSV_NUMBERS and "_" not in cell:
            return float(cell)
        return parse_json(cell) if name == "meta" else cell
    except ValueError:
        return cell
