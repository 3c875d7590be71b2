"""Rows with several answers to one prompt and how good each of them is: UltraFeedback and Nectar.

Each two answers of a row are a pair; of two that are as good as each other, a tie.
"""

from collections.abc import Callable, Mapping
from itertools import combinations

from harness_plugin.files.checked import is_absent, number, optional_text, required, wrong_value
from harness_plugin.files.written_lists import written_list
from harness_plugin.pairs.formats.columns import Fields, answer_of, rest
from harness_plugin.pairs.formats.preferences import of_transcript
from harness_plugin.pairs.formats.prompt_columns import prompt_of
from harness_plugin.pairs.pair import Pair, Text, Winner, content_id, missing_answer

_Answer = tuple[Text, float | None, str | None]
"""A text, how good it is (more is better; None where nobody said so), and whose it is."""


def ultrafeedback(row: Fields) -> list[Pair]:
    """The pairs of a row of UltraFeedback: `completions`, each with response, overall_score and model."""
    found = [_answer(name, entry, "response", "overall_score", 1) for name, entry in _entries(row, "completions")]
    return _pairs(row, "instruction", "completions", found)


def nectar(row: Fields) -> list[Pair]:
    """The pairs of a row of Nectar: `answers`, each with answer, rank (1 is the best) and model; the prompt is a
    transcript up to the answer."""
    found = [_answer(name, entry, "answer", "rank", -1) for name, entry in _entries(row, "answers")]
    (prompt,) = required(row, "prompt")
    return _pairs({**row, "prompt": of_transcript("prompt", prompt) or prompt}, "prompt", "answers", found)


def holds_ranking(column: str, text: str) -> Callable[[Fields], bool]:
    """Whether the column of a row lists objects with an answer under `text`."""

    def holds(row: Fields) -> bool:
        value = row.get(column)
        entries = written_list(value) if isinstance(value, str) else value
        return isinstance(entries, (list, tuple)) and any(isinstance(e, Mapping) and text in e for e in entries[:1])

    return holds


def _entries(row: Fields, column: str) -> list[tuple[str, Fields]]:
    """The objects that the column lists, each with its name for messages."""
    (value,) = required(row, column)
    entries = written_list(value) if isinstance(value, str) else value
    if is_absent(entries) or entries == []:
        raise missing_answer(f"field {column} is {value!r}")
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        raise wrong_value(column, value, "a list of objects, each with an answer")
    if len(entries) == 1:
        raise missing_answer(f"field {column} has one answer")
    return [(f"{column}[{at}]", entry) for at, entry in enumerate(entries)]


def _answer(name: str, entry: Fields, text: str, measure: str, sign: int) -> _Answer:
    said = answer_of({f"{name}.{text}": entry.get(text)}, f"{name}.{text}")
    good = None if is_absent(entry.get(measure)) else sign * number(entry, measure, where=name)
    return said, good, optional_text(entry, "model", name)


def _pairs(row: Fields, column: str, used: str, answers: list[_Answer]) -> list[Pair]:
    prompt = prompt_of(row, column, [text for text, _, _ in answers])
    meta = rest(row, column, used)
    found = []
    # The content decides which answer is A: the order of the list may be that of the ranks.
    by_content = sorted(answers, key=lambda answer: content_id(prompt, answer[0]))
    for (a, good_a, model_a), (b, good_b, model_b) in combinations(by_content, 2):
        winner = None
        if good_a is not None and good_b is not None:
            winner = Winner.favoured(good_b - good_a)
        found.append(Pair(prompt, a, b, winner=winner, model_a=model_a, model_b=model_b, meta=meta))
    return found
