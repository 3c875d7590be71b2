"""WildBench's outputs, which ZeroEval writes too: one model's answers to conversations."""

from typing import Any

from harness_plugin.files.checked import is_absent, optional_id, optional_text, required, text_value, wrong_value
from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.formats.prompt_columns import with_parts
from harness_plugin.pairs.pair import content_id


def answer(row: Fields, questions: Questions) -> Answer:
    """A row: `chat_history` holds the turns of user and assistant in turn, and `output` the samples of the answer, of
    which the first counts. `primary_tag` is the category."""
    (turns,) = required(row, "chat_history")
    if not isinstance(turns, (list, tuple)) or len(turns) % 2 == 0:
        raise wrong_value("chat_history", turns, "a list of turns, the user's first and last")
    texts = [text_value(f"chat_history[{at}]", turn) for at, turn in enumerate(turns)]
    said = [chat.Message("assistant" if at % 2 else "user", text) for at, text in enumerate(texts)]
    samples = _samples(row.get("output"))
    response = samples[0] if samples else None
    prompt = with_parts(row, chat.history(said), (), (response,))
    id = optional_id(row, "session_id") or content_id(prompt)
    model, category = optional_text(row, "generator"), optional_text(row, "primary_tag")
    return Answer(prompt, response, model, category, id, samples=max(1, len(samples)))


def _samples(output: Any) -> list[str | None]:
    given = output if isinstance(output, (list, tuple)) else [output]
    return [None if is_absent(text) else text_value("output", text) for text in given]
