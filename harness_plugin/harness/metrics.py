"""From log-likelihoods of A, B and tie to lm-eval's metrics: one small record per document, combined over the set.

lm-eval calls `process_results` once a document and an aggregation once a metric, with the records in any order. The
aggregations group them by pair, and all read one summary (`stats.preference_metrics`), computed once per set of
records. Knows lm-eval's conventions but does not import it; knows no model and no file.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from harness_plugin import stats
from harness_plugin.errors import HarnessError
from harness_plugin.harness.aggregation import count, metric_line, with_error
from harness_plugin.harness.categories import (
    CATEGORIES,
    REWARDBENCH_PARTS,
    REWARDBENCH_SECTIONS,
    REWARDBENCH_SUBSETS,
    Sections,
)
from harness_plugin.pairs import Winner
from harness_plugin.scoring.outcome import combine, is_impossible
from harness_plugin.stats import Estimate

log = logging.getLogger("lm_eval.arena_rm")

# Name and which way is better; None where neither is, as for a baseline or a bias.
_SCORES: dict[str, bool | None] = {
    "acc": True,
    "acc_3way": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
    "auc": True,
    "order_agreement": True,
    "position_bias": None,
    "first_position_rate": None,
    "length_corr": None,
    "acc_length_balanced": True,
    "longer_wins": None,
    "prior_log_loss": None,
}
_COUNTS = ("n_pairs", "n_decisive")


class Record(NamedTuple):
    """What a document leaves behind: JSON-able, hashable, and enough to compute every metric of the set."""

    pair_id: str
    swapped: bool
    ll_a: float
    ll_b: float
    ll_tie: float | None  # None: the judge never says tie
    winner: int
    category: str | None
    prompt_key: str
    length_a: int
    length_b: int


def record(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> Record:
    """The record of one document, from (log-likelihood, greedy) of the choices A, B and tie.

    Raises HarnessError, naming the document, for anything but three finite log-likelihoods.
    """
    lls = [float(ll) for ll, _ in results]
    if len(lls) != 3 or not all(map(math.isfinite, lls)):
        order = "exchanged" if doc["swapped"] else "original"
        raise HarnessError(
            f"pair {doc['pair_id']} ({order} order) got log-likelihoods {lls} for A, B and tie",
            "metrics of numbers that are not finite would be made up",
            "check the model's weights and dtype (float16 overflows in some models; try bfloat16 or float32)",
        )
    winner = Winner(doc["winner"]).class_index
    tie = None if is_impossible(lls[2]) else lls[2]
    lengths = int(doc["length_a"]), int(doc["length_b"])
    return Record(
        doc["pair_id"], bool(doc["swapped"]), lls[0], lls[1], tie, winner, doc["category"], doc["prompt_key"], *lengths
    )


class Summary(NamedTuple):
    """All metrics of a set of records, how many records had no partner, and whether ties were possible."""

    metrics: dict[str, Estimate]
    n_unpaired: int
    has_ties: bool


@lru_cache(maxsize=4)
def summarize(records: tuple[Record, ...], sections: Sections = ()) -> Summary:
    """Every metric of the pairs that have both orders among the records, whatever the records' order."""
    both: dict[str, dict[bool, Record]] = {}
    for entry in records:
        both.setdefault(entry.pair_id, {})[entry.swapped] = entry
    pairs = [both[name] for name in sorted(both) if len(both[name]) == 2]
    one, other = [pair[False] for pair in pairs], [pair[True] for pair in pairs]
    has_ties = all(entry.ll_tie is not None for entry in (*one, *other))
    outcomes = combine(_log_weights(one, has_ties), _log_weights(other, has_ties))
    winners, clusters = [entry.winner for entry in one], [entry.prompt_key for entry in one]
    metrics = stats.preference_metrics(
        outcomes.s,
        winners,
        bias=outcomes.bias,
        probabilities=outcomes.p,
        lengths_a=[entry.length_a for entry in one],
        lengths_b=[entry.length_b for entry in one],
        clusters=clusters,
    )
    categories = [entry.category for entry in one]
    for name, weights in sections:
        metrics[name] = stats.section_accuracy(outcomes.s, winners, categories, dict(weights), clusters)
    return Summary(metrics, len(both) - len(pairs), has_ties)


def _log_weights(records: list[Record], has_ties: bool) -> np.ndarray:
    rows = [(r.ll_a, r.ll_b, r.ll_tie if has_ties else -math.inf) for r in records]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _estimate(metric: str, sections: Sections, records: tuple[Record, ...]) -> Estimate:
    return summarize(records, sections).metrics[metric]


def _unpaired(sections: Sections, records: tuple[Record, ...]) -> int:
    """Also says, once since this is one metric only, what a reader of the table must know."""
    summary = summarize(records, sections)
    if not summary.has_ties and summary.metrics["n_pairs"].value:
        log.warning(
            "acc_3way, log_loss and brier are NaN: this judge has no probability of a tie. They need a calibration: "
            "`arena-rm calibrate` the adapter, or pass tie_nu=... (and temperature=...) in --model_args"
        )
    if summary.n_unpaired:
        log.warning(
            "%d document(s) without the other order of their pair (an odd --limit, or --samples) count in no metric",
            summary.n_unpaired,
        )
    return summary.n_unpaired


def metric_list(categories: Sequence[str] = (), sections: Sections = ()) -> list[dict[str, Any]]:
    """lm-eval's `metric_list` of a task: every metric, its standard error, the counts, then category by category. A
    category's accuracy is `acc` of that category's records."""
    scores = {**_SCORES, **{name: True for name, _ in sections}}
    entries = [line for n, better in scores.items() for line in with_error(n, partial(_estimate, n, sections), better)]
    entries += [count(name, partial(_estimate, name, sections)) for name in _COUNTS]
    entries.append(metric_line("n_unpaired", partial(_unpaired, sections)))
    for category in categories:
        entries += with_error(f"acc_{category}", partial(_estimate, "acc", ()), True)
        entries.append(count(f"n_{category}", partial(_estimate, "n_decisive", ())))
    return entries


def processor(
    categories: Sequence[str] = (), sections: Sections = (), parts: Mapping[str, str] | None = None
) -> Callable[..., dict[str, Record | None]]:
    """The `process_results` that goes with `metric_list` of the same arguments.

    `parts` renames categories first (a subset to the part of a score that it belongs to). Every document of a set
    returns the same keys: lm-eval loses a metric, or stops, where one process has documents without it. A category's
    keys hold None for documents of other categories, which keeps logged samples short, and are left out where no
    document of the set has a category that we know (`by_category`), as in most files of a user's own.
    """
    overall = [entry["metric"] for entry in metric_list((), sections)]
    keys = [(name, [f"acc_{name}", f"acc_{name}_stderr", f"n_{name}"]) for name in categories]

    def process(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Record | None]:
        entry = record(doc, results)
        if parts:
            entry = entry._replace(category=parts.get(entry.category))
        found: dict[str, Record | None] = dict.fromkeys(overall, entry)
        for name, of_category in keys if doc.get("by_category", True) else ():
            found.update(dict.fromkeys(of_category, entry if entry.category == name else None))
        return found

    return process


METRICS = metric_list()
process_results = processor()
BUNDLED_METRICS = metric_list(CATEGORIES)
process_results_bundled = processor(CATEGORIES)
REWARDBENCH_METRICS = metric_list(REWARDBENCH_PARTS, REWARDBENCH_SECTIONS)
process_results_rewardbench = processor(REWARDBENCH_PARTS, REWARDBENCH_SECTIONS, REWARDBENCH_SUBSETS)
