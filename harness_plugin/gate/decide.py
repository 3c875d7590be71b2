"""Comparable runs -> pass, regression or inconclusive, with the numbers that say so.

For each deciding metric: if the tests rule out a drop as large as the margin, it passes; otherwise, if they show a
drop, it is a regression; otherwise it is inconclusive. Both tests are one-sided at level alpha. In this order a tiny
drop, such as another machine's rounding makes, passes even if it is certain. Several deciding metrics must all pass,
and their drops are tested with Holm's adjustment.
"""

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from harness_plugin.errors import DataError, UsageError
from harness_plugin.gate.compare import Comparison
from harness_plugin.gate.rules import MARGIN, Rules
from harness_plugin.stats import holm
from harness_plugin.stats.paired import DropTest, drop_test, prompts_needed

CATEGORIES = 50  # with more different values, the field is no category
DECIDES, SECONDARY, CATEGORY = "decides", "secondary", "category"


class State(str, Enum):
    PASS = "pass"
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not comparable"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Measured:
    """One metric of both runs. `test`: in gains, so with signs turned where lower is better; `p_holm`: its p among all
    metrics of its role; `state`: what it says by itself (for those that do not decide: a drop or nothing)."""

    name: str
    role: str
    higher_is_better: bool
    test: DropTest
    margin: float | None
    p_holm: float
    state: State

    @property
    def sign(self) -> int:
        return 1 if self.higher_is_better else -1

    @property
    def before(self) -> float:
        return self.sign * self.test.before + 0.0

    @property
    def after(self) -> float:
        return self.sign * self.test.after + 0.0

    @property
    def difference(self) -> float:
        """after - before, in the metric's own direction, as `low` and `high`."""
        return self.sign * self.test.difference + 0.0

    @property
    def low(self) -> float:
        return self.test.low if self.higher_is_better else -self.test.high + 0.0

    @property
    def high(self) -> float:
        return self.test.high if self.higher_is_better else -self.test.low + 0.0


@dataclass(frozen=True)
class Decision:
    """What a gate says. `measured`: the deciding metrics first; `notes`: what a reader must know in addition."""

    state: State
    rules: Rules
    comparison: Comparison
    measured: tuple[Measured, ...]
    notes: tuple[str, ...]

    @property
    def deciding(self) -> list[Measured]:
        return [m for m in self.measured if m.role == DECIDES]


def decide(comparison: Comparison, rules: Rules) -> Decision:
    """The decision on two comparable runs.

    Raises UsageError for a metric that the runs do not have or a margin that must be given, DataError if a deciding
    metric has no values for the same items in both.
    """
    names = rules.metrics or tuple(comparison.baseline.metrics)[:1]
    shared = [name for name in comparison.baseline.metrics if name in comparison.current.metrics]
    for name in names:
        if name not in shared:
            raise UsageError(f"metric {name!r}", "it is not in both runs", f"use one of {', '.join(shared) or 'none'}")
    deciding = [_measured(comparison, name, DECIDES, comparison.ids, rules) for name in dict.fromkeys(names)]
    others = [_measured(comparison, name, SECONDARY, comparison.ids, rules) for name in shared if name not in names]
    decided = _with_holm([m for m in deciding if m], rules.alpha)
    measured = (
        *decided,
        *_with_holm([m for m in others if m], rules.alpha),
        *_with_holm(_by_category(comparison, names[0], rules), rules.alpha),
    )
    states = {m.state for m in decided}
    state = (
        State.REGRESSION
        if State.REGRESSION in states
        else (State.PASS if states == {State.PASS} else State.INCONCLUSIVE)
    )
    return Decision(state, rules, comparison, measured, tuple(_notes(comparison, decided, rules)))


def _measured(c: Comparison, name: str, role: str, ids, rules: Rules, label: str = "") -> Measured | None:
    """The metric over the items that have it; None for one that does not decide and that fewer than 2 items have."""
    pairs = [(c.current.items[id], c.baseline.items[id]) for id in ids]
    known = [(new, old) for new, old in pairs if name in new.values and name in old.values]
    half_known = sum((name in new.values) != (name in old.values) for new, old in pairs)
    if role == DECIDES and (half_known or not known):
        raise DataError(
            f"{name} has values for {len(known)} items in both runs and for {half_known} more in one of them",
            "a gate decides on values of the same items",
            "check the runs, or decide by another metric",
        )
    if len(known) < 2 and role != DECIDES:
        return None
    up = c.baseline.metrics[name]
    new, old = (np.array([item.values[name] for item in side]) for side in zip(*known, strict=True))
    if not (np.isfinite(new) & np.isfinite(old)).all():
        raise DataError(f"{name} has values that are not finite", "no mean can be formed", "check the runs")
    sign = 1 if up else -1
    test = drop_test(sign * new, sign * old, [item.cluster for item, _ in known], rules.alpha, rules.power)
    margin = _margin(name, rules, new, old) if role == DECIDES else None
    state = _state(test, margin, test.n > 1 and bool((new == old).all()))
    return Measured(label or name, role, up, test, margin, test.p, state)


def _margin(name: str, rules: Rules, new: np.ndarray, old: np.ndarray) -> float:
    if rules.margin is not None:
        return rules.margin
    if min(new.min(), old.min()) < 0 or max(new.max(), old.max()) > 1:
        raise UsageError(
            f"{name} has values outside 0 to 1", "the default margin is for values in that range", "give --margin"
        )
    return MARGIN


def _state(test: DropTest, margin: float | None, unchanged: bool) -> State:
    """The state of a metric before Holm's adjustment. A metric that does not decide has no margin and cannot pass."""
    if margin is not None and (unchanged or test.low >= -margin):
        return State.PASS
    return State.INCONCLUSIVE


def _with_holm(measured: list[Measured], alpha: float) -> list[Measured]:
    """The metrics with p values adjusted over all of them by Holm's method: a regression where that is at most alpha,
    unless the metric passes."""
    adjusted = holm([m.test.p for m in measured]).tolist()
    return [
        replace(m, p_holm=p, state=State.REGRESSION if p <= alpha and m.state != State.PASS else m.state)
        for m, p in zip(measured, adjusted, strict=True)
    ]


def _by_category(c: Comparison, metric: str, rules: Rules) -> list[Measured]:
    """The first deciding metric in each category of two or more prompts."""
    ids: dict[str, list[str]] = {}
    for id in c.ids:
        ids.setdefault(c.current.items[id].category or "", []).append(id)
    ids.pop("", None)
    if not 1 < len(ids) <= CATEGORIES:
        return []
    found = [_measured(c, metric, CATEGORY, ids[name], rules, name) for name in sorted(ids)]
    return [m for m in found if m and m.test.n > 1]


def _notes(c: Comparison, deciding: list[Measured], rules: Rules) -> list[str]:
    notes = []
    for run, which in ((c.baseline, "baseline"), (c.current, "current run")):
        notes += [f"{n} rows of the {which} left out: {reason}" for reason, n in run.left_out.items()]
    for ids, where in ((c.missing, "the current run"), (c.added, "the baseline")):
        if ids:
            notes.append(f"{len(ids)} items are not in {where} and are part of no number")
    for m in deciding:
        if m.state == State.PASS and m.test.p <= rules.alpha:
            notes.append(f"{m.name}: there is a significant drop, and it is smaller than the margin")
        drop = m.test.smallest_drop
        if m.margin and drop > m.margin and m.state == State.INCONCLUSIVE:
            needed = prompts_needed(m.margin, m.test.deviation, rules.alpha, rules.power)
            notes.append(f"{m.name}: about {needed} prompts are needed to detect a drop of {m.margin:g}")
    return notes
