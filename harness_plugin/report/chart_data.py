"""The data of each chart of a leaderboard, which the page and the pictures draw: JSON-able numbers, no drawing.

The ratings, the matrix of win rates and the attacks are drawn from leaderboard.json as it is; here stands what must be
computed first.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness_plugin.scoring import Judgement
from harness_plugin.scoring.judgement_arrays import judgement_arrays

POSITION_BINS, CONFIDENCE_BINS = 31, 20


def charts(board: dict, verdicts: Sequence[Judgement]) -> dict[str, Any]:
    """The data of the charts by name; None for a chart that this run has nothing for."""
    c = judgement_arrays(verdicts)
    return {
        "position": position(board, c.bias[np.isfinite(c.bias)]),
        "confidence": confidence(c.win_b),
        "length": length(board),
        "reliability": (board["agreement"] or {}).get("reliability"),
    }


def position(board: dict, bias: np.ndarray) -> dict | None:
    """How many battles have which position bias, in logits: a histogram around 0 with the mean."""
    if not len(bias):
        return None
    largest = float(np.abs(bias).max()) or 1.0
    return _histogram(bias, -largest, largest, POSITION_BINS) | {"mean": board["position"]["bias"]}


def confidence(p: np.ndarray) -> dict:
    """How many battles were decided with which probability of the preferred answer, a tie counting one half. `p`: of
    B."""
    return _histogram(np.maximum(p, 1 - p), 0.5, 1.0, CONFIDENCE_BINS)


def length(board: dict) -> list[dict]:
    """A point for each model that has a rating: its mean length x, its rating y with the ends of the interval."""
    return [
        {"name": m["model"], "x": m["mean_length"], "y": m["rating"], "low": m["rating_low"], "high": m["rating_high"]}
        for m in board["models"]
        if m["rating"] is not None and m["mean_length"] is not None
    ]


def _histogram(values, low: float, high: float, bins: int) -> dict:
    """Counts in equal bins from low to high; what rounding puts outside counts in the bin at the end."""
    counts, _ = np.histogram(np.clip(values, low, high), bins=bins, range=(low, high))
    return {"low": low, "high": high, "counts": counts.tolist()}
