"""How far several people agree who put the same things into classes. Numbers in, numbers out."""

import math
from dataclasses import dataclass

import numpy as np

from harness_plugin.stats.estimates import Estimate, clustered_share, jackknife


@dataclass(frozen=True)
class Agreement:
    """`share`: of two votes on the same thing, how often they are equal; `alpha`: Krippendorff's alpha, 1 where all
    agree and 0 where they agree as often as chance would. Both rest on things with two votes or more."""

    share: Estimate
    alpha: Estimate


def agreement_of_votes(counts, clusters=None) -> Agreement:
    """The agreement of votes given as counts of shape (units, classes): how many people put a unit into a class.

    The share is the mean over units of sum_c n_uc (n_uc - 1) / (m_u (m_u - 1)), with a Wilson interval clustered by
    `clusters` (names of shape (units,)); alpha has a delete-a-group jackknife over clusters. Units with fewer than two
    votes do not count. NaN where there are none, and alpha also where all votes are of one class.
    """
    n = np.asarray(counts, dtype=np.float64)
    several = n.sum(axis=1) >= 2
    names = np.arange(len(n))[several] if clusters is None else np.asarray(clusters)[several]
    n = n[several]
    votes = n.sum(axis=1)
    equal = (n * (n - 1)).sum(axis=1) / (votes * (votes - 1))
    alpha = jackknife(lambda keep: krippendorff_alpha(n[keep]), len(n), names, bounds=(-1.0, 1.0))
    return Agreement(clustered_share(equal, names), alpha)


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
