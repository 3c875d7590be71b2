"""The results of a batch of OpenAI's API, which other servers (vLLM, Azure) write too. The prompts stand in the file of
the requests, which is read as questions.
"""

from collections.abc import Mapping
from typing import Any

from harness_plugin.files.checked import is_absent, optional_text, required, wrong_value
from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.formats.prompt_columns import with_parts
from harness_plugin.pairs.formats.questions import question_id, question_of

_OK = 200


def answer(row: Fields, questions: Questions) -> Answer:
    """The answer to one request, of a chat completion or of the API of responses; the model is the one that the answer
    names. A request that failed has no answer. Raises RowError for another kind of result."""
    id = question_id(row)
    question = question_of(id, questions, "custom_id")
    prompt, body = with_parts(row, question.prompt), _body(row)
    if body is None:
        return Answer(prompt, None, None, question.category, id)
    model = optional_text(body, "model", "response.body")
    text, samples = of_choices("response.body.choices", body["choices"]) if "choices" in body else (_of_output(body), 1)
    return Answer(prompt, text, model, question.category, id, samples=samples)


def _body(row: Fields) -> Mapping[str, Any] | None:
    """What the server answered; None where the request failed."""
    (response,) = required(row, "response")
    if is_absent(response) or row.get("error"):
        return None
    body = response.get("body") if isinstance(response, Mapping) else None
    if not isinstance(response, Mapping) or not isinstance(response.get("status_code", _OK), int):
        raise wrong_value("response", response, "an object with status_code and body")
    if response.get("status_code", _OK) != _OK:
        return None
    if not isinstance(body, Mapping) or not {"choices", "output"} & body.keys():
        raise wrong_value("response.body", body, "the answer to a chat (choices) or a response (output)")
    return body


def of_choices(name: str, choices: Any) -> tuple[str | None, int]:
    """The first answer of the choices of a chat completion, and how many there are. Raises RowError for others."""
    if not isinstance(choices, (list, tuple)) or not all(isinstance(c, Mapping) and "message" in c for c in choices):
        raise wrong_value(name, choices, "a list of choices, each with a message")
    if not choices:
        return None, 1
    return _said(f"{name}[0].message", [choices[0]["message"]]), len(choices)


def _of_output(body: Mapping[str, Any]) -> str | None:
    """The text of the messages of a response; what it says of a model's reasoning is none."""
    output = body["output"]
    if not isinstance(output, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in output):
        raise wrong_value("response.body.output", output, "a list of messages and of reasoning")
    for at, entry in enumerate(output):
        if entry.get("type") not in ("message", "reasoning"):
            allowed = "'message' or 'reasoning' (calls of tools are no text and cannot be judged)"
            raise wrong_value(f"response.body.output[{at}].type", entry.get("type"), allowed)
    said = [entry for entry in output if entry["type"] == "message"]
    return _said("response.body.output", said) if said else None


def _said(name: str, messages: list[Any]) -> str | None:
    turns = chat.messages(name, messages)
    if len(turns) != 1 or turns[0].role != "assistant":
        raise wrong_value(name, [turn.role for turn in turns], "one message of the assistant")
    return turns[0].text
