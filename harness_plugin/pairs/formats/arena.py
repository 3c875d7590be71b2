"""The arena's files of human preferences.

The Kaggle files of LMSYS and `lmarena-ai/arena-human-preference-55k`, `arena-human-preference-100k` and `-140k`, and
`lmsys/chatbot_arena_conversations`.
"""

from collections.abc import Sequence
from typing import Any

from harness_plugin.files.checked import is_absent, optional_id, optional_text, required, wrong_value
from harness_plugin.files.printable import counted, listed
from harness_plugin.pairs.formats.columns import Fields, answers_of, json_turns, rest
from harness_plugin.pairs.formats.prompt_columns import prompt_of
from harness_plugin.pairs.formats.two_conversations import COLUMNS, SIDES, Words, battle
from harness_plugin.pairs.pair import REQUIRED, Pair, Winner, turn_count

_BOTH_BAD = (Winner.TIE, "both_bad")
WORDS: Words = {**SIDES, "tie (bothbad)": _BOTH_BAD, "both_bad": _BOTH_BAD}
_BITS: dict[str | float, bool] = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True}
_ONE_HOT = {"winner_model_a": Winner.MODEL_A, "winner_model_b": Winner.MODEL_B, "winner_tie": Winner.TIE}


def pair_100k(row: Fields) -> Pair:
    """A row of arena-human-preference-100k or of chatbot_arena_conversations: a list of messages for each side."""
    return battle(row, WORDS, optional_id(row, "question_id"), rest(row, *COLUMNS, "question_id"))


def pair_140k(row: Fields) -> Pair:
    """A row of arena-human-preference-140k: a list of messages for each side, whose contents are lists of parts. What
    `full_conversation` has before them, from earlier votes of the same session, is part of the prompt."""
    return battle(row, WORDS, optional_id(row, "id"), rest(row, *COLUMNS, "id"))


def pair_55k(row: Fields) -> Pair:
    """A row of the Kaggle files, with a one-hot winner. Texts are lists of turns, usually as JSON; in cleaned copies of
    these files they are plain."""
    texts = _listed(row) or row
    response_a, response_b = answers_of(texts, "response_a", "response_b")
    return Pair(
        prompt_of({**row, "prompt": texts["prompt"]}, "prompt", (response_a, response_b)),
        response_a,
        response_b,
        id=optional_id(row, "id"),
        winner=_one_hot(row),
        model_a=optional_text(row, "model_a"),
        model_b=optional_text(row, "model_b"),
        meta=rest(row, *REQUIRED, *_ONE_HOT, "model_a", "model_b", "id"),
    )


def _listed(row: Fields) -> dict[str, Any] | None:
    """The three texts as lists of turns; None where they are plain. An answer that is missing as a whole stays so.

    Whether they are plain is told by the prompt and by the two responses together, since one text alone may happen to
    be a JSON list. Without a one-hot winner they must be lists: plain ones are a canonical pair.
    """
    cells = dict(zip(REQUIRED, required(row, *REQUIRED), strict=True))
    turns = {name: json_turns(cell) for name, cell in cells.items()}
    plain = turns["prompt"] is None and (turns["response_a"] is None or turns["response_b"] is None)
    if plain and row.keys() & set(_ONE_HOT):
        return None
    for name, cell in cells.items():
        if turns[name] is None and (cell is not None or name == "prompt"):
            raise wrong_value(name, cell, "a JSON list of strings or nulls, one for each turn, as in the other texts")
    return {name: None if given is None else list(given) for name, given in turns.items()}


def _one_hot(row: Fields) -> Winner | None:
    """The winner of one-hot columns, 0 and 1 or true and false. Copies without ties may lack the column of ties."""
    names = [name for name in _ONE_HOT if name in row or name != "winner_tie"]
    if all(is_absent(row.get(name)) for name in names):
        return None
    values = required(row, *names)
    won = [name for name, value in zip(names, values, strict=True) if _bit(name, value)]
    if len(won) != 1:
        raise wrong_value(", ".join(names), tuple(values), "exactly one 1")
    return _ONE_HOT[won[0]]


def _bit(name: str, value: Any) -> bool:
    word = value.lower() if isinstance(value, str) else value
    if not isinstance(word, (str, int, float)) or word not in _BITS:
        raise wrong_value(name, value, "0 or 1, false or true")
    return _BITS[word]


def doubt(pairs: Sequence[Pair]) -> str:
    """What may be wrong where rows name a turn that is not the last one: in MT-bench's judgments, people judged the
    conversation up to that turn."""
    earlier = [pair.id for pair in pairs if _is_earlier(pair.meta.get("turn"), turn_count(pair.response_a))]
    if not earlier:
        return ""
    return (
        f"turn is not the last turn in {counted(len(earlier), 'pair')} (id {listed(earlier)}), and all turns are "
        "judged; if people judged the conversation up to that turn, read the file with --format mt_bench"
    )


def _is_earlier(turn: Any, turns: int) -> bool:
    return isinstance(turn, (int, float)) and not isinstance(turn, bool) and 1 <= turn < turns
