"""From verdicts on a chatbot's answers to lm-eval's metrics: how often it is preferred to the baseline.

One judgement per document, combined over the set, as in `task_metrics`. Knows no model and no file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from harness_plugin import stats
from harness_plugin.errors import HarnessError
from harness_plugin.harness.aggregation import metric_line, with_error
from harness_plugin.harness.judge_filter import document_id
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import judgement_arrays
from harness_plugin.stats import Estimate

BASELINE, CHATBOT = 0, 1
EMPTY = "empty_rate"

# Name and which way is better; None where neither is.
_RATES: dict[str, bool | None] = {
    "win_rate": True,
    "win_rate_hard": True,
    "win_rate_length_controlled": True,
    "longer_rate": None,
    "length_ratio": None,
    "empty_rate": False,
    "cut_rate": None,
    "order_agreement": True,
}


@lru_cache(maxsize=4)
def summarize_wins(records: tuple[Judgement, ...]) -> dict[str, Estimate]:
    """Every metric but `empty_rate`, clustered by prompt. A is the baseline, B the chatbot. Where a model of length
    alone would judge, `longer_rate` is its win rate."""
    c = judgement_arrays(records)
    n, clusters = len(c), c.clusters
    theirs, own = c.lengths.T
    battles = np.full(n, BASELINE), np.full(n, CHATBOT), c.win_b
    rates = stats.win_rates(*battles, BASELINE, clusters, 2)[CHATBOT]
    controlled = stats.length_controlled_win_rates(*battles, theirs, own, BASELINE, clusters, 2)
    judged = np.isfinite(c.bias)  # not the identical answers
    agree = (np.abs(c.score) > np.abs(c.bias))[judged].astype(float)
    return {
        "win_rate": rates.soft,
        "win_rate_hard": rates.hard,
        "win_rate_length_controlled": controlled.win_rates[CHATBOT],
        "longer_rate": stats.clustered_share((1 + np.sign(own - theirs)) / 2, clusters),
        "length_ratio": stats.jackknife(lambda keep: _ratio(own[keep].sum(), theirs[keep].sum()), n, clusters),
        "cut_rate": stats.clustered_share(c.truncated, clusters),
        "order_agreement": stats.clustered_share(agree, clusters[judged]),
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan")


def _estimate(metric: str, records: tuple[Judgement, ...]) -> Estimate:
    return summarize_wins(records)[metric]


def _empty_rate(records: tuple[tuple[str, bool], ...]) -> Estimate:
    """The share of empty answers, from (prompt key, whether the answer is empty) of each document."""
    return stats.clustered_share([empty for _, empty in records], [key for key, _ in records])


WIN_METRICS = [
    line
    for name, better in _RATES.items()
    for line in with_error(name, _empty_rate if name == EMPTY else partial(_estimate, name), better)
]
WIN_METRICS.append(metric_line("n", len))


def process_verdict(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Judgement | tuple[str, bool]]:
    """lm-eval's `process_results`: the document and its verdict to what each metric is made of."""
    verdict = json.loads(results[0])
    if verdict["document"] != document_id(doc):
        raise HarnessError(
            f"the verdict on {doc['answer_id']} is on another prompt, baseline or judge than asked for",
            "--cache_requests gave back requests of an earlier run",
            "add --cache_requests refresh",
        )
    judgement = Judgement.from_row(verdict, f"the verdict on {doc['answer_id']}")
    judgement = replace(judgement, prompt_key=doc["prompt_key"])
    empty = judgement.prompt_key, bool(verdict["empty"])
    return {line["metric"]: empty if line["metric"].startswith(EMPTY) else judgement for line in WIN_METRICS}
