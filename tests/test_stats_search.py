"""The searches and the length term that several statistics share."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from harness_plugin.stats import length_feature
from harness_plugin.stats.search import bisect, newton, solved_step
from harness_plugin.stats.student import t_quantile, t_quantiles


def test_newton_finds_the_maximum_from_where_full_steps_overshoot():
    """-ln cosh(x) has its maximum at 0; from 2, full steps run away."""

    def value(x):
        return -float(np.log(np.cosh(x)).sum())

    def derivatives(x):
        return -np.tanh(x), np.diag(1 / np.cosh(x) ** 2)

    found = newton(value, solved_step(derivatives), np.array([2.0, -0.5]), 1e-20)
    assert found == pytest.approx([0, 0], abs=1e-10)


def test_newton_gives_up_where_there_is_no_maximum():
    assert newton(lambda x: float(x[0]), lambda x: (np.ones(1), 1.0), np.zeros(1), 1e-20) is None


def test_bisection_finds_a_crossing_and_an_end_where_there_is_none():
    assert bisect(lambda x: 2 - x * x, 0.0, 5.0) == pytest.approx(math.sqrt(2), abs=1e-15)
    assert bisect(lambda x: 1.0, 0.0, 5.0) == 5.0 and bisect(lambda x: -1.0, 0.0, 5.0) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("probability", [0.001, 0.2, 0.5, 0.8, 0.95, 0.975, 0.9999])
def test_both_quantiles_of_students_t_are_scipys(probability):
    degrees = np.array([1, 2, 3, 7, 30, 200, 10_000])
    expected = reference.t.ppf(probability, degrees)
    assert t_quantiles(probability, degrees) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert [t_quantile(probability, v) for v in degrees.tolist()] == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert np.isnan(t_quantiles(probability, [0, -1])).all()


def test_the_length_feature_is_one_at_a_root_mean_square_before_the_tangent_and_turns_with_the_sides():
    difference = np.array([100.0, -300.0, 500.0, -100.0])
    found = length_feature(difference)
    assert found == pytest.approx(np.tanh(difference / 300))
    assert (length_feature(-difference) == -found).all() and length_feature(3 * difference) == pytest.approx(found)
    assert length_feature([0.0, 0.0]).tolist() == [0.0, 0.0] and length_feature([]).tolist() == []
