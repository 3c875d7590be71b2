"""Statistics against worked examples, explicit formulas and second implementations."""

import math

import numpy as np
import pytest
from scipy import stats as reference
from sklearn import metrics as sklearn_metrics

from harness_plugin import stats
from harness_plugin.stats import A, B
from harness_plugin.stats.bounded import excludes, lower_bound, upper_bound


def close(x, y, tolerance=1e-12):
    return x == pytest.approx(y, rel=tolerance, abs=tolerance, nan_ok=True)


# Means and shares


def test_clustered_mean_of_a_worked_example():
    found = stats.clustered_mean([1, 0, 1, 1], ["a", "a", "b", "b"])
    # Deviations sum to -1/2 in a and 1/2 in b: SE^2 = 2/1 * (1/4 + 1/4) / 16.
    assert (found.value, found.n, found.n_clusters) == (0.75, 4, 2)
    assert close(found.stderr, 0.25)
    assert found.high - found.value == pytest.approx(12.7062047 * 0.25)


def test_clustered_mean_with_clusters_of_one_is_the_textbook_mean():
    x = np.random.default_rng(0).normal(size=37)
    found = stats.clustered_mean(x)
    assert close(found.stderr, reference.sem(x))
    low, high = reference.t.interval(0.95, 36, loc=x.mean(), scale=reference.sem(x))
    assert close(found.low, low, 1e-9)
    assert close(found.high, high, 1e-9)


def test_clustered_mean_follows_the_explicit_formula():
    rng = np.random.default_rng(1)
    x, names = rng.normal(size=90), rng.integers(0, 17, 90).astype(str)
    total = sum(sum(x[i] - x.mean() for i in range(90) if names[i] == name) ** 2 for name in set(names))
    g = len(set(names))
    assert close(stats.clustered_mean(x, names).stderr, math.sqrt(g / (g - 1) * total) / 90, 1e-10)


def test_repeating_every_value_in_its_cluster_adds_no_information():
    x = np.random.default_rng(2).normal(size=25)
    once = stats.clustered_mean(x, np.arange(25))
    thrice = stats.clustered_mean(np.repeat(x, 3), np.repeat(np.arange(25), 3))
    assert close(once.stderr, thrice.stderr)
    assert stats.clustered_mean(np.repeat(x, 3)).stderr < 0.7 * once.stderr


@pytest.mark.parametrize("function", [stats.clustered_mean, stats.clustered_share])
def test_too_little_data_is_nan_and_never_zero(function):
    empty, single, one_cluster = function([]), function([1.0]), function([1.0, 0.0], ["p", "p"])
    assert math.isnan(empty.value)
    assert single.value == 1.0
    assert one_cluster.value == 0.5
    for found in (empty, single, one_cluster):
        assert all(map(math.isnan, (found.stderr, found.low, found.high)))


def test_values_that_are_not_finite_or_clusters_of_another_length_are_refused():
    with pytest.raises(ValueError, match="1 of 2 values"):
        stats.clustered_mean([1.0, math.nan])
    with pytest.raises(ValueError, match="3 cluster names for 2 values"):
        stats.clustered_mean([1.0, 2.0], ["a", "b", "c"])


def test_stratified_error_is_the_sum_of_the_strata_errors():
    rng = np.random.default_rng(4)
    x, strata = rng.random(60), np.repeat(["easy", "hard"], [20, 40])
    names = [f"{stratum}{i % 7}" for i, stratum in enumerate(strata)]
    found = stats.stratified_share(x, strata, names, {"easy": 3, "hard": 1})
    parts = [stats.clustered_mean(x[strata == s], np.array(names)[strata == s]) for s in ("easy", "hard")]
    assert close(found.value, 0.75 * parts[0].value + 0.25 * parts[1].value)
    assert close(found.stderr, math.hypot(0.75 * parts[0].stderr, 0.25 * parts[1].stderr))


def test_the_interval_of_one_stratum_is_that_of_its_mean_and_of_two_equal_ones_shorter():
    x, names = (np.arange(40) % 4 > 0).astype(float), np.arange(40)
    alone = stats.clustered_mean(x, names, bounds=(0.0, 1.0))
    one = stats.stratified_share(x, np.zeros(40), names)
    assert close((one.low, one.high), (alone.low, alone.high), 1e-9)
    two = stats.stratified_share(np.tile(x, 2), np.repeat([0, 1], 40), np.arange(80))
    assert close(two.value - two.low, (alone.value - alone.low) / math.sqrt(2), 1e-9)
    shared = stats.stratified_share(np.tile(x, 2), np.repeat([0, 1], 40), np.tile(names, 2))
    assert close(shared.value - shared.low, alone.value - alone.low, 1e-9), "the same prompts again say nothing new"


def test_a_stratified_share_ignores_other_strata_and_needs_every_named_one():
    x, strata = [0.0, 1.0, 1.0, 0.5], np.array(["a", "a", "b", "c"], dtype=object)
    assert stats.stratified_share(x, strata, weights={"a": 1, "b": 1}).value == 0.75
    assert stats.stratified_share(x, strata, weights={"a": 1, "b": 1}).n == 3
    assert math.isnan(stats.stratified_share(x, strata, weights={"a": 1, "b": 1}).stderr)  # b has one cluster
    assert math.isnan(stats.stratified_share(x, strata, weights={"a": 1, "z": 1}).value)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (61, 97)])
def test_wilson_agrees_with_scipy(k, n):
    expected = reference.binomtest(k, n).proportion_ci(method="wilson")
    assert close(stats.wilson(k, n), (expected.low, expected.high), 1e-9)


def test_wilson_of_nothing_is_nan_and_of_the_impossible_an_error():
    assert all(map(math.isnan, stats.wilson(0, 0)))
    with pytest.raises(ValueError, match="k=4 of n=3"):
        stats.wilson(4, 3)


def test_a_share_of_one_hundred_percent_keeps_an_interval():
    found = stats.clustered_share(np.ones(50))
    assert (found.value, found.high) == (1.0, 1.0)
    assert math.isnan(found.stderr), "an error of 0 would say that the share is certain"
    assert 0.90 < found.low < 0.95
    assert stats.clustered_share(np.ones(50), np.arange(50) // 10).low < found.low


ALIKE = np.repeat(np.arange(10), 4)


@pytest.mark.parametrize(
    "found",
    [
        stats.clustered_mean(np.ones(40), ALIKE),
        stats.clustered_mean(np.ones(40), ALIKE, bounds=(0.0, 1.0)),
        stats.clustered_mean(np.ones(40), ALIKE, bounds=(0.0, math.inf)),
        stats.clustered_share(np.ones(40), ALIKE),
        stats.stratified_share(np.ones(40), np.arange(40) % 2, ALIKE),
        stats.auc_estimate(np.arange(40), np.arange(40) > 19, ALIKE),
        stats.jackknife(lambda keep: 1.0, 40, ALIKE),
        stats.paired_difference(np.ones(40), np.ones(40)),
        stats.share_difference(np.ones(40), np.ones(40)),
    ],
    ids=[
        *("mean", "bounded mean", "mean loss", "share", "stratified share", "AUC", "jackknife", "difference"),
        "difference of shares",
    ],
)
def test_where_all_clusters_agree_no_interval_has_a_width_of_zero_and_no_error_is_zero(found):
    assert math.isfinite(found.value) and found.stderr != 0
    assert math.isnan(found.low) == math.isnan(found.high)
    assert math.isnan(found.low) or found.low < found.high


@pytest.mark.parametrize(("k", "n"), [(0, 7), (3, 10), (10, 10), (5, 400)])
def test_the_bounds_of_right_and_wrong_are_clopper_and_pearsons(k, n):
    x = np.arange(n) < k
    exact = reference.binomtest(k, n).proportion_ci(0.95, "exact")
    found = stats.clustered_mean(x, bounds=(0.0, 1.0))
    assert found.low == pytest.approx(exact.low, abs=0.004) and found.high == pytest.approx(exact.high, abs=0.004)


@pytest.mark.parametrize("least", [1e-60, 1e-110, 1e-200, 5e-324])
def test_values_that_are_hardly_above_the_smallest_have_bounds(least):
    """Win rates of a chatbot that loses everything to a judge whose logits are in the hundreds."""
    sums, sizes = least * np.arange(1, 11), np.ones(10)
    low, high = lower_bound(sums, sizes, 0.0, 0.025), upper_bound(sums, sizes, 1.0, 0.025)
    assert 0 <= low <= sums.mean() and high == pytest.approx(upper_bound(np.zeros(10), sizes, 1.0, 0.025))
    found = stats.clustered_mean(sums, bounds=(0.0, 2.0))
    assert 0 <= found.low <= found.value <= found.high < 1


def test_bounds_are_the_quantiles_of_the_random_means_that_define_them():
    rng = np.random.default_rng(16)
    sums, sizes = rng.normal(0.1, 0.3, 30).clip(-1, 1), rng.integers(1, 5, 30)
    sums = sums * sizes
    e = rng.exponential(size=(200_000, 31))
    means = (e[:, :30] @ sums - e[:, 30] * sizes.max()) / (e[:, :30] @ sizes + e[:, 30] * sizes.max())
    assert lower_bound(sums, sizes, -1.0, 0.05) == pytest.approx(np.quantile(means, 0.05), abs=0.002)
    mirrored = -upper_bound(-sums, sizes, 1.0, 0.05)
    assert mirrored == lower_bound(sums, sizes, -1.0, 0.05)
    assert excludes(sums, sizes, -1.0, 0.05, mirrored - 1e-6) and not excludes(sums, sizes, -1.0, 0.05, mirrored + 1e-6)


def test_clusters_of_very_different_sizes_count_as_fewer():
    x, names = np.random.default_rng(17).normal(size=60), np.repeat(np.arange(6), [50, 2, 2, 2, 2, 2])
    found = stats.clustered_mean(x, names)
    assert found.high - found.value == pytest.approx(12.7062047 * found.stderr, rel=1e-6), "Kish's number is below 2"


def test_share_of_many_independent_values_has_wilsons_interval():
    x = (np.random.default_rng(5).random(4000) < 0.7).astype(float)
    found = stats.clustered_share(x)
    assert close((found.low, found.high), stats.wilson(x.sum(), 4000), 1e-4)


def test_clustered_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(6)
    inside = 0
    for _ in range(400):
        easy = rng.beta(2, 1, size=40)  # each prompt's own chance; the mean is 2/3
        found = stats.clustered_share(rng.random(160) < np.repeat(easy, 4), np.repeat(np.arange(40), 4))
        inside += found.low <= 2 / 3 <= found.high
    assert 0.925 <= inside / 400 <= 0.985


def test_paired_difference_is_a_clustered_mean_of_differences_and_tighter_than_two_means():
    rng = np.random.default_rng(7)
    hard = rng.normal(size=100)
    new, base = hard + rng.normal(0.3, 0.3, 100), hard + rng.normal(0, 0.3, 100)
    found = stats.paired_difference(new, base, np.arange(100) // 2)
    assert close(found.value, new.mean() - base.mean())
    assert close(found.stderr, stats.clustered_mean(new - base, np.arange(100) // 2).stderr)
    assert found.stderr < 0.5 * math.hypot(reference.sem(new), reference.sem(base))
    single = stats.paired_difference(new, base)
    test = reference.ttest_rel(new, base).confidence_interval()
    assert close((single.low, single.high), (test.low, test.high), 1e-9)
    with pytest.raises(ValueError, match="the same items"):
        stats.paired_difference(new, base[1:])


@pytest.mark.parametrize("n", [5, 10, 20, 40])
def test_a_difference_of_shares_holds_the_truth_where_the_values_are_nearly_0_or_1(n):
    """Student's interval holds it in 0.2, 0.4, 0.65 and 0.87 of these."""
    rng = np.random.default_rng(20)
    held = 0
    for _ in range(200):
        found = stats.share_difference(0.001 + 0.998 * (rng.random(n) < 0.95), np.full(n, 0.999))
        held += found.low <= -0.05 * 0.998 <= found.high
    assert held >= 190


def test_a_difference_of_shares_adds_two_differences_as_certain_as_the_values():
    ones = np.ones(20)
    half = reference.t.ppf(0.975, 19) * math.sqrt(22 / 21 * 2) / 22
    found = stats.share_difference(ones, ones)
    assert close((found.value, found.low, found.high), (0, -half, half))
    apart = stats.share_difference(ones, 0 * ones)
    assert close((apart.value, apart.low, apart.high), (1, 1 - half, 1)), "it ends at 1"
    alike = stats.share_difference(np.repeat(ones, 4), np.repeat(ones, 4), np.repeat(np.arange(20), 4))
    assert close(alike.high, half), "a prompt's repeated pairs tell no more"
    less = stats.share_difference(np.full(20, 0.75), np.full(20, 0.25))
    assert close(less.high, 0.5 + half / 16), "the certainty is a quarter, and its square counts"
    one = np.where(np.arange(20) == 0, 0.0, 1.0)
    lost = stats.share_difference(one, ones)
    assert lost.low < -0.1 and lost.high > 0, "one of 20 is no evidence"
    assert stats.share_difference(ones, one) == stats.Estimate(-lost.value, lost.stderr, 20, 20, -lost.high, -lost.low)


def test_a_difference_of_moderate_shares_is_students():
    rng = np.random.default_rng(21)
    hard = rng.normal(size=40)
    new, base = (1 / (1 + np.exp(-hard - rng.normal(0, 0.5, 40))) for _ in range(2))
    assert stats.share_difference(new, base) == stats.paired_difference(new, base)
    assert math.isnan(stats.share_difference(np.full(40, 0.5), np.full(40, 0.5)).low), "ties alone tell nothing"
    with pytest.raises(ValueError, match=r"within 0\.0 and 1\.0"):
        stats.share_difference([2.0, 1.0], [1.0, 0.0])


# Jackknife


def test_jackknife_of_a_mean_over_equal_clusters_is_the_clustered_error():
    rng = np.random.default_rng(8)
    x, names = rng.normal(size=80), np.repeat(np.arange(20), 4)
    found = stats.jackknife(lambda keep: x[keep].mean(), 80, names)
    expected = stats.clustered_mean(x, names)
    assert close((found.value, found.stderr, found.low), (expected.value, expected.stderr, expected.low), 1e-9)


def test_grouped_jackknife_of_many_unequal_clusters_is_near_the_clustered_error():
    rng = np.random.default_rng(9)
    x, names = rng.normal(size=3000), rng.integers(0, 900, 3000)
    found = stats.jackknife(lambda keep: x[keep].mean(), 3000, names)
    assert found.n_clusters == len(set(names))
    assert found.stderr == pytest.approx(stats.clustered_mean(x, names).stderr, rel=0.25)


def test_jackknife_without_two_clusters_or_with_an_undefined_replicate_has_no_error():
    assert math.isnan(stats.jackknife(lambda keep: 1.0, 5, ["p"] * 5).stderr)
    assert math.isnan(stats.jackknife(lambda keep: 1.0, 0).value)
    found = stats.jackknife(lambda keep: 1.0 if keep[0] else math.nan, 5)
    assert found.value == 1.0
    assert math.isnan(found.stderr)


# Scores


@pytest.mark.parametrize(
    "values",
    [
        np.array([3, 1, 1, 0, 9]),
        np.array([-5, 7, -5, 1000000]),
        np.array([0.5, -0.25, 0.5, 2.0, -0.25]),
        np.array([], dtype=int),
    ],
)
def test_midranks_are_scipys(values):
    assert stats.midranks(values).tolist() == reference.rankdata(values).tolist()


def test_auc_is_sklearns_with_ties_in_the_scores():
    rng = np.random.default_rng(10)
    scores, positive = np.round(rng.normal(size=300), 1), rng.random(300) < 0.4
    assert close(stats.auc(scores, positive), sklearn_metrics.roc_auc_score(positive, scores))
    assert stats.auc([1, 2, 3, 3], [False, False, True, False]) == 2.5 / 3
    assert math.isnan(stats.auc([1.0, 2.0], [True, True]))


def test_spearman_is_scipys_with_ties_and_nan_for_a_constant():
    rng = np.random.default_rng(11)
    x, y = np.round(rng.normal(size=200), 1), rng.integers(-20, 20, 200)
    assert close(stats.spearman(x, y), reference.spearmanr(x, y).statistic)
    assert stats.spearman([1, 2, 3], [10, 20, 30]) == 1.0
    assert math.isnan(stats.spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(stats.spearman([1, 2], [1, 2]))


def test_a_correlation_of_differences_does_not_depend_on_which_side_is_the_first():
    rng = np.random.default_rng(12)
    x, y = np.round(rng.normal(0.5, 1, 90), 1), rng.integers(-5, 9, 90)
    found = stats.spearman_of_sides(x, y)
    both = reference.spearmanr(np.concatenate([x, -x]), np.concatenate([y, -y])).statistic
    assert close(found, both)
    exchanged = rng.choice([-1, 1], 90)
    assert close(stats.spearman_of_sides(exchanged * x, exchanged * y), found)
    assert stats.spearman_of_sides(stats.signed_codes(x), stats.signed_codes(y)) == found
    assert math.isnan(stats.spearman_of_sides(x, np.zeros(90))) and math.isnan(stats.spearman_of_sides(x[:2], y[:2]))


def test_a_jackknife_over_clusters_of_very_different_sizes_has_fewer_degrees_of_freedom():
    names = np.array([0] * 40 + list(range(1, 41)))
    x = np.random.default_rng(13).normal(size=80)
    found = stats.jackknife(lambda keep: x[keep].mean(), 80, names)
    half = found.high - found.value
    assert half == pytest.approx(found.stderr * reference.t.ppf(0.975, 80**2 / (40**2 + 40) - 1), rel=1e-9)


def test_ece_of_a_worked_example_does_not_depend_on_the_order():
    confidence = np.repeat([0.6, 0.9], 10)
    correct = np.array([1] * 8 + [0] * 2 + [1] * 5 + [0] * 5)
    assert close(stats.ece(confidence, correct), 0.5 * 0.2 + 0.5 * 0.4)
    order = np.random.default_rng(12).permutation(20)
    assert close(stats.ece(confidence[order], correct[order]), 0.3)


def test_ece_of_distinct_confidences_is_the_mean_gap_of_ten_chunks():
    rng = np.random.default_rng(13)
    confidence, correct = 0.5 + rng.random(200) / 2, rng.random(200) < 0.7
    gap, total = correct - confidence, 0.0
    for bin in np.split(np.argsort(confidence), 10):
        total += sum(gap[i] * np.sign(gap[bin].sum() - gap[i]) for i in bin)  # the sign is that of the others
    assert close(stats.ece(confidence, correct), total / 200, 1e-9)
    twice, names = np.tile(confidence, 2), np.tile(np.arange(200), 2)
    assert close(stats.ece(twice, np.tile(correct, 2), clusters=names), stats.ece(confidence, correct), 1e-9)
    assert math.isnan(stats.ece(confidence[:9], correct[:9]))


def test_ece_of_a_calibrated_judge_is_0_in_the_mean_and_its_interval_holds_0():
    rng = np.random.default_rng(18)
    confidence = 0.5 + rng.random((300, 100)) / 2
    correct = (rng.random((300, 100)) < confidence).astype(float)
    values = [stats.ece(c, y) for c, y in zip(confidence, correct, strict=True)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(300) < 0.02
    plain = [
        np.abs(np.bincount(np.argsort(np.argsort(c)) // 10, y - c)).sum() / 100
        for c, y in zip(confidence, correct, strict=True)
    ]
    assert np.mean(plain) > 0.08, "without the correction"
    found = stats.ece_estimate(confidence[0], correct[0])
    assert found.low == 0.0 < found.high and found.value >= 0


def test_the_calibration_error_of_a_certain_judge_that_was_never_wrong_is_not_known_to_be_0():
    """An accuracy of 0.9 gives 20 right answers in a row in one of eight cases, and then the error is 0.1."""
    rng = np.random.default_rng(15)
    for confidence in (np.full(20, 0.999), 0.999 + rng.random(20) / 1000):
        found = stats.ece_estimate(confidence, np.ones(20))
        assert found.value < 0.002 and found.low == 0 and 0.1 < found.high < 0.2
    usual = 0.5 + rng.random(200) / 2
    right = (rng.random(200) < usual).astype(float)
    found, mean = stats.ece_estimate(usual, right), stats.clustered_mean(right - usual)
    assert close(found.high - found.value, 2 * (mean.high - mean.value)), "where answers differ it is as it was"


def test_log_loss_and_brier_are_the_textbook_ones():
    rng = np.random.default_rng(14)
    p, winners = rng.dirichlet([1, 1, 1], 50), rng.integers(0, 3, 50)
    assert close(stats.log_loss(p, winners).mean(), sklearn_metrics.log_loss(winners, p, labels=[0, 1, 2]))
    assert close(stats.brier(p, winners)[0], sum((p[0][k] - (winners[0] == k)) ** 2 for k in range(3)))
    assert stats.brier([[0.5, 0.3, 0.2]], [A]).tolist() == pytest.approx([0.25 + 0.09 + 0.04])
    assert stats.log_loss([[1.0, 0.0, 0.0]], [B]).tolist() == pytest.approx([-math.log(1e-15)])


def test_length_balanced_accuracy_is_the_mean_of_the_two_halves():
    # Longer is right in 4 pairs (3 credited), shorter in 2 (none credited); the equal one does not count.
    found = stats.acc_length_balanced([1, 1, 1, 0, 0, 0, 1], [5, 9, 1, 7, -2, -3, 0])
    assert (found.value, found.n) == (0.375, 6)
    assert math.isnan(stats.acc_length_balanced([1, 1], [3, 4]).value)
