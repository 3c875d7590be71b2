"""Bounds for the mean of a quantity whose smallest and largest value are known, which hold where a normal
approximation does not: few clusters, values that are mostly equal, shares near 0 or 1.

The lower bound is the alpha quantile of sum(E_g S_g) + E_0 n_0 low over sum(E_g n_g) + E_0 n_0, where S_g and n_g are
the sum and the size of cluster g, E are independent exponential numbers, and one more cluster, as large as the largest,
has the smallest value possible (Gaffke 2005; Learned-Miller and Thomas 2019, arXiv:1905.06208). For right and wrong
it is Clopper and Pearson's. That it is valid for every distribution is a conjecture without a counterexample;
tests/coverage simulates it. numpy only.
"""

import math
from statistics import NormalDist

import numpy as np

from harness_plugin.stats.search import rising_root

STEPS = 100
NOTHING = 1e-100  # above the smallest value: squares and cubes of less are not held by doubles
NEAR_MEAN = 1e-5  # of the signed root: nearer to the mean the formula is 0 / 0, and its limit is used


def lower_bound(sums, sizes, low: float, alpha: float, weights=None) -> float:
    """The one-sided lower bound at 1 - alpha of sum of sums / sum of sizes, shape (G,) each, for values of at least
    `low`; `weights`: how often each cluster occurs, which need not be whole numbers (default 1).

    Raises ValueError without clusters.
    """
    sums, sizes, weights = _arrays(sums, sizes, weights)
    if not len(sums):
        raise ValueError("a bound needs at least one cluster")
    value = float(weights @ sums / (weights @ sizes))
    if value - low <= NOTHING:
        return low
    target = NormalDist().inv_cdf(alpha)
    search = _Tail(sums, sizes, low, weights)
    return rising_root(lambda mean: search.score(mean) - target, low, value, 1e-9 * (value - low))


def upper_bound(sums, sizes, high: float, alpha: float, weights=None) -> float:
    """As `lower_bound`, from above, for values of at most `high`."""
    return -lower_bound(-np.asarray(sums, dtype=np.float64), sizes, -high, alpha, weights)


def excludes(sums, sizes, low: float, alpha: float, mean: float) -> bool:
    """Whether `lower_bound` is at least `mean`; faster than the bound itself."""
    if mean > low and mean >= np.sum(sums) / np.sum(sizes):
        return False
    return tail_score(sums, sizes, low, mean) <= NormalDist().inv_cdf(alpha)


def tail_score(sums, sizes, low: float, mean: float) -> float:
    """The normal quantile of the smallest alpha at which `lower_bound` is at least `mean`: that of a one-sided p of a
    true mean of at most `mean`."""
    sums, sizes, weights = _arrays(sums, sizes, None)
    return -math.inf if mean <= low else _Tail(sums, sizes, low, weights).score(mean)


def _arrays(sums, sizes, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sums, sizes = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (sums, sizes))
    return sums, sizes, np.ones(len(sums)) if weights is None else np.asarray(weights, dtype=np.float64).reshape(-1)


class _Tail:
    """P(the random mean is at most a number), as the normal quantile of that probability.

    The event is that sum E_g (S_g - n_g mean) + E_0 n_0 (low - mean) is at most 0. Of such a sum the saddlepoint
    formula of Barndorff-Nielsen (1986) gives the tail to about one part in a hundred, with one pass over the clusters
    for each step. The search for the saddlepoint starts from the last one.
    """

    def __init__(self, sums, sizes, low: float, weights):
        largest = sizes.max()
        self.sums, self.sizes = np.append(sums, largest * low), np.append(sizes, largest)
        self.weights = np.append(weights, 1.0)
        self.start = 0.0

    def score(self, mean: float) -> float:
        a, w = self.sums - mean * self.sizes, self.weights
        smallest, largest = float(a.min()), float(a.max())
        if smallest >= 0 or largest <= 0:
            return math.inf if largest <= 0 else -math.inf
        t = self._saddlepoint(a, w, 1 / smallest, 1 / largest)
        ratio = a / (1 - t * a)
        root = math.copysign(math.sqrt(max(2 * float(w @ np.log1p(-t * a)), 0.0)), t)
        if abs(root) < NEAR_MEAN:
            return float(w @ a**3) / (3 * float(w @ a**2) ** 1.5)
        return root + math.log(t * math.sqrt(float(w @ ratio**2)) / root) / root

    def _saddlepoint(self, a, w, low: float, high: float) -> float:
        """Where the derivative of -sum w ln(1 - t a) is zero, by Newton's method within a bracket."""
        t = self.start if low < self.start < high else 0.0
        for _ in range(STEPS):
            ratio = a / (1 - t * a)
            slope, curvature = float(w @ ratio), float(w @ ratio**2)
            low, high = (low, t) if slope > 0 else (t, high)
            there = t - slope / curvature
            if not low < there < high:
                there = (low + high) / 2
            if abs(there - t) <= 1e-9 * abs(t) or slope == 0:
                break
            t = there
        self.start = t
        return t
