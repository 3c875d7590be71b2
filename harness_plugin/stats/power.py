"""What a gate's comparison can show: the smallest drop that it reports, and how many prompts a margin needs.

A gate reports a drop where the test of no change is significant and a drop as large as the margin is not ruled out
(`paired`). Both must be likely for the drop to count as detectable. Noise is taken to be as in the comparison itself.
numpy only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from harness_plugin.stats.bounded import lower_bound
from harness_plugin.stats.paired import FEW, MCNEMAR, DropTest
from harness_plugin.stats.search import rising_root
from harness_plugin.stats.student import t_quantile

LARGEST = 10_000_000  # prompts: more are nobody's plan
COUNTED = 400  # changed items up to which the numbers of rises and drops are counted out, and not taken as normal


def detectable_drop(
    test: DropTest, level: float, power: float, margin: float | None, alpha: float, largest: float
) -> float:
    """The smallest true drop that a comparison like this one reports with this power.

    level: of the test of no change. margin: a drop is not reported where one as large is ruled out at `alpha`; None for
    a metric that does not decide. largest: the largest drop that is possible. NaN where no drop up to that is reported
    so often: too few prompts for any p value to be as small as `level`, or values that never vary.
    """
    if test.method == MCNEMAR:
        found = _of_right_and_wrong(test, level, power, margin, alpha)
    elif not test.stderr > 0 or _fewest(level) > test.n:
        return math.nan
    else:
        found = test.stderr * _units(test.n, test.degrees, level, power)
        if margin is not None:
            found = max(found, _not_ruled_out(test, margin, alpha) + test.stderr * t_quantile(power, test.degrees))
    return found if found <= largest else math.nan


def prompts_to_detect(drop: float, deviation: float, level: float, power: float, right_and_wrong: bool = False) -> int:
    """The fewest prompts with which a drop is significant at `level` with this power.

    deviation: of the prompts' differences; for right and wrong the root of the share of items that change without a
    drop, to which the drop adds.
    """
    if right_and_wrong:
        reporting = Reporting(level, None, -1.0, level)
        better = deviation**2 / 2
        return _smallest(lambda n: _reported(n, better, better + drop, reporting) >= power)
    return _smallest(
        lambda n: n >= _fewest(level) and deviation * _units(n, n - 1, level, power) / math.sqrt(n) <= drop
    )


def prompts_to_pass(margin: float, differences, shares, lowest: float, alpha: float, power: float) -> int | None:
    """The fewest prompts with which a run without a change passes with this power: a drop of `margin` is ruled out.

    differences: of a run without a change, (k,), with their shares (k,), which have the mean 0. lowest: the smallest
    difference that is possible; -inf takes the bounds to be Student's. None for a margin of 0.
    """
    d, shares = np.asarray(differences, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    deviation = math.sqrt(float(shares @ d**2))
    if not margin > 0:
        return None

    def passes(n: int) -> bool:
        if not math.isfinite(lowest):
            return n > 1 and deviation * (t_quantile(1 - alpha, n - 1) + _z(power)) / math.sqrt(n) <= margin
        low = lower_bound(d, np.ones(len(d)), lowest, alpha, shares * n)
        return low - _z(power) * deviation / math.sqrt(n) >= -margin

    return _smallest(passes)


@dataclass(frozen=True)
class Reporting:
    """When a drop in right and wrong is reported: p is at most `level`, and `margin` is not ruled out at `alpha`."""

    level: float
    margin: float | None
    lowest: float
    alpha: float

    def excess(self, n: int, changed: np.ndarray) -> np.ndarray:
        """Drops less rises from which on the margin is not ruled out, for numbers of changed items, in their shape. The
        distance of the bound from the difference hardly depends on the difference, so it is taken at 0."""
        if self.margin is None:
            return np.full(changed.shape, -math.inf)
        at = np.unique(np.linspace(changed.min(), changed.max(), 9))
        d, ones = np.array([1.0, 0.0, -1.0]), np.ones(3)
        gaps = [-lower_bound(d, ones, self.lowest, self.alpha, np.array([k / 2, n - k, k / 2])) for k in at]
        return n * (self.margin - np.interp(changed, at, gaps))


def _smallest(enough: Callable[[int], bool]) -> int:
    """The smallest number from 2 that is enough, where all larger ones are."""
    high = 2
    while not enough(high) and high < LARGEST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _z(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def _fewest(level: float) -> int:
    """Clusters below which all signs being alike is not significant at this level."""
    return math.ceil(-math.log2(level) - 1e-9)


def _units(n: int, degrees: float, level: float, power: float) -> float:
    """The drop in standard errors that n differences show with this power: t_(1 - level) + t_power (Bloom 1995), with
    so many degrees of freedom.

    Up to 20 differences the test counts sign flips, so that its level is a multiple of 2^-n. If all differences must be
    negative, power is the n-th power of one being so.
    """
    if n > FEW:
        return t_quantile(1 - level, degrees) + t_quantile(power, degrees)
    flips = math.floor(level * 2**n + 1e-9)
    if flips == 1:
        return _z(power ** (1 / n)) * math.sqrt(n)
    return t_quantile(1 - flips / 2**n, degrees) + t_quantile(power, degrees)


def _not_ruled_out(test: DropTest, margin: float, alpha: float) -> float:
    """The observed drop from which on one of `margin` is not ruled out."""
    drop = max(margin - (test.difference - test.low), 0.0)
    if not math.isfinite(test.lowest):
        return drop
    # The bound's distance from the difference depends a little on the difference: it is taken at about that drop.
    moved = test.sums - test.sizes * (test.difference + drop)
    return margin + drop + lower_bound(moved, test.sizes, test.lowest, alpha) if drop else drop


def _of_right_and_wrong(test: DropTest, level: float, power: float, margin: float | None, alpha: float) -> float:
    """The drop where right turns wrong more often by so much. Besides, as many items change as did in this comparison,
    half of them each way."""
    share = (test.better + test.worse) / test.n

    reporting = Reporting(level, margin, test.lowest, alpha)

    def excess(drop: float) -> float:
        return _reported(test.n, share / 2, share / 2 + drop, reporting) - power

    most = 1 - share
    return rising_root(excess, 0.0, most, 1e-5) if excess(most) > 0 else math.nan


def _reported(n: int, better: float, worse: float, test: Reporting) -> float:
    """How often a drop is reported where each of n items turns right and wrong with these probabilities: McNemar's p is
    at most the level, and the excess of drops over rises is at least what the margin asks for."""
    if not worse > 0:
        return 0.0
    share = min(better + worse, 1.0)
    changed, spread = n * share, math.sqrt(n * share * (1 - share))
    if changed > COUNTED:
        needed = max(_z(1 - test.level) * math.sqrt(changed) + 1, float(test.excess(n, np.array([changed]))[0]))
        deviation = math.sqrt(n * (share - (worse - better) ** 2))
        return NormalDist().cdf((n * (worse - better) - needed + 0.5) / deviation)
    counts = np.arange(max(1, int(changed - 6 * spread - 6)), min(n, int(changed + 6 * spread + 6)) + 1)
    wrong = np.arange(counts[-1] + 1)
    significant = np.cumsum(_binomial(counts, wrong, 0.5)[:, ::-1], axis=1)[:, ::-1] <= test.level
    reported = significant & (2 * wrong - counts[:, None] >= test.excess(n, counts)[:, None])
    each = (_binomial(counts, wrong, worse / share) * reported).sum(axis=1)
    return float(_binomial(np.array([n]), counts, share)[0] @ each)


def _binomial(n: np.ndarray, k: np.ndarray, p: float) -> np.ndarray:
    """P(k of n) with the chance p, shape (len(n), len(k))."""
    logs = np.append(0.0, np.cumsum(np.log(np.arange(1, max(n.max(), k.max()) + 1))))
    rest = n[:, None] - k
    log_p, log_q = math.log(max(p, 1e-300)), math.log(max(1 - p, 1e-300))
    found = logs[n][:, None] - logs[k] - logs[np.maximum(rest, 0)] + k * log_p + rest * log_q
    return np.where(rest >= 0, np.exp(np.minimum(found, 0.0)), 0.0)
