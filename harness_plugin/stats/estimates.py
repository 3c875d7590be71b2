"""Means, shares and other statistics with standard errors and 95 % intervals that respect clusters.

Values that share a prompt are not independent, so every error here is computed over clusters. What cannot be known
is NaN: no values give NaN, one cluster gives a value with a NaN error. Knows arrays only.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from harness_plugin.stats.student import t_quantiles

ALPHA = 0.05
LEVEL = 1 - ALPHA
UPPER = (1 + LEVEL) / 2  # the probability below the upper end of a two-sided interval
GROUPS = 100


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error, what it rests on, and a 95 % interval; NaN where there is too little data."""

    value: float
    stderr: float
    n: int
    n_clusters: int
    low: float
    high: float


def undefined(n: int = 0, n_clusters: int = 0, value: float = math.nan) -> Estimate:
    """An estimate without an error, or without even a value."""
    return Estimate(value, math.nan, n, n_clusters, math.nan, math.nan)


def cluster_codes(clusters, n: int) -> tuple[np.ndarray, int]:
    """Whole numbers 0..G-1 for n cluster names (None: every value is its own cluster), and G.

    The codes follow the sorted names, so they do not depend on the order of the rows. Raises ValueError for a
    wrong number of names.
    """
    if clusters is None:
        return np.arange(n), n
    names = np.asarray(clusters)
    if len(names) != n:
        raise ValueError(f"{len(names)} cluster names for {n} values")
    unique, codes = np.unique(names, return_inverse=True)
    return codes.reshape(-1), len(unique)


def clustered_mean(values, clusters=None, bounds: tuple[float, float] | None = None) -> Estimate:
    """The mean of values of shape (n,), its cluster-robust standard error, and a t interval with G - 1 degrees.

    SE^2 = G / (G - 1) * sum over clusters of (sum of (x - mean) within the cluster)^2 / n^2, for G clusters: the
    sandwich estimator for a mean (Liang and Zeger 1986; Cameron and Miller 2015, section II). With clusters of
    one it is the usual sd / sqrt(n). `bounds` cut the interval where the quantity has a smallest or largest value.
    Raises ValueError for values that are not finite.
    """
    x = _finite(values)
    return stratified_mean(x, np.zeros(len(x), dtype=int), clusters, {0: 1.0}, bounds)


def stratified_mean(values, strata, clusters=None, weights: Mapping | None = None, bounds=None) -> Estimate:
    """The weighted mean of the strata's means; `weights` maps stratum to weight (default: the strata found, equally).

    Values outside the named strata do not count. A named stratum without values makes the result NaN. The error is
    the clustered sandwich of the linearised statistic, each stratum's residuals scaled by sqrt(G_s / (G_s - 1)):
    exactly the stratified sum w_s^2 SE_s^2 when no cluster lies in two strata, and right as well when some do
    (Cochran 1977, section 5.3; Binder 1983). A stratum of one cluster gives a NaN error.
    """
    x, strata = _finite(values), np.asarray(strata)
    weights = dict.fromkeys(np.unique(strata).tolist(), 1.0) if weights is None else dict(weights)
    codes, _ = cluster_codes(clusters, len(x))
    used = np.isin(strata, list(weights))
    n, n_clusters = int(used.sum()), len(np.unique(codes[used]))
    total, value, residuals, smallest = sum(weights.values()), 0.0, np.zeros(len(x)), math.inf
    for stratum, weight in weights.items():
        here = strata == stratum
        if not here.any():
            return undefined(n, n_clusters)
        mean, g = float(x[here].mean()), len(np.unique(codes[here]))
        smallest = min(smallest, g)
        value += weight / total * mean
        residuals[here] = weight / total * (x[here] - mean) / here.sum() * math.sqrt(g / max(g - 1, 1))
    if not weights or smallest < 2:
        return undefined(n, n_clusters, value if weights else math.nan)
    stderr = math.sqrt(float(np.sum(np.bincount(codes, residuals) ** 2)))
    degrees = max(n_clusters - len(weights), 1)
    return Estimate(value, stderr, n, n_clusters, *_interval(value, stderr, degrees, bounds))


def clustered_share(values, clusters=None) -> Estimate:
    """The mean of values in [0, 1] (1 right, 0 wrong, 0.5 undecided), with a Wilson interval on the effective size.

    The effective number of values is p(1 - p) / SE^2, at most n, and shrunk by (z / t)^2 for few clusters (Korn
    and Graubard 1998; Dean and Pagano 2015 for Wilson's form). Where all values agree SE is 0, which says nothing of
    the uncertainty; then the number of clusters is the effective size.
    """
    mean = clustered_mean(values, clusters)
    if not math.isfinite(mean.stderr):
        return mean
    p, size = mean.value, float(mean.n_clusters)
    if mean.stderr > 0:
        size = min(p * (1 - p) / mean.stderr**2, float(mean.n))
    size *= (_normal_quantile() / float(t_quantiles(UPPER, mean.n_clusters - 1))) ** 2
    low, high = wilson(p * size, size)
    return Estimate(p, mean.stderr, mean.n, mean.n_clusters, low, high)


def wilson(k: float, n: float) -> tuple[float, float]:
    """The 95 % score interval of a share with k of n (Wilson 1927); fractions are allowed, n = 0 gives NaN.

    Raises ValueError unless 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k={k} of n={n}: k must be from 0 to n")
    if n == 0:
        return math.nan, math.nan
    z2 = _normal_quantile() ** 2
    p = k / n
    middle, half = p + z2 / (2 * n), math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))


def jackknife(
    statistic: Callable[[np.ndarray], float], n: int, clusters=None, groups: int = GROUPS, bounds=None
) -> Estimate:
    """Any statistic of n rows with a delete-a-group jackknife over clusters.

    `statistic` gets a boolean mask of shape (n,) of the rows to keep and returns a number. Whole clusters are dealt
    into at most `groups` groups (seeded, in the order of their sorted names) and left out a group at a time:
    SE^2 = (G - 1) / G * sum of (theta_(g) - mean theta_(g))^2 (Efron and Stein 1981; Kott 2001 for groups). NaN
    where one of the values is.
    """
    codes, n_clusters = cluster_codes(clusters, n)
    value = float(statistic(np.ones(n, dtype=bool))) if n else math.nan
    count = min(groups, n_clusters)
    if count < 2 or math.isnan(value):
        return undefined(n, n_clusters, value)
    group = (np.random.default_rng(0).permutation(n_clusters) % count)[codes]
    left_out = np.array([statistic(group != g) for g in range(count)])
    stderr = math.sqrt((count - 1) / count * float(np.sum((left_out - left_out.mean()) ** 2)))
    if math.isnan(stderr):
        return undefined(n, n_clusters, value)
    return Estimate(value, stderr, n, n_clusters, *_interval(value, stderr, count - 1, bounds))


def paired_difference(new, base, clusters=None) -> Estimate:
    """The mean of new - base over the same items, shape (n,) each, with a clustered error and t interval.

    Pairing removes what makes items easy or hard for both sides. The value is the difference of the two means.
    Raises ValueError for different lengths.
    """
    new, base = _finite(new), _finite(base)
    if new.shape != base.shape:
        raise ValueError(f"{len(new)} new values and {len(base)} base values: a paired difference needs the same items")
    return clustered_mean(new - base, clusters)


def _finite(values) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(x).all():
        raise ValueError(f"{int((~np.isfinite(x)).sum())} of {len(x)} values are not finite")
    return x


def _interval(value: float, stderr: float, degrees: int, bounds) -> tuple[float, float]:
    half = float(t_quantiles(UPPER, degrees)) * stderr
    low, high = bounds or (-math.inf, math.inf)
    return max(low, value - half), min(high, value + half)


def _normal_quantile() -> float:
    return NormalDist().inv_cdf(UPPER)
