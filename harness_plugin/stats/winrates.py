"""Win rates of models: against a baseline, and over a round robin. `style_winrates` has them at equal style.

The same arrays as `ratings`: i, j model indices (n,), p the probability that j beats i (n,), clusters the prompts'
names. Errors are clustered by prompt. A list has one entry per model. Knows arrays only.
"""

import math
from dataclasses import dataclass

import numpy as np

from harness_plugin.stats.estimates import (
    Estimate,
    bounded_interval,
    cluster_codes,
    clustered_mean,
    clustered_share,
    positive,
    undefined,
)


@dataclass(frozen=True)
class WinRate:
    """How often a model is preferred: soft (mean probability) and hard (share of wins, a tie half), in [0, 1].

    opponents: how many models it met. A model that met none has NaN; the baseline has 0.5 without an error.
    """

    soft: Estimate
    hard: Estimate
    wins: int
    ties: int
    losses: int
    opponents: int


def win_rates(i, j, p, baseline: int, clusters=None, models: int | None = None) -> list[WinRate]:
    """Win rates against the baseline; comparisons without it do not count.

    The soft interval holds for any probabilities (`bounded`), so it is wide for few prompts; the hard one is Wilson's
    on the effective size. Raises ValueError for input that is no comparison and for a baseline that no comparison has.
    """
    i, j, p, codes, models = checked_comparisons(i, j, p, clusters, models)
    model, q, _, here = against(i, j, p, baseline)
    found = []
    for m in range(models):
        rows = model == m
        soft = clustered_mean(q[rows], codes[here][rows], bounds=(0.0, 1.0))
        hard = clustered_share(_credit(q[rows]), codes[here][rows])
        if m == baseline:
            soft = hard = undefined(value=0.5)
        found.append(WinRate(soft, hard, *_counts(q[rows]), int(rows.any())))
    return found


def round_robin_win_rates(i, j, p, clusters=None, models: int | None = None) -> list[WinRate]:
    """The mean of each model's win rates against the opponents that it met, each opponent counting the same.

    SE^2 = G / (G - 1) * sum over prompts of (sum of (x - mean of its opponent) / (opponents * n_opponent))^2, and
    intervals as the soft ones of `win_rates`, on the same sums: with every opponent at every prompt, those of the mean
    of the prompts' means. NaN errors where an opponent was met at one prompt only. Raises ValueError for input that is
    no comparison.
    """
    i, j, p, codes, models = checked_comparisons(i, j, p, clusters, models)
    model, other = np.concatenate([i, j]), np.concatenate([j, i])
    q, codes = np.concatenate([1 - p, p]), np.concatenate([codes, codes])
    found = []
    for m in range(models):
        rows = model == m
        x, opponents, prompts = q[rows], other[rows], codes[rows]
        soft, hard = (_macro_mean(values, opponents, prompts) for values in (x, _credit(x)))
        found.append(WinRate(soft, hard, *_counts(x), len(np.unique(opponents))))
    return found


def win_table(i, j, p, clusters, baseline: int | None = None, models: int | None = None) -> np.ndarray:
    """Each model's mean win probability at each prompt (G, models), NaN where it has none: for `column_tests`.

    Against the baseline, whose own column is 0.5, or without one over all opponents. Rows in the order of the
    sorted names of the clusters. Raises ValueError as `win_rates`.
    """
    i, j, p, codes, models = checked_comparisons(i, j, p, clusters, models)
    n_clusters = int(codes.max()) + 1 if len(codes) else 0
    if baseline is None:
        model, q, codes = np.concatenate([i, j]), np.concatenate([1 - p, p]), np.concatenate([codes, codes])
    else:
        model, q, _, here = against(i, j, p, baseline)
        codes = codes[here]
    at, size = codes * models + model, n_clusters * models
    counts = np.bincount(at, minlength=size)
    table = np.where(counts > 0, np.bincount(at, q, size) / np.maximum(counts, 1), np.nan).reshape(n_clusters, models)
    if baseline is not None:
        table[:, baseline] = 0.5
    return table


def checked_comparisons(i, j, p, clusters, models) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """(i, j, p, numbers of the clusters, number of models) of n comparisons, as arrays of shape (n,) and of one type.

    i, j: the numbers of both models; p: how much of a win for j, from 0 to 1; clusters: names or None; models: how many
    there are, None for as many as the numbers name. Raises ValueError for arrays of different lengths, outcomes that
    are no shares, and models that cannot be.
    """
    i, j, p = np.asarray(i).reshape(-1), np.asarray(j).reshape(-1), np.asarray(p, dtype=np.float64).reshape(-1)
    if not len(i) == len(j) == len(p):
        raise ValueError(f"{len(i)} and {len(j)} models for {len(p)} outcomes")
    if not (np.isfinite(p) & (p >= 0) & (p <= 1)).all():
        raise ValueError("outcomes must be numbers from 0 to 1")
    if len(p) and (i.dtype.kind not in "iu" or j.dtype.kind not in "iu" or min(i.min(), j.min()) < 0):
        raise ValueError("models must be whole numbers from 0")
    largest = int(max(i.max(), j.max())) if len(p) else -1
    if models is not None and largest >= models:
        raise ValueError(f"a model is {largest}, and there are {models}")
    if (i == j).any():
        raise ValueError(f"comparison {int(np.argmax(i == j))} is of a model with itself")
    codes, _ = cluster_codes(clusters, len(p))
    return i.astype(np.int64), j.astype(np.int64), p, codes, largest + 1 if models is None else int(models)


def against(i, j, p, baseline: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the rows with the baseline: the other model, P(it wins), 1 where it is j and -1 where it is i; which rows."""
    here = (i == baseline) | (j == baseline)
    if len(p) and not here.any():
        raise ValueError(f"no comparison has the baseline, model {baseline}")
    second = i[here] == baseline
    return np.where(second, j[here], i[here]), np.where(second, p[here], 1 - p[here]), np.where(second, 1, -1), here


def _credit(q: np.ndarray) -> np.ndarray:
    return (1 + np.sign(q - 0.5)) / 2


def _counts(q: np.ndarray) -> tuple[int, int, int]:
    return int((q > 0.5).sum()), int((q == 0.5).sum()), int((q < 0.5).sum())


def _macro_mean(x, strata, codes) -> Estimate:
    if not len(x):
        return undefined()
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    means = np.bincount(stratum, x) / sizes
    value, n_clusters = float(means.mean()), len(np.unique(codes))
    alone = min(len(np.unique(codes[stratum == s])) for s in range(len(sizes))) < 2
    if alone:
        return undefined(len(x), n_clusters, value)
    codes, weight = cluster_codes(codes, len(x))[0], 1 / (len(sizes) * sizes[stratum])
    influence, shares = np.bincount(codes, (x - means[stratum]) * weight), np.bincount(codes, weight)
    stderr = positive(math.sqrt(n_clusters / (n_clusters - 1) * float(influence @ influence)), value)
    low, high = bounded_interval(influence + shares * value, shares, 0.0, 1.0)
    return Estimate(value, stderr, len(x), n_clusters, low, high)
