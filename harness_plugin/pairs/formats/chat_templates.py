"""The messages of a text that a model's chat template made of them, by the markers of the templates that are in use.

Read from the templates that the models' tokenizers bring. This file knows markers and roles; it must not know files.
"""

import re
from dataclasses import dataclass

from harness_plugin.pairs.formats.chat import Message

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
}
# What begins a whole text, before the first turn.
_BEGIN = re.compile(
    r"(?:<bos>|<s>|<\|begin_of_text\|>|<\|endoftext\|>|<\|startoftext\|>|<\uff5cbegin\u2581of\u2581sentence\uff5c>|<BOS_TOKEN>"
    r"|\[gMASK]<sop>|\s)*"
)
# What a template writes into an answer that is still to come: the place of thoughts.
_THOUGHTS = re.compile(r"<think>\s*(?:</think>)?|^\s*</think>")
# What templates write by themselves where no system message was given.
_OWN_SYSTEM = re.compile(
    r"(?:Cutting Knowledge Date: [^\n]*\nToday Date: [^\n]*)?\s*"
    r"(?:You are Qwen, created by Alibaba Cloud\. You are a helpful assistant\.?|You are a helpful assistant\.?)?",
)


@dataclass(frozen=True)
class _Template:
    """How a family of templates marks turns. `start`: the beginning of a turn, with the role as its group; `end`: what
    may stand at its end. `bare_system`: whether a system message stands unmarked before the first turn."""

    start: re.Pattern[str]
    end: re.Pattern[str]
    bare_system: bool = False


def _template(start: str, end: str, bare_system: bool = False) -> _Template:
    return _Template(re.compile(start), re.compile(rf"(?:\s|{end})*$"), bare_system)


_TEMPLATES = (
    # ChatML: Qwen, Yi, SmolLM, Hermes; Phi 4 has a marker in the place of the line feed
    _template(r"<\|im_start\|>(\w+)(?:\n|<\|im_sep\|>)", r"<\|im_end\|>"),
    _template(r"<\|im_(?:system|user|assistant)\|>(\w+)<\|im_middle\|>", r"<\|im_end\|>"),  # Kimi
    _template(r"\[\|(system|user|assistant)\|\]", r"\[\|endofturn\|\]"),  # EXAONE
    _template(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n", r"<\|eot_id\|>|<\|eom_id\|>"),  # Llama 3
    _template(r"<\|header_start\|>(\w+)<\|header_end\|>\n\n", r"<\|eot\|>"),  # Llama 4
    _template(r"<start_of_turn>(\w+)\n", r"<end_of_turn>"),  # Gemma
    _template(r"<\|start_of_role\|>(\w+)<\|end_of_role\|>", r"<\|end_of_text\|>"),  # Granite
    _template(r"<\|START_OF_TURN_TOKEN\|><\|(\w+)_TOKEN\|>", r"<\|END_OF_TURN_TOKEN\|>"),  # Command R
    _template(r"<\|start\|>(\w+)(?:<\|channel\|>\w+)?<\|message\|>", r"<\|end\|>|<\|return\|>"),  # gpt-oss
    # Zephyr, Phi, Tulu, OLMo, GLM
    _template(r"<\|(system|user|assistant)\|>\n?", r"<\|end\|>|</s>|<\|endoftext\|>"),
    # DeepSeek
    _template(r"<\uff5c(User|Assistant)\uff5c>", r"<\uff5cend\u2581of\u2581sentence\uff5c>", bare_system=True),
)
# Llama 2 and Mistral put the user's words between two markers and leave answers bare.
_INST = re.compile(r"\[INST\](.*?)\[/INST\]", re.DOTALL)
_INST_SYSTEM = re.compile(r"\s*(?:<<SYS>>(.*?)<</SYS>>)?(.*)", re.DOTALL)
_MISTRAL_SYSTEM = re.compile(r"\s*\[SYSTEM_PROMPT\](.*?)\[/SYSTEM_PROMPT\]", re.DOTALL)


def templated_messages(text: str) -> list[Message] | None:
    """The messages that a chat template made the text of; None for a text without a known template's markers.

    The empty turn in which the model was to answer is left out, and so are system messages that the template itself
    writes. Texts are stripped of white space around them, as most templates do.
    """
    body = text[len(_BEGIN.match(text)[0]) :]  # type: ignore[index]  # it matches the empty text too
    for template in _TEMPLATES:
        turns = _marked(template, body)
        if turns is not None:
            break
    else:
        turns = _between_inst(body)
    if turns is None or not any(turn.role == "user" for turn in turns):
        return None
    if turns[-1].role == "assistant" and not turns[-1].text:
        turns = turns[:-1]
    return [turn for turn in turns if not (turn.role == "system" and _OWN_SYSTEM.fullmatch(turn.text or ""))]


def _marked(template: _Template, body: str) -> list[Message] | None:
    starts = list(template.start.finditer(body))
    if not starts:
        return None
    before = body[: starts[0].start()].strip()
    if before and not template.bare_system:
        return None
    turns = [Message("system", before)] if before else []
    ends = [start.start() for start in starts[1:]] + [len(body)]
    for start, end in zip(starts, ends, strict=True):
        role = _ROLES.get(start[1].lower())
        if role is None:
            return None
        words = template.end.sub("", body[start.end() : end])
        turns.append(Message(role, _THOUGHTS.sub("", words).strip() if role == "assistant" else words.strip()))
    return turns


def _between_inst(body: str) -> list[Message] | None:
    system = _MISTRAL_SYSTEM.match(body)
    turns = [Message("system", system[1].strip())] if system else []
    at = system.end() if system else 0
    questions = list(_INST.finditer(body, at))
    if not questions or body[at : questions[0].start()].strip():
        return None
    ends = [question.start() for question in questions[1:]] + [len(body)]
    for question, end in zip(questions, ends, strict=True):
        said, asked = _INST_SYSTEM.fullmatch(question[1]).groups()  # type: ignore[union-attr]  # it matches any text
        turns += [Message("system", said.strip())] if said is not None else []
        answer = re.sub(r"</s>\s*(?:<s>)?\s*$", "", body[question.end() : end])
        turns += [Message("user", asked.strip()), Message("assistant", answer.strip())]
    return turns
