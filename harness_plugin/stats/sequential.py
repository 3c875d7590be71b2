"""Intervals and p values that hold although somebody looked before all prompts were judged, and stops when it is clear.

Two kinds of looks, with the same methods. A `PlannedLook` is one of a few looks at known shares of a known number of
prompts, with O'Brien and Fleming's boundary (1979): it needs clear evidence early and costs hardly any power at the
end. A `SequenceLook` may come at any time and need not be planned: its intervals form a confidence sequence (a mixture
of bets, after Waudby-Smith and Ramdas 2020, arXiv:2010.09686). Where the largest number of prompts is known, planned
looks reach a decision with fewer prompts, unless the difference is far larger than what all prompts could detect.

Prompts must come in an order that has nothing to do with their outcomes. Knows arrays only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import Protocol

import numpy as np

from harness_plugin.stats.bounded import lower_bound, tail_score
from harness_plugin.stats.multiple import holm
from harness_plugin.stats.paired import DropTest
from harness_plugin.stats.search import rising_root
from harness_plugin.stats.student import t_quantile

NODES, FARTHEST = 96, 8.0  # of the integrals over a Brownian motion; up to the time 1 it goes no farther
BETS = np.arange(1, 21) / 20  # shares of the capital that are bet; the smaller ones find small differences
STEP = 32  # prompts from one unplanned look to the next
SMALLEST = 1e-300


class Look(Protocol):
    """What is known at the time of a look. `sums`, `sizes`: of the clusters seen so far, shape (G,) each; `low`: the
    smallest value that is possible; `alpha`: of one side, for all looks together."""

    def lower(self, sums, sizes, low: float, alpha: float) -> float:
        """The lower bound of sum of sums / sum of sizes: at all looks together it is too high with at most alpha."""
        ...

    def p_above(self, sums, sizes, low: float, mean: float) -> float:
        """One-sided p that the true mean is at most `mean`: at any look it is at most x with a chance of at most x."""
        ...

    def drop_p(self, test: DropTest) -> float:
        """One-sided p of no change, as `p_above`."""
        ...

    def widening(self, alpha: float, clusters: int) -> float:
        """How many times as wide Student's two-sided interval at 1 - alpha must be, to hold at all looks together."""
        ...


def crossing(height: float, fractions: tuple[float, ...]) -> float:
    """The probability that a Brownian motion is at or above `height` at one of the rising times `fractions`.

    By the recursion over the looks of Armitage, McPherson and Rowe (1969; Jennison and Turnbull 2000, chapter 19), each
    integral by Gauss and Legendre's rule.
    """
    if abs(height) >= 2 * FARTHEST:
        return float(height < 0)
    x, weights = _rule()
    half = max(height + FARTHEST, 0.0) / 2
    x, weights = half * (x + 1) - FARTHEST, half * weights
    spread = math.sqrt(fractions[0])
    crossed = NormalDist().cdf(-height / spread)
    density = np.exp(-((x / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
    for before, now in pairwise(fractions):
        spread = math.sqrt(now - before)
        crossed += float(weights @ (density * _above((height - x) / spread)))
        steps = (x[:, None] - x[None, :]) / spread
        density = np.exp(-(steps**2) / 2) @ (weights * density) / (spread * math.sqrt(2 * math.pi))
    return min(crossed, 1.0)


@lru_cache(maxsize=1)
def _rule() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(NODES)


def _above(z: np.ndarray) -> np.ndarray:
    """P(Z > z) of the normal distribution."""
    return np.array([math.erfc(value / math.sqrt(2)) / 2 for value in z.tolist()])


@lru_cache(maxsize=256)
def boundary(alpha: float, fractions: tuple[float, ...]) -> float:
    """O'Brien and Fleming's boundary for one side at alpha: a z is significant at the time t from this / sqrt(t) on.

    Raises ValueError unless the fractions rise from above 0 to 1 and 0 < alpha < 1/2.
    """
    if not 0 < alpha < 0.5 or not fractions or fractions[-1] != 1 or not (np.diff((0.0, *fractions)) > 0).all():
        raise ValueError(f"looks at {fractions} with alpha {alpha}: needs 0 < t1 < t2 ... = 1 and 0 < alpha < 1/2")

    def missing(height: float) -> float:
        return math.log(alpha) - math.log(max(crossing(height, fractions), SMALLEST))

    return rising_root(missing, 0.0, 2 * FARTHEST, 1e-9)


@dataclass(frozen=True)
class PlannedLook:
    """Look `number`, from 1, of those at `fractions` of all prompts, the last being 1."""

    number: int
    fractions: tuple[float, ...]

    def level(self, alpha: float) -> float:
        """The one-sided level at which this look tests, so that all looks together err with alpha."""
        return NormalDist().cdf(-boundary(alpha, self.fractions) / math.sqrt(self._fraction))

    def lower(self, sums, sizes, low: float, alpha: float) -> float:
        return lower_bound(sums, sizes, low, max(self.level(alpha), SMALLEST))

    def p_above(self, sums, sizes, low: float, mean: float) -> float:
        return self.repeated_p(tail_score(sums, sizes, low, mean))

    def drop_p(self, test: DropTest) -> float:
        if math.isnan(test.p):
            return math.nan
        return self.repeated_p(NormalDist().inv_cdf(min(max(test.p, SMALLEST), 1 - 1e-16)))

    def repeated_p(self, z: float) -> float:
        """The smallest alpha whose boundary this look reaches, for a test that gives the normal quantile z of p
        (Jennison and Turnbull 2000, section 9.1, repeated p values)."""
        return crossing(-z * math.sqrt(self._fraction), self.fractions)

    def widening(self, alpha: float, clusters: int) -> float:
        level, degrees = max(self.level(alpha / 2), SMALLEST), max(clusters - 1, 1)
        return t_quantile(1 - level, degrees) / t_quantile(1 - alpha / 2, degrees)

    @property
    def _fraction(self) -> float:
        return self.fractions[self.number - 1]


@dataclass(frozen=True)
class SequenceLook:
    """A look at any time; most prompts are about `planned`."""

    planned: int

    def lower(self, sums, sizes, low: float, alpha: float) -> float:
        sums, sizes = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
        value = float(sums.sum() / sizes.sum())
        if value <= low:
            return low
        return rising_root(
            lambda mean: -math.log(alpha) - log_capital(sums, sizes, low, mean), low, value, 1e-9 * (value - low)
        )

    def p_above(self, sums, sizes, low: float, mean: float) -> float:
        return math.exp(-max(log_capital(np.asarray(sums), np.asarray(sizes), low, mean), 0.0))

    def drop_p(self, test: DropTest) -> float:
        return self.p_above(-test.sums, test.sizes, test.lowest, 0.0)

    def widening(self, alpha: float, clusters: int) -> float:
        """By the normal mixture (Waudby-Smith et al. 2021, arXiv:2103.06476), narrowest at `planned`; asymptotic."""
        r2 = (1 - 2 * math.log(alpha) + math.log(-2 * math.log(alpha))) / self.planned
        seen = clusters * r2 + 1
        half = math.sqrt(2 * seen / (clusters * r2) * math.log(math.sqrt(seen) / alpha))
        return half / -NormalDist().inv_cdf(alpha / 2)


def log_capital(sums, sizes, low: float, mean: float) -> float:
    """The logarithm of what bets against "the mean is at most `mean`" have made of a capital of 1.

    The capital is split among BETS; a share c of it becomes c (1 + (S_g - n_g mean) / (n (mean - low))) of itself with
    each cluster, n the largest size. It is a supermartingale if the statement is true, so that it ever reaches
    1 / alpha with a chance of at most alpha (Ville's inequality), and its order does not matter.
    """
    if mean <= low:
        return math.inf
    gains = (sums - sizes * mean) / (sizes.max() * (mean - low))
    with np.errstate(divide="ignore"):
        each = np.log1p(np.outer(np.clip(gains, -1.0, None), BETS)).sum(axis=0)
    largest = float(each.max())
    return largest + math.log(float(np.mean(np.exp(each - largest)))) if math.isfinite(largest) else -math.inf


def drop_test_at(look: Look, test: DropTest, alpha: float) -> DropTest:
    """The test of a drop with its bounds and p as of a look. Raises ValueError for values without known limits."""
    if not math.isfinite(test.lowest):
        raise ValueError("values without known limits have no bounds at a look")
    low = look.lower(test.sums, test.sizes, test.lowest, alpha)
    high = -look.lower(-test.sums, test.sizes, test.lowest, alpha)
    return replace(test, low=low, high=high, p=look.drop_p(test))


def looks_at(total: int, looks: int | None) -> list[tuple[int, Look]]:
    """(prompts seen, look) of each look at `total` prompts, the last at all: so many planned ones, as evenly as whole
    prompts allow, or with None one after every STEP prompts, which need no plan."""
    if looks is None:
        return [(n, SequenceLook(total)) for n in (*range(STEP, total, STEP), total)]
    sizes = sorted({math.ceil(total * k / looks) for k in range(1, looks + 1)})
    fractions = tuple(n / total for n in sizes)
    return [(n, PlannedLook(k, fractions)) for k, n in enumerate(sizes, start=1)]


@dataclass(frozen=True)
class Compared:
    """Two columns of a table of values: the mean difference with its interval and two-sided p, and p after Holm."""

    first: int
    second: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def interval_at(look: Look, values, lowest: float, highest: float, alpha: float) -> tuple[float, float]:
    """The two-sided interval at 1 - alpha of the mean of values from lowest to highest, (n,), as of a look."""
    values, ones = np.asarray(values, dtype=np.float64), np.ones(len(values))
    return look.lower(values, ones, lowest, alpha / 2), -look.lower(-values, ones, -highest, alpha / 2)


def compare_at(
    look: Look, table, pairs: Sequence[tuple[int, int]], alpha: float, lowest: float = -1.0
) -> list[Compared]:
    """The differences between columns of `table`, shape (prompts, M), NaN where missing, as of a look.

    `lowest`: the smallest difference that is possible, and -lowest the largest. A pair without a prompt has NaN. Holm's
    method over all pairs holds at all looks together, because a p value of a look does.
    """
    table, rows = np.asarray(table, dtype=np.float64), []
    for a, b in pairs:
        d = table[:, a] - table[:, b]
        d = d[np.isfinite(d)]
        ones = np.ones(len(d))
        if not len(d):
            rows.append((a, b, math.nan, math.nan, math.nan, math.nan))
            continue
        p = 2 * min(look.p_above(side, ones, lowest, 0.0) for side in (d, -d))
        rows.append((a, b, float(d.mean()), *interval_at(look, d, lowest, -lowest, alpha), min(p, 1.0)))
    adjusted = holm([row[-1] for row in rows]).tolist()
    return [Compared(*row, p_holm) for row, p_holm in zip(rows, adjusted, strict=True)]
