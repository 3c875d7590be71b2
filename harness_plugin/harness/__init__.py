"""What the task files under `tasks/` name: documents, lm-eval's metrics of them, and the filter of `arena_judge`.

Two families. `arena_pairs` measures judges: `documents` loads pairs and lays each out in both orders, `judging` words
them for a language model that judges, `metrics` turns log-likelihoods into numbers. `arena_judge` measures chatbots:
`answers` loads prompts and baseline answers, `verdicts` has a reward model compare a chatbot's answers to those,
`win_rates` turns verdicts into numbers. `aggregation` is what both sets of metrics share. Only `verdicts` knows a
reward model, and imports torch when it judges; lm-eval is never imported, `datasets` only where a task is loaded.
"""

from harness_plugin.harness.answers import load_answers
from harness_plugin.harness.categories import BUNDLED_GROUPS, CATEGORIES
from harness_plugin.harness.documents import document_pair, load, pair_documents
from harness_plugin.harness.judge_filter import JUDGE
from harness_plugin.harness.metrics import (
    BUNDLED_METRICS,
    METRICS,
    REWARDBENCH_METRICS,
    process_results,
    process_results_bundled,
    process_results_rewardbench,
    summarize,
)
from harness_plugin.harness.win_rates import WIN_METRICS, process_verdict
from harness_plugin.harness.zero_shot import judge_text, target

__all__ = [
    "BUNDLED_GROUPS",
    "BUNDLED_METRICS",
    "CATEGORIES",
    "JUDGE",
    "METRICS",
    "REWARDBENCH_METRICS",
    "WIN_METRICS",
    "document_pair",
    "judge_text",
    "load",
    "load_answers",
    "pair_documents",
    "process_results",
    "process_results_bundled",
    "process_results_rewardbench",
    "process_verdict",
    "summarize",
    "target",
]
