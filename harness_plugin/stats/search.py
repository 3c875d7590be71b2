"""The two searches that the statistics need: Newton's method for the maximum of a concave function, and bisection."""

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
