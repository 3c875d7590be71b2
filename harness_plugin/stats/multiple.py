"""Many comparisons at once: tests between all pairs of models with Holm's adjustment, rank ranges, and power.

A difference, its clustered error and its number of clusters go in, from ratings or from paired values alike. Where an
error cannot be known the test is NaN and decides nothing. Knows arrays only.
"""

import math
from dataclasses import dataclass

import numpy as np

from harness_plugin.stats.estimates import (
    ALPHA,
    ROUNDING,
    UPPER,
    cluster_codes,
    kish,
    paired_difference,
    share_difference,
)
from harness_plugin.stats.student import t_quantiles

POWER = 0.8
MIN_CLUSTERS = 2
EXACT_DEGREES = 100


@dataclass(frozen=True, eq=False)
class Pairwise:
    """Every model against every other; all arrays have shape (M, M), row a and column b, NaN on the diagonal.

    difference: a less b. stderr: clustered. n_clusters: clusters that the pair rests on. degrees: of freedom of its
    test. low, high: the 95 % interval of this pair alone. p: two-sided t test of no difference. p_holm: the same,
    adjusted over all pairs.
    """

    difference: np.ndarray
    stderr: np.ndarray
    n_clusters: np.ndarray
    degrees: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray

    def better(self, alpha: float = ALPHA) -> np.ndarray:
        """Where a is better than b, shape (M, M): over all pairs together, a false one occurs with a probability of at
        most alpha."""
        return (self.p_holm <= alpha) & (self.difference > 0)

    def rank_ranges(self) -> np.ndarray:
        """The best and the worst rank of each model, shape (M, 2), 1 for the best model.

        [1 + models that are better, M - models that are worse] after Holm's adjustment: simultaneous, every true
        rank lies in its range with probability 1 - ALPHA (Mogstad et al. 2024; Klein et al. 2020 for the idea).
        """
        better = self.better()
        return np.stack([1 + better.sum(axis=0), len(better) - better.sum(axis=1)], axis=1)

    def smallest_difference(self, power: float = POWER, alpha: float = ALPHA) -> float:
        """The true difference between two models that is detected with this power, in the units of `difference`: the
        root of the mean square over the pairs, since squared errors are unbiased.

        The level of the test is alpha over the number of pairs, where Holm's method begins; if more models differ, it
        goes on with higher levels and detects a little more.
        """
        upper = np.triu_indices(len(self.stderr), 1)
        tested = int(np.isfinite(self.p[upper]).sum())
        if not tested:
            return math.nan
        found = smallest_difference(self.stderr, self.degrees + 1, power, alpha / tested)[upper]
        found = found[np.isfinite(self.p[upper]) & np.isfinite(found)]
        return float(np.sqrt(np.mean(found**2))) if len(found) else math.nan


def pairwise(
    difference, stderr, n_clusters, fewest: int = MIN_CLUSTERS, degrees=None, widest: float = math.inf
) -> Pairwise:
    """Tests from differences, errors and numbers of clusters, each (M, M); t with `degrees` of freedom, (M, M), which
    are clusters - 1 where they are not given. Intervals end at `widest` and -`widest`, the largest possible difference.

    Fewer than `fewest` clusters, an unknown error and values that never vary (an error of zero, which says nothing of
    the uncertainty) leave a pair's test and its interval NaN; it then does not count in Holm's adjustment.
    """
    from scipy.special import stdtr  # here, so that `arena-rm --help` does not pay for scipy

    difference, stderr = np.array(difference, dtype=np.float64), np.array(stderr, dtype=np.float64)
    n_clusters, known = np.array(n_clusters), np.isfinite(difference) & np.isfinite(stderr)
    known &= (n_clusters >= fewest) & ~np.eye(len(difference), dtype=bool)
    degrees = np.maximum(n_clusters - 1 if degrees is None else degrees, 1.0)
    np.fill_diagonal(difference, np.nan)
    varies = known & (stderr > ROUNDING * np.maximum(np.abs(difference), 1e-3))
    stderr[~varies] = np.nan
    half = t_quantiles(UPPER, degrees) * stderr
    p = np.full(difference.shape, np.nan)
    p[varies] = 2 * stdtr(degrees[varies], -np.abs(difference[varies] / stderr[varies]))
    upper, adjusted = np.triu_indices(len(p), 1), np.full(p.shape, np.nan)
    adjusted[upper] = adjusted.T[upper] = holm(p[upper])
    low, high = np.maximum(difference - half, -widest), np.minimum(difference + half, widest)
    return Pairwise(difference, stderr, n_clusters, degrees, low, high, p, adjusted)


def column_tests(values, clusters=None, fewest: int = MIN_CLUSTERS, shares: bool = False) -> Pairwise:
    """Tests of the mean paired differences between the columns of `values`, shape (items, M), NaN where missing.

    Each pair uses the items that both have, clustered by the items' names (n items; None: items are independent).
    Degrees of freedom are one less than Kish's number of clusters (`clustered_mean`): with clusters of very different
    sizes, G - 1 gives intervals that hold the truth in 80 to 90 % of simulations. `fewest`: with fewer clusters there
    is no test: FEWEST_LOSSES for losses, of which one rare large one may decide. `shares`: the values are in [0, 1],
    and the differences are those of `share_difference`.
    """
    values = np.asarray(values, dtype=np.float64)
    codes, _ = cluster_codes(clusters, len(values))
    of = share_difference if shares else paired_difference
    m, present = values.shape[1], np.isfinite(values)
    difference, stderr = np.full((m, m), np.nan), np.full((m, m), np.nan)
    n_clusters, degrees = np.zeros((m, m), dtype=int), np.zeros((m, m))
    for a in range(m):
        for b in range(a + 1, m):
            both = present[:, a] & present[:, b]
            found = of(values[both, a], values[both, b], codes[both])
            difference[a, b], difference[b, a] = found.value, -found.value
            stderr[a, b] = stderr[b, a] = found.stderr
            n_clusters[a, b] = n_clusters[b, a] = found.n_clusters
            degrees[a, b] = degrees[b, a] = kish(np.bincount(codes[both])) - 1 if both.any() else 0.0
    return pairwise(difference, stderr, n_clusters, fewest, degrees, 1.0 if shares else math.inf)


def holm(p) -> np.ndarray:
    """Holm's adjusted p values (1979) for p of any length; reject where they are at most alpha. NaN stays NaN."""
    p = np.asarray(p, dtype=np.float64)
    adjusted, known = np.full(p.shape, np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted


def smallest_difference(stderr, n_clusters, power: float = POWER, alpha: float = ALPHA) -> np.ndarray:
    """The true difference that a two-sided test at alpha sees with this power, as a multiple of SE.

    The multiple is the noncentrality with which Student's t, with clusters - 1 degrees of freedom, exceeds its critical
    value so often; from 100 degrees on t_(1 - alpha/2) + t_power (Bloom 1995), which is the same there. stderr and
    n_clusters: numbers or arrays of one shape. NaN below 2 clusters. Raises ValueError unless 0 < alpha < 1 and
    alpha < power < 1.
    """
    from scipy.special import nctdtrinc  # here, so that `arena-rm --help` does not pay for scipy

    if not 0 < alpha < 1 or not alpha < power < 1:
        raise ValueError(f"power {power} at alpha {alpha}: needs 0 < alpha < power < 1")
    degrees = np.asarray(n_clusters, dtype=np.float64) - 1
    critical = t_quantiles(1 - alpha / 2, degrees)
    few = nctdtrinc(np.clip(degrees, 1, EXACT_DEGREES), 1 - power, critical)
    multiple = np.where(degrees < EXACT_DEGREES, few, critical + t_quantiles(power, degrees))
    return multiple * np.asarray(stderr, dtype=np.float64)
