"""The table of formats: which columns tell each one, and which function turns its rows into pairs.

This file knows column names and nothing of files or rows' numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import excerpt
from harness_plugin.pairs.formats import battles, preferences
from harness_plugin.pairs.formats.columns import Fields, json_turns
from harness_plugin.pairs.pair import REQUIRED, Pair


@dataclass(frozen=True)
class Format:
    """One format.

    `needs` and `without`: the columns that tell it and those that exclude it. `convert`: a row to its pair, or None for
    a row that repeats another. `unique_ids`: False where the publisher's ids may repeat, so that a repeated one gets a
    suffix instead of an error. `first_of`: a column of which only rows with the first row's value count.
    """

    name: str
    needs: frozenset[str]
    without: frozenset[str]
    convert: Callable[[Fields], Pair | None]
    unique_ids: bool = True
    first_of: str | None = None


def _format(name: str, needs: str, convert: Callable[[Fields], Pair | None], without: str = "", **more: Any) -> Format:
    return Format(name, frozenset(needs.split()), frozenset(without.split()), convert, **more)


_TALKS = "conversation_a conversation_b"
_BOTH = "prompt response_a response_b"
_TABLE = {
    entry.name: entry
    for entry in (
        _format("canonical", _BOTH, Pair.from_dict, without="winner_model_a winner_model_b winner_tie"),
        _format("arena_55k", f"{_BOTH} winner_model_a winner_model_b winner_tie", battles.arena_55k),
        _format(
            "arena_100k",
            _TALKS,
            partial(battles.arena, battles.ARENA_WORDS, "question_id"),
            without="full_conversation judge",
        ),
        _format("arena_140k", f"{_TALKS} full_conversation", partial(battles.arena, battles.ARENA_140K_WORDS, "id")),
        _format(
            "chatbot_arena",
            f"{_TALKS} judge tstamp",
            partial(battles.arena, battles.ARENA_WORDS, "question_id"),
            without="full_conversation",
        ),
        _format("mt_bench", f"{_TALKS} judge turn", battles.mt_bench, without="full_conversation tstamp"),
        _format("chosen_rejected", "chosen rejected", preferences.chosen_rejected, unique_ids=False),
        _format("alpaca_eval", "instruction output_1 output_2", preferences.alpaca_annotation),
        _format("lm_eval", "doc resps", battles.lm_eval_sample, first_of="filter"),
    )
}

FORMATS = tuple(_TABLE)
"""The names of the formats that `read_pairs` takes."""

_SINGLE_ANSWERS = ({"instruction", "output"}, {"choices", "model_id"}, {"messages", "uid"}, {"doc", "resps"})


def get_format(name: str) -> Format:
    """The format of that name. Raises UsageError for an unknown one."""
    if name not in _TABLE:
        raise UsageError(
            f"format {excerpt(name)} is unknown", f"formats known: {', '.join(FORMATS)}", "name one of them"
        )
    return _TABLE[name]


def detect_format(row: Mapping[str, Any]) -> str:
    """The name of the format whose columns the row has.

    Raises DataError, listing the columns found and the formats known, where no format or more than one fits, and where
    the row holds a single answer instead of a pair.
    """
    columns = set(row)
    fitting = [entry.name for entry in _TABLE.values() if entry.needs <= columns and not entry.without & columns]
    if "lm_eval" in fitting and not battles.is_pair_doc(row["doc"]):
        fitting.remove("lm_eval")
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and any(shape <= columns for shape in _SINGLE_ANSWERS):
        raise DataError(
            "the file holds single answers of one model, not pairs",
            "there is nothing in it to compare",
            "put two models' answers side by side: one row with prompt, response_a and response_b each",
        )
    what = f"fit more than one format ({', '.join(fitting)})" if fitting else "fit no known format"
    raise DataError(
        f"the columns {what}; columns found: {', '.join(sorted(map(str, columns))) or 'none'}",
        f"formats known: {', '.join(FORMATS)}",
        "name the format (--format), or name the columns of a canonical pair",
    )


def refuse_json_cells(row: Mapping[str, Any]) -> None:
    """Refuses to guess about a table's row with a canonical pair's columns whose three texts are all JSON lists.

    That is how the Kaggle files look without their labels. Raises DataError that asks for the format.
    """
    if all(json_turns(row.get(name)) is not None for name in REQUIRED):
        raise DataError(
            f"the columns are a canonical pair's, but the texts are JSON lists, such as {excerpt(row['prompt'])}",
            "they may be turns (arena_55k) or the very text of one turn (canonical)",
            "name the format (--format)",
        )
