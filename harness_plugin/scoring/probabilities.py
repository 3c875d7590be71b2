"""From a judge's logits to P(A), P(B), P(tie): both orders averaged, ties as in Davidson's model.

Numbers in, numbers out (numpy only); knows no model, file or harness. A positive logit means that response B is
preferred. A judge gives one of two things for a presentation: one logit, or three log weights of A, B and tie (a head
of three logits, or the log-likelihoods of three choices). Both are the same model. Three log weights (a, b, t) have the
log odds z = b - a of B against A and the log weight t - (a + b) / 2 of a tie, and their softmax is Davidson's model of
these two numbers. One logit is z itself, and the log weight of its ties is ln nu of the calibration. Averaging the
orders' log-probabilities, with the sides exchanged back, averages these two numbers.
"""

from dataclasses import dataclass

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.model.calibration import Calibration
from harness_plugin.stats import TIE, A, B

NEUTRAL = Calibration()

IMPOSSIBLE = -1e9
"""The log-likelihood that stands for a choice that a judge never makes: finite, so that files stay strict JSON."""


def is_impossible(log_likelihood: float) -> bool:
    """Whether a log-likelihood stands for a choice that the judge never makes. Half of IMPOSSIBLE is the limit, so that
    adding or rounding does not hide it; no text has a likelihood that small."""
    return log_likelihood <= IMPOSSIBLE / 2


@dataclass(frozen=True)
class Outcomes:
    """What a judge says of n pairs. `s`: the debiased logit and `bias`: the position bias (NaN with one order), both of
    shape (n,) and in the units of the logits, not divided by the temperature; `logp`: ln P of A, B, tie in shape
    (n, 3), -inf where the judge has no ties."""

    s: np.ndarray
    bias: np.ndarray
    logp: np.ndarray

    @property
    def p(self) -> np.ndarray:
        """P of A, B, tie; rows sum to one."""
        return np.exp(self.logp)


def combine(z_ab, z_ba=None, calibration: Calibration = NEUTRAL) -> Outcomes:
    """Logits of one or both orders to outcomes.

    `z_ab`, `z_ba`: shape (n, 1) or (n,) of one logit, or (n, 3) of log weights of A, B, tie, each as presented: in
    `z_ba` the sides are exchanged, so that its A is the pair's B. Three log weights have their own probability of a
    tie: of the calibration only the temperature counts. Raises DataError for other shapes.
    """
    s, bias, log_tie = average_orders(z_ab, z_ba)
    if log_tie is None:
        return Outcomes(s, bias, log_probabilities(s, calibration))
    t = calibration.temperature
    return Outcomes(s, bias, davidson_log_probabilities(s / t, log_tie / t))


def average_orders(z_ab, z_ba=None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(s, bias, log weight of a tie) of logits as in `combine`, each of shape (n,).

    s = (z_ab - z_ba) / 2 is the debiased log odds of B against A and bias = (z_ab + z_ba) / 2 the log odds of whichever
    response stands second; with one order s = z_ab and bias is NaN. The log weight of a tie is the mean over the
    orders, relative to the geometric mean of the two sides; None for one logit, where the calibration gives it.
    """
    z, log_tie = _log_odds(z_ab)
    if z_ba is None:
        return z, np.full_like(z, np.nan), log_tie
    other, other_tie = _log_odds(z_ba)
    if len(z) != len(other) or (log_tie is None) != (other_tie is None):
        raise DataError(
            f"logits of shape {np.shape(z_ab)} in one order and {np.shape(z_ba)} in the other",
            "both orders are of the same pairs",
            "score both with one judge",
        )
    return (z - other) / 2, (z + other) / 2, None if log_tie is None else (log_tie + other_tie) / 2


def win_of_b(p_a, p_b):
    """How much of a win for B: P(B) and half of P(tie), as 1/2 + (P(B) - P(A)) / 2. So equal probabilities are one half
    exactly, which a sum with a rounded P(tie) need not be."""
    return 0.5 + (p_b - p_a) / 2


def length_ratio(length_a, length_b) -> np.ndarray:
    """ln((length_b + 1) / (length_a + 1)), from -3 to 3, of characters of the responses, (n,) each: how many times
    longer B is. The limit keeps one enormous response from deciding by itself."""
    a, b = (np.asarray(length, dtype=np.float64) for length in (length_a, length_b))
    return np.clip(np.log1p(b) - np.log1p(a), -LONGEST_RATIO, LONGEST_RATIO)


LONGEST_RATIO = 3.0


def _log_odds(logits) -> tuple[np.ndarray, np.ndarray | None]:
    """The log odds of B against A, shape (n,), and the log weight of a tie, None for one logit."""
    z = np.asarray(logits, dtype=np.float64)
    z = z[:, None] if z.ndim == 1 else z
    if z.ndim != 2 or z.shape[1] not in (1, 3):
        raise DataError(f"logits of shape {z.shape}", "a head has one logit or three (A, B, tie)", "use such a head")
    if z.shape[1] == 1:
        return z[:, 0], None
    return z[:, B] - z[:, A], z[:, TIE] - (z[:, A] + z[:, B]) / 2


def log_probabilities(s, calibration: Calibration = NEUTRAL) -> np.ndarray:
    """Logits of shape (n,) to ln P of A, B, tie in shape (n, 3), under a calibration: d = s / T and ties of mass nu."""
    d = np.asarray(s, dtype=np.float64) / calibration.temperature
    log_tie = np.log(calibration.tie_nu) if calibration.tie_nu else -np.inf
    return davidson_log_probabilities(d, np.full_like(d, log_tie))


def davidson_log_probabilities(d, log_tie) -> np.ndarray:
    """Log odds d of B against A and log weights of a tie, both of shape (n,), to ln P of A, B, tie in shape (n, 3).

    Davidson (1970), "On extending the Bradley-Terry model to accommodate ties": the three weights are e^(-d/2), e^(d/2)
    and e^log_tie, so that P(B) / P(A) = e^d whatever the third is; -inf means no ties.
    """
    d, log_tie = np.asarray(d, dtype=np.float64), np.asarray(log_tie, dtype=np.float64)
    weights = np.stack([-d / 2, d / 2, log_tie], axis=1)
    weights = weights - weights.max(axis=1, keepdims=True)
    return weights - np.log(np.exp(weights).sum(axis=1, keepdims=True))
