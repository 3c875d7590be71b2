"""lm-eval's own `samples_*.jsonl`: of arena_pairs, whose documents are pairs, and of tasks in which a model answers."""

from collections.abc import Mapping
from typing import Any

from harness_plugin.files.checked import optional_id, required, text_value, wrong_value
from harness_plugin.files.rows import parse_json
from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats import canonical, chat
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.pair import REQUIRED, Pair, Text, content_id, is_absent


def pair(row: Fields) -> Pair | None:
    """The pair of a sample of arena_pairs; None for the document that shows the pair with its sides exchanged.

    The document is a canonical row with `pair_id` and `swapped`; one without these two is taken as it stands.
    """
    (doc,) = required(row, "doc")
    if not _is_pair(doc):
        raise wrong_value("doc", doc, "an object with prompt, response_a and response_b")
    swapped = doc.get("swapped", False)
    if not isinstance(swapped, bool):
        raise wrong_value("doc.swapped", swapped, "true or false")
    if swapped:
        return None
    fields = {name: value for name, value in doc.items() if name not in ("swapped", "pair_id")}
    return canonical.pair({**fields, "id": optional_id(doc, "pair_id") or doc.get("id")})


def holds_pair(row: Fields) -> bool:
    """Whether the document of a sample is a pair."""
    return _is_pair(row["doc"])


def _is_pair(doc: Any) -> bool:
    return isinstance(doc, Mapping) and set(REQUIRED) <= set(doc)


def answer(row: Fields, questions: Questions) -> Answer:
    """The answer of a sample of a generation task: the prompt is what the model was given, the response its first raw
    answer."""
    prompt = _prompt(row)
    id = optional_id(row, "doc_hash") or optional_id(row, "doc_id") or content_id(prompt)
    response = row.get("resps") or row.get("filtered_resps")
    while isinstance(response, list) and response:
        response = response[0]
    if is_absent(response) or response == []:
        return Answer(prompt, None, None, None, id)
    if not isinstance(response, str):
        raise wrong_value("resps", row.get("resps"), "the answers of a generation task (a list of lists of strings)")
    return Answer(prompt, text_value("resps", response), None, None, id)


def _prompt(row: Fields) -> Text:
    (arguments,) = required(row, "arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, Mapping) else None
    given = first.get("arg_0") if isinstance(first, Mapping) and isinstance(first.get("arg_1"), Mapping) else None
    if isinstance(given, str):
        return text_value("arguments.gen_args_0.arg_0", given)
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str):  # how lm-eval logs chat messages
        try:
            value = parse_json(given[0])
        except ValueError:
            value = given
        return chat.history(chat.messages("arguments.gen_args_0.arg_0", value))
    allowed = "gen_args_0 of a generation task: the prompt in arg_0, the settings in arg_1"
    raise wrong_value("arguments", arguments, allowed)
