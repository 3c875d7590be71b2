"""LLaMA-Factory's preference data in its ShareGPT and OpenAI layouts: the conversation, and a chosen and a rejected
message. Its Alpaca layout and TRL's rows are read by `preferences`.
"""

from collections.abc import Mapping
from typing import Any

from harness_plugin.files.checked import is_absent, required, wrong_value
from harness_plugin.pairs.formats import preferences
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.pair import Pair

_ROLES = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}
TALKS = ("conversations", "messages")
_RANKED = 2


def pair(row: Fields) -> Pair:
    """A row with the conversation in `conversations` or `messages`, and the answers in `chosen` and `rejected`, each
    one message: {from, value} or {role, content}."""
    column = next((name for name in TALKS if not is_absent(row.get(name))), TALKS[0])
    talk, chosen, rejected = required(row, column, "chosen", "rejected")
    if not isinstance(talk, (list, tuple)):
        raise wrong_value(column, talk, "a list of messages, each with from and value, or with role and content")
    turns = [_message(f"{column}[{n}]", entry) for n, entry in enumerate(talk)]
    others = {name: value for name, value in row.items() if name != column}
    answers = [_message("chosen", chosen)], [_message("rejected", rejected)]
    return preferences.compared({**others, "prompt": turns}, *answers)


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
    return all(isinstance(row.get(name), Mapping) for name in ("chosen", "rejected")) and any(
        not is_absent(row.get(name)) for name in TALKS
    )


def _message(name: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise wrong_value(name, entry, "a message with from and value, or with role and content")
    role, content = (("from", "value"), ("role", "content"))["role" in entry]
    spoken = entry.get(role)
    if not isinstance(spoken, str) or spoken not in _ROLES:
        raise wrong_value(f"{name}.{role}", spoken, ", ".join(map(repr, _ROLES)))
    return {"role": _ROLES[spoken], "content": entry.get(content)}
