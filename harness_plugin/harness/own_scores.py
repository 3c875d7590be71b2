"""Scores that a benchmark's publisher defines, from judgements of its pairs: RewardBench 2 and JudgeBench.

Knows how pairs of several candidate answers are named, and no task file.
"""

from collections.abc import Sequence

import numpy as np

from harness_plugin import stats
from harness_plugin.harness.categories import JUDGEBENCH_PARTS, REWARDBENCH2_SUBSETS, judgebench_part
from harness_plugin.pairs import Winner
from harness_plugin.pairs.formats.candidates import cell_of
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.stats import Estimate

REWARDBENCH2_NAMES = ("rewardbench2", *(f"rewardbench2_{name}" for name in REWARDBENCH2_SUBSETS.values()))
JUDGEBENCH_NAMES = ("judgebench", *(f"judgebench_{name}" for name in JUDGEBENCH_PARTS.values()))


def rewardbench2(judgements: Sequence[Judgement]) -> dict[str, Estimate]:
    """RewardBench 2's score of each subset, and their mean. Prompts of which a pair is missing do not count."""
    subsets = {name: margins_of([j for j in judgements if j.category == name]) for name in REWARDBENCH2_SUBSETS}
    found = {}
    for subset, name in REWARDBENCH2_SUBSETS.items():
        margins = subsets[subset]
        if subset == "Ties":
            kinds = {
                kind: {id.partition(":")[2]: m for id, m in margins.items() if id.startswith(f"{kind}:")}
                for kind in ("ref", "tied")
            }
            found[f"rewardbench2_{name}"] = stats.ties(kinds["ref"], kinds["tied"])
        else:
            found[f"rewardbench2_{name}"] = stats.best_of(list(margins.values()))
    return {"rewardbench2": stats.mean_of(list(found.values())), **found}


def margins_of(judgements: Sequence[Judgement]) -> dict[str, np.ndarray]:
    """Row id -> margins of its right answers over its wrong ones, shape (right, wrong), where all pairs are there."""
    margins: dict[str, np.ndarray] = {}
    for judgement in judgements:
        cell = cell_of(judgement.id)
        if cell is not None and judgement.winner is not None:
            sign = 1.0 if judgement.winner is Winner.MODEL_B else -1.0
            matrix = margins.setdefault(cell.row, np.full(cell.shape, np.nan))
            matrix[cell.right, cell.wrong] = sign * judgement.score
    return {row: matrix for row, matrix in sorted(margins.items()) if not np.isnan(matrix).any()}


def judgebench(judgements: Sequence[Judgement]) -> dict[str, Estimate]:
    """JudgeBench's accuracy: a pair counts where the decisions of both orders are right, or one is and the other is
    undecided; decisions that contradict each other do not count as half. Overall and by part, clustered by prompt."""
    known = [j for j in judgements if j.winner in (Winner.MODEL_A, Winner.MODEL_B) and j.position_bias is not None]
    right = np.array([_both_orders(j) for j in known], dtype=float)
    parts = np.array([judgebench_part(j.category) or j.category or "" for j in known], dtype=object)
    clusters = np.array([j.prompt_key for j in known])
    found = {"judgebench": stats.clustered_share(right, clusters)}
    for part in JUDGEBENCH_PARTS.values():
        chosen = parts == part
        found[f"judgebench_{part}"] = stats.clustered_share(right[chosen], clusters[chosen])
    return found


def _both_orders(judgement: Judgement) -> bool:
    sign = 1.0 if judgement.winner is Winner.MODEL_B else -1.0
    bias = judgement.position_bias or 0.0
    # score + bias is the logit for B with A first, score - bias with B first.
    return bool(np.sign(sign * (judgement.score + bias)) + np.sign(sign * (judgement.score - bias)) > 0)
