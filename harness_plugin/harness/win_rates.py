"""From verdicts on a chatbot's answers to lm-eval's metrics: how often it is preferred to the baseline.

One small record per document, combined over the set, as in `metrics`. Knows no model and no file.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from harness_plugin import stats
from harness_plugin.errors import HarnessError
from harness_plugin.harness.aggregation import metric_line, with_error
from harness_plugin.harness.judge_filter import document_id
from harness_plugin.stats import Estimate

BASELINE, CHATBOT = 0, 1

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


class Win(NamedTuple):
    """What a document leaves behind. `win`: P(the chatbot's answer is preferred), a tie half; lengths in characters;
    `agree`: whether both orders name the same side, None for equal answers."""

    prompt_key: str
    win: float
    length: int
    baseline_length: int
    empty: bool
    cut: bool
    agree: bool | None


@lru_cache(maxsize=4)
def summarize_wins(records: tuple[Win, ...]) -> dict[str, Estimate]:
    """Every metric, clustered by prompt. Where a model of length alone would judge, `longer_rate` is its win rate."""
    n = len(records)
    win = np.array([r.win for r in records], dtype=np.float64)
    own, theirs = (np.array([getattr(r, f) for r in records], float) for f in ("length", "baseline_length"))
    clusters = np.array([r.prompt_key for r in records], dtype=str)
    battles = np.full(n, BASELINE), np.full(n, CHATBOT), win
    rates = stats.win_rates(*battles, BASELINE, clusters, 2)[CHATBOT]
    controlled = stats.length_controlled_win_rates(*battles, theirs, own, BASELINE, clusters, 2)
    known = np.array([r.agree is not None for r in records], dtype=bool)
    agree = np.array([bool(r.agree) for r in records], dtype=float)
    return {
        "win_rate": rates.soft,
        "win_rate_hard": rates.hard,
        "win_rate_length_controlled": controlled.win_rates[CHATBOT],
        "longer_rate": stats.clustered_share((1 + np.sign(own - theirs)) / 2, clusters),
        "length_ratio": stats.jackknife(lambda keep: _ratio(own[keep].sum(), theirs[keep].sum()), n, clusters),
        "empty_rate": stats.clustered_share([r.empty for r in records], clusters),
        "cut_rate": stats.clustered_share([r.cut for r in records], clusters),
        "order_agreement": stats.clustered_share(agree[known], clusters[known]),
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan")


def _estimate(metric: str, records: tuple[Win, ...]) -> Estimate:
    return summarize_wins(records)[metric]


WIN_METRICS = [line for name, better in _RATES.items() for line in with_error(name, partial(_estimate, name), better)]
WIN_METRICS.append(metric_line("n", len))


def process_verdict(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Win]:
    """lm-eval's `process_results`: the document and its verdict (`verdicts.Judge`) to the record of every metric."""
    verdict = json.loads(results[0])
    if verdict["document"] != document_id(doc):
        raise HarnessError(
            f"the verdict on {doc['answer_id']} is on another prompt, baseline or judge than asked for",
            "--cache_requests gave back requests of an earlier run",
            "add --cache_requests refresh",
        )
    bias = verdict["position_bias"]
    record = Win(
        doc["prompt_key"],
        verdict["win"],
        verdict["length_b"],
        verdict["length_a"],
        verdict["empty"],
        verdict["truncated"],
        None if bias is None else abs(verdict["score"]) > abs(bias),
    )
    return dict.fromkeys((line["metric"] for line in WIN_METRICS), record)
