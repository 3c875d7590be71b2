"""What comparisons are said to show: limits, worked examples and cases where nothing can be shown."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from harness_plugin.stats.paired import FLIPS, MCNEMAR, drop_test, mcnemar, sign_flips
from harness_plugin.stats.power import detectable_drop, prompts_to_detect, prompts_to_pass

RANGE = (-1.0, 1.0)


def changes(n: int, better: int, worse: int):
    """Right and wrong of n items, of which so many turn right and wrong."""
    d = np.repeat([1.0, 0.0, -1.0], [better, n - better - worse, worse])
    base = (d < 0).astype(float)
    return base + d, base


def detectable(new, base, margin, largest=1.0, alpha=0.05):
    return detectable_drop(drop_test(new, base, None, alpha, RANGE), alpha, 0.8, margin, alpha, largest)


@pytest.mark.parametrize(("margin", "n"), [(0.02, 149), (0.03, 99), (0.05, 59), (0.10, 29)])
def test_equal_values_rule_out_a_margin_from_so_many_prompts_on(margin, n):
    """ln(0.05) / ln(1 - margin) prompts."""
    assert abs(prompts_to_pass(margin, [0.0], [1.0], -1.0, 0.05, 0.8) - n) <= 1
    for count, passes in ((n - 2, False), (n + 2, True)):
        assert (drop_test(np.ones(count), np.ones(count), None, 0.05, RANGE).low >= -margin) == passes


def test_p_is_mcnemars_for_right_and_wrong_and_counts_flips_for_few_prompts():
    new, base = changes(30, 2, 8)
    found = drop_test(new, base, None, 0.05, RANGE)
    assert (found.method, found.p) == (MCNEMAR, mcnemar(2, 8)[0])
    assert mcnemar(2, 8)[0] == pytest.approx(sum(math.comb(10, k) for k in range(8, 11)) / 2**10)
    few = drop_test([0.1, 0.2, 0.3, 0.35], [0.2, 0.4, 0.6, 0.3], None, 0.05, RANGE)
    assert few.method == FLIPS and few.p == sign_flips([-0.1, -0.2, -0.3, 0.05]) == 2 / 16
    with pytest.raises(ValueError, match="too many sign flips"):
        sign_flips(np.zeros(21))


def test_bounds_of_values_without_limits_are_students_with_alpha_on_each_side():
    change = np.random.default_rng(6).normal(-0.1, 1.0, 30)
    found, expected = drop_test(change, np.zeros(30), None, 0.05), reference.ttest_1samp(change, 0, alternative="less")
    low, high = reference.ttest_1samp(change, 0).confidence_interval(0.9)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, expected.pvalue))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_with_fewer_than_five_prompts_no_drop_is_detectable(n):
    rng = np.random.default_rng(n)
    assert math.isnan(detectable(0.5 + 0.1 * rng.standard_normal(n), np.full(n, 0.5), 0.02))
    assert math.isnan(detectable(*changes(n, 0, 0), 0.02))


def test_no_detectable_drop_is_larger_than_what_can_be_lost():
    wild = np.resize([0.9, 0.1], 6)
    assert detectable(wild, np.full(6, 0.5), 0.02) > 0.5
    assert math.isnan(detectable(wild, np.full(6, 0.5), 0.02, largest=0.5))
    for share in (0, 2, 8):
        drop = detectable(*changes(20, share // 2, share // 2), 0.02)
        assert math.isnan(drop) or drop <= 1 - share / 20


def test_the_gate_reports_no_drop_below_its_margin_even_with_many_prompts():
    new = 0.5 + np.resize([0.2, -0.2], 2000)
    assert 0.015 < detectable(new, np.full(2000, 0.5), 0.02) < 0.03
    assert detectable(new, np.full(2000, 0.5), None) < 0.012, "the test alone would see it"
    assert 0.09 < detectable(new, np.full(2000, 0.5), 0.1) < 0.1


def test_the_prompts_that_a_margin_needs_grow_with_the_noise_and_with_ever_smaller_levels():
    assert 600 < prompts_to_detect(0.02, 0.2, 0.05, 0.8) < 640
    assert prompts_to_detect(0.9, 0.2, 0.05, 0.8) == 5, "fewer cannot be significant"
    assert prompts_to_detect(0.02, 0.2, 0.025, 0.8) > prompts_to_detect(0.02, 0.2, 0.05, 0.8)
    right_and_wrong = prompts_to_detect(0.05, math.sqrt(0.2), 0.05, 0.8, right_and_wrong=True)
    assert 550 < right_and_wrong < 750
    assert prompts_to_pass(0.0, [0.1, -0.1], [0.5, 0.5], -1.0, 0.05, 0.8) is None
    assert prompts_to_pass(0.02, [0.2, -0.2], [0.5, 0.5], -math.inf, 0.05, 0.8) == pytest.approx(620, abs=5)


def test_where_items_count_the_same_large_clusters_weigh_more():
    new, base, names = np.array([0.2] * 8 + [0.8, 0.9]), np.full(10, 0.5), [0] * 8 + [1, 2]
    prompts, items = (drop_test(new, base, names, 0.05, RANGE, by_items) for by_items in (False, True))
    assert prompts.difference == pytest.approx((-0.3 + 0.3 + 0.4) / 3) == prompts.by_clusters == items.by_clusters
    assert items.difference == pytest.approx((8 * -0.3 + 0.3 + 0.4) / 10) == items.by_items == prompts.by_items
    assert items.low < items.difference < items.high and items.before == pytest.approx(0.5)
