"""What the arena's files and MT-bench share: a list of messages on each side, and a word for who won.

The words of each format are a closed table: a word that is not in it is an error, never a guess.
"""

from collections.abc import Mapping
from typing import Any

from harness_plugin.files.checked import is_absent, optional_text, required
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.formats.prompt_columns import with_parts
from harness_plugin.pairs.formats.sessions import before_vote
from harness_plugin.pairs.pair import Pair, Winner, unknown_winner

Words = Mapping[str, tuple[Winner, str | None]]
"""Word -> outcome, and the flag that `meta` gets for it."""

SIDES: Words = {"model_a": (Winner.MODEL_A, None), "model_b": (Winner.MODEL_B, None), "tie": (Winner.TIE, None)}

_TALKS = ("conversation_a", "conversation_b")
_SESSION = "full_conversation"
COLUMNS = (*_TALKS, _SESSION, "model_a", "model_b", "winner")
"""The columns that `battle` reads, parts of the prompt aside."""


def battle(row: Fields, words: Words, id: str, meta: dict[str, Any], turns: Any = None) -> Pair:
    """The pair of `conversation_a` and `conversation_b`, cut after `turns` of the user's turns if that is given.

    Where `full_conversation` begins before the two, its beginning is the start of the prompt.

    Raises RowError for a conversation or a word for the winner that is not allowed.
    """
    a, b = zip(_TALKS, required(row, *_TALKS), strict=True)
    asked, response_a, response_b = chat.conversation(a, b, turns)
    winner, flag = outcome("winner", row.get("winner"), words)
    questions = asked[len(asked) - len(response_a) :]  # a system prompt before them is no question
    session = before_vote(_SESSION, row.get(_SESSION), questions, (response_a[-1], response_b[-1]))
    return Pair(
        with_parts(row, asked, (_SESSION,), (response_a, response_b), session),
        response_a,
        response_b,
        id=id,
        winner=winner,
        model_a=optional_text(row, "model_a"),
        model_b=optional_text(row, "model_b"),
        meta={**meta, flag: True} if flag else meta,
    )


def outcome(name: str, word: Any, words: Words) -> tuple[Winner | None, str | None]:
    """The outcome that a word of the column stands for, and its flag; none where it is null or not a number, as tables
    write null. Raises RowError for a word that is not in the table."""
    if is_absent(word):
        return None, None
    if not isinstance(word, str) or word not in words:
        raise unknown_winner(name, word, words)
    return words[word]
