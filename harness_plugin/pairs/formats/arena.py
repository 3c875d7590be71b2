"""The arena's files of human preferences.

The Kaggle files of LMSYS and `lmarena-ai/arena-human-preference-55k`, `arena-human-preference-100k` and `-140k`, and
`lmsys/chatbot_arena_conversations`.
"""

from typing import Any

from harness_plugin.files.checked import optional_id, optional_text, refuse_surrogates, required, wrong_value
from harness_plugin.pairs.formats.battle import COLUMNS, SIDES, Words, battle
from harness_plugin.pairs.formats.columns import Fields, json_turns, rest
from harness_plugin.pairs.pair import REQUIRED, Pair, Winner

WORDS: Words = {**SIDES, "tie (bothbad)": (Winner.TIE, "both_bad")}
_WORDS_140K: Words = {**SIDES, "both_bad": (Winner.TIE, "both_bad")}
_ONE_HOT = {"winner_model_a": Winner.MODEL_A, "winner_model_b": Winner.MODEL_B, "winner_tie": Winner.TIE}


def pair_100k(row: Fields) -> Pair:
    """A row of arena-human-preference-100k or of chatbot_arena_conversations: a list of messages for each side."""
    return battle(row, WORDS, optional_id(row, "question_id"), rest(row, *COLUMNS, "question_id"))


def pair_140k(row: Fields) -> Pair:
    """A row of arena-human-preference-140k: a list of messages for each side, whose contents are lists of parts."""
    return battle(row, _WORDS_140K, optional_id(row, "id"), rest(row, *COLUMNS, "id"))


def pair_55k(row: Fields) -> Pair:
    """A row of the Kaggle files: JSON lists of turns in text cells (null is an empty turn), and a one-hot winner."""
    prompt, response_a, response_b = (
        _turns(name, cell) for name, cell in zip(REQUIRED, required(row, *REQUIRED), strict=True)
    )
    return Pair(
        prompt,
        response_a,
        response_b,
        id=optional_id(row, "id"),
        winner=_one_hot(row),
        model_a=optional_text(row, "model_a"),
        model_b=optional_text(row, "model_b"),
        meta=rest(row, *REQUIRED, *_ONE_HOT, "model_a", "model_b", "id"),
    )


def _turns(name: str, cell: Any) -> tuple[str, ...]:
    turns = json_turns(cell)
    if turns is None:
        raise wrong_value(name, cell, "a JSON list of strings or nulls, one for each turn")
    for turn in turns:
        refuse_surrogates(name, turn)
    return turns


def _one_hot(row: Fields) -> Winner | None:
    if all(row.get(name) is None for name in _ONE_HOT):
        return None
    values = dict(zip(_ONE_HOT, required(row, *_ONE_HOT), strict=True))
    for name, value in values.items():
        if not isinstance(value, (int, float)) or value not in (0, 1):
            raise wrong_value(name, value, "0 or 1")
    won = [name for name, value in values.items() if value == 1]
    if len(won) != 1:
        raise wrong_value(", ".join(_ONE_HOT), tuple(values.values()), "exactly one 1")
    return _ONE_HOT[won[0]]
