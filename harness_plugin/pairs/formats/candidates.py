"""Rows with several right and several wrong answers to one prompt: RewardBench 2 and RM-Bench.

Each right answer with each wrong one is a pair. Its id says which two they are, so that whoever has the judgements of
all of them can put the row together again.
"""

import re
from typing import NamedTuple

from harness_plugin.files.checked import optional_id, optional_text, required, wrong_value
from harness_plugin.pairs.formats.columns import Fields, json_turns, rest
from harness_plugin.pairs.formats.preferences import better_and_worse
from harness_plugin.pairs.formats.prompt_columns import prompt_of
from harness_plugin.pairs.pair import Pair, checked_answer, content_id

_CELL = re.compile(r"(.*)/(\d+)of(\d+)-(\d+)of(\d+)(-\d+)?", re.DOTALL)


def rewardbench2(row: Fields) -> list[Pair]:
    """The pairs of a row of RewardBench 2; `subset` is the category."""
    return _pairs(row, optional_id(row, "id"), optional_text(row, "subset"))


def rm_bench(row: Fields) -> list[Pair]:
    """The pairs of a row of RM-Bench, whose answers go from the plainest to the fanciest; `domain` is the category."""
    domain, number = optional_text(row, "domain"), optional_id(row, "id")
    return _pairs(row, f"{domain}:{number}" if domain and number else number, domain)


def holds_lists(row: Fields) -> bool:
    """Whether `chosen` and `rejected` are lists of texts, or one of them is beside a single text, or they spell such
    lists in JSON beside a column that only these benchmarks have."""
    values = [row.get(name) for name in ("chosen", "rejected")]
    if [type(value) for value in values].count(str) == 1:
        values = [value for value in values if not isinstance(value, str)]
        return json_turns(values[0]) is not None
    if not {"num_correct", "domain"} & row.keys() and any(isinstance(value, str) for value in values):
        return False
    return all(json_turns(value) is not None for value in values)


class Cell(NamedTuple):
    """One pair of a row: its right answer and its wrong answer, counted from 0, and how many of each the row has."""

    row: str
    right: int
    wrong: int
    shape: tuple[int, int]

    @property
    def id(self) -> str:
        """The id of the pair, such as ref:7/1of2-3of3."""
        return f"{self.row}/{self.right + 1}of{self.shape[0]}-{self.wrong + 1}of{self.shape[1]}"


def cell_of(id: str) -> Cell | None:
    """The cell of a pair with such an id; None for any other id. The number that a repeated row's ids got belongs to
    the row."""
    found = _CELL.fullmatch(id)
    if not found:
        return None
    row, right, rights, wrong, wrongs, again = found.groups()
    return Cell(row + (again or ""), int(right) - 1, int(wrong) - 1, (int(rights), int(wrongs)))


def _pairs(row: Fields, id: str, category: str | None) -> list[Pair]:
    right, wrong = _answers(row, "chosen"), _answers(row, "rejected")
    if len(right) > 1 and right[0] == wrong[0]:
        allowed = "another answer than in chosen (write the turns of conversations as messages, with role and content)"
        raise wrong_value("rejected[0]", wrong[0], allowed)
    prompt = prompt_of(row, "prompt", (*right, *wrong))
    id = id or content_id(prompt, *right, *wrong)
    shape = len(right), len(wrong)
    meta = rest(row, "prompt", "chosen", "rejected", "id", "subset", "domain")
    return [
        better_and_worse(prompt, best, worst, id=Cell(id, i, j, shape).id, category=category, meta=meta)
        for i, best in enumerate(right)
        for j, worst in enumerate(wrong)
    ]


def _answers(row: Fields, name: str) -> tuple[str, ...]:
    """The answers of a list. Raises MissingAnswer where one of them is absent."""
    (value,) = required(row, name)
    answers = json_turns(value)
    if answers is None and isinstance(value, str):
        answers = (value,)
    if answers is None:
        raise wrong_value(name, value, "a list of answers, each a string")
    texts = checked_answer(name, answers)
    return (texts,) if isinstance(texts, str) else texts
