"""From logits to P(A), P(B), P(tie): order averaging, Davidson ties, calibration.

Numbers in, numbers out (numpy only); knows no model, file or harness. The sign convention of the whole project:
a positive logit means that response B is preferred. `z_ab` is the logit with A shown first, `z_ba` the logit of the
same pair with the sides exchanged.
"""

import math
from dataclasses import dataclass

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.model.calibration import Calibration
from harness_plugin.stats import log_probabilities

NEUTRAL = Calibration()

# Between these a calibration is looked for.
TEMPERATURE_BOUNDS = math.exp(-6), math.exp(6)
TIE_NU_BOUNDS = math.exp(-8), math.exp(4)
NEAR = 1.01  # a factor: a number so near to an end of its range has run into it


@dataclass(frozen=True)
class Outcomes:
    """Verdicts of n pairs. `s` is the debiased logit and `bias` the position bias (NaN with one order), both of shape
    (n,); `logp` holds ln P of A, B, tie in shape (n, 3), -inf where a judge has no ties."""

    s: np.ndarray
    bias: np.ndarray
    logp: np.ndarray

    @property
    def p(self) -> np.ndarray:
        """P of A, B, tie; rows sum to one."""
        return np.exp(self.logp)


def davidson(s, calibration: Calibration = NEUTRAL) -> np.ndarray:
    """Logits of shape (n,) to ln P of shape (n, 3) in the order A, B, tie.

    Davidson (1970), "On extending the Bradley-Terry model to accommodate ties": with d = s / T the three weights are
    e^(-d/2), e^(d/2) and nu, so that P(B) / P(A) = e^d whatever nu is.
    """
    d = np.asarray(s, dtype=np.float64) / calibration.temperature
    tie = np.log(calibration.tie_nu) if calibration.tie_nu else -np.inf
    return log_probabilities(d, np.full_like(d, tie))


def log_softmax(logits) -> np.ndarray:
    """ln of the softmax over the last axis."""
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def combine(z_ab, z_ba=None, calibration: Calibration = NEUTRAL) -> Outcomes:
    """Logits of one or both orders to outcomes.

    `z_ab`, `z_ba`: shape (n, 1) for a one-logit head or (n, 3) for a head that names A, B, tie. One logit:
    s = (z_ab - z_ba) / 2 and bias = (z_ab + z_ba) / 2, then Davidson. Three logits: the classes of the exchanged
    order are permuted back and the two orders' log-probabilities averaged; s is the log odds of B against A.
    """
    first = _columns(z_ab)
    second = None if z_ba is None else _columns(z_ba)
    if first.shape[1] == 1:
        one = first[:, 0]
        if second is None:
            return Outcomes(one, np.full_like(one, np.nan), davidson(one, calibration))
        s, bias = (one - second[:, 0]) / 2, (one + second[:, 0]) / 2
        return Outcomes(s, bias, davidson(s, calibration))
    logp = log_softmax(first / calibration.temperature)
    bias = np.full(len(logp), np.nan)
    if second is not None:
        back = log_softmax(second / calibration.temperature)[:, [1, 0, 2]]
        bias = ((logp[:, 1] - logp[:, 0]) - (back[:, 1] - back[:, 0])) / 2
        logp = log_softmax((logp + back) / 2)
    return Outcomes(logp[:, 1] - logp[:, 0], bias, logp)


def _columns(z) -> np.ndarray:
    z = np.asarray(z, dtype=np.float64)
    z = z[:, None] if z.ndim == 1 else z
    if z.ndim != 2 or z.shape[1] not in (1, 3):
        raise DataError(f"logits of shape {z.shape}", "a head has one logit or three (A, B, tie)", "use such a head")
    return z


def fit_calibration(s, target) -> Calibration:
    """Temperature and tie mass by maximum likelihood on held-out pairs.

    `s`: debiased logits, shape (n,). `target`: shape (n, 3), the probability (or one-hot) of A, B, tie for each pair.
    Minimises the three-way log loss over log T and log nu by golden sections, one coordinate at a time: the loss is
    smooth and has a single minimum in each. With no tie mass in `target`, nu is 0.
    """
    s, target = np.asarray(s, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if not np.isfinite(s).all():
        raise DataError("logits that are not finite", "a calibration of them would be made up", "score them again")
    if len(s) < 2 or target.shape != (len(s), 3):
        raise DataError(
            f"{len(s)} labelled pairs", "a calibration fits two numbers", "give at least 2 pairs with labels"
        )
    has_ties = bool(target[:, 2].sum() > 0)

    def loss(log_t: float, log_nu: float) -> float:
        nu = float(np.exp(log_nu)) if has_ties else 0.0
        return calibration_loss(s, target, Calibration(float(np.exp(log_t)), nu))

    log_t = log_nu = 0.0
    for _ in range(40):
        before = (log_t, log_nu)
        nu_now = log_nu
        log_t = _golden(lambda x, nu=nu_now: loss(x, nu), *np.log(TEMPERATURE_BOUNDS))
        if has_ties:
            t_now = log_t
            log_nu = _golden(lambda x, t=t_now: loss(t, x), *np.log(TIE_NU_BOUNDS))
        if abs(log_t - before[0]) + abs(log_nu - before[1]) < 1e-7:
            break
    return Calibration(round(float(np.exp(log_t)), 6), round(float(np.exp(log_nu)), 6) if has_ties else 0.0)


def fit_temperature(z_ab, z_ba, target) -> Calibration:
    """The temperature of a head of three logits by maximum likelihood: logits of both orders, shape (n, 3) each, and
    the probabilities of A, B, tie, shape (n, 3). The head says P(tie) itself, so there is no tie mass. The loss is
    convex in 1 / T. Raises DataError for fewer than 2 pairs, other shapes, and numbers that are not finite."""
    first, second, target = (np.asarray(x, dtype=np.float64) for x in (z_ab, z_ba, target))
    if len(target) < 2 or not first.shape == second.shape == target.shape == (len(target), 3):
        raise DataError(
            f"{len(target)} labelled pairs with logits of shape {first.shape} and {second.shape}",
            "a temperature is fitted on three logits in both orders",
            "give at least 2 such pairs",
        )
    if not all(np.isfinite(x).all() for x in (first, second, target)):
        raise DataError("logits or labels that are not finite", "a temperature of them would be made up", "check them")

    def loss(log_t: float) -> float:
        logp = combine(first, second, Calibration(float(np.exp(log_t)))).logp
        return -float((target * np.maximum(logp, -1e9)).sum(axis=1).mean())

    return Calibration(round(float(np.exp(_golden(loss, *np.log(TEMPERATURE_BOUNDS)))), 6))


def at_bounds(fitted: Calibration) -> list[str]:
    """Names of the numbers that ended at an end of their range, where the likelihood has no maximum: the pairs do not
    fix them."""
    ranges = {"temperature": TEMPERATURE_BOUNDS, "tie_nu": TIE_NU_BOUNDS}
    found = {name: getattr(fitted, name) for name in ranges}
    return [n for n, (low, high) in ranges.items() if found[n] and not low * NEAR < found[n] < high / NEAR]


def calibration_loss(s, target, calibration: Calibration) -> float:
    """Three-way log loss in nats of debiased logits (n,) against target probabilities (n, 3) under a calibration."""
    target = np.asarray(target, dtype=np.float64)
    logp = davidson(s, calibration)
    return -float(np.where(target > 0, target * np.maximum(logp, -1e9), 0.0).sum(axis=1).mean())


def _golden(f, low: float, high: float) -> float:
    ratio = (5**0.5 - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    fa, fb = f(a), f(b)
    while high - low > 1e-8:
        if fa <= fb:  # equal where the loss has become 0: then the end of the range says so
            high, b, fb = b, a, fa
            a = high - ratio * (high - low)
            fa = f(a)
        else:
            low, a, fa = a, b, fb
            b = low + ratio * (high - low)
            fb = f(b)
    return (low + high) / 2
