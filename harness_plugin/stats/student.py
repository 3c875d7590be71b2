"""Student's t distribution. For one number at a time in plain Python, so that a comparison of stored results does not
load scipy, which takes 0.3 s; for arrays with scipy."""

import math
from functools import lru_cache

import numpy as np

from harness_plugin.stats.search import bisect

SMALLEST = 1e-300
TERMS = 500


def t_tail(t: float, degrees: float) -> float:
    """P(T > t) for Student's t; degrees above 0. I_x(v/2, 1/2) / 2 with x = v / (v + t^2) for t >= 0 (DLMF 8.17)."""
    if t < 0:
        return 1.0 - t_tail(-t, degrees)
    return _beta_share(degrees / (degrees + t * t), degrees / 2, 0.5) / 2


@lru_cache(maxsize=1024)
def t_quantile(probability: float, degrees: float) -> float:
    """The t with P(T <= t) = probability, without scipy. Raises ValueError outside 0 < probability < 1."""
    if not 0 < probability < 1 or not degrees > 0:
        raise ValueError(f"probability {probability} with {degrees} degrees of freedom has no quantile")
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > 1 - probability:
        low, high = high, 2 * high
    return bisect(lambda t: t_tail(t, degrees) - (1 - probability), low, high)


def t_quantiles(probability: float, degrees) -> np.ndarray:
    """`t_quantile` for each number in an array of degrees of freedom; NaN for fewer than one."""
    from scipy.special import stdtrit  # here, so that the gate does not pay for scipy

    degrees = np.asarray(degrees, dtype=np.float64)
    return np.where(degrees >= 1, stdtrit(np.maximum(degrees, 1.0), probability), np.nan)


def _beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22, Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, its mirror image converges fast
        return 1.0 - _beta_share(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1.0 / _nonzero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1.0 / _nonzero(1 + term * d), _nonzero(1 + term / c)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a


def _nonzero(value: float) -> float:
    """The value, or the smallest number that a division allows in its place."""
    return value if abs(value) > SMALLEST else SMALLEST
