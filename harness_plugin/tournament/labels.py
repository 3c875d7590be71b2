"""People's judgements of some of the battles -> how well the judge agrees with them. No model, no file."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.pairs import Pair, Winner
from harness_plugin.scoring.judge_metrics import judge_metrics
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import judgement_arrays
from harness_plugin.stats import TIE, reliability_bins
from harness_plugin.tournament.leaderboard import numbers

METRICS = ("acc", "longer_wins", "acc_length_balanced", "ece")
WIN_B = {Winner.MODEL_A: 0.0, Winner.TIE: 0.5, Winner.MODEL_B: 1.0}


def check_labels(pairs: Iterable[Pair], judged: Sequence[Pair], source: str) -> int:
    """How many of people's judgements, in the file `source`, are of these battles. Raises DataError where none is."""
    given = [pair for pair in judged if pair.verdict is not None]
    if not given:
        raise DataError(
            f"none of the {len(judged)} pairs of {source} has a winner",
            "there is nothing to compare the judge with",
            "give a file of pairs that people judged",
        )
    battles = {pair.key for pair in pairs}
    count = sum(pair.key in battles or pair.swap().key in battles for pair in given)
    if not count:
        raise DataError(
            f"none of the {len(given)} pairs with a winner in {source} is a battle of these answers",
            "battles and judgements are joined by the exact texts of prompt and responses",
            "check that people judged answers of these files, and, with --prompts, to the prompts that are used",
        )
    return count


def labels_of(verdicts: Sequence[Judgement], judged: Iterable[Pair]) -> list[float | None]:
    """For each verdict the share of people's judgements that name B, a tie counting one half; None where nobody judged
    the battle.

    Battles and judgements are joined by the exact texts of prompt and responses, in either order of the sides.
    """
    votes: dict[str, list[float]] = {}
    for pair in judged:
        if pair.verdict is not None:
            b = WIN_B[pair.verdict]
            votes.setdefault(pair.key, []).append(b)
            votes.setdefault(pair.swap().key, []).append(1 - b)
    of_verdicts = [votes.get(v.key) for v in verdicts]
    return [None if given is None else math.fsum(given) / len(given) for given in of_verdicts]


def agreement(verdicts: Sequence[Judgement], labels: Sequence[float | None]) -> dict:
    """How the judge's verdicts agree with the labels of `labels_of`: the metrics of `METRICS` with intervals clustered
    by prompt, and `reliability`: bins of P(B preferred) with the share for B that people gave. Without any label only
    the count `battles`, 0."""
    labelled = [(v, y) for v, y in zip(verdicts, labels, strict=True) if y is not None]
    if not labelled:
        return {"battles": 0}
    c, observed = judgement_arrays([v for v, _ in labelled]), np.array([y for _, y in labelled])
    metrics = judge_metrics(c, np.where(observed == 0.5, TIE, observed > 0.5))
    bins = [
        {"predicted": round(predicted, 4), **numbers("observed", share), "n": share.n}
        for predicted, share in reliability_bins(c.win_b, observed, c.clusters)
    ]
    rows = (numbers(name, metrics[name]) | {f"{name}_n": metrics[name].n} for name in METRICS)
    return {"battles": len(labelled), **{k: v for row in rows for k, v in row.items()}, "reliability": bins}
