"""lm-eval's `metric_list`: metrics of a whole set of records, each with a standard error of our own.

Knows lm-eval's conventions but does not import it, and not what a record or a metric is.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from harness_plugin.stats import Estimate

Estimates = Callable[[tuple], Estimate]
"""The records of a set, in any order, to one metric of theirs."""


class Aggregation:
    """A metric of the whole set, as lm-eval calls it: a list of records (None for documents outside) to a number.

    An object and not a closure, so that lm-eval's results file shows its name and not this file's source.
    """

    def __init__(self, name: str, value: Callable[[tuple], float | int]):
        self.name, self.value = name, value

    def __repr__(self) -> str:
        return f"harness_plugin.harness: {self.name}"

    def __call__(self, items: Sequence) -> float | int:
        return self.value(tuple(item for item in items if item is not None))


def metric_line(name: str, value: Callable[[tuple], float | int], better: bool | None = None) -> dict[str, Any]:
    """One line of a `metric_list`. `better`: True if higher is better, False if lower is better, None if
    neither, as for a count or a bias."""
    return {"metric": name, "aggregation": Aggregation(name, value), "higher_is_better": better}


def with_error(name: str, estimate: Estimates, better: bool | None) -> list[dict[str, Any]]:
    """The metric and its standard error. The key X_stderr replaces the error that lm-eval would compute, which knows
    nothing of pairs and prompts."""
    value, stderr = partial(_part, estimate, "value"), partial(_part, estimate, "stderr")
    return [metric_line(name, value, better), metric_line(f"{name}_stderr", stderr)]


def count(name: str, estimate: Estimates) -> dict[str, Any]:
    """A metric that is a whole number and has no error."""
    return metric_line(name, partial(_whole, estimate))


def _part(estimate: Estimates, part: str, records: tuple) -> float:
    return getattr(estimate(records), part)


def _whole(estimate: Estimates, records: tuple) -> int:
    return int(estimate(records).value)
