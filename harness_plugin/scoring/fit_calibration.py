"""Fits a calibration to labelled pairs by maximum likelihood, with a weak prior where there are few of them.

The prior is four more pairs, with the logits 2 and -2, that are labelled as a judge of temperature 1 and tie mass 0.5
says, and a loss of ln(T) / 4, whatever the scale of the logits. Some hundred pairs outweigh it, and three pairs alone
cannot lead to extreme numbers.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.printable import counted
from harness_plugin.model.calibration import Calibration
from harness_plugin.scoring.probabilities import (
    IMPOSSIBLE,
    average_orders,
    davidson_log_probabilities,
    length_ratio,
    log_probabilities,
)

PRIOR_PAIRS, PRIOR_LOGIT, PRIOR = 4, 2.0, Calibration(1.0, 0.5)
PRIOR_SLOPE = 0.25  # of the loss in ln T
# So many pairs without a tie say that there are none. Fewer leave the share of ties to the prior.
ENOUGH_FOR_NO_TIES = 100
# A fit looks for its numbers within these limits, and refuses to end at one.
TEMPERATURE_BOUNDS = math.exp(-6), math.exp(6)
TIE_NU_BOUNDS = math.exp(-8), math.exp(8)
NEAR = 1.01  # a number within this factor of a limit has run into it
DIGITS = 6


def fit_calibration(s, target, tie_share: float | None = None) -> Calibration:
    """Temperature and tie mass of a one-logit judge, by maximum likelihood on held-out pairs and the prior's.

    `s`: debiased logits, shape (n,). `target`: shape (n, 3), the probability (or one-hot) of A, B, tie for each pair.
    Minimises the three-way log loss, which is convex in (1 / T, ln nu) together: for each T the best nu is where the
    mean P(tie) equals the share of ties, and T is where the loss with that nu is flat. With no ties in 100 pairs or
    more, nu is 0. `tie_share`, above 0 and below 1, is for labels that do not say how often people tie: T then has the
    maximum likelihood of A against B, and nu is where the mean P(tie) of these pairs is `tie_share`. Raises DataError
    for logits that are not finite, fewer than 2 pairs (with a `tie_share`: decisive ones), other shapes, targets that
    are no probabilities, and where T or nu are beyond all reason: the scores go against the labels.
    """
    s, target = np.asarray(s, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if not np.isfinite(s).all():
        raise DataError("logits that are not finite", "a calibration of them would mean nothing", "score them again")
    if len(s) < 2 or target.shape != (len(s), 3):
        raise DataError(
            f"{len(s)} labelled pairs", "a calibration fits two numbers", "give at least 2 pairs with labels"
        )
    _check_targets(target)
    own = s
    if tie_share is not None:
        target = target * [1, 1, 0]
        if (decisive := int(np.count_nonzero(target.any(axis=1)))) < 2:
            why = "with a stated share of ties, the temperature is fitted to them alone"
            raise DataError(counted(decisive, "decisive pair"), why, "give at least 2 pairs in which one answer won")
    has_ties = tie_share is None and (bool(target[:, 2].sum() > 0) or len(s) < ENOUGH_FOR_NO_TIES)
    s, target = _with_prior(s, target, PRIOR if has_ties else replace(PRIOR, tie_nu=0.0))

    def best_log_nu(log_inverse: float) -> float:
        d = s * math.exp(log_inverse)
        return _minimum(lambda x: _slopes(d, np.full_like(d, x), target)[1].sum(), *np.log(TIE_NU_BOUNDS))

    def slope(log_inverse: float) -> float:
        d = s * math.exp(log_inverse)
        log_tie = np.full_like(d, best_log_nu(log_inverse) if has_ties else -np.inf)
        return float(_slopes(d, log_tie, target)[0] @ s) - PRIOR_SLOPE * math.exp(-log_inverse)

    best = _minimum(slope, *_LOG_INVERSE_BOUNDS)
    temperature, log_nu = _temperature(best), best_log_nu(best) if has_ties else -math.inf
    if tie_share is not None:
        log_nu = _log_nu_of(own / temperature, tie_share)
    return _within_limits(Calibration(temperature, round(math.exp(log_nu), DIGITS)))


def _log_nu_of(d: np.ndarray, tie_share: float) -> float:
    """The ln nu with which the mean P(tie) of log odds d, shape (n,), is `tie_share`. Raises DataError where that is
    beyond the limits of the search."""

    def above(x: float) -> float:
        return float(np.exp(davidson_log_probabilities(d, np.full_like(d, x)))[:, 2].mean()) - tie_share

    low, high = np.log(TIE_NU_BOUNDS)
    log_nu = _minimum(above, low, high)
    if not low + math.log(NEAR) < log_nu < high - math.log(NEAR):
        raise DataError(
            f"a share of ties of {tie_share}",
            "the tie mass that it takes with these scores is beyond the limits of the search",
            "state how often people tie on pairs like these, such as 0.2",
        )
    return log_nu


def fit_temperature(z_ab, z_ba, target) -> Calibration:
    """The temperature of a head of three logits, by maximum likelihood on held-out pairs and the prior's.

    `z_ab`, `z_ba`: logits of both orders, shape (n, 3) each; `target`: the probabilities of A, B, tie, shape (n, 3).
    The head gives P(tie) itself, so there is no tie mass. The loss is convex in 1 / T. Raises DataError as
    `fit_calibration`.
    """
    first, second, target = (np.asarray(x, dtype=np.float64) for x in (z_ab, z_ba, target))
    if len(target) < 2 or not first.shape == second.shape == target.shape == (len(target), 3):
        raise DataError(
            f"{len(target)} labelled pairs with logits of shape {first.shape} and {second.shape}",
            "a temperature is fitted on three logits in both orders",
            "give at least 2 such pairs",
        )
    if not all(np.isfinite(x).all() for x in (first, second)):
        raise DataError("logits that are not finite", "a temperature of them would mean nothing", "score them again")
    _check_targets(target)
    s, _, log_tie = average_orders(first, second)
    assert log_tie is not None  # it is None for one logit only, and there are three
    s, target = _with_prior(s, target)
    log_tie = np.append(log_tie, [math.log(PRIOR.tie_nu)] * 2)

    def slope(log_inverse: float) -> float:
        inverse = math.exp(log_inverse)
        by_d, by_tie = _slopes(s * inverse, log_tie * inverse, target)
        return float(by_d @ s + by_tie @ log_tie) - PRIOR_SLOPE / inverse

    return _within_limits(Calibration(_temperature(_minimum(slope, *_LOG_INVERSE_BOUNDS))))


def fit_length_worth(s, labels, lengths) -> float | None:
    """What length alone is worth to a judge, for `Calibration.length_worth`.

    `s`: debiased logits, `labels`: soft labels (1: B), shape (n,); `lengths`: characters of both responses, (n, 2). The
    judge's logit is explained by what people prefer and by length: s = a (2 label - 1) + w length_ratio, by least
    squares without an intercept, since exchanging the sides must change signs only; w is returned. Length that people
    themselves prefer stays in the verdicts. None where the pairs cannot tell the two apart.
    """
    s, labels = np.asarray(s, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    lengths = np.asarray(lengths, dtype=np.float64).reshape(-1, 2)
    x = np.stack([2 * labels - 1, length_ratio(lengths[:, 0], lengths[:, 1])], axis=1)  # (n, 2)
    if len(s) < 2 or np.linalg.matrix_rank(x) < 2:
        return None
    return round(float(np.linalg.lstsq(x, s, rcond=None)[0][1]), DIGITS)


def fit_surface_worth(s, target, surface) -> float:
    """What the surface of the responses tells beside a judge, for `Calibration.surface_worth`.

    `s`: debiased logits, shape (n,); `target`: the probabilities of A, B, tie, shape (n, 3); `surface`: the log odds of
    `scoring.surface.surface_logit`, shape (n,). Fits P(B, given that there is no tie) = sigmoid(a s + b surface) by
    maximum likelihood on these pairs and the prior's, whose surface is 0, with a standard normal prior for b, and
    returns b / a. Raises DataError as `fit_calibration`, and where scores go against the labels.
    """
    from scipy.optimize import minimize  # here, so that scoring does not pay for scipy

    s, target, surface = (np.asarray(x, dtype=np.float64) for x in (s, target, surface))
    if not (np.isfinite(s).all() and np.isfinite(surface).all()):
        raise DataError("logits that are not finite", "a calibration of them would mean nothing", "score them again")
    _check_targets(target)
    s, target = _with_prior(s, target)
    surface = np.append(surface, [0.0, 0.0])
    decided, scale = target[:, 0] + target[:, 1], float(np.sqrt(np.mean(s**2)))
    x = np.stack([s / scale, surface], axis=1)

    def share(b: np.ndarray) -> np.ndarray:
        return 0.5 * (1 + np.tanh(x @ b / 2))

    a, b = minimize(
        lambda b: float((decided * np.logaddexp(0, x @ b) - target[:, 1] * (x @ b)).sum() + b[1] ** 2 / 2),
        np.zeros(2),
        jac=lambda b: x.T @ (decided * share(b) - target[:, 1]) + [0.0, b[1]],
        hess=lambda b: (x.T * (decided * share(b) * (1 - share(b)))) @ x + np.diag([0.0, 1.0]),
        method="trust-exact",
        options={"gtol": 1e-9},
    ).x
    if a <= 0:
        raise DataError(
            "the scores go against the labels beside the surface of the responses",
            "what the surface tells beside such a judge cannot be fitted",
            "check the labels, and which side a positive score prefers",
        )
    return round(float(b / a * scale), DIGITS)


def _with_prior(s: np.ndarray, target: np.ndarray, prior: Calibration = PRIOR) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n,) and targets (n, 3) with the prior's behind them: its pairs as two rows, labelled as `prior` says."""
    logits = np.array([PRIOR_LOGIT, -PRIOR_LOGIT])
    said = np.exp(log_probabilities(logits, prior)) * PRIOR_PAIRS / 2
    return np.concatenate([s, logits]), np.concatenate([target, said])


def _check_targets(target: np.ndarray) -> None:
    if not np.isfinite(target).all() or (target < 0).any() or (np.abs(target.sum(axis=1) - 1) > 1e-6).any():
        raise DataError(
            "labels that are no probabilities of A, B and tie (they must be from 0 to 1 and add up to 1)",
            "a calibration to them would mean nothing",
            "check them",
        )


def _within_limits(fitted: Calibration) -> Calibration:
    for name, (low, high) in {"temperature": TEMPERATURE_BOUNDS, "tie_nu": TIE_NU_BOUNDS}.items():
        value = getattr(fitted, name)
        if value and not low * NEAR < value < high / NEAR:
            raise DataError(
                f"the best {name} for these labels is {value:.4g} or beyond, the limit of the search",
                "a judge whose scores follow the labels has a temperature and a tie mass well within the limits",
                "check the labels, and which side a positive score prefers; or give more pairs",
            )
    return fitted


def calibration_loss(s, target, calibration: Calibration) -> float:
    """Three-way log loss in nats of debiased logits (n,) against target probabilities (n, 3) under a calibration."""
    target = np.asarray(target, dtype=np.float64)
    logp = np.maximum(log_probabilities(s, calibration), IMPOSSIBLE)
    return -float(np.where(target > 0, target * logp, 0.0).sum(axis=1).mean())


_LOG_INVERSE_BOUNDS = -math.log(TEMPERATURE_BOUNDS[1]), -math.log(TEMPERATURE_BOUNDS[0])


def _temperature(log_inverse: float) -> float:
    return round(math.exp(-log_inverse), DIGITS)


def _slopes(d: np.ndarray, log_tie: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of each pair's log loss by d and by the log weight of a tie, shape (n,) each."""
    over = np.exp(davidson_log_probabilities(d, log_tie)) * target.sum(axis=1, keepdims=True) - target
    return (over[:, 1] - over[:, 0]) / 2, over[:, 2]


def _minimum(slope: Callable[[float], float], low: float, high: float) -> float:
    """Where a convex function, given by its slope, is smallest between low and high; an end where the slope keeps its
    sign. A slope of zero at the upper end has underflowed: the function falls so far."""
    from scipy.optimize import brentq  # here, so that scoring does not pay for scipy

    if slope(high) <= 0:
        return high
    if slope(low) >= 0:
        return low
    return brentq(slope, low, high, xtol=1e-12)
