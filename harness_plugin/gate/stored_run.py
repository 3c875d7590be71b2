"""What a run says of each item, in one shape for every kind of result, so that any two of a kind can be compared.

Knows no format.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeGuard

from harness_plugin.errors import DataError
from harness_plugin.files.rounding import rounded

PAIRS, JUDGE, LM_EVAL = "pairs", "judge", "lm-eval"
KINDS = {
    PAIRS: "a judge's scores of labelled pairs",
    JUDGE: "a chatbot's verdicts from a judge",
    LM_EVAL: "a model's results on an lm-eval task",
}
DIGITS = 6  # values are kept so; what a rounding of float32 moves is below this
LARGEST = 1e100  # of a value: sums of squares of larger ones overflow
Texts = dict[str, dict[str, str]]
"""Item id -> title -> text, such as {"prompt": ..., "answer": ...}."""


class JudgedBattle(NamedTuple):
    """A battle by its content id. `second`: whether the one under test is B; `identical`: it needs no vote, since both
    answers are the same."""

    key: str
    second: bool
    identical: bool


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a run. `id`: from its content, the same in both runs; `cluster`: its prompt; `values`: metric ->
    value, rounded to DIGITS; `fixed`: what must be the same of it in both runs, such as its label; `made`: a hash of
    the outputs it rests on, "" where there are none; `answer`: the start of the answer, where a baseline keeps it;
    `source`: by what its texts are found, "" where they are not; `battle`: what was judged, None where no battle was or
    it is not known."""

    id: str
    cluster: str
    values: dict[str, float]
    fixed: dict[str, str] = field(default_factory=dict)
    made: str = ""
    category: str | None = None
    answer: str | None = None
    source: str = ""
    battle: JudgedBattle | None = None


@dataclass(frozen=True)
class Run:
    """A run. `metrics`: name -> whether higher is better, the one that decides first; `fixed`: what must be the same in
    both runs for a comparison to mean something; `subject`: what is under test and may differ; `left_out`: how many
    rows made no item, by reason; `texts(ids)`: the texts of some items, read when they are wanted."""

    kind: str
    place: str
    metrics: dict[str, bool]
    fixed: dict[str, Any]
    subject: dict[str, Any]
    items: dict[str, Item]
    left_out: dict[str, int] = field(default_factory=dict)
    texts: Callable[[Collection[str]], Texts] = lambda ids: {}


def items_of(items: Iterable[Item], place: str) -> dict[str, Item]:
    """The items by id, sorted. An id that occurs again gets -2, -3 ... in the order of the items. Raises DataError
    without an item."""
    count: Counter[str] = Counter()
    by_id: dict[str, Item] = {}
    for item in items:
        count[item.id] += 1
        again = count[item.id]
        name = item.id if again == 1 else f"{item.id}-{again}"
        by_id[name] = item if again == 1 else replace(item, id=name)
    if not by_id:
        raise DataError(f"{place} has no item to compare", "there is nothing to decide on", "check how it was made")
    return dict(sorted(by_id.items()))


def is_value(value: Any) -> TypeGuard[int | float]:
    """Whether a value of a file can be compared: a number (true and false are what some metrics log) up to LARGEST."""
    return isinstance(value, (int, float)) and -LARGEST <= value <= LARGEST


def as_stored(value: float) -> float:
    """The value as runs are compared by it and a baseline stores it: rounded to DIGITS."""
    return rounded(value, DIGITS)
