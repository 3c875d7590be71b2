"""Judgements of several judges on the same votes -> one comparison, as JSON can hold it.

Only pairs that every judge has judged are compared. Errors and tests are clustered by prompt.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness_plugin.comparison.entries import ORDERS, Entry
from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.printable import counted
from harness_plugin.pairs import Pair
from harness_plugin.scoring.judge_metrics import judge_metrics
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import JudgementArrays, judgement_arrays
from harness_plugin.stats import TIE, Estimate, column_tests, holm, log_loss
from harness_plugin.stats.estimates import FEWEST_LOSSES
from harness_plugin.stats.multiple import MIN_CLUSTERS
from harness_plugin.stats.preference_metrics import knows_ties, sign_credit

SCHEMA = 1
BASELINES = ("longer_wins", "surface_acc", "surface_log_loss", "prior_log_loss")  # of the votes, not of a judge
FIGURES = (
    *("acc", "acc_3way", "log_loss", "brier", "ece", "auc", "acc_length_balanced", "order_agreement"),
    *("position_bias", "length_corr", "acc_sure_half"),
)
COMPARED = {"acc": True, "log_loss": False}  # name -> whether higher is better: what differences are tested of


@dataclass(frozen=True)
class Judgements:
    """The judgements that are compared: `pairs` that every judge has judged, and for each label their judgements in the
    same order. `missing`: label -> how many pairs that judge has not judged; `asked`: all pairs with a winner."""

    pairs: list[Pair]
    by_label: dict[str, list[Judgement]]
    missing: dict[str, int]
    asked: int

    def arrays(self) -> dict[str, JudgementArrays]:
        return {label: judgement_arrays(judgements) for label, judgements in self.by_label.items()}


def judged_by_all(pairs: Sequence[Pair], entries: Sequence[Entry]) -> Judgements:
    """The pairs that every entry has judged. Raises DataError where there is none."""
    found = {entry.label: [entry.of(pair) for pair in pairs] for entry in entries}
    whole = [n for n in range(len(pairs)) if all(column[n] is not None for column in found.values())]
    missing = {label: sum(judgement is None for judgement in column) for label, column in found.items()}
    if not whole:
        counts = ", ".join(f"{label} {len(pairs) - n}" for label, n in missing.items())
        raise DataError(
            f"no pair was judged by every judge (of {counted(len(pairs), 'pair')}, by judge: {counts})",
            "judges are compared on the same pairs",
            "check that the stored scores are of these pairs",
        )
    columns = {label: [j for n in whole if (j := column[n]) is not None] for label, column in found.items()}
    return Judgements([pairs[n] for n in whole], columns, missing, len(pairs))


def check_reference(reference: str | None, labels: Sequence[str]) -> None:
    """Raises UsageError for a reference that is none of the labels."""
    if reference is not None and reference not in labels:
        raise UsageError(f"--reference {reference}", "no judge has this name", f"use one of {', '.join(labels)}")


def compared(judgements: Judgements, entries: Sequence[Entry], reference: str | None = None) -> dict[str, Any]:
    """Everything that is reported of the judges, as a JSON object.

    `reference`: the label that the others are compared with; None takes the most accurate one. Against a reference that
    was named, Holm's adjustment is over the other judges; against the most accurate one, which the same data chose, it
    is over all pairs of judges. Raises UsageError for a reference that is no judge.
    """
    check_reference(reference, list(judgements.by_label))
    arrays = judgements.arrays()
    metrics = {label: judge_metrics(columns) for label, columns in arrays.items()}
    best = reference or max(metrics, key=lambda label: _or_lowest(metrics[label]["acc"].value))
    first = next(iter(metrics.values()))
    return {
        "schema": SCHEMA,
        "pairs": {
            "with_a_winner": judgements.asked,
            "judged_by_all": len(judgements.pairs),
            "decisive": first["n_decisive"].n,
            "prompts": first["n_pairs"].n_clusters,
            "missing": judgements.missing,
        },
        "judges": [
            _judge(entry, judgements.by_label[entry.label], metrics[entry.label])
            for entry in entries
            if entry.label in metrics
        ],
        "baselines": {name: as_json(first[name]) for name in BASELINES},
        "reference": {"judge": best, "chosen": "named" if reference else "most accurate"},
        "differences": _differences(arrays, best, reference is not None),
    }


def as_json(found: Estimate) -> dict[str, float | int | None]:
    """An estimate as JSON: what is not known is null."""
    return {
        "value": _finite(found.value),
        "stderr": _finite(found.stderr),
        "low": _finite(found.low),
        "high": _finite(found.high),
        "n": found.n,
        "n_clusters": found.n_clusters,
    }


def _judge(entry: Entry, judgements: list[Judgement], metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {
        "judge": entry.label,
        "source": entry.source,
        "identity": dict(entry.identity),
        "orders": judgements[0].orders,
        "cut": sum(j.truncated for j in judgements),
        "metrics": {name: as_json(metrics[name]) for name in FIGURES},
        "cost": cost(entry, judgements),
    }


def cost(entry: Entry, judgements: Sequence[Judgement]) -> dict[str, Any]:
    """What a pair costs: `presentations`, `tokens` (over the pairs of which they are known; null for none), and
    `seconds`, as they were measured when the pairs were judged here (null else), on `timed_pairs` pairs."""
    tokens = [j.tokens for j in judgements if j.tokens is not None]
    timing = entry.timing
    return {
        "presentations": sum(ORDERS[j.orders] * entry.readers(j) for j in judgements) / len(judgements),
        "tokens": sum(tokens) / len(tokens) if tokens else None,
        "seconds": timing.seconds / timing.pairs if timing.pairs else None,
        "timed_pairs": timing.pairs,
    }


def credits_of(arrays: JudgementArrays) -> np.ndarray:
    """1 where the judge names the winner, 0 where it names the loser, 0.5 where neither; NaN where people said a tie.
    Shape (n,)."""
    return np.where(arrays.winners == TIE, np.nan, sign_credit(arrays.score, arrays.winners))


def _losses(arrays: JudgementArrays) -> np.ndarray:
    """The three-way log loss of each pair, shape (n,); NaN throughout for a judge that does not know ties."""
    return log_loss(arrays.p, arrays.winners) if knows_ties(arrays.p) else np.full(len(arrays), np.nan)


def _differences(arrays: Mapping[str, JudgementArrays], reference: str, named: bool) -> list[dict[str, Any]]:
    """For each other judge and each of COMPARED the paired difference to the reference."""
    labels = list(arrays)
    at = labels.index(reference)
    clusters = arrays[reference].clusters
    found = []
    for metric, values, fewest in (("acc", credits_of, MIN_CLUSTERS), ("log_loss", _losses, FEWEST_LOSSES)):
        columns = np.stack([values(arrays[label]) for label in labels], axis=1)
        tests = column_tests(columns, clusters, fewest, shares=metric == "acc")
        p_holm = holm(tests.p[:, at]) if named else tests.p_holm[:, at]  # NaN for the reference itself
        found += [
            {
                "judge": label,
                "metric": metric,
                "higher_is_better": COMPARED[metric],
                "difference": _finite(tests.difference[n, at]),
                "low": _finite(tests.low[n, at]),
                "high": _finite(tests.high[n, at]),
                "p": _finite(tests.p[n, at]),
                "p_holm": _finite(p_holm[n]),
                "prompts": int(tests.n_clusters[n, at]),
            }
            for n, label in enumerate(labels)
            if n != at
        ]
    return found


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value
