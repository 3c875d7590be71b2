"""A pair in words, for a language model that judges without training: the question, and the choices' number.

`arena_rm` does not read this text; it renders the pair itself. Knows documents only.
"""

from collections.abc import Mapping
from typing import Any

from harness_plugin.harness.documents import document_pair
from harness_plugin.pairs import Winner

_TASK = (
    "Two assistants, A and B, were given the same request. Decide whose work serves the person better: what is "
    "correct and does what was asked comes first, then what is clear and complete. Length alone is no merit, and "
    "neither is the order in which they are shown."
)
_QUESTION = "Which is better: A, B, or C (they are equally good or equally bad)?\nAnswer:"


def judge_text(doc: Mapping[str, Any]) -> str:
    """The judging prompt of a document; it ends so that " A", " B" or " C" (a tie) continues it.

    Of several turns, each request is followed by both sides' answers to it; turns that only one shared answer
    follows (a history, a system message) stand together in front.
    """
    pair = document_pair(doc)
    prompt, a, b = (list(t) if isinstance(t, tuple) else [t] for t in (pair.prompt, pair.response_a, pair.response_b))
    rounds = max(len(a), len(b))
    before = max(len(prompt) - rounds, 0)
    parts = [_part("Request", "\n\n".join(prompt[: before + 1]), 1, rounds)]
    for number in range(rounds):
        if number and before + number < len(prompt):
            parts.append(_part("Request", prompt[before + number], number + 1, rounds))
        parts += [
            _part(name, side[number], number + 1, rounds) for name, side in (("A", a), ("B", b)) if number < len(side)
        ]
    return "\n\n".join([_TASK, *parts, _QUESTION])


def has_more_text(context: str, doc: Mapping[str, Any]) -> bool:
    """Whether a context holds the judging prompt of its document, and other text beside it."""
    text = judge_text(doc)
    return context != text and text in context


def _part(name: str, text: str, number: int, rounds: int) -> str:
    title = name if name == "Request" else f"Answer of {name}"
    turn = f", turn {number} of {rounds}" if rounds > 1 else ""
    return f"[{title}{turn}]\n{text}"


def target(doc: Mapping[str, Any]) -> int:
    """The right choice: 0 for A, 1 for B, 2 for C (a tie)."""
    return Winner(doc["winner"]).class_index
