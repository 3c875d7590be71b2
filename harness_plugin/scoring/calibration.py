"""Fits a calibration to labelled pairs by maximum likelihood, and says where the pairs do not determine it."""

import math
from collections.abc import Callable

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.model.calibration import Calibration
from harness_plugin.scoring.outcome import (
    IMPOSSIBLE,
    average_orders,
    davidson_log_probabilities,
    length_ratio,
    log_probabilities,
)

# A fit looks for its numbers within these limits.
TEMPERATURE_BOUNDS = math.exp(-6), math.exp(6)
TIE_NU_BOUNDS = math.exp(-8), math.exp(4)
NEAR = 1.01  # a number within this factor of a limit has run into it
DIGITS = 6


def fit_calibration(s, target) -> Calibration:
    """Temperature and tie mass of a one-logit judge, by maximum likelihood on held-out pairs.

    `s`: debiased logits, shape (n,). `target`: shape (n, 3), the probability (or one-hot) of A, B, tie for each pair.
    Minimises the three-way log loss, which is convex in (1 / T, ln nu) together: for each T the best nu is where the
    mean P(tie) equals the share of ties, and T is where the loss with that nu is flat. With no ties in `target`, nu is
    0. Raises DataError for logits that are not finite, fewer than 2 pairs, and other shapes.
    """
    s, target = np.asarray(s, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if not np.isfinite(s).all():
        raise DataError("logits that are not finite", "a calibration of them would mean nothing", "score them again")
    if len(s) < 2 or target.shape != (len(s), 3):
        raise DataError(
            f"{len(s)} labelled pairs", "a calibration fits two numbers", "give at least 2 pairs with labels"
        )
    has_ties = bool(target[:, 2].sum() > 0)

    def best_log_nu(log_inverse: float) -> float:
        d = s * math.exp(log_inverse)
        return _minimum(lambda x: _slopes(d, np.full_like(d, x), target)[1].sum(), *np.log(TIE_NU_BOUNDS))

    def slope(log_inverse: float) -> float:
        d = s * math.exp(log_inverse)
        log_tie = np.full_like(d, best_log_nu(log_inverse) if has_ties else -np.inf)
        return float(_slopes(d, log_tie, target)[0] @ s)

    best = _minimum(slope, *_LOG_INVERSE_BOUNDS)
    return Calibration(_temperature(best), round(math.exp(best_log_nu(best)), DIGITS) if has_ties else 0.0)


def fit_temperature(z_ab, z_ba, target) -> Calibration:
    """The temperature of a head of three logits, by maximum likelihood on held-out pairs.

    `z_ab`, `z_ba`: logits of both orders, shape (n, 3) each; `target`: the probabilities of A, B, tie, shape (n, 3).
    The head gives P(tie) itself, so there is no tie mass. The loss is convex in 1 / T. Raises DataError for fewer than
    2 pairs, other shapes, and numbers that are not finite.
    """
    first, second, target = (np.asarray(x, dtype=np.float64) for x in (z_ab, z_ba, target))
    if len(target) < 2 or not first.shape == second.shape == target.shape == (len(target), 3):
        raise DataError(
            f"{len(target)} labelled pairs with logits of shape {first.shape} and {second.shape}",
            "a temperature is fitted on three logits in both orders",
            "give at least 2 such pairs",
        )
    if not all(np.isfinite(x).all() for x in (first, second, target)):
        raise DataError(
            "logits or labels that are not finite", "a temperature of them would mean nothing", "check them"
        )
    s, _, log_tie = average_orders(first, second)
    assert log_tie is not None  # it is None for one logit only, and there are three

    def slope(log_inverse: float) -> float:
        inverse = math.exp(log_inverse)
        by_d, by_tie = _slopes(s * inverse, log_tie * inverse, target)
        return float(by_d @ s + by_tie @ log_tie)

    return Calibration(_temperature(_minimum(slope, *_LOG_INVERSE_BOUNDS)))


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


def at_bounds(fitted: Calibration) -> list[str]:
    """Names of the numbers that ended at a limit of their range, where the likelihood has no maximum: the pairs do not
    determine them."""
    ranges = {"temperature": TEMPERATURE_BOUNDS, "tie_nu": TIE_NU_BOUNDS}
    values = {name: getattr(fitted, name) for name in ranges}
    return [n for n, (low, high) in ranges.items() if values[n] and not low * NEAR < values[n] < high / NEAR]


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
