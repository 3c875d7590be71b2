"""Comparable runs -> pass, regression or inconclusive, with the numbers that say so.

For each deciding metric: if all outputs are the same, or a drop as large as the margin is ruled out, it passes;
otherwise, if the test shows a drop, it is a regression; otherwise it is inconclusive. The bound and the test are
one-sided at level alpha. In this order a tiny drop, such as another machine's rounding makes, passes even if it is
certain. Several deciding metrics must all pass, and their drops are tested with Holm's adjustment.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.printable import counted
from harness_plugin.files.rounding import rounded
from harness_plugin.gate.compare import ROUNDING, Comparison
from harness_plugin.gate.rules import ITEMS, MARGIN, PROMPTS, Rules
from harness_plugin.gate.stored_run import JUDGE, PAIRS
from harness_plugin.stats import holm
from harness_plugin.stats.paired import MCNEMAR, DropTest, drop_test
from harness_plugin.stats.power import detectable_drop, prompts_to_detect, prompts_to_pass
from harness_plugin.stats.sequential import Look, drop_test_at

SHOWN = 4  # digits of a number in a sentence
CATEGORIES = 50  # with more different values, the field is no category
LARGEST = {"brier": 2.0, "log_loss": math.inf}  # values of metrics that can be above 1 though none of a run's is
DECIDES, SECONDARY, CATEGORY = "decides", "secondary", "category"


def signed(value: float) -> str:
    """A change with its sign, as sentences and tables have it."""
    return f"{rounded(value, SHOWN):+.{SHOWN}f}"


class State(str, Enum):
    """What a gate says of two runs, and what a single metric says, which is never NOT_COMPARABLE."""

    PASS = "pass"
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not comparable"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Measured:
    """One metric of both runs. `test`: in gains, so with signs turned where lower is better; `p_holm`: its p among all
    metrics of its role; `largest`: the largest drop that is possible; `smallest_drop`: the smallest true drop that the
    gate reports with the power asked for, NaN where there is none; `unchanged`: whether all outputs are known to be the
    same; `state`: what it says by itself (for those that do not decide: a drop or nothing)."""

    name: str
    role: str
    higher_is_better: bool
    test: DropTest
    margin: float | None
    largest: float
    unchanged: bool
    p_holm: float
    smallest_drop: float
    state: State

    def turned(self, gain: float) -> float:
        """A number of `test` in the metric's own direction; never -0.0."""
        return (gain if self.higher_is_better else -gain) + 0.0

    @property
    def before(self) -> float:
        return self.turned(self.test.before)

    @property
    def after(self) -> float:
        return self.turned(self.test.after)

    @property
    def difference(self) -> float:
        """after - before, in the metric's own direction, as `low` and `high`."""
        return self.turned(self.test.difference)

    @property
    def low(self) -> float:
        return self.turned(self.test.low if self.higher_is_better else self.test.high)

    @property
    def high(self) -> float:
        return self.turned(self.test.high if self.higher_is_better else self.test.low)

    @property
    def numbers(self) -> dict[str, float]:
        """What is reported of the metric, by name; NaN and infinity where a number is not known."""
        return {
            "baseline": self.before,
            "current": self.after,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "p_holm": self.p_holm,
            "smallest_drop": self.smallest_drop,
        }

    def other_difference(self, weigh: str) -> float:
        """after - before had the prompts counted the same instead of the items, or the other way round."""
        return self.turned(self.test.by_clusters if weigh == ITEMS else self.test.by_items)


@dataclass(frozen=True)
class ByPeople:
    """What the decision for people rests on. labels: items with a vote, of the `changed` ones. worth: how many labels
    without a judge would give the same error, NaN if not known. correlation: of judge and people on what changed.
    judge_weight: 0 where the labels alone decide. equal: all were as likely to be labelled. needed: labels that are
    enough to tell a drop of the margin from no change; None where all that changed would not be, or where that is not
    `known`. voted: battles with a vote; unused: those of them that are of no answer that changed, or that are only one
    of its two battles."""

    labels: int
    changed: int
    worth: float
    correlation: float
    judge_weight: float
    equal: bool
    annotators: int
    needed: int | None
    known: bool
    voted: int
    unused: int


@dataclass(frozen=True)
class Decision:
    """What a gate says. `measured`: the deciding metrics first; `notes`: what a reader must know in addition;
    `by_people`: the labels, where people's preference decides."""

    state: State
    rules: Rules
    comparison: Comparison
    measured: tuple[Measured, ...]
    notes: tuple[str, ...]
    by_people: ByPeople | None = None

    @property
    def deciding(self) -> list[Measured]:
        return [m for m in self.measured if m.role == DECIDES]

    @property
    def collapsed(self) -> bool:
        """Whether every prompt got worse, by more than the margin in the mean, and there are too few of them for a
        significant drop."""
        return self.state == State.INCONCLUSIVE and any(
            m.test.worse == m.test.n and -m.test.difference > (m.margin or 0.0) for m in self.deciding
        )


def decide(comparison: Comparison, rules: Rules, look: Look | None = None) -> Decision:
    """The decision on two comparable runs; `look`: on those of so many prompts, if the gate stops when it is clear.

    Raises UsageError for a metric that the runs do not have or a margin that must be given, DataError if a deciding
    metric has no values for the same items in both.
    """
    names = rules.metrics or tuple(comparison.baseline.metrics)[:1]
    shared = [name for name in comparison.baseline.metrics if name in comparison.current.metrics]
    check_metrics(names, shared)
    deciding = [_measured(comparison, name, DECIDES, comparison.ids, rules, look) for name in dict.fromkeys(names)]
    rest = [name for name in shared if name not in names]
    others = [_measured(comparison, name, SECONDARY, comparison.ids, rules, look) for name in rest]
    decided = _with_holm([m for m in deciding if m], rules, look)
    measured = (
        *decided,
        *_with_holm([m for m in others if m], rules, look),
        *_with_holm(_by_category(comparison, names[0], rules, look), rules, look),
    )
    states = {m.state for m in decided}
    state = (
        State.REGRESSION
        if State.REGRESSION in states
        else (State.PASS if states == {State.PASS} else State.INCONCLUSIVE)
    )
    return Decision(state, rules, comparison, measured, tuple(notes_of(comparison, decided, rules)))


def check_metrics(names: Collection[str], shared: Collection[str]) -> None:
    """Raises UsageError for a metric that is not one of those that both runs have."""
    for name in names:
        if name not in shared:
            raise UsageError(f"metric {name!r}", "it is not in both runs", f"use one of {', '.join(shared) or 'none'}")


def _measured(
    c: Comparison, name: str, role: str, ids, rules: Rules, look: Look | None, label: str = ""
) -> Measured | None:
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
    sign, clusters = 1 if up else -1, [item.cluster for item, _ in known]
    span = _span(name, new, old)
    # In a duel the old answer has 0.5 by definition, and not by chance.
    lowest = -0.5 if c.current.kind == JUDGE and (old == 0.5).all() else -span
    test = drop_test(sign * new, sign * old, clusters, rules.alpha, (lowest, -lowest), rules.weigh == ITEMS)
    if look is not None:
        test = drop_test_at(look, test, rules.alpha)
    margin = _margin(name, rules, span) if role == DECIDES else None
    unchanged = c.changed == 0 and (c.current.kind == PAIRS or bool((np.abs(new - old) <= ROUNDING).all()))
    largest = test.before if up else span + test.before
    return Measured(label or name, role, up, test, margin, largest, unchanged, test.p, math.nan, State.INCONCLUSIVE)


def _span(name: str, new: np.ndarray, old: np.ndarray) -> float:
    """The largest value that the metric can have, the smallest being 0; infinite where that is not known."""
    if min(new.min(), old.min()) < 0:
        return math.inf
    largest = LARGEST.get(name, 1.0)
    return largest if max(new.max(), old.max()) <= largest else math.inf


def _margin(name: str, rules: Rules, span: float) -> float:
    if rules.margin is not None:
        return rules.margin
    if span > 1:
        raise UsageError(
            f"{name} has values outside 0 to 1", "the default margin is for values in that range", "give --margin"
        )
    return MARGIN


def _with_holm(measured: list[Measured], rules: Rules, look: Look | None) -> list[Measured]:
    """The metrics of one role with their states, and p values adjusted over all of them by Holm's method. Whether a
    drop is detectable is reckoned at the smallest level of that method; a gate that stops when it is clear detects
    others at each look, and none is named."""
    found, adjusted = [], holm([m.test.p for m in measured]).tolist()
    for m, p in zip(measured, adjusted, strict=True):
        # A metric that does not decide has no margin and cannot pass.
        passes = m.margin is not None and (m.unchanged or m.test.low >= -m.margin)
        state = State.PASS if passes else State.REGRESSION if p <= rules.alpha else State.INCONCLUSIVE
        level = rules.alpha / len(measured)
        drop = math.nan
        if look is None:
            drop = detectable_drop(m.test, level, rules.power, m.margin, rules.alpha, m.largest)
        found.append(replace(m, p_holm=p, smallest_drop=drop, state=state))
    return found


def _by_category(c: Comparison, metric: str, rules: Rules, look: Look | None) -> list[Measured]:
    """The first deciding metric in each category of two or more prompts."""
    ids: dict[str, list[str]] = {}
    for id in c.ids:
        ids.setdefault(c.current.items[id].category or "", []).append(id)
    ids.pop("", None)
    if not 1 < len(ids) <= CATEGORIES:
        return []
    found = [_measured(c, metric, CATEGORY, ids[name], rules, look, name) for name in sorted(ids)]
    return [m for m in found if m and m.test.n > 1]


def notes_of(c: Comparison, deciding: list[Measured], rules: Rules) -> list[str]:
    """What a reader must know beside the numbers of the deciding metrics."""
    notes = []
    for run, which in ((c.baseline, "baseline"), (c.current, "current run")):
        notes += [f"{n} rows of the {which} left out: {reason}" for reason, n in run.left_out.items()]
    for ids, where in ((c.missing, "the current run"), (c.added, "the baseline")):
        if ids:
            notes.append(f"{len(ids)} items are not in {where} and are part of no number")
    for m in deciding:
        if m.state == State.PASS and m.test.p <= rules.alpha:
            notes.append(f"{m.name}: there is a significant drop, and it is smaller than the margin")
        if m.state == State.PASS and m.unchanged and m.test.low < -(m.margin or 0.0):
            notes.append(
                f"{m.name}: it passes because all outputs are the same; {counted(m.test.n, 'prompt')} alone would not "
                f"rule out a drop of {-m.test.low:.4f}"
            )
        if m.state == State.INCONCLUSIVE and (needed := prompts_needed(m, rules, len(deciding))):
            notes.append(
                f"{m.name}: needs about {needed} prompts, not {m.test.n}, to tell a drop of {m.margin:g} from no change"
            )
        if not math.isfinite(m.test.lowest):
            notes.append(
                f"{m.name}: its values have no known limits, so the interval is Student's and misses rare large drops"
            )
        other = m.other_difference(rules.weigh)
        if abs(other - m.difference) > ROUNDING:
            less = ITEMS if rules.weigh == PROMPTS else PROMPTS
            notes.append(
                f"{m.name}: the mean change is {signed(m.difference)} over {rules.weigh}, which decides, and "
                f"{signed(other)} over {less} (--weigh {less})"
            )
    return notes


def prompts_needed(m: Measured, rules: Rules, deciding: int = 1) -> int | None:
    """How many prompts like these are enough for the gate to detect a drop of the margin with the power asked for, and
    to pass a run without a change. None without a margin."""
    if not m.margin or not m.test.n > 1:
        return None
    changes, noise = m.test.method == MCNEMAR, m.test.deviation
    if changes:
        half = noise**2 / 2
        d, shares = np.array([1.0, 0.0, -1.0]), np.array([half, 1 - 2 * half, half])
    else:
        d = (m.test.sums - m.test.sizes * m.test.difference) / m.test.sizes.mean()
        shares = np.full(m.test.n, 1 / m.test.n)
    found = [prompts_to_pass(m.margin, d, shares, m.test.lowest, rules.alpha, rules.power)]
    if noise > 0:
        found.append(prompts_to_detect(m.margin, noise, rules.alpha / deciding, rules.power, changes))
    return max(n for n in found if n is not None)
