"""Means, shares and other statistics with standard errors and 95 % intervals that respect clusters.

Values that share a prompt are not independent, so every error here is computed over clusters. What cannot be known
is NaN: no values give NaN, one cluster gives a value with a NaN error, and so do clusters that all agree. No interval
has a width of zero. Knows arrays only.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from harness_plugin.stats.bounded import lower_bound, upper_bound
from harness_plugin.stats.student import t_quantiles

ALPHA = 0.05
LEVEL = 1 - ALPHA
UPPER = (1 + LEVEL) / 2  # the probability below the upper end of a two-sided interval
GROUPS = 100
PRIOR_INFORMATION = 5.0  # chosen by simulation: with less, shares of 0.97 are covered too rarely
FEWEST_LOSSES = 10  # clusters: with 5, intervals of a log loss hold the truth in 80 to 90 % of simulations
ROUNDING = 1e-10  # relative to a value, what is smaller is the rounding of doubles


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
    if names.dtype.kind == "i" and names.ndim == 1 and n and names.min() >= 0 and names.max() <= 2 * n + 1000:
        there = np.bincount(names) > 0  # small numbers are counted instead of sorted
        return (np.cumsum(there) - 1)[names], int(there.sum())
    unique, codes = np.unique(names, return_inverse=True)
    return codes.reshape(-1), len(unique)


def clustered_mean(values, clusters=None, bounds: tuple[float, float] | None = None) -> Estimate:
    """The mean of values of shape (n,), its cluster-robust standard error, and a 95 % interval.

    SE^2 = G / (G - 1) * sum over clusters of (sum of (x - mean) within the cluster)^2 / n^2, for G clusters: the
    sandwich estimator for a mean (Liang and Zeger 1986; Cameron and Miller 2015, section II). With clusters of
    one it is the usual sd / sqrt(n). `bounds`: the smallest and the largest value that are possible. Where both are
    finite, the interval is that of `bounded`, which holds for any values between them; it is wide for few clusters.
    Otherwise it is Student's, with one degree of freedom less than Kish's number of clusters, n^2 / sum n_g^2, which
    is G for clusters of one size. For losses (bounds of 0 and infinity) it also holds Student's interval of the
    logarithm, and there is none for fewer than 10 clusters, because one rare large loss can decide the mean. Raises
    ValueError for values that are not finite or outside the bounds.
    """
    low, high = bounds or (-math.inf, math.inf)
    x = _within(values, low, high)
    codes, n_clusters = cluster_codes(clusters, len(x))
    if n_clusters < 2:
        return undefined(len(x), n_clusters, float(x.mean()) if len(x) else math.nan)
    value, sizes = float(x.mean()), np.bincount(codes)
    residuals = np.bincount(codes, x - value) / len(x)
    stderr = math.sqrt(n_clusters / (n_clusters - 1) * float(residuals @ residuals))
    if math.isfinite(low) and math.isfinite(high):
        interval = bounded_interval(np.bincount(codes, x), sizes, low, high)
        return Estimate(value, positive(stderr, value), len(x), n_clusters, *interval)
    found = t_estimate(value, stderr, len(x), n_clusters, kish(sizes) - 1, (low, high))
    return _of_losses(found) if math.isfinite(low) and not math.isnan(found.stderr) else found


def _of_losses(found: Estimate) -> Estimate:
    """The interval of a mean of losses with that of its logarithm joined to it."""
    if found.n_clusters < FEWEST_LOSSES or found.value <= 0:
        return replace(found, low=math.nan, high=math.nan)
    ratio = math.exp((found.high - found.value) / found.value)
    return replace(found, low=min(found.low, found.value / ratio), high=max(found.high, found.value * ratio))


def bounded_interval(sums, sizes, low: float, high: float) -> tuple[float, float]:
    """The two-sided 95 % interval of sum of sums / sum of sizes, (G,) each, for values from low to high."""
    return lower_bound(sums, sizes, low, ALPHA / 2), upper_bound(sums, sizes, high, ALPHA / 2)


def t_estimate(value: float, stderr: float, n: int, n_clusters: int, degrees: float, bounds=None) -> Estimate:
    """An estimate with Student's interval, cut at the bounds. An error of 0 says that all clusters agree, and not that
    the value is certain: then neither the error nor an interval is known."""
    stderr = positive(stderr, value)
    half = float(t_quantiles(UPPER, max(degrees, 1.0))) * stderr
    low, high = bounds or (-math.inf, math.inf)
    if math.isnan(half):
        return undefined(n, n_clusters, value)
    return Estimate(value, stderr, n, n_clusters, max(low, value - half), min(high, value + half))


def positive(stderr: float, value: float) -> float:
    """The standard error, or NaN where it is 0 up to rounding."""
    return stderr if stderr > ROUNDING * max(abs(value), 1e-3) else math.nan


def kish(sizes) -> float:
    """How many clusters of one size are worth as much as these (Kish 1965): (sum n_g)^2 / sum n_g^2."""
    sizes = np.asarray(sizes, dtype=np.float64)
    return float(sizes.sum() ** 2 / (sizes @ sizes))


def clustered_share(values, clusters=None) -> Estimate:
    """The mean of values in [0, 1] (1 right, 0 wrong, 0.5 undecided), with a Wilson interval on the effective size.

    With clusters of mean size m (weighted by size), p the share, D = SE^2 n / (p (1 - p)) the design effect and
    I = n p (1 - p) the information on it, the correlation within clusters (D - 1) / (m - 1) is shrunk towards 1 as by
    5 more units of information: r = (I rho + 5) / (I + 5). The effective size is n / max(D, 1 + (m - 1) r), and it is
    multiplied by (z / t)^2 for few clusters (Korn and Graubard 1998; Dean and Pagano 2015 for Wilson's form). Without
    the shrinking, shares near 0 and 1 have intervals that are too short. Where all values agree, I is 0, and the
    number of clusters is the effective size.
    """
    mean = clustered_mean(values, clusters)
    if mean.n_clusters < 2:
        return mean
    codes, _ = cluster_codes(clusters, mean.n)
    sizes = np.bincount(codes).astype(np.float64)
    p, within = min(max(mean.value, 0.0), 1.0), float(sizes @ sizes) / mean.n
    information = mean.n * p * (1 - p)
    effect = 0.0 if math.isnan(mean.stderr) else mean.stderr**2 * mean.n**2 / information
    size = mean.n / max(effect, _shrunk_effect(effect, information, within))
    size *= (normal_quantile() / float(t_quantiles(UPPER, max(kish(sizes) - 1, 1.0)))) ** 2
    low, high = wilson(p * size, size)
    return Estimate(p, mean.stderr, mean.n, mean.n_clusters, low, high)


def _shrunk_effect(effect: float, information: float, within: float) -> float:
    """The design effect with the correlation within clusters of mean size `within` shrunk towards 1."""
    correlation = min(max((effect - 1) / (within - 1), 0.0), 1.0) if within > 1 else 0.0
    shrunk = (information * correlation + PRIOR_INFORMATION) / (information + PRIOR_INFORMATION)
    return 1 + (within - 1) * shrunk


def stratified_share(values, strata, clusters=None, weights: Mapping | None = None) -> Estimate:
    """The weighted mean of the shares in several strata; `weights` maps stratum to weight (default: all, equally).

    Values outside the named strata do not count. The error is the clustered sandwich of the linearised statistic, each
    stratum's residuals scaled by sqrt(G_s / (G_s - 1)): exactly the stratified sum w_s^2 SE_s^2 when no cluster lies in
    two strata, and right as well when some do (Cochran 1977, section 5.3; Binder 1983). The interval joins the strata's
    own (`bounded`), so that each stratum has its own degrees of freedom: low = value - sqrt(sum w_s^2 (p_s - low_s)^2),
    high alike (Zou and Donner 2008), times the ratio of the error to the one without shared clusters where that is
    above 1. NaN where a named stratum has no value, and without an error where one has a single cluster.
    """
    x, strata = _finite(values), np.asarray(strata)
    weights = dict.fromkeys(np.unique(strata).tolist(), 1.0) if weights is None else dict(weights)
    codes, _ = cluster_codes(clusters, len(x))
    used = np.isin(strata, list(weights))
    n, n_clusters = int(used.sum()), len(np.unique(codes[used]))
    shares, residuals = {}, np.zeros(len(x))
    for stratum in weights:
        here = strata == stratum
        shares[stratum] = found = clustered_mean(x[here], codes[here], (0.0, 1.0))
        g = found.n_clusters
        share = weights[stratum] / sum(weights.values())
        residuals[here] = share * (x[here] - found.value) / max(found.n, 1) * math.sqrt(g / max(g - 1, 1))
    parts = [(weight / sum(weights.values()), shares[stratum]) for stratum, weight in weights.items()]
    value = sum(weight * found.value for weight, found in parts) if parts else math.nan
    if math.isnan(value) or any(math.isnan(found.low) for _, found in parts):
        return undefined(n, n_clusters, value)
    squared = float(np.sum(np.bincount(codes, residuals) ** 2))
    apart = sum((weight * found.stderr) ** 2 for weight, found in parts if not math.isnan(found.stderr))
    shared = max(1.0, math.sqrt(squared / apart)) if apart > 0 else 1.0
    below = shared * math.sqrt(sum((weight * (found.value - found.low)) ** 2 for weight, found in parts))
    above = shared * math.sqrt(sum((weight * (found.high - found.value)) ** 2 for weight, found in parts))
    stderr = positive(math.sqrt(squared), value)
    return Estimate(value, stderr, n, n_clusters, max(0.0, value - below), min(1.0, value + above))


def wilson(k: float, n: float) -> tuple[float, float]:
    """The 95 % score interval of a share with k of n (Wilson 1927); fractions are allowed, n = 0 gives NaN.

    Raises ValueError unless 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k={k} of n={n}: k must be from 0 to n")
    if n == 0:
        return math.nan, math.nan
    z2 = normal_quantile() ** 2
    p = k / n
    middle, half = p + z2 / (2 * n), math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))


def jackknife(statistic: Callable[[np.ndarray], float], n: int, clusters=None, bounds=None) -> Estimate:
    """Any statistic of n rows with a delete-a-group jackknife over clusters.

    `statistic` gets a boolean mask of shape (n,) of the rows to keep and returns a number. Whole clusters are dealt
    into at most GROUPS groups (seeded, in the order of their sorted names) and left out a group at a time:
    SE^2 = (G - 1) / G * sum of (theta_(g) - mean theta_(g))^2 (Efron and Stein 1981; Kott 2001 for groups). Student's
    interval has one degree of freedom less than there are groups, or than Kish's number of clusters where that is
    smaller. NaN where one of the values is.
    """
    codes, n_clusters = cluster_codes(clusters, n)
    value = float(statistic(np.ones(n, dtype=bool))) if n else math.nan
    count = min(GROUPS, n_clusters)
    if count < 2 or math.isnan(value):
        return undefined(n, n_clusters, value)
    group = (np.random.default_rng(0).permutation(n_clusters) % count)[codes]
    left_out = np.array([statistic(group != g) for g in range(count)])
    stderr = math.sqrt((count - 1) / count * float(np.sum((left_out - left_out.mean()) ** 2)))
    return t_estimate(value, stderr, n, n_clusters, min(count, kish(np.bincount(codes))) - 1, bounds)


def paired_difference(new, base, clusters=None) -> Estimate:
    """The mean of new - base over the same items, shape (n,) each, with a clustered error and t interval.

    Pairing removes what makes items easy or hard for both sides. The value is the difference of the two means.
    Raises ValueError for different lengths.
    """
    new, base = _finite(new), _finite(base)
    if new.shape != base.shape:
        raise ValueError(f"{len(new)} new values and {len(base)} base values: a paired difference needs the same items")
    return clustered_mean(new - base, clusters)


def share_difference(new, base, clusters=None) -> Estimate:
    """`paired_difference` of values in [0, 1], such as win probabilities or right and wrong, with an interval that ends
    at -1 and 1 and also holds where the values are nearly 0 or 1.

    Then items differ rarely, by nearly 1, and few or none of those that do are among the items: the error is too small.
    As Bonett and Price (2012) do for right and wrong, two differences are added, c^2 above and below the mean, here as
    clusters of the mean size m = sum n_g^2 / n, for G clusters:
    SE^2 = (G + 2) / (G + 1) * (sum of (sum of (x - mean) within the cluster)^2 + 2 m D c^4) / (n + 2 m)^2.
    The certainty c is the mean of (2 x - 1)^2 of `new` or of `base`, whichever is larger: 1 for values of 0 and 1, and
    little for moderate probabilities, whose differences show how much they vary. D = 1 + (m - 1) r is the design effect
    with the shrunk correlation r of `clustered_share`, for which I is the sum of (x - mean)^2.
    This error counts where it is larger than the usual one, so that no interval is shorter than Student's. Raises
    ValueError for values outside [0, 1] and as `paired_difference`.
    """
    found = paired_difference(_within(new, 0.0, 1.0), _within(base, 0.0, 1.0), clusters)
    if found.n_clusters < 2:
        return found
    new, base = _finite(new), _finite(base)
    codes, g = cluster_codes(clusters, found.n)
    effective = kish(np.bincount(codes))
    size, usual = found.n / effective, 0.0 if math.isnan(found.stderr) else found.stderr
    certainty = max(float(np.mean((2 * x - 1) ** 2)) for x in (new, base))
    each = new - base - found.value
    information, residuals = float(each @ each), np.bincount(codes, each)
    effect = _shrunk_effect((usual * found.n) ** 2 / information if usual else 0.0, information, size)
    squared = float(residuals @ residuals) + 2 * size * effect * certainty**4
    stderr = max(math.sqrt((g + 2) / (g + 1) * squared) / (found.n + 2 * size), usual)
    return t_estimate(found.value, stderr, found.n, found.n_clusters, effective - 1, (-1.0, 1.0))


def _within(values, low: float, high: float) -> np.ndarray:
    x = _finite(values)
    if len(x) and (x.min() < low - ROUNDING or x.max() > high + ROUNDING):
        raise ValueError(f"values from {x.min()} to {x.max()} are not all within {low} and {high}")
    return x


def _finite(values) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(x).all():
        raise ValueError(f"{int((~np.isfinite(x)).sum())} of {len(x)} values are not finite")
    return x


def normal_quantile() -> float:
    """The quantile of the standard normal distribution at the upper end of a 95% interval: 1.96."""
    return NormalDist().inv_cdf(UPPER)
