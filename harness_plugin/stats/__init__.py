"""Statistics of judgements: estimates with honest errors, scores of probabilities, and the summary of a judge.

`estimates` turns values into means, shares and jackknifed statistics clustered by prompt, `scores` says how good
scores and probabilities are, `preference` puts them together for pairs. Numbers in, numbers out (numpy, and scipy's
quantiles inside one function): nothing here knows files, models, `Pair` or lm-eval.
"""

from harness_plugin.stats.estimates import (
    Estimate,
    clustered_mean,
    clustered_share,
    jackknife,
    paired_difference,
    stratified_mean,
    wilson,
)
from harness_plugin.stats.preference import (
    TIE,
    A,
    B,
    category_accuracies,
    combine_orders,
    log_probabilities,
    preference_metrics,
    section_accuracy,
)
from harness_plugin.stats.scores import acc_length_balanced, auc, brier, ece, log_loss, midranks, spearman

__all__ = [
    "TIE",
    "A",
    "B",
    "Estimate",
    "acc_length_balanced",
    "auc",
    "brier",
    "category_accuracies",
    "clustered_mean",
    "clustered_share",
    "combine_orders",
    "ece",
    "jackknife",
    "log_loss",
    "log_probabilities",
    "midranks",
    "paired_difference",
    "preference_metrics",
    "section_accuracy",
    "spearman",
    "stratified_mean",
    "wilson",
]
