"""How many labels an interval of a wanted width takes, from a pilot whose labels stay in the sample.

Knows arrays only.
"""

import math
from dataclasses import dataclass

import numpy as np

from harness_plugin.stats.anchored import FEWEST_LABELS, anchored_mean
from harness_plugin.stats.estimates import UPPER, clustered_mean
from harness_plugin.stats.student import t_quantile

RANGE = 1.645  # standard errors of the pilot's variance: 90 % of pilots


@dataclass(frozen=True)
class LabelPlan:
    """labels: that give the wanted half-width, those of the pilot included; None where not even all battles would. low,
    high: the range that a pilot of this size leaves open, high None likewise. now, all: the half-widths that the pilot
    has, by the same formula, and that all labels would give. pilot: its labels."""

    labels: int | None
    low: int | None
    high: int | None
    now: float
    all: float
    pilot: int


def label_plan(people, judge, clusters, half: float, *, weight=None, probability=None, known=None) -> LabelPlan | None:
    """The plan for a mean of shares, with arguments as in `anchored_mean`; None for a pilot of fewer than 10 labels.

    SE^2(n) = V + c^2 s^2 (1/n - 1/C) for the C of N battles, with the share c, that need a label: s^2 is the variance
    of Y - l f among them, and V = s_Y^2 D / N what the prompts themselves leave open, with the design effect D of the
    judge's values over all battles, at least 1. So n = c^2 s^2 / ((half / t)^2 - V + c^2 s^2 / C). Labels are taken to
    be scattered over the prompts.
    """
    people, judge = np.asarray(people, dtype=np.float64), np.asarray(judge, dtype=np.float64)
    weight = np.ones(len(people)) if weight is None else np.asarray(weight, dtype=np.float64)
    known = np.zeros(len(people), dtype=bool) if known is None else np.asarray(known, dtype=bool)
    chance = np.ones(len(people)) if probability is None else np.asarray(probability, dtype=np.float64)
    used, open_ = weight > 0, (weight > 0) & ~known
    asked = open_ & np.isfinite(people)
    n, count = int(asked.sum()), int(open_.sum())
    if n < FEWEST_LABELS:
        return None
    found = anchored_mean(people, judge, clusters, weight=weight, probability=probability, known=known)
    share, w = float(weight[open_].sum() / weight.sum()), weight[asked] / chance[asked]
    left = people[asked] - found.tuning * judge[asked]
    variance, spread = _variance(left, w)
    # Of the battles that need no label all are seen, and of the others a sample that stands for them.
    seen, stands_for = asked | (known & used), np.where(known, weight, 0.0)
    stands_for[asked] = w / w.sum() * weight[open_].sum()
    total = _variance(people[seen], stands_for[seen])[0]
    size = float(weight[used].sum() ** 2 / (weight[used] ** 2).sum())
    of_prompts = total * _design_effect(judge[used], np.asarray(clusters)[used]) / size

    def width(labels: int, s2: float) -> float:
        return t_quantile(UPPER, max(labels - 1, 1)) * math.sqrt(of_prompts + share**2 * s2 * (1 / labels - 1 / count))

    def needed(s2: float) -> int | None:
        if width(count, s2) > half:
            return None
        low, high = 1, count
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if width(middle, s2) <= half else (middle, high)
        return high

    error = RANGE * spread / math.sqrt(n)
    return LabelPlan(
        needed(variance),
        needed(variance * max(1 - error, 0.0)),
        needed(variance * (1 + error)),
        width(n, variance),
        width(count, variance),
        n,
    )


def _variance(x, w) -> tuple[float, float]:
    """The weighted variance of x, (n,), with n / (n - 1), and the relative standard deviation of one squared
    deviation."""
    w = w / w.sum()
    squares = (x - w @ x) ** 2
    variance = float(w @ squares) * len(x) / (len(x) - 1)
    # Labels that are nearly all the same do not say that all others are: half a label may be another one.
    variance = max(variance, (0.5 / len(x)) * (1 - 0.5 / len(x)))
    return variance, math.sqrt(max(float(w @ squares**2) / variance**2 - 1, 0.0))


def _design_effect(judge, clusters) -> float:
    found, variance = clustered_mean(judge, clusters), float(judge.var())
    known = variance > 0 and math.isfinite(found.stderr)
    return max(1.0, found.stderr**2 * len(judge) / variance) if known else 1.0
