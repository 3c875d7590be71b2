"""What the task files under `tasks/` name: documents made of pairs, and metrics made of their log-likelihoods.

`documents` loads pairs and lays each out in both orders, `judging` words them for a language model that judges,
`metrics` turns log-likelihoods into lm-eval's numbers. The same tasks serve `arena_rm` and any other lm-eval model,
so nothing here knows a reward model; torch and lm-eval are never imported, `datasets` only where a task is loaded.
"""

from harness_plugin.taskdocs.categories import CATEGORIES
from harness_plugin.taskdocs.documents import document_pair, load, pair_documents
from harness_plugin.taskdocs.judging import judge_text, target
from harness_plugin.taskdocs.metrics import (
    BUNDLED_METRICS,
    IMPOSSIBLE,
    METRICS,
    REWARDBENCH_METRICS,
    process_results,
    process_results_bundled,
    process_results_rewardbench,
    summarize,
)

__all__ = [
    "BUNDLED_METRICS",
    "CATEGORIES",
    "IMPOSSIBLE",
    "METRICS",
    "REWARDBENCH_METRICS",
    "document_pair",
    "judge_text",
    "load",
    "pair_documents",
    "process_results",
    "process_results_bundled",
    "process_results_rewardbench",
    "summarize",
    "target",
]
