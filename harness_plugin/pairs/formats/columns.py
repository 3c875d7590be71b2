"""Checked access to the columns of a row, shared by all formats; it knows no format.

Every error names the column as the file spells it.
"""

from collections.abc import Container, Mapping
from typing import Any

from harness_plugin.files.checked import field_error, missing_field, refuse_surrogates
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


def need(row: Fields, *names: str) -> list[Any]:
    """The values of columns that must be there. Raises DataError for the first that is missing."""
    for name in names:
        if name not in row:
            raise missing_field(name, row)
    return [row[name] for name in names]


def need_text(row: Fields, *names: str) -> list[str]:
    """The values of columns that must be there and be strings."""
    need(row, *names)
    return [text_of(name, row[name]) for name in names]


def text_of(name: str, value: Any) -> str:
    """The value, if it is a string that can be encoded."""
    if not isinstance(value, str):
        raise field_error(name, value, "a string")
    refuse_surrogates(name, value)
    return value


def optional_text(row: Fields, name: str) -> str | None:
    """The value of a column that may be missing or null, and otherwise is a string."""
    return None if row.get(name) is None else text_of(name, row[name])


def optional_id(row: Fields, name: str) -> str:
    """The value of an id column, "" where it is missing or null; whole numbers become strings."""
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return "" if value is None else text_of(name, value)


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
