"""Win rates against a baseline at equal style: had all answers been as long as the baseline's, or of its style.

The same arrays as `winrates`, and features of style as `style_ratings`. Knows arrays only.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.stats.estimates import (
    GROUPS,
    UPPER,
    Estimate,
    cluster_codes,
    clustered_mean,
    jackknife,
    undefined,
)
from harness_plugin.stats.measures import logistic
from harness_plugin.stats.search import newton
from harness_plugin.stats.student import t_quantiles
from harness_plugin.stats.style import (
    CONFOUNDED,
    LEAST_INFORMATION,
    SLOPE_PRECISION,
    STRETCHED,
    checked_features,
    error_ratios,
    length_difference,
    length_feature,
)
from harness_plugin.stats.winrates import against, checked_comparisons

PROMPT_PRECISION = 1.0  # of the normal prior on each prompt's difficulty, in logits
CERTAIN = 1e-9


@dataclass(frozen=True)
class ControlledWinRates:
    """Win rates against the baseline at equal style, one per model, and what each feature is worth to the judge.

    slopes: logits for each feature, as in `style_controlled_ratings`, the first of them `slope`; positive means that
    answers with more of it are preferred. The prompts' prior draws them somewhat to zero (by a tenth to a fifth in
    simulations with 11 models). NaN where no two answers differ in the feature, and where nothing is known of its
    worth. stretched, confounded: the models whose win rate rests mostly on extrapolation, and those that have none
    because style and quality cannot be told apart (`error_ratios`).
    """

    win_rates: tuple[Estimate, ...]
    slopes: tuple[Estimate, ...]
    stretched: tuple[int, ...] = ()
    confounded: tuple[int, ...] = ()

    @property
    def slope(self) -> Estimate:
        return self.slopes[0]


def length_controlled_win_rates(
    i, j, p, lengths_i, lengths_j, baseline: int, clusters, models: int | None = None
) -> ControlledWinRates:
    """`style_controlled_win_rates` with the one feature `length_feature`, of the comparisons with the baseline (after
    Dubois et al. 2024). lengths_i, lengths_j: characters (n,).

    Raises ValueError as it does, and for lengths that are negative or not finite.
    """
    i, j, p, codes, models = checked_comparisons(i, j, p, clusters, models)
    difference = length_difference(lengths_i, lengths_j, len(p))
    *_, here = against(i, j, p, baseline)
    feature = np.zeros(len(p))
    feature[here] = length_feature(difference[here])
    return style_controlled_win_rates(i, j, p, feature[:, None], baseline, codes, models)


def style_controlled_win_rates(
    i, j, p, features, baseline: int, clusters, models: int | None = None
) -> ControlledWinRates:
    """Win rates against the baseline, had all answers been of the baseline's style.

    q ~ Bernoulli(sigma(theta_m + beta'f + g_x)), where f are the features, (n, k), turned to the side of the model,
    beta one slope for all models, and g_x ~ N(0, 1) an effect of each prompt; the result is the mean over the prompts
    of sigma(theta_m + g_x). Exchanging the two sides, and the signs of the features, gives 1 minus the win rate.
    Intervals by jackknife over prompts; in log odds they are at least as wide as that of the win rate itself. A model
    that wins (loses) everything has 1 (0) without an error. A model that always differs from the baseline by about the
    same style, beside others that say nothing of the slopes, has NaN. Raises ValueError as `win_rates`.
    """
    i, j, p, codes, models = checked_comparisons(i, j, p, clusters, models)
    features = checked_features(features, len(p))
    model, q, sign, here = against(i, j, p, baseline)
    codes, _ = cluster_codes(codes[here], len(q))
    fit = _StyleFit(model, q, sign[:, None] * features[here], codes, models)
    cache: dict[bytes, np.ndarray] = {}

    def statistic(index):
        def value(keep):
            key = keep.tobytes()
            if key not in cache:
                cache[key] = fit(keep)
            return cache[key][index]

        return value

    everything = fit(np.ones(len(q), dtype=bool))
    ratios, on_slopes = fit.error_ratios()
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
    slopes = [
        jackknife(statistic(models + f), len(q), codes)
        if fit.features[:, f].any() and on_slopes[f] >= LEAST_INFORMATION
        else undefined(len(q), fit.prompts)
        for f in range(features.shape[1])
    ]
    stretched = (ratios > STRETCHED) & ~confounded
    named = (tuple(np.flatnonzero(mask).tolist()) for mask in (stretched, confounded))
    return ControlledWinRates(tuple(rates), tuple(slopes), *named)


class _StyleFit:
    """The penalised fit for any subset of the rows; starts from the last solution, since a jackknife asks often."""

    def __init__(self, model, q, features, codes, models: int):
        self.q, self.features, self.codes, self.models = q, features, codes, models
        self.shared = models + features.shape[1]  # parameters that are no prompt's
        self.prompts = int(codes.max()) + 1 if len(codes) else 0
        self.model = model
        self.start: np.ndarray | None = None
        _, lost_all, won_all = self._certain(model, q)
        self.certain = lost_all | won_all

    def __call__(self, keep: np.ndarray) -> np.ndarray:
        """Win rate of each model and the slopes, shape (models + k,); NaN without comparisons or without a maximum."""
        model, codes = self.model[keep], self.codes[keep]
        n, lost_all, won_all = self._certain(model, self.q[keep])
        result = np.full(self.shared, np.nan)
        free = (n > 0) & ~lost_all & ~won_all
        m = self.models
        result[:m][lost_all], result[:m][won_all] = 0.0, 1.0
        if not free.any():
            return result
        # As a certain model's rating goes to infinity, the likelihood of the others is what is left.
        used = free[model]
        rows = (model[used], self.q[keep][used], self.features[keep][used], codes[used])
        start = np.zeros(self.shared + self.prompts) if self.start is None else self.start.copy()
        start[:m][~free] = 0.0
        x = newton(lambda x: self._value(x, rows), lambda x: self._step(x, rows, free), start, 1e-16 * len(rows[0]))
        if x is None:
            return result
        if self.start is None:
            self.start = x
        effect = x[self.shared :][np.unique(codes)]
        result[:m][free] = logistic(x[:m][free, None] + effect[None, :]).mean(axis=1)
        result[m:] = x[m : self.shared]
        return result

    def error_ratios(self) -> tuple[np.ndarray, np.ndarray]:
        """`style.error_ratios` of the models, (models,), and the slopes, (k,), for a judge that is undecided; 1 for
        models that are not fitted."""
        ratios, m = np.ones(self.models), self.models
        free = (np.bincount(self.model, minlength=m) > 0) & ~self.certain
        if not free.any() or not self.features.any():
            return ratios, np.full(self.shared - m, np.nan)
        used = free[self.model]
        rows = (self.model[used], self.q[used], self.features[used], self.codes[used])
        information, _, side, corner = self._hessian(np.zeros(self.shared + self.prompts), rows, free)
        kept = np.append(free, np.ones(self.shared - m, dtype=bool))
        shared = (information - (side / corner) @ side.T)[np.ix_(kept, kept)]
        ratios[free], on_slopes = error_ratios(shared, np.eye(int(free.sum())))
        return ratios, on_slopes

    def _certain(self, model, q) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n, won = np.bincount(model, minlength=self.models), np.bincount(model, q, self.models)
        return n, (n > 0) & (won <= CERTAIN * n), (n > 0) & (n - won <= CERTAIN * n)

    def _value(self, x, rows) -> float:
        model, q, features, codes = rows
        slopes, prompts = x[self.models : self.shared], x[self.shared :]
        z = x[model] + features @ slopes + prompts[codes]
        penalty = PROMPT_PRECISION * prompts @ prompts + SLOPE_PRECISION * slopes @ slopes
        return float((q * z - np.logaddexp(0, z)).sum() - penalty / 2)

    def _step(self, x, rows, free) -> tuple[np.ndarray, float]:
        """Newton's step and its decrement; the prompts' block of the Hessian is diagonal and eliminated first."""
        model, _, features, codes = rows
        m = self.models
        top, r, side, corner = self._hessian(x, rows, free)
        slope = np.concatenate([np.bincount(model, r, m), r @ features - SLOPE_PRECISION * x[m : self.shared]])
        slope_g = np.bincount(codes, r, self.prompts) - PROMPT_PRECISION * x[self.shared :]
        shared = np.linalg.solve(top - (side / corner) @ side.T, slope - side @ (slope_g / corner))
        step = np.concatenate([shared, (slope_g - side.T @ shared) / corner])
        return step, float(step @ np.concatenate([slope, slope_g]))

    def _hessian(self, x, rows, free) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The negative Hessian's block of models and slopes, the residuals, and the prompts' blocks: beside it, their
        own."""
        model, q, features, codes = rows
        m, k = self.models, self.prompts
        p = logistic(x[model] + features @ x[m : self.shared] + x[self.shared :][codes])
        w, r = p * (1 - p), q - p
        edge = np.stack([np.bincount(model, w * column, m) for column in features.T])
        corner = features.T @ (w[:, None] * features) + SLOPE_PRECISION * np.eye(len(edge))
        top = np.block([[np.diag(np.bincount(model, w, m) + ~free), edge.T], [edge, corner]])
        side = np.zeros((self.shared, k))
        side[:m] = np.bincount(model * k + codes, w, m * k).reshape(m, k)
        side[m:] = [np.bincount(codes, w * column, k) for column in features.T]
        return top, r, side, np.bincount(codes, w, k) + PROMPT_PRECISION


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
