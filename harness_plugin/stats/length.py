"""The length term that length-controlled statistics and training share, so that a slope means the same everywhere."""

import numpy as np

STRETCHED, CONFOUNDED = 2.0, 4.0  # how many times as large an error may be as without the length; see `error_ratios`
LEAST_INFORMATION = 1.0  # on the slope beside the models; with less, length and quality look the same
SLOPE_PRECISION = 0.01  # of the normal prior on a slope, which a judge of length alone would drive to infinity


def length_feature(difference) -> np.ndarray:
    """tanh(difference / its root mean square), shape (n,): how much longer one answer of each pair is, from -1 to 1.

    The length term of AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475). There each model has its own slope, and its
    differences are divided by their own standard deviation. Here all comparisons share one slope, so they share one
    scale; and it is taken around zero, not around the mean, so that exchanging the sides of a comparison changes the
    sign alone. A slope on this feature is in logits: what a judge adds for the much longer of two answers that are
    otherwise equal, of which a difference of one root mean square gets tanh(1) = 0.76. Zero where no lengths differ.
    """
    difference = np.asarray(difference, dtype=np.float64)
    scale = length_scale(difference)
    return np.tanh(difference / scale) if scale > 0 else np.zeros(len(difference))


def length_scale(difference) -> float:
    """The root mean square of differences of length, in characters: where `length_feature` is 0.76. 0 without any."""
    difference = np.asarray(difference, dtype=np.float64)
    return float(np.sqrt(np.mean(difference**2))) if len(difference) else 0.0


def length_difference(lengths_i, lengths_j, n: int) -> np.ndarray:
    """lengths_j - lengths_i, shape (n,), for characters of the answers of i and j.

    Raises ValueError for other shapes and for lengths that are negative or not finite.
    """
    first, second = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (lengths_i, lengths_j))
    if any(len(x) != n or not np.isfinite(x).all() or (x < 0).any() for x in (first, second)):
        raise ValueError(f"lengths must be {n} finite numbers that are not negative")
    return second - first


def error_ratios(information, contrasts) -> tuple[np.ndarray, float]:
    """(How many times as large the error of each contrast of models is beside the slope as without it, the information
    on the slope beside the models.)

    information: (k + 1, k + 1), of k parameters and the slope, with the slope's prior; contrasts: (c, k). A ratio above
    STRETCHED says that the estimate at equal length rests mostly on extrapolation; above CONFOUNDED length and quality
    cannot be told apart. In simulations intervals hold the truth up to there, and with the prior's help beyond, which
    draws the slope to zero, they do not.
    """
    edge, inner = information[:-1, -1], information[:-1, :-1]
    solved = np.linalg.solve(inner, np.column_stack([edge, np.asarray(contrasts).T]))
    on_slope = float(information[-1, -1] - edge @ solved[:, 0]) - SLOPE_PRECISION
    moved, variance = contrasts @ solved[:, 0], np.einsum("ck,kc->c", contrasts, solved[:, 1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(1 + np.where(moved**2 > 0, moved**2 / (max(on_slope, 0.0) * variance), 0.0))
    return ratio, on_slope
