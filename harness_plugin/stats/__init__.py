"""Statistics of judgements: estimates with honest errors, scores of probabilities, and the summary of a judge.

`estimates` turns values into means, shares and jackknifed statistics clustered by prompt, `measures` says how good
scores and probabilities are, `preference_metrics` puts them together for pairs, `best_of` has RewardBench 2's scores.
For leaderboards `ratings` fits Bradley-Terry and Davidson, `winrates` counts wins, `style_ratings` and `style_winrates`
have both at equal length and style with the features of `style`, `multiple` tests all pairs of models; `anchored` and
`anchored_ratings` correct a judge's win rates and ratings by people's labels, `anchored_drop` the change between two
runs, and `anchored_plan` says how many labels are needed. `paired` tests and bounds paired differences, `bounded` has
intervals for values of a known range, `sequential` is for numbers that are looked at before all prompts are judged,
`power` says what a test can see, `student` and `search` are Student's t and root finding without scipy. `agreement`
says how far several people agree. Of several judges, `panels` says how independent they are, and `selective` from which
confidence on one may decide. Numbers in, numbers out (numpy, scipy inside functions): nothing here knows files, models,
`Pair` or lm-eval.
"""

from harness_plugin.stats.best_of import best_of, mean_of, ties
from harness_plugin.stats.estimates import (
    Estimate,
    cluster_codes,
    clustered_mean,
    clustered_share,
    jackknife,
    paired_difference,
    share_difference,
    stratified_share,
    wilson,
)
from harness_plugin.stats.measures import (
    acc_length_balanced,
    auc,
    auc_estimate,
    brier,
    ece,
    ece_estimate,
    log_loss,
    midranks,
    rank_codes,
    reliability_bins,
    signed_codes,
    spearman,
    spearman_of_sides,
)
from harness_plugin.stats.multiple import Pairwise, column_tests, holm, pairwise, smallest_difference
from harness_plugin.stats.preference_metrics import (
    TIE,
    A,
    B,
    category_accuracies,
    preference_metrics,
    section_accuracy,
)
from harness_plugin.stats.ratings import (
    Concern,
    Ratings,
    bradley_terry_ratings,
    davidson_ratings,
)
from harness_plugin.stats.style import count_feature, length_feature, length_scale
from harness_plugin.stats.style_ratings import length_controlled_ratings, style_controlled_ratings
from harness_plugin.stats.style_winrates import (
    ControlledWinRates,
    length_controlled_win_rates,
    style_controlled_win_rates,
)
from harness_plugin.stats.winrates import WinRate, round_robin_win_rates, win_rates, win_table

__all__ = [
    "TIE",
    "A",
    "B",
    "Concern",
    "ControlledWinRates",
    "Estimate",
    "Pairwise",
    "Ratings",
    "WinRate",
    "acc_length_balanced",
    "auc",
    "auc_estimate",
    "best_of",
    "bradley_terry_ratings",
    "brier",
    "category_accuracies",
    "cluster_codes",
    "clustered_mean",
    "clustered_share",
    "column_tests",
    "count_feature",
    "davidson_ratings",
    "ece",
    "ece_estimate",
    "holm",
    "jackknife",
    "length_controlled_ratings",
    "length_controlled_win_rates",
    "length_feature",
    "length_scale",
    "log_loss",
    "mean_of",
    "midranks",
    "paired_difference",
    "pairwise",
    "preference_metrics",
    "rank_codes",
    "reliability_bins",
    "round_robin_win_rates",
    "section_accuracy",
    "share_difference",
    "signed_codes",
    "smallest_difference",
    "spearman",
    "spearman_of_sides",
    "stratified_share",
    "style_controlled_ratings",
    "style_controlled_win_rates",
    "ties",
    "wilson",
    "win_rates",
    "win_table",
]
