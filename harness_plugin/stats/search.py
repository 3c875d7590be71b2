"""The searches that the statistics need: Newton's method for the maximum of a concave function, and two for a zero."""

from collections.abc import Callable

import numpy as np

ITERATIONS = 100
HALVINGS = 60

Derivatives = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Step = Callable[[np.ndarray], tuple[np.ndarray, float]]


def newton(value: Callable[[np.ndarray], float], step: Step, x: np.ndarray, tolerance: float) -> np.ndarray | None:
    """The maximum of a concave function of shape-(k,) arrays, searched from x; None where 100 steps do not reach it.

    `value(x)` is the function and `step(x)` gives Newton's step with its decrement, gradient @ step, which is twice the
    gain that the step promises. A step that lowers the value is halved. The search ends after the first step whose
    decrement is at most `tolerance`.
    """
    here = value(x)
    for _ in range(ITERATIONS):
        move, decrement = step(x)
        last = decrement <= tolerance
        there = value(x + move)
        while not last and there < here - 1e-12 * abs(here):
            move = move / 2
            there = value(x + move)
        x, here = x + move, there
        if last:
            return x
    return None


def solved_step(derivatives: Derivatives) -> Step:
    """The `step` of `newton` from a function that gives the gradient (k,) and the negative Hessian (k, k)."""

    def step(x: np.ndarray) -> tuple[np.ndarray, float]:
        gradient, information = derivatives(x)
        move = np.linalg.solve(information, gradient)
        return move, float(gradient @ move)

    return step


def bisect(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero between low and high, to 2^-60 of the range; an end where it does not.

    For the gate, which loads no scipy.
    """
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def rising_root(rising: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Where a smooth rising function crosses zero between low and high, to `tolerance`; an end where it does not.

    The Illinois method (Dowell and Jarratt 1971), which needs about a tenth of the values that bisection needs. Next to
    an infinite value the bracket is halved.
    """
    at_low, at_high, side = rising(low), rising(high), 0
    if at_low >= 0 or at_high <= 0:
        return low if at_low >= 0 else high
    for _ in range(ITERATIONS):
        if high - low <= tolerance:
            break
        finite = np.isfinite(at_low) and np.isfinite(at_high)
        middle = (low * at_high - high * at_low) / (at_high - at_low) if finite else (low + high) / 2
        here = rising(middle)
        if here >= 0:
            high, at_high, at_low = middle, here, at_low / (2 if side > 0 else 1)
        else:
            low, at_low, at_high = middle, here, at_high / (2 if side < 0 else 1)
        if abs(here) < 1e-12:
            return middle
        side = 1 if here >= 0 else -1
    return (low + high) / 2
