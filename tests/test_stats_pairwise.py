"""Tests of all pairs: Holm, rank ranges, and the smallest difference that is seen."""

import math

import numpy as np
import pytest
from rating_games import close, round_robin
from scipy import stats as reference

from harness_plugin import stats


def test_holm_of_a_worked_example():
    assert close(stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert close(stats.holm([0.5, math.nan, 0.9]), [1.0, math.nan, 1.0])
    assert stats.holm([]).shape == (0,)


def test_column_tests_are_students_paired_test_on_the_shared_items():
    rng = np.random.default_rng(18)
    values = rng.normal(size=(30, 1)) + rng.normal([0, 0.3, 0.6], 0.5, (30, 3))
    values[:5, 2] = np.nan
    found = stats.column_tests(values)
    for a, b, start in ((0, 1, 0), (0, 2, 5), (2, 1, 5)):
        expected = reference.ttest_rel(values[start:, a], values[start:, b])
        interval = expected.confidence_interval()
        assert close([found.p[a, b], found.low[a, b], found.high[a, b]], [expected.pvalue, interval.low, interval.high])
    assert found.n_clusters[0, 2] == 25
    upper = np.triu_indices(3, 1)
    assert close(found.p_holm[upper], stats.holm(found.p[upper]))
    assert close(found.difference, -found.difference.T)
    clustered = stats.column_tests(np.repeat(values, 2, axis=0), np.repeat(np.arange(30), 2))
    assert close(clustered.p, found.p)


def test_clusters_of_very_different_sizes_give_the_interval_of_their_mean():
    """With as many degrees of freedom as clusters less one, such intervals hold the truth in 0.8 of simulations."""
    names = np.array([0] * 20 + list(range(1, 21)))
    values = np.random.default_rng(19).random((40, 2))
    found = stats.column_tests(values, names)
    mean = stats.paired_difference(values[:, 0], values[:, 1], names)
    assert close([found.low[0, 1], found.high[0, 1]], [mean.low, mean.high])
    degrees = 40**2 / (20**2 + 20) - 1
    assert close(found.p[0, 1], 2 * reference.t.sf(abs(mean.value / mean.stderr), degrees))
    assert found.n_clusters[0, 1] == 21
    assert found.smallest_difference() > mean.stderr * 4, "what can be detected has the same degrees of freedom"


def test_tests_of_shares_agree_with_their_intervals_and_are_mirrored():
    rng = np.random.default_rng(22)
    for n in (5, 8, 30):
        chances = rng.random((1, 6)) ** 0.2
        values, names = (rng.random((2 * n, 6)) < chances) * 0.998 + 0.001, np.repeat(np.arange(n), 2)
        values[:, 5] = 0.5
        found = stats.column_tests(values, names, shares=True)
        apart = ~np.eye(6, dtype=bool)
        assert ((found.p < 0.05) == ((found.low > 0) | (found.high < 0)))[apart].all()
        assert (found.low == -found.high.T)[apart].all() and (found.p == found.p.T)[apart].all()
        assert (found.low >= -1)[apart].all() and (found.high <= 1)[apart].all()
        assert ((found.low < found.difference) & (found.difference < found.high))[apart].all()
        one = stats.share_difference(values[:, 0], values[:, 1], names)
        assert close([found.low[0, 1], found.high[0, 1]], [one.low, one.high])
    alike = stats.column_tests(np.tile([0.999, 0.998], (10, 1)), shares=True)
    assert alike.p[0, 1] > 0.9 and alike.high[0, 1] > 0.2, "a certain judge's ten prompts leave much open"


def test_rank_ranges_count_the_models_that_are_surely_better_or_worse():
    # 3 > 2 = 1 > 0, and nothing is known of 4.
    difference = np.subtract.outer([0, 10, 11, 20, 5.0], [0, 10, 11, 20, 5.0])
    stderr = np.full((5, 5), 1.0)
    stderr[4, :], stderr[:, 4] = math.nan, math.nan
    found = stats.pairwise(difference, stderr, np.full((5, 5), 100))
    assert found.better().sum() == 5
    assert found.rank_ranges().tolist() == [[4, 5], [2, 4], [2, 4], [1, 2], [1, 5]]
    assert stats.pairwise(difference, stderr * 100, np.full((5, 5), 100)).rank_ranges().tolist() == [[1, 5]] * 5


def test_outcomes_that_never_vary_decide_nothing():
    games = round_robin(3, 40, None, spread=0)
    tests = stats.bradley_terry_ratings(**games).tests()
    assert np.isnan([tests.p, tests.low, tests.high]).all(), "no interval, and none of the width 0"
    assert not tests.better().any()
    assert np.isnan(stats.column_tests(np.tile([0.2, 0.9], (50, 1))).p).all()


@pytest.mark.parametrize("n", [6, 20, 300])
def test_the_smallest_difference_is_seen_with_the_power_it_claims(n):
    delta, degrees = float(stats.smallest_difference(0.5, n)) / 0.5, n - 1
    critical = reference.t.ppf(0.975, degrees)
    power = reference.nct.sf(critical, degrees, delta) + reference.nct.cdf(-critical, degrees, delta)
    assert power == pytest.approx(0.8, abs=0.02)
    assert np.isnan(stats.smallest_difference(0.5, 1))
    with pytest.raises(ValueError, match="power"):
        stats.smallest_difference(0.5, n, power=0.01)


def test_the_smallest_difference_of_a_table_is_the_mean_square_of_its_pairs_at_holms_first_level():
    found = stats.bradley_terry_ratings(**round_robin(4, 60, np.random.default_rng(19))).tests()
    each = stats.smallest_difference(found.stderr, found.n_clusters, alpha=0.05 / 6)[np.triu_indices(4, 1)]
    assert found.smallest_difference() == pytest.approx(np.sqrt(np.mean(each**2)))
    assert math.isnan(stats.bradley_terry_ratings([0], [1], [0.5]).tests().smallest_difference())
