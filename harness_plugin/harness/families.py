"""The families of tasks that report more than the metrics which all have, and what their task files name of them."""

from harness_plugin.harness.categories import (
    BUNDLED_GROUPS,
    HELPSTEER3_DOMAINS,
    JUDGEBENCH_PARTS,
    LLMBAR_PARTS,
    LLMBAR_SECTIONS,
    REWARDBENCH_PARTS,
    REWARDBENCH_SECTIONS,
    REWARDBENCH_SUBSETS,
    RM_BENCH_LEVELS,
    RM_BENCH_SECTIONS,
    judgebench_part,
)
from harness_plugin.harness.own_scores import JUDGEBENCH_NAMES, REWARDBENCH2_NAMES, judgebench, rewardbench2
from harness_plugin.harness.task_metrics import Family, metric_list, processor
from harness_plugin.pairs.formats.candidates import cell_of
from harness_plugin.scoring.judgement import Judgement


def _rewardbench_part(judgement: Judgement) -> str | None:
    return REWARDBENCH_SUBSETS.get(judgement.category or "")


def _rm_bench_part(judgement: Judgement) -> str | None:
    """domain/level. The answers of a row stand from the plainest style to the fanciest: a right answer that is fancier
    than the wrong one is easy to see."""
    cell = cell_of(judgement.id)
    if cell is None or judgement.category is None:
        return None
    easy, normal, hard = RM_BENCH_LEVELS
    level = easy if cell.right > cell.wrong else hard if cell.right < cell.wrong else normal
    return f"{judgement.category}/{level}"


def _judgebench_part(judgement: Judgement) -> str | None:
    return judgebench_part(judgement.category)


BUNDLED = Family(BUNDLED_GROUPS)
REWARDBENCH = Family({"category": REWARDBENCH_PARTS}, REWARDBENCH_SECTIONS, _rewardbench_part)
REWARDBENCH2 = Family(own=rewardbench2, own_names=REWARDBENCH2_NAMES)
RM_BENCH = Family(sections=RM_BENCH_SECTIONS, part=_rm_bench_part)
JUDGEBENCH = Family({"category": tuple(JUDGEBENCH_PARTS.values())}, (), _judgebench_part, judgebench, JUDGEBENCH_NAMES)
LLMBAR = Family({"category": LLMBAR_PARTS}, LLMBAR_SECTIONS)
HELPSTEER3 = Family({"category": HELPSTEER3_DOMAINS})

METRICS, process_results = metric_list(), processor()
BUNDLED_METRICS, process_results_bundled = metric_list(BUNDLED), processor(BUNDLED)
REWARDBENCH_METRICS, process_results_rewardbench = metric_list(REWARDBENCH), processor(REWARDBENCH)
REWARDBENCH2_METRICS, process_results_rewardbench2 = metric_list(REWARDBENCH2), processor(REWARDBENCH2)
RM_BENCH_METRICS, process_results_rm_bench = metric_list(RM_BENCH), processor(RM_BENCH)
JUDGEBENCH_METRICS, process_results_judgebench = metric_list(JUDGEBENCH), processor(JUDGEBENCH)
LLMBAR_METRICS, process_results_llmbar = metric_list(LLMBAR), processor(LLMBAR)
HELPSTEER3_METRICS, process_results_helpsteer3 = metric_list(HELPSTEER3), processor(HELPSTEER3)
