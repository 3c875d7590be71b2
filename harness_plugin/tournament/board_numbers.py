"""Numbers as leaderboard.json has them: rounded, with their intervals, and as tests between two models."""

import math
from collections.abc import Sequence

from harness_plugin.files.rounding import rounded_or_none
from harness_plugin.stats import Estimate, Pairwise

SHARE, POINTS = 4, 1  # decimal places of a share and of a rating


def numbers(name: str, e: Estimate, digits: int = SHARE) -> dict[str, float | None]:
    """The value and the ends of its interval under `name`; None for what cannot be known."""
    return {
        name: rounded_or_none(e.value, digits),
        f"{name}_low": rounded_or_none(e.low, digits),
        f"{name}_high": rounded_or_none(e.high, digits),
    }


def tests_of(models: Sequence[str], order: Sequence[int], tests: Pairwise, digits: int) -> list[dict]:
    """The test of each pair of models once. `order`: the numbers of the models, best first; the better is named
    first."""
    return [
        comparison_row(
            (models[a], models[b]),
            (tests.difference[a, b], tests.low[a, b], tests.high[a, b]),
            (tests.p[a, b], tests.p_holm[a, b]),
            digits,
        )
        for k, a in enumerate(order)
        for b in order[k + 1 :]
    ]


def comparison_row(pair: tuple[str, str], difference: Sequence[float], p: Sequence[float], digits: int) -> dict:
    """The test of a pair of models. difference: value, low and high of the first less the second; p: as it is, and
    adjusted by Holm's method."""
    return (
        dict(zip(("model", "other"), pair, strict=True))
        | {k: rounded_or_none(x, digits) for k, x in zip(("difference", "low", "high"), difference, strict=True)}
        | {k: _p_value(x) for k, x in zip(("p", "p_holm"), p, strict=True)}
    )


def _p_value(p: float) -> float | None:
    return float(f"{p:.3g}") if math.isfinite(p) else None
