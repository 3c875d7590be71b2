"""LLaMA-Factory's preference data in its ShareGPT and OpenAI layouts: the conversation, and a chosen and a rejected
message. Its Alpaca layout and TRL's rows are read by `preferences`.
"""

from collections.abc import Mapping
from typing import Any

from harness_plugin.files.checked import is_absent, required, wrong_value
from harness_plugin.pairs.formats import chat, preferences
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.pair import Pair

TALKS = ("conversations", "messages", "conversation")
_RANKED = 2


def pair(row: Fields) -> Pair:
    """A row with the conversation in one of the columns `TALKS`, and the answers in `chosen` and `rejected`, each
    one message: {from, value} or {role, content}."""
    column = next((name for name in TALKS if not is_absent(row.get(name))), TALKS[0])
    talk, chosen, rejected = required(row, column, "chosen", "rejected")
    chat.messages(column, talk)  # refuses what is none by the name of this column
    others = {name: value for name, value in row.items() if name != column}
    return preferences.compared({**others, "prompt": talk}, [chosen], [rejected])


def ranked(row: Fields) -> Pair:
    """A row of the older Alpaca layout: `output` lists two answers, the better one first."""
    (answers,) = required(row, "output")
    if not isinstance(answers, (list, tuple)) or len(answers) != _RANKED:
        raise wrong_value("output", answers, "a list of two answers, the better one first")
    return preferences.compared(row, *answers)


def holds_ranking(row: Fields) -> bool:
    """Whether `output` is a list of answers, where other files of instructions and outputs have one text."""
    return isinstance(row.get("output"), (list, tuple))


def holds_messages(row: Fields) -> bool:
    """Whether both answers are messages, one each, and a conversation stands beside them."""
    return all(map(_is_one, (row.get("chosen"), row.get("rejected")))) and any(
        not is_absent(row.get(name)) for name in TALKS
    )


def _is_one(value: Any) -> bool:
    return isinstance(chat.written_messages(value) if isinstance(value, str) else value, Mapping)
