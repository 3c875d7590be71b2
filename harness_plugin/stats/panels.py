"""How much several judges know together: how alike their errors are, and how many independent judges they are worth."""

import math

import numpy as np

from harness_plugin.stats.estimates import Estimate, cluster_codes, clustered_share, jackknife, undefined

FEWEST_ERRORS = 20  # of each judge: with 12, intervals hold the truth in 88 % of simulations


def error_correlations(wrong) -> np.ndarray:
    """Pearson's correlations of the errors of M judges, (M, M). `wrong`: 1 where a judge is wrong, 0 where it is right,
    one half where it names nobody, shape (n, M). NaN for a judge whose errors never vary."""
    x = np.asarray(wrong, dtype=np.float64)
    x = x - x.mean(axis=0) if len(x) else x
    scale = np.sqrt((x**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x.T @ x) / np.outer(scale, scale)


def effective_judges(wrong, clusters=None) -> Estimate:
    """How many judges with independent errors these M are worth: M / (1 + (M - 1) r) for the mean correlation r of
    their errors (Kish 1965, the design effect of averaging; for panels of language models arXiv:2605.29800).

    1 where all make the same errors, M where errors are independent, more where they cancel. The interval is jackknifed
    over clusters; there is none where a judge has fewer than FEWEST_ERRORS errors. `wrong` as for `error_correlations`.
    """
    x = np.asarray(wrong, dtype=np.float64)
    if len(x) and x.sum(axis=0).min() < FEWEST_ERRORS:
        return undefined(len(x), cluster_codes(clusters, len(x))[1], _effective(x))
    return jackknife(lambda keep: _effective(x[keep]), len(x), clusters, bounds=(0.0, math.inf))


def _effective(wrong: np.ndarray) -> float:
    total = float(error_correlations(wrong).sum())  # over all pairs of judges, each with itself too
    return wrong.shape[1] ** 2 / total if total > 0 else math.nan


def disagreement(signs, clusters=None) -> Estimate:
    """The share of items on which not all judges prefer the same side. `signs`: -1, 0 or 1 for the side that each of M
    judges prefers, shape (n, M)."""
    signs = np.asarray(signs)
    return clustered_share((signs != signs[:, :1]).any(axis=1).astype(float), clusters)
