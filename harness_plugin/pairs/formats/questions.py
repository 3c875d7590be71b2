"""Questions in a file of their own, for answers that come without their prompts: `question.jsonl` of Arena-Hard and
MT-bench, and the requests of a batch for OpenAI's API.
"""

from collections.abc import Mapping
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.checked import (
    is_absent,
    missing_field,
    optional_id,
    optional_text,
    required,
    text_value,
    wrong_value,
)
from harness_plugin.pairs.answer import Question, Questions
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.formats.format import Layout
from harness_plugin.pairs.formats.prompt_columns import with_parts
from harness_plugin.pairs.pair import Text, checked_text, turn_count


class _Questions(Layout):
    name, columns = "questions", "turns"
    uses = "id=question_id|uid|custom_id prompt=prompt|turns|body category"


QUESTIONS = _Questions()
_NO_TOOLS = "none (calls of tools are no text and cannot be judged)"


def question(row: Fields) -> tuple[str, Question]:
    """The id and the question of a row: a `prompt` (Arena-Hard v2), a list of `turns` (v0.1, MT-bench), or the `body`
    of a request."""
    id = question_id(row)
    turns = 1
    if "prompt" in row:
        prompt: Text = text_value("prompt", row["prompt"])
    elif "body" in row:
        prompt = _of_request(row["body"])
    else:
        (asked,) = required(row, "turns")
        if not isinstance(asked, list):
            raise wrong_value("turns", asked, "a list of turns")
        prompt = checked_text("turns", [turn_text(f"turns[{at}]", turn) for at, turn in enumerate(asked)])
        turns = turn_count(prompt)
    return id, Question(with_parts(row, prompt), optional_text(row, "category"), turns)


def _of_request(body: Any) -> Text:
    """The prompt of a request: `messages` for chat completions, or `instructions` and `input` for responses. Raises
    RowError where tools are offered."""
    if not isinstance(body, Mapping) or not {"messages", "input"} & body.keys():
        raise wrong_value("body", body, "a request of a chat (messages) or of responses (input)")
    for name in ("tools", "functions"):
        if body.get(name):
            raise wrong_value(f"body.{name}", body[name], _NO_TOOLS)
    if "messages" in body:
        return chat.history(chat.messages("body.messages", body["messages"]))
    given = body["input"]
    said = [chat.Message("user", given)] if isinstance(given, str) else chat.messages("body.input", given)
    system = body.get("instructions")
    before = [] if is_absent(system) else [chat.Message("system", text_value("body.instructions", system))]
    return chat.history([*before, *said])


def given_id(row: Fields) -> str:
    """The id of the question that a row is, or answers; empty where it has none."""
    return optional_id(row, "question_id") or optional_id(row, "uid") or optional_id(row, "custom_id")


def question_id(row: Fields) -> str:
    """As `given_id`. Raises RowError for a row without one."""
    id = given_id(row)
    if not id:
        raise missing_field("question_id", row)
    return id


def question_of(id: str, questions: Questions, name: str = "question_id") -> Question:
    """The question of that id, which stands in the column `name`.

    Raises DataError where no questions were given, RowError where it is none of them.
    """
    if not questions:
        raise DataError(
            f"the answer to question {id} comes without its prompt",
            "a judge must see it",
            "name the file of the prompts with --questions: the question.jsonl of the same benchmark, or the requests "
            "of the batch",
        )
    if id not in questions:
        raise wrong_value(name, id, f"one of the {len(questions)} ids in the questions file")
    return questions[id]


def turn_text(name: str, turn: Any) -> str | None:
    """The text of a turn: a string, or {content}, whose content may be {answer}; None where it is missing."""
    if is_absent(turn) or isinstance(turn, str):
        return chat.content_text(name, turn)
    if not isinstance(turn, Mapping) or "content" not in turn:
        raise wrong_value(name, turn, "a string, or an object with content")
    return chat.content_text(name, plain_content(turn["content"]))


def plain_content(content: Any) -> Any:
    """The content of a message, without the object {answer} around it."""
    return content["answer"] if isinstance(content, Mapping) and "answer" in content else content
