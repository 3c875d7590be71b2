"""How good scores and probabilities are, given who really won. Arrays in, a number or one number per row out;
shares and the AUC with an interval.

Classes are 0 (A), 1 (B), 2 (tie) throughout.
"""

import math
from dataclasses import replace

import numpy as np

from harness_plugin.stats.estimates import (
    PRIOR_INFORMATION,
    UPPER,
    Estimate,
    cluster_codes,
    clustered_mean,
    clustered_share,
    jackknife,
    kish,
    stratified_share,
    undefined,
)
from harness_plugin.stats.search import bisect
from harness_plugin.stats.student import t_quantiles

BINS = 10
SMALLEST_BIN = 10  # values: fewer say nothing, so fewer pairs make fewer bins
SMALLEST_P = 1e-15  # as the LMSYS competition clipped: a probability of 0 for what happened would cost infinity


def midranks(values) -> np.ndarray:
    """Ranks 1..n of values of shape (n,); equal values share the mean of their ranks."""
    codes = values = np.asarray(values)
    # Small whole numbers are counted instead of sorted: the jackknife ranks a hundred subsets of the same codes.
    if values.dtype.kind not in "iu" or not len(values) or values.min() < 0 or values.max() > 10 * len(values) + 1000:
        codes = rank_codes(values)
    counts = np.bincount(codes)
    return (np.cumsum(counts) - (counts - 1) / 2)[codes] if len(codes) else np.zeros(0)


def rank_codes(values) -> np.ndarray:
    """Whole numbers from 0 in the order of the values, equal for equal values; `midranks` of them is fast."""
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def logistic(z) -> np.ndarray:
    """1 / (1 + e^-z), for large z too."""
    return np.exp(-np.logaddexp(0, -np.asarray(z)))


def auc(scores, positive) -> float:
    """The probability that a positive row scores above a negative one, equal scores counting half.

    The Mann-Whitney U statistic over n1 n0 (Hanley and McNeil 1982). NaN without rows of both kinds.
    """
    positive = np.asarray(positive, dtype=bool)
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    if not n1 or not n0:
        return math.nan
    return float((midranks(scores)[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def auc_estimate(scores, positive, clusters=None) -> Estimate:
    """`auc` of scores and positive, (n,) each, with a jackknifed error and a score interval.

    The ends are where |estimate - truth| is t times the error that the truth implies: Hanley and McNeil's variance
    (1982, for exponential scores; in this use Newcombe 2006) times how much larger the jackknife's is. That ratio is
    shrunk towards the mean cluster size as by 5 more of the rarer kind of row that are undecided. So the interval of
    an AUC of 1 has a width.
    """
    positive = np.asarray(positive, dtype=bool)
    n, codes = len(positive), rank_codes(scores)
    found = jackknife(lambda keep: auc(codes[keep], positive[keep]), n, clusters)
    ones = int(positive.sum())
    if math.isnan(found.value) or found.n_clusters < 2:
        return found
    names, _ = cluster_codes(clusters, n)
    sizes = np.bincount(names).astype(np.float64)
    value, within = found.value, float(sizes @ sizes) / n
    pairs, middle = ones * (n - ones), n / 2 - 1

    def variance(x: float) -> float:
        return x * (1 - x) * (1 + middle * ((1 - x) / (2 - x) + x / (1 + x))) / pairs

    ratio = 0.0 if math.isnan(found.stderr) or not 0 < value < 1 else found.stderr**2 / variance(value)
    information = min(ones, n - ones) * value * (1 - value)
    ratio = (information * ratio + PRIOR_INFORMATION * within) / (information + PRIOR_INFORMATION)
    squared = float(t_quantiles(UPPER, max(kish(sizes) - 1, 1.0))) ** 2 * ratio

    def outside(x: float) -> float:
        return (value - x) ** 2 - squared * variance(x)

    low, high = bisect(outside, 0.0, value), 1 - bisect(lambda x: outside(1 - x), 0.0, 1 - value)
    return replace(found, low=low, high=high)


def spearman(x, y) -> float:
    """Spearman's rank correlation: Pearson's of the midranks. NaN for fewer than 3 rows or a constant column."""
    x, y = midranks(x), midranks(y)
    if len(x) < 3:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return max(-1.0, min(1.0, float(x @ y) / scale)) if scale > 0 else math.nan


def spearman_of_sides(x, y) -> float:
    """Spearman's correlation of two differences between the sides of n pairs, (n,) each, with every pair in both
    orders: (x, y) and (-x, -y). So it does not matter which side is called the first one.

    Of these 2 n values a rank less the mean rank is sign(x) (r - 1/2), r being the midrank of |x| among the n. With one
    order alone, sides that always differ the same way, such as those of a baseline that is always the shorter one,
    would have that difference taken off with the mean. NaN for fewer than 3 rows and without a difference.
    """
    u, v = (np.sign(d) * (midranks(np.abs(d)) - 0.5) for d in (np.asarray(x), np.asarray(y)))
    scale = math.sqrt(float(u @ u) * float(v @ v))
    return max(-1.0, min(1.0, float(u @ v) / scale)) if len(u) >= 3 and scale > 0 else math.nan


def signed_codes(differences) -> np.ndarray:
    """Whole numbers in the order of the differences, 0 for none; `spearman_of_sides` of them is the same, and fast."""
    differences = np.asarray(differences)
    return np.sign(differences).astype(int) * (rank_codes(np.abs(differences)) + 1)


def equal_mass_bins(confidence, bins: int = BINS) -> np.ndarray:
    """Bin numbers 0..bins-1 by rank, about n / bins rows each; equal confidences always share a bin."""
    n = len(confidence)
    return np.minimum((midranks(confidence) - 0.5) * bins // max(n, 1), bins - 1).astype(int)


def ece(confidence, correct, clusters=None) -> float:
    """Expected calibration error: sum over bins of n_b / n * |mean correct - mean confidence|, from about 0 to 1.

    10 bins of equal mass (Nguyen and O'Connor 2015; Naeini et al. 2015 for the measure). Whether a row counts with a
    plus or a minus is decided by the rows of its bin that are not in its cluster. Taken from all rows, the sum is far
    above 0 for a perfectly calibrated judge (0.10 for 100 rows); so it is 0 in the mean, and can be below. Where a gap
    is as small as its error, it comes out smaller than it is. NaN for fewer rows than bins: each bin would hold at most
    one.
    """
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if len(confidence) < BINS:
        return math.nan
    numbers = equal_mass_bins(confidence)
    codes, n_clusters = cluster_codes(clusters, len(confidence))
    gap = correct - confidence
    both = numbers * n_clusters + codes
    others = np.bincount(numbers, gap)[numbers] - np.bincount(both, gap)[both]
    return float(gap @ np.sign(others) / len(gap))


def ece_estimate(confidence, correct, clusters=None) -> Estimate:
    """`ece` with an interval, none of them below 0: a value below 0 is as good as 0.

    stderr is twice the clustered error of the mean of correct - confidence. Absolute sums vary no more than the sums
    themselves, and the signs that the others decide at most double that: in simulations the interval holds the truth in
    97 % of cases or more, and is about half as wide as one by jackknife, which fails where signs change. To each side
    it reaches at least as far as the bounds of that mean (`bounded`): a judge that is nearly certain and always right
    may be wrong in the next pairs, of which Student's interval knows nothing.
    """
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    value, gap = ece(confidence, correct, clusters), correct - confidence
    mean, bounds = clustered_mean(gap, clusters), clustered_mean(gap, clusters, (-1.0, 1.0))
    if math.isnan(value) or math.isnan(bounds.low):
        return undefined(mean.n, mean.n_clusters, max(value, 0.0) if math.isfinite(value) else math.nan)
    value = max(value, 0.0)
    half = max(bounds.high - bounds.value, bounds.value - bounds.low)
    half = half if math.isnan(mean.stderr) else max(half, 2 * (mean.high - mean.value))
    return replace(mean, value=value, stderr=2 * mean.stderr, low=max(value - half, 0.0), high=min(value + half, 1.0))


def reliability_bins(probability, observed, clusters=None) -> list[tuple[float, Estimate]]:
    """(mean prediction, observed share) of each bin, left to right, for predicted probabilities and what was observed,
    both (n,) and in [0, 1]. Bins hold equal counts, up to equal values; shares are by `clusters` where given."""
    p, observed = np.asarray(probability, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    numbers = equal_mass_bins(p, min(BINS, max(1, len(p) // SMALLEST_BIN)))
    names = np.arange(len(p)) if clusters is None else np.asarray(clusters)
    inside = [numbers == number for number in np.unique(numbers)]
    return [(float(p[here].mean()), clustered_share(observed[here], names[here])) for here in inside]


def log_loss(p, winners) -> np.ndarray:
    """-ln of the probability given to what happened, one per row, in nats; p has shape (n, k), winners (n,).

    Probabilities are clipped at 1e-15. Source: Good 1952, the logarithmic score.
    """
    p = np.asarray(p, dtype=np.float64)
    return -np.log(np.maximum(p[np.arange(len(p)), np.asarray(winners, dtype=int)], SMALLEST_P))


def brier(p, winners) -> np.ndarray:
    """Sum over the classes of (p - [it happened])^2, one per row, from 0 to 2 (Brier 1950, all classes)."""
    p = np.asarray(p, dtype=np.float64)
    return ((p - np.eye(p.shape[1])[np.asarray(winners, dtype=int)]) ** 2).sum(axis=1)


def acc_length_balanced(correct, right_minus_wrong, clusters=None) -> Estimate:
    """The mean of two accuracies: where the right response is the longer one, and where it is the shorter one.

    `correct`: credit per decisive pair, in [0, 1]. `right_minus_wrong`: length of the right response less that of
    the wrong one; pairs of equal length do not count. A judge that only measures length scores one half. NaN
    without pairs of both kinds.
    """
    side = np.sign(np.asarray(right_minus_wrong, dtype=np.float64)).astype(int)
    return stratified_share(correct, side, clusters, {1: 0.5, -1: 0.5})
