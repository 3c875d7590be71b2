"""Arena-Hard: `model_answer/*.jsonl` of v0.1 (as FastChat writes them) and of v2.

Answers of v0.1 come without their prompts, which stand in the questions.
"""

from collections.abc import Mapping

from harness_plugin.files.checked import is_absent, optional_text, required, wrong_value
from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields, answer_of
from harness_plugin.pairs.formats.openai_batch import of_choices
from harness_plugin.pairs.formats.prompt_columns import with_parts
from harness_plugin.pairs.formats.questions import given_id, plain_content, question_id, question_of, turn_text
from harness_plugin.pairs.pair import Text, checked_text, content_id

_BESIDE = ("response", "output")
"""Columns that may hold the answer to messages that end with a question."""
_OTHERS = ("text", "message", "content")
"""Where other programs put the answer of a choice."""
_FAILED = "$ERROR$"
"""What FastChat writes in the place of an answer that the model's API did not give."""


def answer_v01(row: Fields, questions: Questions) -> Answer:
    """An answer of v0.1: `choices[0].turns`, each a string or {content}; the prompt is that of the question. An answer
    with fewer turns than the question is missing."""
    id = question_id(row)
    question = question_of(id, questions)
    response = _response(row, question.turns)
    prompt = with_parts(row, question.prompt, (), (response,))
    samples = len(row["choices"]) if response is not None else 1
    return Answer(prompt, response, optional_text(row, "model_id"), question.category, id, samples=samples)


def _response(row: Fields, wanted: int) -> Text | None:
    (choices,) = required(row, "choices")
    if is_absent(choices) or choices == []:
        return None
    first = choices[0] if isinstance(choices, list) else None
    turns = first.get("turns") if isinstance(first, Mapping) else None
    if isinstance(first, Mapping) and is_absent(turns) and not first.keys() & {*_OTHERS}:
        return None
    if not isinstance(turns, list):
        raise wrong_value("choices", choices, "a list of objects with a list of turns")
    said = [turn_text(f"choices[0].turns[{at}]", turn) for at, turn in enumerate(turns)]
    given = [text for text in said if text is not None and text != _FAILED]
    if len(given) < max(wanted, len(said)):
        return None
    return checked_text("choices[0].turns", given)


def answer_v2(row: Fields, questions: Questions) -> Answer:
    """An answer of v2: `messages`, of which the last is the answer, whose content may be {answer}. Where a user's
    message is the last, the answer stands in `response`, `output` or, as the API wrote it, in `choices`, or is missing.
    Logs of chats without an id are told apart by their prompts, and may name no model."""
    return _last_answer(row, "messages", questions)


def sharegpt(row: Fields, questions: Questions) -> Answer:
    """The same with the messages in `conversations`, each {from, value}."""
    return _last_answer(row, "conversations", questions)


def _last_answer(row: Fields, name: str, questions: Questions) -> Answer:
    (value,) = required(row, name)
    value = (chat.message_list(value) or value) if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise wrong_value(name, value, "a list of messages, each with role and content")
    plain = [{**entry, "content": plain_content(entry.get("content"))} for entry in value]
    turns = chat.messages(name, plain)
    asked = turns[:-1] if turns[-1].role == "assistant" else turns
    if not asked or asked[-1].role != "user":
        raise wrong_value(name, [turn.role for turn in turns], "a user's message first and the answer last")
    response: Text | None = turns[-1].text if asked is not turns else None
    column = next((name for name in _BESIDE if not is_absent(row.get(name))), None)
    if column is not None:
        beside = answer_of(row, column)
        if asked is not turns and beside != response:
            raise wrong_value(column, beside, "the text of the last message, which is an answer too, or null")
        response = beside
    samples, choices = 1, row.get("choices")
    if response is None and isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        response, samples = of_choices("choices", choices)
    response = None if response == _FAILED else response
    prompt = with_parts(row, chat.history(asked), (name,))
    id = given_id(row) or content_id(prompt)
    category = questions[id].category if id in questions else None
    return Answer(prompt, response, optional_text(row, "model"), category, id, samples=samples)
