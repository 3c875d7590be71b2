"""Win rates of models: against a baseline, over a round robin, and against a baseline with length taken out.

The same arrays as `ratings`: i, j model indices (n,), p the probability that j beats i (n,), clusters the prompts'
names. Errors are clustered by prompt. A list has one entry per model. Knows arrays only.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.stats.estimates import (
    GROUPS,
    UPPER,
    Estimate,
    bounded_interval,
    cluster_codes,
    clustered_mean,
    clustered_share,
    jackknife,
    positive,
    undefined,
)
from harness_plugin.stats.length import (
    CONFOUNDED,
    LEAST_INFORMATION,
    SLOPE_PRECISION,
    STRETCHED,
    error_ratios,
    length_difference,
    length_feature,
)
from harness_plugin.stats.measures import logistic
from harness_plugin.stats.search import newton
from harness_plugin.stats.student import t_quantiles

PROMPT_PRECISION = 1.0  # of the normal prior on each prompt's difficulty, in logits
CERTAIN = 1e-9


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


@dataclass(frozen=True)
class LengthControlled:
    """Win rates against the baseline at equal length, one per model, and how much the judge prefers longer answers.

    slope: logits for `length_feature`, as in `length_controlled_ratings`; positive means that longer answers are
    preferred. The prompts' prior draws it somewhat to zero (by a tenth to a fifth in simulations with 11 models). NaN
    where no two answers differ in length, and where length and quality cannot be told apart. stretched, confounded: the
    models whose win rate rests mostly on extrapolation, and those that have none for that reason (`error_ratios`).
    """

    win_rates: tuple[Estimate, ...]
    slope: Estimate
    stretched: tuple[int, ...] = ()
    confounded: tuple[int, ...] = ()


def win_rates(i, j, p, baseline: int, clusters=None, models: int | None = None) -> list[WinRate]:
    """Win rates against the baseline; comparisons without it do not count.

    The soft interval holds for any probabilities (`bounded`), so it is wide for few prompts; the hard one is Wilson's
    on the effective size. Raises ValueError for input that is no comparison and for a baseline that no comparison has.
    """
    i, j, p, codes, models = _checked(i, j, p, clusters, models)
    model, q, _, here = _against(i, j, p, baseline)
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
    i, j, p, codes, models = _checked(i, j, p, clusters, models)
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
    i, j, p, codes, models = _checked(i, j, p, clusters, models)
    n_clusters = int(codes.max()) + 1 if len(codes) else 0
    if baseline is None:
        model, q, codes = np.concatenate([i, j]), np.concatenate([1 - p, p]), np.concatenate([codes, codes])
    else:
        model, q, _, here = _against(i, j, p, baseline)
        codes = codes[here]
    at, size = codes * models + model, n_clusters * models
    counts = np.bincount(at, minlength=size)
    table = np.where(counts > 0, np.bincount(at, q, size) / np.maximum(counts, 1), np.nan).reshape(n_clusters, models)
    if baseline is not None:
        table[:, baseline] = 0.5
    return table


def length_controlled_win_rates(
    i, j, p, lengths_i, lengths_j, baseline: int, clusters, models: int | None = None
) -> LengthControlled:
    """Win rates against the baseline, had all answers been as long as the baseline's (after Dubois et al. 2024).

    q ~ Bernoulli(sigma(theta_m + beta f + g_x)), where f is the `length_feature` of the model's length less the
    baseline's, beta one slope for all models, and g_x ~ N(0, 1) an effect of each prompt; the result is the mean over
    the prompts of sigma(theta_m + g_x). Exchanging the two sides gives 1 minus the win rate. Intervals by jackknife
    over prompts, in which all but the scale of f is fitted again; in log odds they are at least as wide as that of the
    win rate itself. lengths_i, lengths_j: characters (n,). A model that
    wins (loses) everything has 1 (0) without an error. A model that is always about as much longer than the baseline,
    beside others that say nothing of the slope, has NaN. Raises ValueError as `win_rates`, and for lengths that are
    negative or not finite.
    """
    i, j, p, codes, models = _checked(i, j, p, clusters, models)
    difference = length_difference(lengths_i, lengths_j, len(p))
    model, q, sign, here = _against(i, j, p, baseline)
    codes, _ = cluster_codes(codes[here], len(q))
    fit = _LengthFit(model, q, length_feature(sign * difference[here]), codes, models)
    cache: dict[bytes, np.ndarray] = {}

    def statistic(index):
        def value(keep):
            key = keep.tobytes()
            if key not in cache:
                cache[key] = fit(keep)
            return cache[key][index]

        return value

    everything = fit(np.ones(len(q), dtype=bool))
    ratios, on_slope = fit.error_ratios()
    confounded = ratios > CONFOUNDED
    rates = []
    for m in range(models):
        rows = model == m
        n, n_clusters = int(rows.sum()), len(np.unique(codes[rows]))
        if confounded[m]:
            rates.append(undefined(n, n_clusters))
        elif m == baseline or n_clusters < 2 or fit.certain[m]:
            value = 0.5 if m == baseline else float(everything[m]) if n else math.nan
            rates.append(undefined(n, n_clusters, value))
        else:
            raw = clustered_mean(q[rows], codes[rows], bounds=(0.0, 1.0))
            found = _logit_interval(jackknife(statistic(m), len(q), codes), min(GROUPS, n_clusters) - 1, raw)
            rates.append(replace(found, n=n, n_clusters=n_clusters))
    known = fit.feature.any() and on_slope >= LEAST_INFORMATION
    slope = jackknife(statistic(models), len(q), codes) if known else undefined(len(q), fit.prompts)
    stretched = (ratios > STRETCHED) & ~confounded
    named = (tuple(np.flatnonzero(mask).tolist()) for mask in (stretched, confounded))
    return LengthControlled(tuple(rates), slope, *named)


class _LengthFit:
    """The penalised fit for any subset of the rows; starts from the last solution, since a jackknife asks often."""

    def __init__(self, model, q, feature, codes, models: int):
        self.q, self.feature, self.codes, self.models = q, feature, codes, models
        self.prompts = int(codes.max()) + 1 if len(codes) else 0
        self.model = model
        self.start: np.ndarray | None = None
        _, lost_all, won_all = self._certain(model, q)
        self.certain = lost_all | won_all

    def __call__(self, keep: np.ndarray) -> np.ndarray:
        """Win rate of each model and the slope, shape (models + 1,); NaN without comparisons or without a maximum."""
        model, codes = self.model[keep], self.codes[keep]
        n, lost_all, won_all = self._certain(model, self.q[keep])
        result = np.full(self.models + 1, np.nan)
        free = (n > 0) & ~lost_all & ~won_all
        result[:-1][lost_all], result[:-1][won_all] = 0.0, 1.0
        if not free.any():
            return result
        # As a certain model's rating goes to infinity, the likelihood of the others is what is left.
        used = free[model]
        rows = (model[used], self.q[keep][used], self.feature[keep][used], codes[used])
        m = self.models
        start = np.zeros(m + 1 + self.prompts) if self.start is None else self.start.copy()
        start[:m][~free] = 0.0
        x = newton(lambda x: self._value(x, rows), lambda x: self._step(x, rows, free), start, 1e-16 * len(rows[0]))
        if x is None:
            return result
        if self.start is None:
            self.start = x
        effect = x[m + 1 :][np.unique(codes)]
        result[:-1][free] = logistic(x[:m][free, None] + effect[None, :]).mean(axis=1)
        result[-1] = x[m]
        return result

    def error_ratios(self) -> tuple[np.ndarray, float]:
        """`length.error_ratios` of the models, (models,), for a judge that is undecided; 1 for those not fitted."""
        ratios, m = np.ones(self.models), self.models
        free = (np.bincount(self.model, minlength=m) > 0) & ~self.certain
        if not free.any() or not self.feature.any():
            return ratios, math.nan
        used = free[self.model]
        rows = (self.model[used], self.q[used], self.feature[used], self.codes[used])
        information, _, side, corner = self._hessian(np.zeros(m + 1 + self.prompts), rows, free)
        kept = np.append(free, True)
        shared = (information - (side / corner) @ side.T)[np.ix_(kept, kept)]
        ratios[free], on_slope = error_ratios(shared, np.eye(int(free.sum())))
        return ratios, on_slope

    def _certain(self, model, q) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n, won = np.bincount(model, minlength=self.models), np.bincount(model, q, self.models)
        return n, (n > 0) & (won <= CERTAIN * n), (n > 0) & (n - won <= CERTAIN * n)

    def _value(self, x, rows) -> float:
        model, q, feature, codes = rows
        m = self.models
        z = x[model] + x[m] * feature + x[m + 1 :][codes]
        penalty = PROMPT_PRECISION * x[m + 1 :] @ x[m + 1 :] + SLOPE_PRECISION * x[m] ** 2
        return float((q * z - np.logaddexp(0, z)).sum() - penalty / 2)

    def _step(self, x, rows, free) -> tuple[np.ndarray, float]:
        """Newton's step and its decrement; the prompts' block of the Hessian is diagonal and eliminated first."""
        model, _, feature, codes = rows
        m = self.models
        top, r, side, corner = self._hessian(x, rows, free)
        slope = np.concatenate([np.bincount(model, r, m), [r @ feature - SLOPE_PRECISION * x[m]]])
        slope_g = np.bincount(codes, r, self.prompts) - PROMPT_PRECISION * x[m + 1 :]
        shared = np.linalg.solve(top - (side / corner) @ side.T, slope - side @ (slope_g / corner))
        step = np.concatenate([shared, (slope_g - side.T @ shared) / corner])
        return step, float(step @ np.concatenate([slope, slope_g]))

    def _hessian(self, x, rows, free) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The negative Hessian's block of models and slope, the residuals, and the blocks beside and of the prompts."""
        model, q, feature, codes = rows
        m, k = self.models, self.prompts
        p = logistic(x[model] + x[m] * feature + x[m + 1 :][codes])
        w, r = p * (1 - p), q - p
        top = np.diag(np.append(np.bincount(model, w, m) + ~free, w @ feature**2 + SLOPE_PRECISION))
        top[m, :m] = top[:m, m] = np.bincount(model, w * feature, m)
        side = np.zeros((m + 1, k))
        side[:m] = np.bincount(model * k + codes, w, m * k).reshape(m, k)
        side[m] = np.bincount(codes, w * feature, k)
        return top, r, side, np.bincount(codes, w, k) + PROMPT_PRECISION


def _checked(i, j, p, clusters, models) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
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


def _against(i, j, p, baseline: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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


def _logit_interval(found: Estimate, degrees: int, raw: Estimate) -> Estimate:
    """A share with the t interval of its log odds by the delta method, which reaches at least as far to each side as
    that of `raw`. Few prompts with shares near 0 or 1 give a jackknifed error that is too small."""
    p = found.value
    if not found.stderr > 0 or not 0 < p < 1 or not 0 < raw.low <= raw.high < 1:
        return undefined(found.n, found.n_clusters, p)
    half = float(t_quantiles(UPPER, degrees)) * found.stderr / (p * (1 - p))
    below, above = _log_odds(raw.value) - _log_odds(raw.low), _log_odds(raw.high) - _log_odds(raw.value)
    ends = _log_odds(p) + np.array([-max(half, below), max(half, above)])
    low, high = logistic(ends).tolist()
    return replace(found, low=low, high=high)


def _log_odds(p: float) -> float:
    return math.log(p / (1 - p))
