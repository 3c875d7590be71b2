"""What the task files under `tasks/` name: documents, lm-eval's metrics of them, and the filter of `arena_judge`.

Two families. `arena_pairs` measures judges: `documents` loads pairs and lays each out in both orders, `zero_shot` words
them for a language model that judges, `task_metrics` turns log-likelihoods into numbers, `families` says which numbers
each benchmark has, `own_scores` computes those that its publisher defines. `arena_judge` measures chatbots:
`answer_documents` loads prompts and baseline answers, `judge_filter` has a reward model compare a chatbot's answers to
those, `judge_task_metrics` turns verdicts into numbers. `aggregation` is what both sets of metrics share, `categories`
are the groups that have rows of their own, `task_file` checks a task file that includes one of ours. `lm` is the model
class `arena_rm`. Only `judge_filter` knows a reward model, and imports torch when it judges; lm-eval is never imported,
`datasets` only where a task is loaded.
"""

from harness_plugin.harness.answer_documents import load_answers
from harness_plugin.harness.categories import BUNDLED_GROUPS, CATEGORIES
from harness_plugin.harness.documents import document_pair, load, pair_documents
from harness_plugin.harness.families import (
    BUNDLED_METRICS,
    HELPSTEER3_METRICS,
    JUDGEBENCH_METRICS,
    LLMBAR_METRICS,
    METRICS,
    REWARDBENCH2_METRICS,
    REWARDBENCH_METRICS,
    RM_BENCH_METRICS,
    process_results,
    process_results_bundled,
    process_results_helpsteer3,
    process_results_judgebench,
    process_results_llmbar,
    process_results_rewardbench,
    process_results_rewardbench2,
    process_results_rm_bench,
)
from harness_plugin.harness.judge_filter import JUDGE
from harness_plugin.harness.judge_task_metrics import WIN_METRICS, process_verdict
from harness_plugin.harness.task_metrics import KeepKeys, summarize
from harness_plugin.harness.zero_shot import judge_text, target

__all__ = [
    "BUNDLED_GROUPS",
    "BUNDLED_METRICS",
    "CATEGORIES",
    "HELPSTEER3_METRICS",
    "JUDGE",
    "JUDGEBENCH_METRICS",
    "LLMBAR_METRICS",
    "METRICS",
    "REWARDBENCH2_METRICS",
    "REWARDBENCH_METRICS",
    "RM_BENCH_METRICS",
    "WIN_METRICS",
    "KeepKeys",
    "document_pair",
    "judge_text",
    "load",
    "load_answers",
    "pair_documents",
    "process_results",
    "process_results_bundled",
    "process_results_helpsteer3",
    "process_results_judgebench",
    "process_results_llmbar",
    "process_results_rewardbench",
    "process_results_rewardbench2",
    "process_results_rm_bench",
    "process_verdict",
    "summarize",
    "target",
]
