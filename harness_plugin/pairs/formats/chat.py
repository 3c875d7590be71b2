"""Turns messages and transcripts into the texts of a pair. The rule for all formats stands here, once:

* A battle that is a conversation on each side: `prompt` is the user's turns and a response is that side's answers to
  them, turn by turn. A system message becomes the first turn of the prompt, prefixed "System: ".
* A history that both sides share, followed by one answer on each side: `prompt` is the history. One user's turn stands
  as it is; of several turns each is prefixed by its speaker: "System: ", "Human: " or "Assistant: ".
* One turn is always a plain string.
* An assistant's message without content (null) is a missing answer where it is judged, and an empty turn of a history.
  Messages may be written as JSON, or as Python or numpy write them, in a text cell.

This file knows roles and turns; it must not know column names, labels or files.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness_plugin.files.checked import RowError, is_absent, refuse_surrogates, wrong_value
from harness_plugin.files.written_lists import written_list
from harness_plugin.pairs.pair import Text, missing_answer

_SPEAKERS = {"system": "System: ", "user": "Human: ", "assistant": "Assistant: "}
_ROLE_OF = {prefix: role for role, prefix in _SPEAKERS.items()}
_ROLES = {**{role: role for role in _SPEAKERS}, "developer": "system"}
_SHAREGPT = {**_ROLES, "human": "user", "gpt": "assistant"}
_TRANSCRIPT_ROLES = {"Human": "user", "Assistant": "assistant"}
_TRANSCRIPT_TURN = re.compile(r"\n\n(Human|Assistant):")
_CALLS = ("tool_calls", "function_call")
PICTURES = ("image", "images", "image_url", "video", "videos", "audio", "audios")
"""Columns of rows, and fields of messages and of parts, that hold what is no text."""
_ATTACHED = (*PICTURES, "attachments", "files", "documents")
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}  # type -> its field
TRANSCRIPT_START = "\n\nHuman:"


@dataclass(frozen=True)
class Message:
    """One message: role `system`, `user` or `assistant`, and its text; None where an assistant said nothing."""

    role: str
    text: str | None


def messages(name: str, value: Any) -> list[Message]:
    """The messages of a field that holds a list of {role, content} objects (or ShareGPT's {from, value}), one of them,
    or either of these as text.

    Content is a string, null, or a list of parts with a text or a refusal; what an assistant says under `refusal` in
    its place is its text. The role developer is another name for system. A system message without content is left out.
    Raises DataError for anything else, above all for images and calls of tools, which no text model can judge, and for
    a user's message without content.
    """
    given = written_messages(value) if isinstance(value, str) else value
    entries = [given] if is_message(given) else given
    if not isinstance(entries, (list, tuple)) or not entries:
        raise wrong_value(name, value, "a list of messages, each with role and content")
    found = [_message(f"{name}[{index}]", entry) for index, entry in enumerate(entries)]
    return [message for message in found if message.role != "system" or message.text is not None]


def message_list(text: str) -> list[Any] | None:
    """The list of messages that a text spells in JSON, or as Python or numpy write it; None where it does not, or a
    message has one name twice, since only one of its values would be read."""
    value = written_list(text) if re.match(r"\s*\[\s*\{", text) else None
    return value if is_message_list(value) else None


def written_messages(text: str) -> list[Any] | Mapping[str, Any] | None:
    """The list of messages, or the one message, that a text spells; None where it spells neither. One message must have
    a known role and a content, since many a text is an object that says from where something comes."""
    if not re.match(r"\s*\{", text):
        return message_list(text)
    one = written_list(f"[{text}]") or [None]
    return one[0] if len(one) == 1 and _is_whole(one[0]) else None


def _is_whole(value: Any) -> bool:
    fields = (("role", _ROLES, "content"), ("from", _SHAREGPT, "value"))
    return isinstance(value, Mapping) and any(
        isinstance(value.get(role), str) and value[role] in roles and content in value
        for role, roles, content in fields
    )


def is_message_list(value: Any) -> bool:
    """Whether a value is a list of objects that name a speaker: messages, if their contents are right."""
    return isinstance(value, (list, tuple)) and bool(value) and all(map(is_message, value))


def is_message(value: Any) -> bool:
    """Whether a value is an object that names a speaker."""
    return isinstance(value, Mapping) and ("role" in value or "from" in value)


def holds_messages(value: Any) -> bool:
    """Whether a value is a message or a list of messages."""
    return is_message(value) or is_message_list(value)


def _message(name: str, entry: Any) -> Message:
    entry = _from_sharegpt(name, entry)
    if not isinstance(entry, Mapping) or "content" not in entry:
        raise wrong_value(name, entry, "a message with role and content")
    role = entry.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise wrong_value(f"{name}.role", role, ", ".join(map(repr, _ROLES)))
    for field in _CALLS:
        if isinstance(entry.get(field), (Mapping, list, tuple)) and entry[field]:
            raise wrong_value(f"{name}.{field}", entry[field], "none (calls of tools are no text and cannot be judged)")
    refuse_pictures(entry, f"{name}.", _ATTACHED)
    text = content_text(f"{name}.content", entry["content"])
    if text is None and role == "assistant" and isinstance(entry.get("refusal"), str):
        text = content_text(f"{name}.refusal", entry["refusal"])
    if text is None and role == "user":
        raise wrong_value(f"{name}.content", entry["content"], "the text of a user's message")
    return Message(_ROLES[role], text)


def refuse_pictures(fields: Mapping[str, Any], where: str = "", names: Sequence[str] = PICTURES) -> None:
    """Raises RowError where a row, a message or a part has something in one of the fields `names`."""
    for field in names:
        value = fields.get(field)
        if value and not is_absent(value) and value != "[]":
            allowed = "null (pictures and sounds are no text, files are not opened, and none of them can be judged)"
            raise wrong_value(f"{where}{field}", value, allowed)


def _from_sharegpt(name: str, entry: Any) -> Any:
    """A message in ShareGPT's spelling, {from, value}, as {role, content}; anything else as it is."""
    if not isinstance(entry, Mapping) or "role" in entry or "from" not in entry:
        return entry
    spoken = entry["from"]
    if not isinstance(spoken, str) or spoken not in _SHAREGPT:
        raise wrong_value(f"{name}.from", spoken, ", ".join(map(repr, _SHAREGPT)))
    return {"role": _SHAREGPT[spoken], "content": entry.get("value")}


def content_text(name: str, content: Any) -> str | None:
    """The text of a message's content: a string, or a list of text parts (joined by line feeds); None where it is null
    or has no part with a text."""
    if is_absent(content):
        return None
    if isinstance(content, str):
        refuse_surrogates(name, content)
        return content
    if not isinstance(content, (list, tuple)):
        raise wrong_value(name, content, "a string, null, or a list of text parts")
    parts = [_part_text(f"{name}[{index}]", part) for index, part in enumerate(content)]
    texts = [text for text in parts if text is not None]
    return "\n".join(texts) if texts else None


def _part_text(name: str, part: Any) -> str | None:
    if not isinstance(part, Mapping):
        raise wrong_value(name, part, "a part with type and text")
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _TEXT_PARTS:
        allowed = "'text' or 'refusal' (pictures, files and calls of tools cannot be judged)"
        raise wrong_value(f"{name}.type", kind, allowed)
    refuse_pictures(part, f"{name}.")
    field = _TEXT_PARTS[kind]
    text = part.get(field)
    if is_absent(text):
        return None
    if not isinstance(text, str):
        raise wrong_value(f"{name}.{field}", text, "a string or null")
    refuse_surrogates(name, text)
    return text


def transcript(name: str, text: str) -> list[Message]:
    """The messages of a transcript whose turns begin with "Human:" and "Assistant:" after an empty line."""
    if not text.startswith(TRANSCRIPT_START):
        raise wrong_value(name, text, "a transcript that begins with '\\n\\nHuman:', or any text beside a prompt field")
    pieces = _TRANSCRIPT_TURN.split(text)[1:]
    turns = zip(pieces[::2], pieces[1::2], strict=True)
    return [Message(_TRANSCRIPT_ROLES[speaker], words.strip()) for speaker, words in turns]


def history(turns: list[Message]) -> Text:
    """The prompt for a shared history: one user's turn as it is, else every turn prefixed by its speaker."""
    if len(turns) == 1 and turns[0].role == "user":
        return turns[0].text or ""
    return spoken(turns)


def spoken(turns: list[Message]) -> tuple[str, ...]:
    """The turns as texts, each prefixed by its speaker."""
    return tuple(_SPEAKERS[turn.role] + (turn.text or "") for turn in turns)


def speaker(turn: str) -> str:
    """The prefix that names the speaker of a turn of a history; empty where it has none."""
    return next((prefix for prefix in _SPEAKERS.values() if turn.startswith(prefix)), "")


def as_messages(prompt: Text, answer: Text) -> tuple[list[Message], list[bool]]:
    """The messages of a prompt and one answer to it, and which of them are the answer's: the rule above, read the other
    way.

    A first turn that begins with "System: " is a system message. An answer with as many turns as the prompt follows
    the prompt turn by turn. A history whose turns all name their speaker gives the messages of these speakers. Other
    turns are one message, joined by empty lines.
    """
    turns = [prompt] if isinstance(prompt, str) else list(prompt)
    answers = [answer] if isinstance(answer, str) else list(answer)
    system = []
    if len(turns) > 1 and turns[0].startswith(_SPEAKERS["system"]):
        system = [Message("system", turns.pop(0).removeprefix(_SPEAKERS["system"]))]
    if len(answers) == 1 and (len(turns) > 1 or system) and all(map(speaker, turns)):
        said = [Message(_ROLE_OF[speaker(turn)], turn.removeprefix(speaker(turn))) for turn in turns]
    elif len(turns) == len(answers):
        rounds = zip(turns, answers, strict=True)
        said = [Message(role, text) for one in rounds for role, text in zip(("user", "assistant"), one, strict=True)]
        return system + said, [False] * len(system) + [False, True] * len(turns)
    else:
        said, answers = [Message("user", "\n\n".join(turns))], ["\n\n".join(answers)]
    before = system + said
    return [*before, Message("assistant", answers[0])], [False] * len(before) + [True]


def split_shared(better: tuple[str, list[Message]], worse: tuple[str, list[Message]]) -> tuple[list[Message], str, str]:
    """The history that both sides share, and the one answer that follows it on each side; each is given as (field name,
    messages).

    Raises DataError where anything but one assistant's message follows, since then no single answer was compared, and
    MissingAnswer where that message has no content.
    """
    shared = 0
    while shared < min(len(better[1]), len(worse[1])) - 1 and better[1][shared] == worse[1][shared]:
        shared += 1
    answers = []
    for name, side in (better, worse):
        rest = side[shared:]
        if len(rest) != 1 or rest[0].role != "assistant":
            roles = ", ".join(turn.role for turn in rest)
            raise wrong_value(name, f"{shared} shared messages, then {roles}", "one assistant's message after them")
        answers.append((name, rest[0].text))
    for name, text in answers:
        if text is None:
            raise missing_answer(f"the last message of field {name} has no content")
    return better[1][:shared], answers[0][1] or "", answers[1][1] or ""


def conversation(
    a: tuple[str, Any], b: tuple[str, Any], turns: Any = None
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Prompt, response A and response B of two conversations, each given as (field name, messages).

    `turns` cuts both after that many of the user's turns (a whole number from 1, or None for all). Raises DataError
    where the two sides do not answer the same turns, MissingAnswer where an answer to one of them is missing.
    """
    prompt_a, answers_a = _rounds(*a)
    prompt_b, answers_b = _rounds(*b)
    if prompt_a != prompt_b:
        at = next((i for i, (x, y) in enumerate(zip(prompt_a, prompt_b, strict=False)) if x != y), None)
        what = prompt_b[at] if at is not None else f"{len(prompt_b)} turns, where {a[0]} has {len(prompt_a)}"
        raise wrong_value(b[0], what, f"the same system and user's turns as {a[0]}")
    before = len(prompt_a) - len(answers_a)  # a system message has no answer
    if turns is not None:
        if isinstance(turns, float) and turns.is_integer():  # how a table holds a whole number
            turns = int(turns)
        if not isinstance(turns, int) or isinstance(turns, bool) or not 1 <= turns <= len(answers_a):
            raise wrong_value("turn", turns, f"a whole number from 1 to the {len(answers_a)} turns of the conversation")
        prompt_a, answers_a, answers_b = prompt_a[: before + turns], answers_a[:turns], answers_b[:turns]
    return tuple(prompt_a), _all_given(a[0], answers_a), _all_given(b[0], answers_b)


def _all_given(name: str, answers: list[str | None]) -> tuple[str, ...]:
    given = tuple(answer for answer in answers if answer is not None)
    if len(given) < len(answers):
        raise missing_answer(f"field {name} has no answer to the user's turn {answers.index(None) + 1}")
    return given


def _rounds(name: str, value: Any) -> tuple[list[str], list[str | None]]:
    prompt: list[str] = []
    answers: list[str | None] = []
    answered = True
    for index, turn in enumerate(messages(name, value)):
        if turn.role == "system" and index == 0:
            prompt.append(_SPEAKERS["system"] + (turn.text or ""))
        elif turn.role == "user":
            prompt.append(turn.text or "")
            answers.append(None)
            answered = False
        elif turn.role == "assistant" and not answered:
            answers[-1] = turn.text
            answered = True
        else:
            allowed = "one assistant's message after each user's, and a system message only as the first"
            raise wrong_value(f"{name}[{index}].role", turn.role, allowed)
    if not answers:
        raise RowError(f"field {name} has no user's turn", "there is no prompt", "correct the row")
    return prompt, answers
