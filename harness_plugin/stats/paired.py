"""Did the new run get worse? One-sided tests of the same items before and after, each clustered by prompt.

Values are gains: higher is better. Two questions have an answer each. Is there a drop? A p value of "no change": under
it drops and rises of one size are equally likely (McNemar for right and wrong, sign flips for few prompts, else t). How
large may the change be? One-sided bounds at level 1 - alpha, which hold for any values in a known range (`bounded`),
also where only few items changed or none. numpy only, no scipy; knows arrays only.
"""

import math
from dataclasses import dataclass

import numpy as np

from harness_plugin.stats.bounded import lower_bound, upper_bound
from harness_plugin.stats.estimates import cluster_codes, kish
from harness_plugin.stats.student import t_quantile, t_tail

FEW = 20  # clusters up to which all 2^n sign flips are looked at
T, FLIPS, MCNEMAR = "paired t", "sign flips", "McNemar"
Bounds = tuple[float, float]


@dataclass(frozen=True, eq=False)
class DropTest:
    """new - base over the same items, in n clusters.

    before, after, difference: means, weighing every cluster alike or every item alike, as asked for; by_clusters,
    by_items: the difference either way. stderr: of the difference. low, high: its one-sided bounds at 1 - alpha. p: of
    no change, one-sided, NaN below 2 clusters; p_mid: McNemar's mid-p (else NaN). better, worse: clusters whose value
    rose or fell. method: what p is of. sums, sizes: the differences of each cluster, (n,), as they are weighed. lowest:
    the smallest difference that is possible, -inf where there is none.
    """

    before: float
    after: float
    difference: float
    by_clusters: float
    by_items: float
    stderr: float
    low: float
    high: float
    p: float
    p_mid: float
    n: int
    n_items: int
    better: int
    worse: int
    method: str
    sums: np.ndarray
    sizes: np.ndarray
    lowest: float

    @property
    def degrees(self) -> float:
        return degrees_of(self.sizes)

    @property
    def deviation(self) -> float:
        """The standard deviation of the clusters' differences; of right and wrong, the root of the share that
        changed, as if as many had risen as fallen."""
        return math.sqrt((self.better + self.worse) / self.n if self.method == MCNEMAR else self.stderr**2 * self.n)


def drop_test(
    new, base, clusters, alpha: float, bounds: Bounds = (-math.inf, math.inf), by_items: bool = False
) -> DropTest:
    """Tests whether `new` fell below `base`, shape (n,) each and for the same items.

    `bounds`: the smallest and the largest difference that are possible; where they are infinite, low and high are
    Student's, which misses rare large drops. `by_items`: every item counts the same, and not every cluster. Raises
    ValueError for values that are not finite, different lengths, no values, and unless 0 < alpha < 1/2.
    """
    new, base = np.asarray(new, dtype=np.float64).reshape(-1), np.asarray(base, dtype=np.float64).reshape(-1)
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha {alpha}: needs 0 < alpha < 1/2")
    if len(new) != len(base) or not len(new) or not (np.isfinite(new) & np.isfinite(base)).all():
        raise ValueError(f"{len(new)} new and {len(base)} base values: needs the same items, all finite")
    codes, n = cluster_codes(clusters, len(new))
    counts = np.bincount(codes, minlength=n).astype(np.float64)
    divisor = 1.0 if by_items else counts
    sizes = counts / divisor
    sums, start = (np.bincount(codes, x, n) / divisor for x in (new - base, base))
    difference, before = float(sums.sum() / sizes.sum()), float(start.sum() / sizes.sum())
    residuals = sums - sizes * difference
    stderr = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / float(sizes.sum()) if n > 1 else math.nan
    better, worse = int((sums > 0).sum()), int((sums < 0).sum())
    binary = n == len(new) and _is_binary(np.concatenate([new, base]))
    method, p, p_mid = _p_value(sums, sizes, difference, stderr, mcnemar(better, worse) if binary else None)
    low, high = _bounds(sums, sizes, difference, stderr, alpha, bounds)
    return DropTest(
        before,
        before + difference,
        difference,
        float(np.mean(np.bincount(codes, new - base, n) / counts)),
        float((new - base).mean()),
        stderr,
        low,
        high,
        p,
        p_mid,
        n,
        len(new),
        better,
        worse,
        method,
        sums,
        sizes,
        bounds[0],
    )


def degrees_of(sizes) -> float:
    """Of freedom, of Student's t for a mean over clusters of these sizes: one less than Kish's number of clusters
    (`clustered_mean`), at least 1."""
    return max(kish(sizes) - 1, 1.0)


def _p_value(
    sums, sizes, difference: float, stderr: float, of_changes: tuple[float, float] | None
) -> tuple[str, float, float]:
    """(method, p, mid-p) of no change; `of_changes`: McNemar's, for right and wrong."""
    n = len(sums)
    if n < 2:
        return T, math.nan, math.nan
    if of_changes is not None:
        return MCNEMAR, *of_changes
    if n <= FEW:
        return FLIPS, sign_flips(sums), math.nan
    if stderr > 0:
        return T, t_tail(-difference / stderr, degrees_of(sizes)), math.nan
    return T, 2.0**-n if difference < 0 else 1.0, math.nan  # all alike: of the 2^n sign flips one is as low


def _bounds(sums, sizes, difference: float, stderr: float, alpha: float, bounds: Bounds) -> Bounds:
    if math.isfinite(bounds[0]) and math.isfinite(bounds[1]):
        return lower_bound(sums, sizes, bounds[0], alpha), upper_bound(sums, sizes, bounds[1], alpha)
    if not stderr > 0:
        return -math.inf, math.inf
    half = t_quantile(1 - alpha, degrees_of(sizes)) * stderr
    return difference - half, difference + half


def _is_binary(x: np.ndarray) -> bool:
    """Only right and wrong: 0 and 1, or 0 and -1 where the gain is a loss with its sign turned."""
    return bool(np.isin(x, (0, 1)).all() or np.isin(x, (0, -1)).all())


def sign_flips(sums) -> float:
    """p of no change for the sums of at most 20 clusters, shape (n,), from all 2^n ways to flip their signs.

    Exact where drops and rises of one size are equally likely. Flipping the signs of a subset lowers the total exactly
    when the subset's own sum is positive, so p counts the subsets whose sum is not negative, the empty one too.
    """
    d = np.asarray(sums, dtype=np.float64).reshape(-1)
    if len(d) > FEW:
        raise ValueError(f"{len(d)} values have too many sign flips")
    totals = np.zeros(1)
    for value in d:
        totals = np.concatenate([totals, totals + value])
    return int((totals >= -1e-12 * float(np.abs(d).sum())).sum()) / 2 ** len(d)


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
