"""How far several people agree who put the same things into classes. Numbers in, numbers out."""

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.stats.estimates import (
    UPPER,
    Estimate,
    cluster_codes,
    clustered_share,
    jackknife,
    kish,
    normal_quantile,
    undefined,
    wilson,
)
from harness_plugin.stats.student import t_quantiles

FEWEST = 10  # clusters for an interval of alpha: with 5, it holds the truth in 0.88 of simulations of mostly one class


@dataclass(frozen=True)
class Agreement:
    """`share`: of two votes on the same thing, how often they are equal; `alpha`: Krippendorff's alpha, 1 where all
    agree and 0 where they agree as often as chance would. Both rest on things with two votes or more."""

    share: Estimate
    alpha: Estimate


def agreement_of_votes(counts, clusters=None) -> Agreement:
    """The agreement of votes given as counts of shape (units, classes): how many people put a unit into a class.

    The share is the mean over units of sum_c n_uc (n_uc - 1) / (m_u (m_u - 1)), with a Wilson interval clustered by
    `clusters` (names of shape (units,)). Alpha has a delete-a-group jackknife over clusters, and the interval of
    `_alpha`. Units with fewer than two votes do not count. NaN where there are none, and alpha also where all votes are
    of one class.
    """
    n = np.asarray(counts, dtype=np.float64)
    several = n.sum(axis=1) >= 2
    names = np.arange(len(n))[several] if clusters is None else np.asarray(clusters)[several]
    n = n[several]
    votes = n.sum(axis=1)
    equal = (n * (n - 1)).sum(axis=1) / (votes * (votes - 1))
    return Agreement(clustered_share(equal, names), _alpha(n, names))


def _alpha(n: np.ndarray, clusters: np.ndarray) -> Estimate:
    """Krippendorff's alpha of counts (units, classes) of two votes or more, with an interval: that of the disagreement
    D_o = (1 - alpha) D_e, Wilson's on the effective size D_o (1 - D_o) / (SE D_e)^2, at most the number of clusters.

    Student's interval of alpha is too short where most votes are of one class, and there is none where all agree. With
    fewer than FEWEST clusters there is none here.
    """
    found = jackknife(lambda keep: krippendorff_alpha(n[keep]), len(n), clusters)
    if math.isnan(found.value) or found.n_clusters < FEWEST:
        return undefined(found.n, found.n_clusters, found.value)
    by_class, votes = n.sum(axis=0), n.sum()
    expected = float(votes**2 - by_class @ by_class) / (votes * (votes - 1))
    differing, stderr = min(max((1 - found.value) * expected, 0.0), 1.0), found.stderr * expected
    size = float(found.n_clusters)
    if stderr > 0 and 0 < differing < 1:
        size = min(size, differing * (1 - differing) / stderr**2)
    degrees = max(kish(np.bincount(cluster_codes(clusters, len(n))[0])) - 1, 1.0)
    size *= (normal_quantile() / float(t_quantiles(UPPER, degrees))) ** 2
    low, high = wilson(differing * size, size)
    return replace(found, low=max(1 - high / expected, -1.0), high=1 - low / expected)


def krippendorff_alpha(counts) -> float:
    """Krippendorff's alpha for classes without an order, of counts of shape (units, classes).

    alpha = 1 - D_o / D_e with D_o = 1/n sum_u sum_{c != k} n_uc n_uk / (m_u - 1) and D_e = sum_{c != k} n_c n_k /
    (n (n - 1)), over units with m_u >= 2 votes, n votes in all (Krippendorff 2011, "Computing Krippendorff's
    alpha-reliability", section C). NaN where all votes are of one class, or nothing has two votes.
    """
    n = np.asarray(counts, dtype=np.float64)
    n = n[n.sum(axis=1) >= 2]
    total, by_class = n.sum(), n.sum(axis=0)
    expected = total**2 - (by_class**2).sum()
    if expected == 0:
        return math.nan
    votes = n.sum(axis=1)
    observed = ((votes**2 - (n**2).sum(axis=1)) / (votes - 1)).sum()
    return float(1 - (total - 1) * observed / expected)
