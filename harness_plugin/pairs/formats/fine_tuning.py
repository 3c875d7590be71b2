"""Preference data of tools and services for fine-tuning: OpenAI's (and Azure's), and ms-swift's."""

from collections.abc import Mapping

from harness_plugin.files.checked import is_absent, required, text_value, wrong_value
from harness_plugin.pairs.formats import chat, preferences
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.pair import Pair, missing_answer

OPENAI = ("preferred_output", "non_preferred_output")


def openai(row: Fields) -> Pair:
    """A row of OpenAI's preference fine-tuning: `input` holds the messages of the prompt, and each of the columns
    `OPENAI` one message of the assistant. Raises RowError where tools were offered, which cannot be judged."""
    given, preferred, other = required(row, "input", *OPENAI)
    if not isinstance(given, Mapping) or "messages" not in given:
        raise wrong_value("input", given, "an object with messages")
    if given.get("tools"):
        raise wrong_value("input.tools", given["tools"], "none (calls of tools are no text and cannot be judged)")
    chat.messages("input.messages", given["messages"])  # refuses what is none by this name
    others = {name: value for name, value in row.items() if name != "input"}
    return preferences.compared({**others, "prompt": given["messages"]}, preferred, other, OPENAI)


def swift(row: Fields) -> Pair:
    """A row of ms-swift: `messages` ends with the better answer, and `rejected_response` is the worse one."""
    talk, rejected = required(row, "messages", "rejected_response")
    turns = chat.messages("messages", talk)
    if len(turns) == 1 or turns[-1].role != "assistant":
        roles = [turn.role for turn in turns]
        raise wrong_value("messages", roles, "a conversation that ends with the assistant's better answer")
    if turns[-1].text is None:
        raise missing_answer("the last message of field messages has no content")
    if not is_absent(rejected):
        text_value("rejected_response", rejected)
    before = [{"role": turn.role, "content": turn.text} for turn in turns[:-1]]
    others = {name: value for name, value in row.items() if name != "messages"}
    names = ("messages", "rejected_response")
    return preferences.compared({**others, "prompt": before}, turns[-1].text, rejected, names)
