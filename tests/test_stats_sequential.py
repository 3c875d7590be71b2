"""Looks before the end: boundaries against published ones, and what an interval or a p value of a look must keep."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from harness_plugin.stats.bounded import lower_bound
from harness_plugin.stats.paired import drop_test
from harness_plugin.stats.sequential import (
    PlannedLook,
    SequenceLook,
    boundary,
    compare_at,
    crossing,
    drop_test_at,
    interval_at,
    log_capital,
    looks_at,
)

FIVE = (0.2, 0.4, 0.6, 0.8, 1.0)
LOOKS = [PlannedLook(2, FIVE), PlannedLook(5, FIVE), SequenceLook(400)]


# Jennison and Turnbull 2000, table 2.3: two-sided at 5%, which is 2.5% to each side
@pytest.mark.parametrize(
    ("looks", "published"), [(1, 1.960), (2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040), (10, 2.087)]
)
def test_the_boundary_is_the_published_one(looks, published):
    fractions = (*(k / looks for k in range(1, looks)), 1.0)
    assert boundary(0.025, fractions) == pytest.approx(published, abs=6e-4)


def test_uneven_looks_cross_as_often_as_simulated_motions():
    fractions = (0.07, 0.31, 0.5, 1.0)
    steps = np.random.default_rng(0).standard_normal((200_000, 4)) * np.sqrt(np.diff((0.0, *fractions)))
    highest = steps.cumsum(axis=1).max(axis=1)
    for height in (0.5, 1.2, 2.0):
        assert crossing(height, fractions) == pytest.approx((highest >= height).mean(), abs=0.004)


@pytest.mark.parametrize("fractions", [(), (0.5,), (0.5, 0.5, 1.0), (0.0, 1.0), (0.6, 0.4, 1.0)])
def test_looks_that_are_no_plan_are_refused(fractions):
    with pytest.raises(ValueError, match="looks at"):
        boundary(0.05, fractions)


def test_one_look_at_all_prompts_is_no_look():
    d = np.random.default_rng(1).uniform(-1, 1, 80)
    look = PlannedLook(1, (1.0,))
    assert look.level(0.05) == pytest.approx(0.05)
    assert look.lower(d, np.ones(80), -1.0, 0.05) == pytest.approx(lower_bound(d, np.ones(80), -1.0, 0.05), abs=1e-6)
    assert look.widening(0.05, 80) == pytest.approx(1.0)
    test = drop_test(d, np.zeros(80), None, 0.05, (-1.0, 1.0))
    assert look.drop_p(test) == pytest.approx(test.p, abs=1e-9)


def test_a_repeated_p_is_alpha_where_the_boundary_is_just_reached():
    for number in range(1, 6):
        look = PlannedLook(number, FIVE)
        z = NormalDist().inv_cdf(look.level(0.05))
        assert look.repeated_p(z) == pytest.approx(0.05, rel=1e-6)
        assert look.repeated_p(z - 0.5) < 0.05 < look.repeated_p(z + 0.5)


@pytest.mark.parametrize("look", LOOKS)
def test_bound_and_p_of_a_look_agree(look):
    d = np.random.default_rng(2).normal(0.1, 0.3, 160).clip(-1, 1)
    low = look.lower(d, np.ones(160), -1.0, 0.05)
    assert look.p_above(d, np.ones(160), -1.0, low - 1e-4) < 0.05 < look.p_above(d, np.ones(160), -1.0, low + 1e-4)
    assert low < lower_bound(d, np.ones(160), -1.0, 0.05) < d.mean()


@pytest.mark.parametrize("look", LOOKS)
def test_values_that_never_vary_are_not_certain(look):
    low, high = interval_at(look, np.full(30, 0.5), 0.0, 1.0, 0.05)
    assert 0.0 <= low < 0.5 < high <= 1.0
    assert look.lower(np.full(5, -1.0), np.ones(5), -1.0, 0.05) == -1.0


def test_bets_do_not_care_for_the_order_and_win_nothing_on_average():
    rng = np.random.default_rng(3)
    d = rng.uniform(-1, 1, 50)
    assert log_capital(d, np.ones(50), -1.0, 0.2) == pytest.approx(log_capital(d[::-1], np.ones(50), -1.0, 0.2))
    fair = [math.exp(log_capital(rng.choice([-1.0, 1.0], 6), np.ones(6), -1.0, 0.0)) for _ in range(5_000)]
    assert np.mean(fair) == pytest.approx(1.0, abs=0.1)


def test_larger_prompts_count_more_in_bets():
    sums, sizes = np.array([4.0, 3.0, -1.0]), np.array([4.0, 4.0, 1.0])
    capital = np.mean([np.prod([1 + c * s / 4 for s in sums]) for c in np.arange(1, 21) / 20])
    assert log_capital(sums, sizes, -1.0, 0.0) == pytest.approx(math.log(capital))


def test_sequences_err_rarely_though_every_prompt_is_a_look():
    rng, wrong = np.random.default_rng(4), 0
    for _ in range(60):
        d = rng.choice([-1.0, 0.0, 1.0], 300)
        wrong += any(SequenceLook(300).p_above(d[:n], np.ones(n), -1.0, 0.0) <= 0.05 for n in range(1, 300, 3))
    assert wrong <= 7


def test_looks_are_spread_over_all_prompts():
    planned = looks_at(11, 5)
    assert [n for n, _ in planned] == [3, 5, 7, 9, 11]
    assert planned[-1][1].fractions == (3 / 11, 5 / 11, 7 / 11, 9 / 11, 1.0) and planned[1][1].number == 2
    assert [n for n, _ in looks_at(3, 5)] == [1, 2, 3]
    assert [n for n, _ in looks_at(80, None)] == [32, 64, 80] and [n for n, _ in looks_at(32, None)] == [32]


@pytest.mark.parametrize("look", LOOKS)
def test_a_drop_test_at_a_look_is_wider_and_its_p_larger(look):
    rng = np.random.default_rng(5)
    d = rng.normal(-0.06, 0.2, 160).clip(-0.5, 0.5)
    plain = drop_test(d, np.zeros(160), None, 0.05, (-0.5, 0.5))
    found = drop_test_at(look, plain, 0.05)
    assert found.low < plain.low < plain.difference < plain.high < found.high
    assert found.p > plain.p and found.difference == plain.difference
    with pytest.raises(ValueError, match="limits"):
        drop_test_at(look, drop_test(d, np.zeros(160), None, 0.05), 0.05)


def test_columns_are_compared_over_the_prompts_that_both_have():
    rng = np.random.default_rng(6)
    table = rng.uniform(0, 1, (100, 3))
    table[:, 2] = np.nan
    table[:60, 1] -= 0.5
    table[60:, 1] = np.nan
    first, other = compare_at(PlannedLook(1, (1.0,)), table.clip(0, 1), [(0, 1), (0, 2)], 0.05)
    assert first.p_holm == first.p < 1e-4 and 0 < first.low < first.difference < first.high
    assert math.isnan(other.p_holm) and math.isnan(other.difference)
