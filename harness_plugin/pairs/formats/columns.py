"""What columns hold in all formats: answers, cells of a table as values, JSON lists of turns, and what goes into
`meta`. The prompt has a file of its own, `prompts`.
"""

from collections.abc import Container, Mapping
from typing import Any

from harness_plugin.files.checked import missing_field, wrong_value
from harness_plugin.files.printable import counted
from harness_plugin.files.rows import parse_unique
from harness_plugin.files.written_lists import written_list
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.pair import MissingAnswer, Pair, Text, checked_answer, missing_answer, plain, turn_count

Fields = Mapping[str, Any]
"""A row as formats see it: column -> value."""

SYSTEM_PARTS = ("system", "system_prompt")
EARLIER_PARTS = ("history", "full_conversation", "messages")
PROMPT_PARTS = (*SYSTEM_PARTS, *EARLIER_PARTS, "context", "input")
"""Columns that are parts of a prompt whatever the format, in the order in which they stand in it: system prompts, the
earlier conversation, `context` before the question and `input` after it."""


def answer_of(row: Fields, name: str) -> Text:
    """The answer in a column: a string, a list of turns, or the assistant's message or messages.

    Raises MissingAnswer where the column, its value, or a turn of it is absent, DataError for anything else.
    """
    if name not in row:
        raise missing_answer(f"field {name} is not in the row")
    value = row[name]
    if chat.holds_messages(value):
        return _said(name, chat.messages(name, value))
    return checked_answer(name, value)


def answers_of(row: Fields, *names: str) -> tuple[Text, ...]:
    """`answer_of` for each column. Raises RowError for a row that has none of them, which is no row of its format."""
    if not row.keys() & set(names):
        raise missing_field(names[0], row)
    return tuple(answer_of(row, name) for name in names)


def answer_or_none(row: Fields, name: str) -> Text | None:
    """`answer_of`, but None for a missing answer: what `Answer.response` holds."""
    try:
        return answer_of(row, name)
    except MissingAnswer:
        return None


def _said(name: str, turns: list[chat.Message]) -> Text:
    if any(turn.role != "assistant" for turn in turns):
        raise wrong_value(name, [turn.role for turn in turns], "an answer: messages of the assistant only")
    return checked_answer(name, [turn.text for turn in turns])


def check_turns(prompt: Text, answer: Text, name: str) -> None:
    """An answer has one turn for each of the user's, or is one answer to the whole conversation; turns of a prompt that
    name their speaker need none. Raises MissingAnswer for an answer with too few turns, RowError for one with too
    many."""
    asked, given = turn_count(prompt), turn_count(answer)
    if given in (1, asked):
        return
    if given > asked:
        raise wrong_value(name, answer, f"as many turns as the prompt has, {asked}; of several samples, one")
    if not all(map(chat.speaker, prompt[: asked - given])):
        raise missing_answer(f"field {name} has {counted(given, 'turn')}, and the prompt has {asked}")


def check_pair(pair: Pair) -> None:
    """Raises MissingAnswer, or RowError, where the two answers do not answer the same turns of the prompt."""
    turns = {name: turn_count(getattr(pair, name)) for name in ("response_a", "response_b")}
    fewer, more = sorted(turns, key=lambda name: turns[name])
    if turns[fewer] < turns[more]:
        raise missing_answer(f"field {fewer} has {counted(turns[fewer], 'turn')}, and {more} has {turns[more]}")
    check_turns(pair.prompt, pair.response_a, "response_a")


def rest(row: Fields, *used: str) -> dict[str, Any]:
    """What else a published row says, for `meta`: single values only, since its records repeat texts or are large.
    Parts of the prompt are not among it."""
    unused = {n: value for n, value in row.items() if n not in used and n not in PROMPT_PARTS and value is not None}
    return {name: plain(value) for name, value in unused.items() if not isinstance(value, (Mapping, list, tuple))}


def json_turns(cell: Any) -> tuple[str | None, ...] | None:
    """The turns of a cell that is a list of strings and nulls, or spells one, in JSON or as Python or numpy write it;
    None where it is not."""
    value = written_list(cell) if isinstance(cell, str) else cell
    if not isinstance(value, (list, tuple)) or not value:
        return None
    return tuple(value) if all(turn is None or isinstance(turn, str) for turn in value) else None


def plain_lists(value: Any) -> Any:
    """The value with lists and numbers of Python's in the place of arrays and their numbers, which data frames hold."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, Mapping):
        return {name: plain_lists(cell) for name, cell in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [plain_lists(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def table_cells(row: Fields, container: str, texts: Container[str], numbers: Container[str]) -> Fields:
    """The values of a row of that container (`Row.container`), those of a table with their types: messages
    that a cell of a CSV or parquet file spells are messages; in CSV, cells of `numbers` are floats and that of `meta`
    is an object.

    An empty cell of a CSV file is null, but in `texts` an empty text. A cell that does not parse stays text, so that
    the format's own check refuses it by name.
    """
    if container not in ("csv", "parquet"):
        return row
    cells = {n: chat.written_messages(cell) or cell if isinstance(cell, str) else cell for n, cell in row.items()}
    if container == "parquet":
        return cells
    return {name: cell if name in texts else _typed_cell(name, cell, numbers) for name, cell in cells.items()}


def _typed_cell(name: str, cell: Any, numbers: Container[str]) -> Any:
    if not isinstance(cell, str):
        return cell
    if not cell:
        return None
    try:
        if name in numbers and "_" not in cell:  # float() takes 1_0 for ten
            return float(cell)
        return parse_unique(cell) if name == "meta" else cell
    except ValueError:
        return cell
