"""What a run says of each item, in one shape for every kind of result, so that any two of a kind can be compared.

Checked access to the rows of result files stands here too: whatever is not what its format promises raises DataError
with file and row. Knows no format by itself.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.checked import refuse_surrogates, shown
from harness_plugin.files.opening import display
from harness_plugin.files.rows import read_rows

PAIRS, JUDGE, LM_EVAL = "pairs", "judge", "lm-eval"
KINDS = {
    PAIRS: "a judge's scores of labelled pairs",
    JUDGE: "a chatbot's verdicts from a judge",
    LM_EVAL: "a model's results on an lm-eval task",
}
DIGITS = 6  # values are kept so; what a rounding of float32 moves is below this
Texts = dict[str, dict[str, str]]
"""Item id -> title -> text, such as {"prompt": ..., "answer": ...}."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a run. `id`: from its content, the same in both runs; `cluster`: its prompt; `values`: metric ->
    value, rounded to DIGITS; `fixed`: what must be the same of it in both runs, such as its label; `made`: a hash of
    the outputs it rests on, "" where there are none; `answer`: the start of the answer, where a baseline keeps it."""

    id: str
    cluster: str
    values: dict[str, float]
    fixed: dict[str, str] = field(default_factory=dict)
    made: str = ""
    category: str | None = None
    answer: str | None = None


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
    found = {}
    for item in items:
        count[item.id] += 1
        again = count[item.id]
        name = item.id if again == 1 else f"{item.id}-{again}"
        found[name] = (
            item
            if again == 1
            else Item(name, item.cluster, item.values, item.fixed, item.made, item.category, item.answer)
        )
    if not found:
        raise DataError(f"{place} has no item to compare", "there is nothing to decide on", "check how it was made")
    return dict(sorted(found.items()))


def rows_of(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place for messages, row) of each line of a JSONL file, plain or compressed."""
    name = display(path)
    for row in read_rows(path):
        if isinstance(row.value, DataError):
            raise DataError(row.value.found, "a broken file proves nothing", "make it again") from row.value
        yield f"{name} {row.place}", row.value


def wrong(where: str, name: str, value: Any, allowed: str) -> DataError:
    """The error for a field that is not what its format promises."""
    return DataError(f"{where}: {name} is {shown(value)}", f"allowed: {allowed}", "make the file again")


def number(row: Mapping[str, Any], name: str, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number between low and high. Raises DataError; true and false are no numbers."""
    value = row.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found) and low <= found <= high:
            return found
    limits = "" if low == -math.inf and high == math.inf else f" from {low:g} to {high:g}"
    raise wrong(where, name, value, f"a finite number{limits}")


def text(row: Mapping[str, Any], name: str, where: str, optional: bool = False) -> str:
    """A string that can be encoded, and not an empty one unless it is `optional`: then nothing at all is "" too. Raises
    DataError."""
    value = row.get(name)
    if optional and value is None:
        return ""
    if not isinstance(value, str) or not (value or optional):
        raise wrong(where, name, value, "a string")
    try:
        refuse_surrogates(name, value)
    except DataError as e:
        raise DataError(f"{where}: {e.found}", e.why, "make the file again") from e
    return value


def json_object(value: Any, where: str) -> dict[str, Any]:
    """The value, if it is a JSON object. Raises DataError."""
    if not isinstance(value, dict):
        raise wrong(where, "the content", value, "an object")
    return value


def kept(value: float) -> float:
    """The value as it is compared and stored; never -0.0."""
    return round(value, DIGITS) + 0.0


def readable(value: Any) -> str:
    """Somebody's text as it can be written: no half surrogate pairs; of several turns one text."""
    if isinstance(value, (list, tuple)):
        value = "\n\n".join(map(str, value))
    return str(value).encode("utf-8", "replace").decode("utf-8")
