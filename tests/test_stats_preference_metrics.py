"""Every metric of a judge at once, against hand-made examples and symmetries."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from harness_plugin import stats
from harness_plugin.scoring.probabilities import davidson_log_probabilities
from harness_plugin.stats import TIE, A, B

NO_TIES = ("acc_3way", "log_loss", "brier")


def judged(n=400, seed=3, prompts=120):
    """Random pairs with everything that preference_metrics takes."""
    rng = np.random.default_rng(seed)
    s = rng.normal(size=n)
    u = rng.random(n)
    winners = np.where(u < 0.25, TIE, np.where(rng.random(n) < 1 / (1 + np.exp(-s)), B, A))
    return {
        "s": s,
        "winners": winners,
        "bias": rng.normal(0.2, 0.5, size=n),
        "tie": rng.normal(-0.5, 0.1, size=n),
        "lengths_a": rng.integers(1, 900, n),
        "lengths_b": rng.integers(1, 900, n),
        "clusters": [f"prompt-{i}" for i in rng.integers(0, prompts, n)],
    }


def metrics(tie=None, **columns):
    """`tie`: log weights of a tie, for the probabilities of Davidson's model."""
    s, winners = columns.pop("s"), columns.pop("winners")
    if tie is not None:
        columns["probabilities"] = np.exp(davidson_log_probabilities(s, tie))
    return stats.preference_metrics(s, winners, **columns)


def close(x, y, tolerance=1e-12):
    return x == pytest.approx(y, rel=tolerance, abs=tolerance, nan_ok=True)


# All metrics at once


def test_every_metric_of_four_pairs_by_hand():
    ln3 = math.log(3)
    found = metrics(
        s=[2 * ln3, -2 * ln3, 0.0, 2 * ln3],
        winners=[B, B, A, TIE],
        bias=[0.0, 3 * ln3, 0.5, 2 * ln3],
        tie=[0.0, 0.0, 0.0, 0.0],
        lengths_a=[10, 20, 5, 1],
        lengths_b=[20, 10, 5, 2],
    )
    # e^(-s/2), e^(s/2), 1 is 1/3, 3, 1 for the first and last, 3, 1/3, 1 for the second, 1, 1, 1 for the third.
    assert found["acc"].value == 0.5  # right, wrong, undecided
    assert found["acc_sure_half"].value == 0.5 and found["acc_sure_half"].n == 2  # without the undecided one
    assert close(found["acc_3way"].value, (1 + 0 + 1 / 3 + 0) / 4)
    assert close(found["log_loss"].value, -(math.log(9 / 13) + math.log(1 / 13) - ln3 + math.log(3 / 13)) / 4)
    one = ((1 / 13) ** 2 + (4 / 13) ** 2 + (3 / 13) ** 2, (9 / 13) ** 2 + (12 / 13) ** 2 + (3 / 13) ** 2)
    two = (2 / 3, (1 / 13) ** 2 + (9 / 13) ** 2 + (10 / 13) ** 2)
    assert close(found["brier"].value, sum(one + two) / 4)
    assert found["auc"].value == 0.5  # of B's wins one stands above A's only win, one below
    assert found["order_agreement"].value == (1 + 0 + 0 + 0.5) / 4
    assert close(found["position_bias"].value, (5 * ln3 + 0.5) / 4)
    assert found["first_position_rate"].value == (0.5 + 0 + 0 + 0.25) / 4
    assert found["longer_wins"].value == (1 + 0 + 0.5) / 3
    assert found["acc_length_balanced"].value == 0.5
    assert close(found["prior_log_loss"].value, -(0.5 * math.log(0.5) + 0.5 * math.log(0.25)))
    assert (found["n_pairs"].value, found["n_decisive"].value) == (4, 3)
    assert math.isnan(found["ece"].value)


def test_set_level_metrics_are_scikit_learns_and_scipys_on_the_rows_that_count():
    columns = judged()
    found, decisive = metrics(**columns), columns["winners"] != TIE
    s, wins_b = columns["s"][decisive], columns["winners"][decisive] == B
    assert close(found["auc"].value, roc_auc_score(wins_b, s))
    longer = columns["lengths_b"] - columns["lengths_a"]
    assert close(found["length_corr"].value, spearmanr(columns["s"], longer).statistic)
    confidence, right = 1 / (1 + np.exp(-np.abs(s))), (s > 0) == wins_b
    names = np.array(columns["clusters"])[decisive]
    assert close(found["ece"].value, max(stats.ece(confidence, right, clusters=names), 0))
    assert found["ece"].n == found["auc"].n == decisive.sum()


def test_first_position_rate_counts_presentations_that_name_what_stands_first():
    z_ab, z_ba = np.array([-1.0, -1.0, 0.0, 2.0]), np.array([-1.0, 3.0, -1.0, 5.0])
    found = metrics(s=(z_ab - z_ba) / 2, winners=[A] * 4, bias=(z_ab + z_ba) / 2)
    assert found["first_position_rate"].value == (1 + 0.5 + 0.75 + 0) / 4


def test_one_order_leaves_what_needs_both_nan():
    for bias in (None, [math.nan, math.nan]):
        found = metrics(s=[1.0, -1.0], winners=[B, A], bias=bias)
        assert found["acc"].value == 1.0
        for name in ("order_agreement", "position_bias", "first_position_rate"):
            assert math.isnan(found[name].value), name


def test_a_perfect_judge():
    columns = judged()
    columns["s"] = np.where(columns["winners"] == B, 9.0, np.where(columns["winners"] == A, -9.0, 0.0))
    columns |= {"bias": np.zeros(400), "tie": np.where(columns["winners"] == TIE, 9.0, -9.0)}
    found = metrics(**columns)
    assert found["acc"].value == found["acc_3way"].value == found["auc"].value == 1.0
    assert found["acc_length_balanced"].value == 1.0
    assert found["log_loss"].value < 0.01
    assert found["brier"].value < 0.001
    assert found["acc"].low < 1.0


def test_a_judge_of_length_scores_what_longer_wins_scores_and_one_half_where_length_is_balanced():
    columns = judged()
    columns["s"] = columns["lengths_b"] - columns["lengths_a"]
    found = metrics(**columns)
    assert found["acc"] == found["longer_wins"]
    assert found["acc_length_balanced"].value == 0.5
    assert found["length_corr"].value == pytest.approx(1.0)


def test_a_judge_that_always_names_the_first_knows_nothing():
    columns = judged() | {"s": np.zeros(400), "bias": np.full(400, -4.0)}
    found = metrics(**columns)
    assert found["acc"].value == found["auc"].value == 0.5
    assert found["order_agreement"].value == 0.0
    assert found["first_position_rate"].value == 1.0
    assert found["position_bias"].value == -4.0


def test_only_ties_leave_the_decisive_metrics_nan():
    found = metrics(s=[0.0, 1.0, -1.0], winners=[TIE] * 3, tie=[1.0] * 3, lengths_a=[1, 2, 3], lengths_b=[3, 2, 1])
    for name in ("acc", "ece", "auc", "acc_length_balanced", "longer_wins"):
        assert math.isnan(found[name].value), name
    assert found["acc_3way"].value == 1.0
    assert found["prior_log_loss"].value == 0.0
    assert math.copysign(1, found["prior_log_loss"].value) == 1.0


def test_one_pair_and_no_pair_give_no_errors():
    single = metrics(s=[1.0], winners=[B], bias=[0.0], tie=[0.0], lengths_a=[1], lengths_b=[2])
    assert single["acc"].value == 1.0
    none = metrics(s=[], winners=[], bias=[], tie=[], lengths_a=[], lengths_b=[])
    assert none["n_pairs"].value == 0
    assert set(single) == set(none)
    assert all(math.isnan(estimate.stderr) for estimate in (*single.values(), *none.values()))
    assert all(math.isnan(none[name].value) for name in none if not name.startswith("n_"))


def test_without_a_probability_of_ties_three_way_metrics_are_nan_and_the_others_are_not_touched():
    columns = judged()
    with_ties = metrics(**columns)
    for tie in ({"tie": None}, {"tie": np.full(400, -np.inf)}, {"probabilities": [[0.5, 0.5, 0.0]] * 400}):
        found = metrics(**columns | {"tie": None} | tie)
        assert all(math.isnan(found[name].value) and math.isnan(found[name].stderr) for name in NO_TIES)
        for name in set(found) - {*NO_TIES, *(["ece"] if "probabilities" in tie else [])}:
            assert close((found[name].value, found[name].stderr), (with_ties[name].value, with_ties[name].stderr)), name


def test_exchanging_the_sides_of_every_pair_changes_nothing_but_the_frame():
    columns = judged()
    swapped = columns | {
        "s": -columns["s"],
        "winners": np.array([B, A, TIE])[columns["winners"]],
        "lengths_a": columns["lengths_b"],
        "lengths_b": columns["lengths_a"],
    }
    first, second = metrics(**columns), metrics(**swapped)
    for name, estimate in first.items():
        assert close(estimate.value, second[name].value, 1e-9), name
        assert close(estimate.stderr, second[name].stderr, 1e-9), name


def test_the_order_of_the_pairs_does_not_matter():
    columns = judged()
    order = np.random.default_rng(17).permutation(400)
    shuffled = {name: np.asarray(values)[order] for name, values in columns.items()}
    first, second = metrics(**columns), metrics(**shuffled)
    for name, estimate in first.items():
        assert close(estimate.value, second[name].value, 1e-9), name
        assert close(estimate.stderr, second[name].stderr, 1e-9), name


def test_errors_follow_the_clusters_and_not_the_rows():
    columns = judged(prompts=400)
    twice = {name: np.repeat(values, 2) for name, values in columns.items()}
    once, double = metrics(**columns), metrics(**twice)
    for name in ("acc", "acc_3way", "log_loss", "brier", "order_agreement", "position_bias", "longer_wins"):
        assert close(once[name].stderr, double[name].stderr, 1e-9), name
    for name in ("auc", "length_corr"):
        assert double[name].stderr == pytest.approx(once[name].stderr, rel=0.02), name


def test_category_accuracies_are_the_accuracies_of_the_categories_own_pairs():
    columns = judged()
    names = np.random.default_rng(18).choice(["math", "3way", ""], 400)
    found = stats.category_accuracies(columns["s"], columns["winners"], names, columns["clusters"])
    assert list(found) == ["3way", "math"]
    for name, estimate in found.items():
        own = {key: np.asarray(values)[names == name] for key, values in columns.items()}
        assert estimate == metrics(**own)["acc"]


def test_a_section_is_the_weighted_mean_of_its_categories():
    columns = judged()
    names = np.random.default_rng(18).choice(["math", "coding", None], 400).tolist()
    arguments = columns["s"], columns["winners"], names
    parts = stats.category_accuracies(*arguments)
    found = stats.section_accuracy(*arguments, {"math": 1, "coding": 3})
    assert close(found.value, 0.25 * parts["math"].value + 0.75 * parts["coding"].value)
    assert close(found.stderr, math.hypot(0.25 * parts["math"].stderr, 0.75 * parts["coding"].stderr))
    assert found.n == parts["math"].n + parts["coding"].n
    assert math.isnan(stats.section_accuracy(*arguments, {"math": 1, "law": 1}).value)


@pytest.mark.parametrize("name", ["s", "bias", "lengths_a"])
def test_numbers_that_are_not_finite_are_refused_by_name(name):
    columns = judged()
    columns[name] = np.where(np.arange(400) == 7, np.nan, columns[name])
    with pytest.raises(ValueError, match=f"{name} has numbers that are not finite"):
        metrics(**columns)


def test_columns_of_other_lengths_and_unknown_winners_are_refused():
    with pytest.raises(ValueError, match="bias has 1 entries for 2 pairs"):
        metrics(s=[1.0, 2.0], winners=[A, B], bias=[0.0])
    with pytest.raises(ValueError, match="categories has 1 entries for 2 pairs"):
        stats.category_accuracies([1.0, 2.0], [A, B], ["x"])
    with pytest.raises(ValueError, match="winners must be"):
        metrics(s=[1.0], winners=[3])
    with pytest.raises(ValueError, match="2 rows of 3"):
        metrics(s=[1.0, 2.0], winners=[A, B], probabilities=[[0.2, 0.5, 0.3]])
