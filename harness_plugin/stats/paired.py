"""Did the new run get worse? One-sided tests of the same items before and after, each clustered by prompt.

Values are gains: higher is better. Every test gives one-sided bounds at level 1 - alpha on each side, so that the
whole is an interval of 1 - 2 alpha, and the p value of "no drop". Three kinds, chosen by the data: McNemar and Tango
for right and wrong, sign flips for few prompts, else t. numpy only, no scipy; knows arrays only.
"""

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from harness_plugin.stats.estimates import cluster_codes
from harness_plugin.stats.search import bisect
from harness_plugin.stats.student import t_quantile, t_tail

FEW = 20  # clusters up to which all 2^n sign flips are looked at
T, FLIPS, MCNEMAR = "paired t", "sign flips", "McNemar, Tango"


@dataclass(frozen=True)
class DropTest:
    """new - base over the same items; `before`, `after` and `difference` are means over clusters, `n` clusters in all.

    low, high: one-sided bounds at 1 - alpha; infinite where so few clusters cannot give one. p: of no drop, one-sided,
    NaN below 2 clusters; p_mid: McNemar's mid-p (else NaN). smallest_drop: the true drop that this comparison sees with
    the power asked for, NaN where nothing varies. better, worse: clusters whose value rose or fell. method: see above.
    """

    before: float
    after: float
    difference: float
    stderr: float
    low: float
    high: float
    p: float
    p_mid: float
    n: int
    n_items: int
    better: int
    worse: int
    smallest_drop: float
    method: str

    @property
    def deviation(self) -> float:
        """The standard deviation of the differences that `smallest_drop` rests on."""
        return math.sqrt((self.better + self.worse) / self.n if self.method == MCNEMAR else self.stderr**2 * self.n)


def drop_test(new, base, clusters, alpha: float, power: float) -> DropTest:
    """Tests whether `new` fell below `base`, shape (n,) each and for the same items; items of one cluster are averaged.

    Raises ValueError for values that are not finite, different lengths, no values, and unless 0 < alpha < 1/2 and
    alpha < power < 1.
    """
    new, base = np.asarray(new, dtype=np.float64).reshape(-1), np.asarray(base, dtype=np.float64).reshape(-1)
    if not 0 < alpha < 0.5 or not alpha < power < 1:
        raise ValueError(f"power {power} at alpha {alpha}: needs 0 < alpha < 1/2 and alpha < power < 1")
    if len(new) != len(base) or not len(new) or not (np.isfinite(new) & np.isfinite(base)).all():
        raise ValueError(f"{len(new)} new and {len(base)} base values: needs the same items, all finite")
    codes, n = cluster_codes(clusters, len(new))
    sizes = np.bincount(codes, minlength=n)
    before, after = np.bincount(codes, base, n) / sizes, np.bincount(codes, new, n) / sizes
    d = np.bincount(codes, new - base, n) / sizes
    difference, better, worse = float(d.mean()), int((d > 0).sum()), int((d < 0).sum())
    stderr = float(d.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    p_mid = math.nan
    if n < 2:
        method, p, low, high, drop = T, math.nan, -math.inf, math.inf, math.nan
    elif n == len(new) and _is_binary(np.concatenate([new, base])):
        method, (p, p_mid), (low, high) = MCNEMAR, mcnemar(better, worse), tango(better, worse, n, alpha)
        drop = smallest_drop(math.sqrt((better + worse) / n), n, alpha, power)
    else:
        method = FLIPS if n <= FEW else T
        p, low, high = sign_flips(d, alpha) if n <= FEW else _student(difference, stderr, n, alpha)
        drop = smallest_drop(stderr * math.sqrt(n), n, alpha, power, n - 1)
    return DropTest(
        float(before.mean()),
        float(after.mean()),
        difference,
        stderr,
        low,
        high,
        p,
        p_mid,
        n,
        len(new),
        better,
        worse,
        drop,
        method,
    )


def _is_binary(x: np.ndarray) -> bool:
    """Only right and wrong: 0 and 1, or 0 and -1 where the gain is a loss with its sign turned."""
    return bool(np.isin(x, (0, 1)).all() or np.isin(x, (0, -1)).all())


def _student(difference: float, stderr: float, n: int, alpha: float) -> tuple[float, float, float]:
    """(p, low, high). Where nothing varies the value stands alone: p is 0 for a drop and 1 without."""
    half = t_quantile(1 - alpha, n - 1) * stderr
    p = t_tail(-difference / stderr, n - 1) if stderr > 0 else float(difference >= 0)
    return p, difference - half, difference + half


def sign_flips(d, alpha: float) -> tuple[float, float, float]:
    """(p, low, high) of the mean of d, shape (n,) with n at most 20, from all 2^n ways to flip signs.

    Exact where drops and rises of one size are equally likely. Flipping the signs of a subset lowers the mean exactly
    when the subset's own mean is positive, so p counts the non-empty subsets whose mean is not negative, and the bounds
    are order statistics of the subsets' means (Hartigan 1969). Below log2(1 / alpha) values there is no bound.
    """
    d = np.asarray(d, dtype=np.float64).reshape(-1)
    if len(d) > FEW:
        raise ValueError(f"{len(d)} values have too many sign flips")
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums, sums + value])
    means = sums[1:] / _subset_sizes(len(d))[1:]
    rounding = 1e-12 * max(float(np.abs(d).max()), 1e-300)
    p = (1 + int((means >= -rounding).sum())) / 2 ** len(d)
    k = int(alpha * 2 ** len(d) * (1 + 1e-12))
    if k < 1:
        return p, -math.inf, math.inf
    ordered = np.partition(means, [k - 1, len(means) - k])
    return p, float(ordered[k - 1]), float(ordered[len(means) - k])


@cache
def _subset_sizes(n: int) -> np.ndarray:
    sizes = np.zeros(1)
    for _ in range(n):
        sizes = np.concatenate([sizes, sizes + 1])
    return sizes


def mcnemar(better: int, worse: int) -> tuple[float, float]:
    """(p, mid-p), one-sided, of `better` items that turned right and `worse` that turned wrong: P(X >= worse) for X
    binomial over both with probability one half (McNemar 1947, exact; mid-p as Fagerland et al. 2013)."""
    n = better + worse
    term, tail = _halves(n, worse), 0.0
    here = term
    for k in range(worse, n + 1):
        tail += term
        term *= (n - k) / (k + 1)
    return min(tail, 1.0), min(tail, 1.0) - here / 2


def _halves(n: int, k: int) -> float:
    """P(X = k) for X binomial with probability one half."""
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))


def tango(better: int, worse: int, n: int, alpha: float) -> tuple[float, float]:
    """One-sided score bounds at 1 - alpha each for the difference of two paired shares, (better - worse) / n.

    Tango 1998: the values whose score is the normal quantile. Unlike Wald's it says something where nothing changed.
    """
    z = NormalDist().inv_cdf(1 - alpha)
    low = bisect(lambda gain: _tango_score(better, worse, n, gain) - z, -1.0, (better - worse) / n)
    high = bisect(lambda gain: _tango_score(better, worse, n, gain) + z, (better - worse) / n, 1.0)
    return low, high


def _tango_score(better: int, worse: int, n: int, gain: float) -> float:
    """The score of the hypothesis that the shares differ by `gain`, falling in it."""
    b = -better - worse + (2 * n - better + worse) * gain
    root = math.sqrt(max(b * b + 8 * n * worse * gain * (1 - gain), 0.0))
    variance = n * ((root - b) / (2 * n) + gain * (1 - gain))
    distance = better - worse - n * gain
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0


def smallest_drop(deviation: float, n: int, alpha: float, power: float, degrees: int | None = None) -> float:
    """The true drop that a one-sided test of n differences of this standard deviation sees with this power.

    (z_(1 - alpha) + z_power) * deviation / sqrt(n), with Student's quantiles where `degrees` is given (Bloom 1995). For
    right and wrong the deviation is the root of the share of items that changed. NaN for a deviation of 0.
    """
    if not deviation > 0:
        return math.nan
    return _both(alpha, power, degrees) * deviation / math.sqrt(n)


def prompts_needed(drop: float, deviation: float, alpha: float, power: float) -> int:
    """The fewest prompts with which a one-sided test at alpha sees a true drop with this power; at least 2."""
    return max(2, math.ceil((_both(alpha, power, None) * deviation / drop) ** 2 - 1e-9))


def _both(alpha: float, power: float, degrees: int | None) -> float:
    if degrees is None:
        return NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    return t_quantile(1 - alpha, degrees) + t_quantile(power, degrees)
