"""People's judgements of some of the battles -> how well the judge agrees with them. No model, no file."""

import math
from collections.abc import Iterable

import numpy as np

from harness_plugin.pairs import Pair, Winner
from harness_plugin.stats import preference_metrics, reliability_bins
from harness_plugin.tournament.leaderboard import columns, numbers

SHOWN = ("acc", "longer_wins", "acc_length_balanced", "ece")


def known_labels(verdicts: list[dict], judged: Iterable[Pair]) -> list[float | None]:
    """For each verdict the share of its judgements that name B, a tie being one half; None where nobody judged it.

    Battles and judgements are joined by the exact texts of prompt and responses, in either order of the sides.
    """
    said: dict[str, list[float]] = {}
    for pair in judged:
        if pair.verdict is not None:
            b = {Winner.MODEL_A: 0.0, Winner.TIE: 0.5, Winner.MODEL_B: 1.0}[pair.verdict]
            said.setdefault(pair.key, []).append(b)
            said.setdefault(pair.swap().key, []).append(1 - b)
    found = [said.get(v["key"]) for v in verdicts]
    return [None if votes is None else math.fsum(votes) / len(votes) for votes in found]


def agreement(verdicts: list[dict], labels: list[float | None]) -> dict:
    """How the judge's verdicts go with the labels of `known_labels`: the metrics of `SHOWN` with intervals clustered by
    prompt, and `reliability`: bins of P(B preferred) with the share for B that people gave. Without any label only the
    count `battles`, 0."""
    rows = [(v, y) for v, y in zip(verdicts, labels, strict=True) if y is not None]
    if not rows:
        return {"battles": 0}
    c, observed = columns([v for v, _ in rows]), np.array([y for _, y in rows])
    winners = np.where(observed == 0.5, 2, observed > 0.5)
    found = preference_metrics(
        c.score,
        winners,
        probabilities=np.array([(v["p_a"], v["p_b"], v["p_tie"]) for v, _ in rows]),
        lengths_a=c.lengths[0],
        lengths_b=c.lengths[1],
        clusters=c.clusters.tolist(),
    )
    bins = [
        {"predicted": round(predicted, 4), **numbers("observed", share), "n": share.n}
        for predicted, share in reliability_bins(c.p, observed, c.clusters)
    ]
    metrics = {k: v for name in SHOWN for k, v in (numbers(name, found[name]) | {f"{name}_n": found[name].n}).items()}
    return {"battles": len(rows), **metrics, "reliability": bins}
