"""lm-eval's own `samples_*.jsonl`: of arena_pairs, whose documents are pairs, and of tasks in which a model answers."""

from collections.abc import Mapping
from typing import Any

from harness_plugin.files.checked import is_absent, optional_id, required, text_value, wrong_value
from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats import canonical, chat
from harness_plugin.pairs.formats.chat_templates import templated_messages
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.pair import REQUIRED, Pair, Text, content_id


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
    """The answer of a sample of a generation task: the prompt is what the model was given, without the markers of its
    chat template, and the response its first raw answer. `doc_hash`, else `doc_id`, says which document it is of."""
    prompt, question = _asked(row)
    document = next((f"{name} {id}" for name in ("doc_hash", "doc_id") if (id := optional_id(row, name))), "")
    id = document.partition(" ")[2] or content_id(prompt)
    doc = row["doc"]
    category = doc.get("category") if isinstance(doc, Mapping) else None
    response, samples = row.get("resps") or row.get("filtered_resps"), 1
    while isinstance(response, list) and response:
        response, samples = response[0], max(samples, len(response))
    if is_absent(response) or response == []:
        response = None
    elif not isinstance(response, str):
        raise wrong_value("resps", row.get("resps"), "the answers of a generation task (a list of lists of strings)")
    else:
        text_value("resps", response)
    category = category if isinstance(category, str) else None
    return Answer(prompt, response, None, category, id, document, question, samples)


def _asked(row: Fields) -> tuple[Text, Text]:
    """The prompt, and the prompt without its system messages."""
    name, given = _given(row)
    listed = given
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str):  # so lm-eval logs chat messages
        listed = chat.message_list(given[0]) or given
    elif isinstance(given, str):
        listed = chat.message_list(given)
    if listed is not None:
        turns = chat.messages(name, listed)
    else:
        found = templated_messages(text_value(name, given))
        if found is None:
            return given, given
        turns = found
    asked = [turn for turn in turns if turn.role != "system"]
    return chat.history(turns), chat.history(asked or turns)


def _given(row: Fields) -> tuple[str, Any]:
    """Where the sample says what the model was given, and what that was: in `gen_args_0`, or as earlier versions wrote
    it, in the first entry of a list or in the list itself. Each is {arg_0, arg_1} or [prompt, settings]. The settings
    tell a generation task from others. Raises RowError for a document with several prompts, and for one with pictures
    or sounds, which are in a third argument."""
    (arguments,) = required(row, "arguments")
    requests = {"arguments": arguments}
    if isinstance(arguments, Mapping) and "gen_args_0" in arguments:
        requests = {f"arguments.{name}": request for name, request in arguments.items()}
    elif isinstance(arguments, (list, tuple)) and arguments and isinstance(arguments[0], (Mapping, list, tuple)):
        requests = {f"arguments[{at}]": request for at, request in enumerate(arguments)}
    (name, prompt), *others = [_prompt(name, request) for name, request in requests.items()]
    for other, value in others:
        if value != prompt:
            raise wrong_value(other, value, f"the prompt of {name}, since one prompt and its answer are judged")
    return name, prompt


def _prompt(name: str, request: Any) -> tuple[str, Any]:
    """The place and the value of the prompt of one request."""
    if isinstance(request, Mapping) and "arg_0" in request and isinstance(request.get("arg_1", {}), Mapping):
        if request.get("arg_2"):
            raise wrong_value(f"{name}.arg_2", request["arg_2"], "none (pictures and sounds cannot be judged)")
        return f"{name}.arg_0", request["arg_0"]
    if isinstance(request, (list, tuple)) and len(request) == 2 and isinstance(request[1], Mapping):
        return f"{name}[0]", request[0]
    allowed = "gen_args_0 of a generation task (the prompt in arg_0, the settings in arg_1), or [[prompt, settings]]"
    raise wrong_value(name, request, allowed)
