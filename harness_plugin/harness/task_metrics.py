"""From log-likelihoods of A, B and tie to lm-eval's metrics: one judgement per document, combined over the set.

lm-eval calls `process_results` once a document and an aggregation once a metric, with the judgements in any order. The
aggregations join the two orders of each pair, and all read one summary (`judge_metrics`), computed once per set. Knows
lm-eval's conventions but does not import it; knows no model and no file.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

from harness_plugin import stats
from harness_plugin.errors import HarnessError
from harness_plugin.harness.aggregation import count, metric_line, with_error
from harness_plugin.harness.categories import Groups, Sections
from harness_plugin.harness.documents import document_pair
from harness_plugin.scoring.judge_metrics import judge_metrics
from harness_plugin.scoring.judgement import Judgement, joined, judged
from harness_plugin.scoring.judgement_arrays import judgement_arrays
from harness_plugin.scoring.probabilities import NEUTRAL, is_impossible
from harness_plugin.stats import Estimate
from harness_plugin.stats.preference_metrics import knows_ties

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
    "acc_sure_half": True,
    "longer_wins": None,
    "surface_acc": None,
    "prior_log_loss": None,
    "surface_log_loss": None,
}
_COUNTS = ("n_pairs", "n_decisive")


@dataclass(frozen=True)
class Family:
    """What a family of tasks reports beside the metrics that all have.

    `groups`: each value of a mark gets its accuracy and its number of pairs. `sections`: accuracies that are weighted
    means of categories'. `part`: a judgement to the category that it counts for, where that is not the pair's own.
    `own`: the publisher's own scores of a set of judgements, by name, and `own_names`, those names.
    """

    groups: Groups = field(default_factory=dict, hash=False)
    sections: Sections = ()
    part: Callable[[Judgement], str | None] | None = None
    own: Callable[[Sequence[Judgement]], dict[str, Estimate]] | None = None
    own_names: tuple[str, ...] = ()


PLAIN = Family()


class Answer(tuple):
    """(log-likelihood, greedy) of a choice, and in `key` the pair that it is an answer to."""

    key: str


class KeepKeys:
    """The tasks' filter: notes with each answer which pair it is on, since lm-eval may give back requests of an earlier
    run, and their answers."""

    def apply(self, resps: Iterable[tuple[float, bool]], docs: Sequence[Mapping[str, Any]]) -> list[Answer]:
        found, last, key = [], None, ""
        for resp, doc in zip(resps, docs, strict=True):
            if doc is not last:  # the choices of a document share it
                last, key = doc, document_pair(doc).key
            answer = Answer(resp)
            answer.key = key
            found.append(answer)
        return found


def record(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> Judgement:
    """The judgement of one document, which shows a pair in one order, from (log-likelihood, greedy) of the choices A, B
    and tie as presented. They serve as three logits.

    Raises HarnessError, naming the document, for answers on another pair and for anything but three finite
    log-likelihoods.
    """
    pair, swapped = document_pair(doc), doc["swapped"]
    if not results or any(getattr(answer, "key", pair.key) != pair.key for answer in results):
        raise HarnessError(
            f"the answers in the place of pair {doc['pair_id']} are on another pair, or missing",
            "--cache_requests gave back the requests of an earlier run with other pairs",
            "add --cache_requests refresh",
        )
    lls = [float(ll) for ll, _ in results]
    if len(lls) != 3:
        raise HarnessError(
            f"pair {doc['pair_id']} got {len(lls)} log-likelihoods",
            "the metrics need one for A, one for B and one for a tie",
            "leave doc_to_choice of the task as it is in arena_pairs, or name three choices in this order",
        )
    if not all(map(math.isfinite, lls)):
        order = "exchanged" if swapped else "original"
        raise HarnessError(
            f"pair {doc['pair_id']} ({order} order) got log-likelihoods {lls} for A, B and tie",
            "no metric can be computed from numbers that are not finite",
            "check the model's weights and dtype (float16 overflows in some models; try bfloat16 or float32)",
        )
    z = lls[0], lls[1], -math.inf if is_impossible(lls[2]) else lls[2]
    if swapped:
        pair = pair.swap()
    (judgement,) = judged([pair], None if swapped else [z], [z] if swapped else None, NEUTRAL, judge="")
    return replace(judgement, winner=pair.verdict)


class Summary(NamedTuple):
    """All metrics of a set of records, how many records had no partner, and whether ties were possible."""

    metrics: dict[str, Estimate]
    n_unpaired: int
    has_ties: bool


@lru_cache(maxsize=4)
def summarize(records: tuple[Judgement, ...], family: Family = PLAIN) -> Summary:
    """Every metric of the pairs that have both orders among the records, whatever the records' order."""
    both: dict[str, dict[str, Judgement]] = {}
    for entry in records:
        both.setdefault(entry.id, {})[entry.orders] = entry
    whole = [both[id] for id in sorted(both) if len(both[id]) == 2]
    pairs = joined([orders["ab"] for orders in whole], [orders["ba"] for orders in whole])
    c = judgement_arrays(pairs)
    metrics = judge_metrics(c)
    for name, weights in family.sections:
        metrics[name] = stats.section_accuracy(
            c.score, c.winners, c.categories.tolist(), dict(weights), c.clusters.tolist()
        )
    if family.own:
        metrics |= family.own(pairs)
    return Summary(metrics, len(both) - len(whole), knows_ties(c.p))


def _estimate(metric: str, family: Family, records: tuple[Judgement, ...]) -> Estimate:
    return summarize(records, family).metrics[metric]


def _size(metric: str, family: Family, records: tuple[Judgement, ...]) -> int:
    return _estimate(metric, family, records).n


def _unpaired(family: Family, records: tuple[Judgement, ...]) -> int:
    """Also says, once since this is one metric only, what a reader of the table must know."""
    summary = summarize(records, family)
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


def _rows(groups: Groups) -> list[tuple[str, str, str]]:
    """(mark, value, name in the table) of every group: `math` of a category, `difficulty_hard` of another mark."""
    names = [(mark, value) for mark, values in groups.items() for value in values]
    return [(mark, value, value if mark == "category" else f"{mark}_{value}") for mark, value in names]


def metric_list(family: Family = PLAIN) -> list[dict[str, Any]]:
    """lm-eval's `metric_list` of a task: every metric, its standard error, the counts, then group by group. A group's
    accuracy is `acc` of that group's records."""
    scores = {**_SCORES, **dict.fromkeys([*(name for name, _ in family.sections), *family.own_names], True)}
    entries = [line for n, better in scores.items() for line in with_error(n, partial(_estimate, n, family), better)]
    entries += [count(name, partial(_estimate, name, family)) for name in _COUNTS]
    entries += [metric_line(f"n_{name}", partial(_size, name, family)) for name in family.own_names]
    entries.append(metric_line("n_unpaired", partial(_unpaired, family)))
    for _, _, name in _rows(family.groups):
        entries += with_error(f"acc_{name}", partial(_estimate, "acc", PLAIN), True)
        entries.append(count(f"n_{name}", partial(_estimate, "n_decisive", PLAIN)))
    return entries


def processor(family: Family = PLAIN) -> Callable[..., dict[str, Judgement | None]]:
    """The `process_results` that goes with `metric_list` of the same family.

    Every document of a set returns the same keys: lm-eval loses a metric, or stops, where one process has documents
    without it. A group's keys hold None for documents of other groups, which keeps logged samples short, and are left
    out where no document of the set has a value of that mark that a task reports (`reported`), as in most files of a
    user's own.
    """
    overall = [entry["metric"] for entry in metric_list(replace(family, groups={}))]
    keys = [
        (mark, value, [f"acc_{name}", f"acc_{name}_stderr", f"n_{name}"]) for mark, value, name in _rows(family.groups)
    ]

    def process(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Judgement | None]:
        entry = record(doc, results)
        if family.part:
            entry = replace(entry, category=family.part(entry))
        found: dict[str, Judgement | None] = dict.fromkeys(overall, entry)
        marks = {**doc, "category": entry.category}
        for mark, value, of_group in keys:
            if mark in doc["reported"]:
                found.update(dict.fromkeys(of_group, entry if marks[mark] == value else None))
        return found

    return process
