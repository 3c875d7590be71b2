"""Judgements of pairs whose winners are known -> how good the judge is. The numbers come from `stats`."""

import math
from collections.abc import Sequence

import numpy as np

from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import JudgementArrays, judgement_arrays
from harness_plugin.scoring.probabilities import davidson_log_probabilities
from harness_plugin.scoring.surface import surface_model
from harness_plugin.stats import Estimate, category_accuracies, preference_metrics


def judge_metrics(judgements: Sequence[Judgement] | JudgementArrays, winners=None) -> dict[str, Estimate]:
    """`stats.preference_metrics` of n judgements, clustered by prompt. Biases are in raw logits.

    `winners`: 0 for A, 1 for B, 2 for a tie, shape (n,); None takes those of the judgements, which must all have one.
    """
    c = judgements if isinstance(judgements, JudgementArrays) else judgement_arrays(judgements)
    lengths_known = bool(np.isfinite(c.lengths).all())
    return preference_metrics(
        c.score,
        c.winners if winners is None else winners,
        bias=None if np.isnan(c.bias).any() else c.bias,
        probabilities=c.p,
        lengths_a=c.lengths[:, 0] if lengths_known else None,
        lengths_b=c.lengths[:, 1] if lengths_known else None,
        clusters=c.clusters.tolist(),
        baseline=None if np.isnan(c.surface).any() else surface_probabilities(c.surface),
    )


def surface_probabilities(logits: np.ndarray) -> np.ndarray:
    """P of A, B and tie of the baseline of surface features, (n, 3), from its log odds for B, (n,)."""
    return np.exp(davidson_log_probabilities(logits, np.full(len(logits), math.log(surface_model().tie_nu))))


def accuracies_by(groups: Sequence[str | None], judgements: Sequence[Judgement], winners=None) -> dict[str, Estimate]:
    """`acc` of each group, by name; a judgement whose group is None is in no group. `winners` as for
    `judge_metrics`."""
    c = judgement_arrays(judgements)
    return category_accuracies(c.score, c.winners if winners is None else winners, groups, c.clusters.tolist())
