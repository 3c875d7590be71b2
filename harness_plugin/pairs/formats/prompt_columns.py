"""The prompt of a row: its own column, and the columns in which the field keeps the rest of what a person read before
the answers (`columns.PROMPT_PARTS`). Every format reads its prompt through `prompt_of` or `with_parts`, so that two
rows that differ in any of these columns have different prompts.
"""

import itertools
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness_plugin.files.checked import RowError, is_absent, required, text_value, wrong_value
from harness_plugin.files.written_lists import written_list
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import EARLIER_PARTS, PROMPT_PARTS, SYSTEM_PARTS, Fields
from harness_plugin.pairs.pair import Text, checked_text, flat_text

_EARLIER = "a string, a list of messages, of strings or of [question, answer], or null"


def prompt_of(row: Fields, column: str, answers: Sequence[Text | None] = ()) -> Text:
    """The prompt in `column` with the other parts that the row has.

    The column holds a string, a list of turns, or one or more messages. `answers` are the row's own: a column
    `messages` may repeat the prompt and one of them. Raises DataError for any other value, and for a part that is no
    text.
    """
    (value,) = required(row, column)
    prompt = chat.history(chat.messages(column, value)) if chat.holds_messages(value) else checked_text(column, value)
    return with_parts(row, prompt, (column,), answers)


def with_parts(
    row: Fields,
    prompt: Text,
    used: Container[str] = (),
    answers: Sequence[Text | None] = (),
    session: tuple[str, ...] = (),
) -> Text:
    """The prompt with the parts that the row has in `PROMPT_PARTS`, the columns `used` not counted; `session`: turns
    that came between the earlier conversation and the prompt.

    A part that is null or empty, or that repeats the prompt, changes nothing. A system prompt and an earlier
    conversation become turns before the prompt, each prefixed by its speaker, as in `chat.history`. `context` and
    `input` stand in the turn of the question, before and after it, with an empty line between them. Raises RowError
    where a column holds pictures (`PICTURES`).
    """
    before: list[chat.Message] = []
    texts: dict[str, str] = {}
    for name in chat.PICTURES:
        if name in row:
            with _or_ignored(name):
                chat.refuse_pictures({name: row[name]})
    for name in part_columns(row, used):
        with _or_ignored(name):
            turns, text = _part(name, row[name])
        before += _without_echo(turns, prompt, answers, answered=name != "history")
        if text is not None and text.strip() != flat_text(prompt).strip():
            texts[name] = text
    return _preceded(before, session, _joined(texts.get("context"), prompt, texts.get("input")))


@contextmanager
def _or_ignored(name: str) -> Iterator[None]:
    """Errors that leave the block say how to leave the column alone."""
    try:
        yield
    except RowError as error:
        raise RowError(error.found, error.why, f"leave the column alone (--ignore {name}), {error.do}") from error


def part_columns(row: Fields, used: Container[str] = ()) -> list[str]:
    """The columns of the row from which `with_parts` reads something."""
    return [name for name in PROMPT_PARTS if name not in used and not _says_nothing(row.get(name))]


def _says_nothing(value: Any) -> bool:
    return is_absent(value) or (isinstance(value, (str, list, tuple, Mapping)) and (not value or value == "[]"))


def _part(name: str, value: Any) -> tuple[list[chat.Message], str | None]:
    """The turns, or the text in the turn of the question, that a column holds. Raises RowError for anything else."""
    if name in SYSTEM_PARTS:
        if chat.holds_messages(value):
            return chat.messages(name, value), None
        text = chat.content_text(name, value)
        return ([] if text is None else [chat.Message("system", text)]), None
    if name not in EARLIER_PARTS:
        if isinstance(value, str) and chat.message_list(value) is None:
            return [], text_value(name, value)
        if isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value):
            return [], "\n\n".join(text_value(name, text) for text in value)
    return earlier(name, value), None


def earlier(name: str, value: Any) -> list[chat.Message]:
    """An earlier conversation: messages, pairs of [question, answer], or turns, of which the last is the assistant's;
    any of these written as text. Other text is one turn of the user's. Raises DataError for anything else."""
    if isinstance(value, str):
        listed = written_list(value)
        if listed is None:
            return [chat.Message("user", text_value(name, value))]
        value = listed
    if not isinstance(value, (list, tuple)):
        raise wrong_value(name, value, _EARLIER)
    if value and isinstance(value[0], Mapping):
        return chat.messages(name, value)
    if all(isinstance(turn, str) for turn in value):
        roles = ("assistant", "user") * len(value)
        turns = [chat.Message(role, text_value(name, turn)) for role, turn in zip(roles, value[::-1], strict=False)]
        return turns[::-1]
    return [message for entry in value for message in _exchange(name, entry)]


def _exchange(name: str, entry: Any) -> list[chat.Message]:
    if not isinstance(entry, (list, tuple)) or len(entry) != 2:
        raise wrong_value(name, entry, _EARLIER)
    question, answer = entry
    said = [chat.Message("user", text_value(name, question))]
    return said if answer is None else [*said, chat.Message("assistant", text_value(name, answer))]


def _without_echo(
    turns: list[chat.Message], prompt: Text, answers: Sequence[Text | None], answered: bool
) -> list[chat.Message]:
    """The turns without those at their end that other columns hold: the prompt, or, if `answered`, it and one of the
    answers."""
    talks = [_talk(prompt, answer) for answer in answers or (None,)]
    counts = [_common_end(turns, talk[:-1]) for talk in talks]
    if answered:
        # The same last words alone may be an earlier answer: an answer is repeated only together with its question.
        counts += [count for talk in talks if (count := _common_end(turns, talk)) > 1]
    return turns[: len(turns) - max(counts)]


def _talk(prompt: Text, answer: Text | None) -> list[chat.Message]:
    """The messages of a prompt and an answer to it, those of a missing answer without a text."""
    if answer is not None:
        return chat.as_messages(prompt, answer)[0]
    turns = [prompt] if isinstance(prompt, str) else prompt
    count = sum(not chat.speaker(turn) for turn in turns) or 1
    said, own = chat.as_messages(prompt, ("",) * count)
    return [chat.Message(turn.role, None) if missing else turn for turn, missing in zip(said, own, strict=True)]


def _common_end(some: Sequence[chat.Message], others: Sequence[chat.Message]) -> int:
    """With how many equal messages both lists end, without regard to white space around them; one of `others` without
    a text equals all of its role."""
    pairs = zip(reversed(some), reversed(others), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda both: _is_same(*both), pairs))


def _is_same(one: chat.Message, other: chat.Message) -> bool:
    return one.role == other.role and (other.text is None or (one.text or "").strip() == other.text.strip())


def _joined(context: str | None, prompt: Text, given: str | None) -> Text:
    """The prompt with the context before its first question and the input after its last one."""
    turns = [prompt] if isinstance(prompt, str) else list(prompt)
    if context is not None:
        at = next((n for n, turn in enumerate(turns) if chat.speaker(turn) != "System: "), len(turns) - 1)
        label = chat.speaker(turns[at]) if len(turns) > 1 else ""
        turns[at] = f"{label}{context}\n\n{turns[at].removeprefix(label)}"
    if given is not None:
        turns[-1] = f"{turns[-1]}\n\n{given}"
    return turns[0] if isinstance(prompt, str) else tuple(turns)


def _preceded(before: list[chat.Message], session: tuple[str, ...], prompt: Text) -> Text:
    """The prompt after earlier turns, of which those that are the system's come first, each once."""
    if not before and not session:
        return prompt
    if isinstance(prompt, str):
        prompt = chat.spoken([chat.Message("user", prompt)])
    own_system = prompt[:1] if chat.speaker(prompt[0]) == "System: " and len(prompt) > 1 else ()
    systems = dict.fromkeys((*chat.spoken([turn for turn in before if turn.role == "system"]), *own_system))
    others = chat.spoken([turn for turn in before if turn.role != "system"])
    return (*systems, *others, *session, *prompt[len(own_system) :])
