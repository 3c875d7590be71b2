"""One prompt for each document that several models answered, whatever their chat templates made of it.

lm-eval logs what each model was given: the same question in the words of that model's template. Its samples say which
document they belong to, and answers to one document meet. Knows answers and no file.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from harness_plugin.pairs import Answer, Text, flat_text

log = logging.getLogger("lm_eval.arena_rm")

_TASK = re.compile(r"samples_(.+?)(?:_\d{4}[-\dT.]*)?")

Document = tuple[str, str]
"""The task of a file of samples (empty where its name does not say it), and the document in it."""


def document_of(file: str, answer: Answer) -> Document | None:
    """Which document the answer belongs to; None where its file does not say it."""
    if not answer.document:
        return None
    named = _TASK.fullmatch(Path(file).name.partition(".json")[0])
    return named[1] if named else "", answer.document


def agreed_prompts(asked: Sequence[tuple[str, Document, Answer]]) -> dict[Document, Text]:
    """The prompt of each document that models were asked in different words, from (model, document, answer).

    The words without the system messages, where those are all that differs; else the shortest ones, if all others hold
    them, since a template only adds to a question. Documents that one model was asked in several ways are left out, and
    so are those that are known by their number only and whose words do not agree: these may be different ones.
    """
    by_document: dict[Document, list[tuple[str, Answer]]] = {}
    for model, document, answer in asked:
        by_document.setdefault(document, []).append((model, answer))
    agreed: dict[Document, Text] = {}
    systems: list[Document] = []
    unlike: list[Document] = []
    for document, answers in by_document.items():
        ways = {(model, answer.prompt) for model, answer in answers}
        prompts = {prompt for _, prompt in ways}
        if len(prompts) == 1 or len(ways) > len({model for model, _ in ways}):
            continue
        questions = {answer.question or answer.prompt for _, answer in answers}
        shortest = min(questions, key=lambda text: (len(flat_text(text)), flat_text(text)))
        if len(questions) == 1:
            systems.append(document)
        elif not flat_text(shortest) or not all(flat_text(shortest) in flat_text(text) for text in questions):
            if answers[0][1].document.startswith("doc_id"):
                continue
            unlike.append(document)
        agreed[document] = shortest
    _say(systems, unlike)
    return agreed


def _say(systems: Sequence[Document], unlike: Sequence[Document]) -> None:
    if systems:
        log.warning(
            "the models' system prompts differ in %d prompts (first: document %s); the judge reads these without them",
            len(systems),
            _name(systems[0]),
        )
    if unlike:
        log.warning(
            "%d documents were put to the models in different words (first: %s); the judge reads the shortest ones",
            len(unlike),
            _name(unlike[0]),
        )


def _name(document: Document) -> str:
    task, id = document
    return f"{id} of {task}" if task else id
