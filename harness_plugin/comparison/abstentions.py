"""Where judges abstain: how much each still judges when its error is bounded, and how wrong it then is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness_plugin.comparison.entries import Entry
from harness_plugin.comparison.figures import Judgements, as_json, credits_of
from harness_plugin.errors import DataError
from harness_plugin.pairs import Pair
from harness_plugin.scoring.abstention import Abstention, fit_abstention, is_sure
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import judgement_arrays
from harness_plugin.stats import Estimate, clustered_share

LENGTHS = ("short", "middle", "long")  # thirds of the pairs by the characters of both responses


def fitted(entry: Entry, pairs: Sequence[Pair], error: float, level: float) -> Abstention:
    """The judge's abstention, fitted to the labelled pairs that it has judged. Raises DataError where there is none."""
    judgements = [judgement for pair in pairs if (judgement := entry.of(pair)) is not None]
    if not judgements:
        raise DataError(
            f"{entry.label} has judged none of the {len(pairs)} pairs that an abstention is fitted on",
            "how wrong a judge is has to be seen on labelled pairs",
            "add these pairs to the stored scores, or name the judge itself",
        )
    return fit_abstention(judgements, error, level)


def abstention_figures(label: str, abstention: Abstention, judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Coverage and error of a judge that abstains, as JSON; in all, by category and by length. The error is over the
    decisive pairs that are judged; ties of people among the judged pairs are counted."""
    judged = np.array([is_sure(j, abstention.confidence) for j in judgements])
    return {
        "judge": label,
        "confidence": abstention.confidence,
        "wanted_error": abstention.error,
        "level": abstention.level,
        "fitted_on": {"decisive": abstention.pairs, "prompts": abstention.prompts},
        "abstained": int((~judged).sum()),
        **_selective(judgements, judged),
        "by_category": _by([j.category or "" for j in judgements], judgements, judged),
        "by_length": _by(_thirds(judgements), judgements, judged),
    }


def _selective(judgements: Sequence[Judgement], judged: np.ndarray) -> dict[str, Any]:
    arrays = judgement_arrays(judgements)
    credit = credits_of(arrays)
    counts = judged & ~np.isnan(credit)
    error: Estimate = clustered_share(1 - credit[counts], arrays.clusters[counts])
    return {
        "coverage": as_json(clustered_share(judged.astype(float), arrays.clusters)),
        "error": as_json(error),
        "ties_judged": int((judged & np.isnan(credit)).sum()),
    }


def _by(groups: Sequence[str], judgements: Sequence[Judgement], judged: np.ndarray) -> dict[str, Any]:
    """Coverage and error of each group; judgements whose group is "" are in none."""
    found = {}
    for name in sorted(set(groups) - {""}, key=lambda name: (LENGTHS.index(name) if name in LENGTHS else 0, name)):
        here = [n for n, group in enumerate(groups) if group == name]
        found[name] = _selective([judgements[n] for n in here], judged[here])
    return found


def _thirds(judgements: Sequence[Judgement]) -> list[str]:
    lengths = np.array([(j.length_a or 0) + (j.length_b or 0) for j in judgements])
    ends = np.quantile(lengths, [1 / 3, 2 / 3])
    return [LENGTHS[int((length > ends).sum())] for length in lengths]


def all_abstentions(
    entries: Sequence[Entry], pairs: Sequence[Pair], judgements: Judgements, error: float, level: float
) -> list[dict[str, Any]]:
    """`abstention_figures` of each judge, fitted to `pairs`."""
    return [
        abstention_figures(entry.label, fitted(entry, pairs, error, level), judgements.by_label[entry.label])
        for entry in entries
    ]
