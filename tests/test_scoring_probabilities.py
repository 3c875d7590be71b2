"""From logits to probabilities: worked examples, exact antisymmetry, and one model for every form of a judge."""

import math

import numpy as np
import pytest
from scipy.special import log_softmax

from harness_plugin.errors import DataError, UsageError
from harness_plugin.model.calibration import Calibration
from harness_plugin.scoring.probabilities import (
    IMPOSSIBLE,
    NEUTRAL,
    combine,
    davidson_log_probabilities,
    is_impossible,
    log_probabilities,
    win_of_b,
)

A_FIRST = [1, 0, 2]  # the columns A, B, tie after the sides are exchanged


def logits(count: int, columns: int, seed: int, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=(count, columns))


def test_a_worked_example_of_davidsons_ties():
    """T = 2 and s = 2 ln 4 give d = ln 4: weights 1/2 for A, 2 for B, and nu = 1.5 for a tie, 4 in all."""
    p = np.exp(log_probabilities([2 * math.log(4)], Calibration(temperature=2.0, tie_nu=1.5)))
    assert p[0] == pytest.approx([0.5 / 4, 2 / 4, 1.5 / 4], abs=1e-15)


def test_without_a_calibration_it_is_bradley_and_terry_and_a_positive_logit_means_b():
    s = np.array([-2.0, 0.0, 0.5, 700.0])
    o = combine(s)
    assert o.p[:3, 1] == pytest.approx(1 / (1 + np.exp(-s[:3])), abs=1e-15)
    assert (o.p[:, 2] == 0).all() and (o.logp[:, 2] == -np.inf).all()
    assert o.p[1].tolist() == [0.5, 0.5, 0.0]
    assert o.logp[3].tolist() == [-700.0, 0.0, -np.inf]
    assert np.isnan(o.bias).all() and (o.s == s).all()


@pytest.mark.parametrize(
    "calibration", [NEUTRAL, Calibration(0.05, 0.3), Calibration(7.0, 12.0), Calibration(1.0, 1e-9)]
)
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("scale", [1e-6, 3.0, 1e4])
def test_probabilities_sum_to_one_and_lie_between_zero_and_one(calibration, columns, scale):
    for second in (None, logits(500, columns, 2, scale)):
        o = combine(logits(500, columns, 1, scale), second, calibration)
        assert np.abs(o.p.sum(axis=1) - 1).max() < 1e-12
        assert (o.p >= 0).all() and (o.p <= 1).all() and not np.isnan(o.logp).any()


def test_both_orders_are_averaged_and_what_they_share_is_the_position_bias():
    o = combine([3.0, 1.0], [1.0, -1.0])
    assert o.s.tolist() == [1.0, 1.0] and o.bias.tolist() == [2.0, 0.0]
    assert o.logp == pytest.approx(log_probabilities([1.0, 1.0]), nan_ok=False)


@pytest.mark.parametrize("calibration", [NEUTRAL, Calibration(1.7, 0.4)])
@pytest.mark.parametrize("columns", [1, 3])
def test_exchanging_the_sides_mirrors_every_bit(calibration, columns):
    z_ab, z_ba = logits(2000, columns, 3), logits(2000, columns, 4)
    one, other = combine(z_ab, z_ba, calibration), combine(z_ba, z_ab, calibration)
    assert one.p.tobytes() == np.ascontiguousarray(other.p[:, A_FIRST]).tobytes()
    assert one.logp.tobytes() == np.ascontiguousarray(other.logp[:, A_FIRST]).tobytes()
    assert (one.s == -other.s).all() and (one.bias == other.bias).all()
    assert (np.sign(one.s) == np.sign(one.p[:, 1] - one.p[:, 0])).all()


def test_equal_logits_in_both_orders_favour_nobody():
    o = combine([0.7, -2.0], [0.7, -2.0], Calibration(2.0, 0.1))
    assert o.s.tolist() == [0.0, 0.0] and (o.p[:, 0] == o.p[:, 1]).all()


def test_three_logits_are_probabilities_and_the_other_orders_classes_are_put_back():
    z_ab = np.log([[0.2, 0.5, 0.3]])
    assert combine(z_ab).p[0] == pytest.approx([0.2, 0.5, 0.3], abs=1e-15)
    assert combine(z_ab).s[0] == pytest.approx(math.log(0.5 / 0.2))
    agreeing = np.log([[0.5, 0.2, 0.3]])  # shown first, B is called A
    both = combine(z_ab, agreeing)
    assert both.p[0] == pytest.approx([0.2, 0.5, 0.3], abs=1e-15) and both.bias[0] == pytest.approx(0, abs=1e-15)
    stubborn = combine(z_ab, z_ab)  # prefers whatever stands second
    assert stubborn.s[0] == 0 and stubborn.p[0, 0] == stubborn.p[0, 1]
    assert stubborn.bias[0] == pytest.approx(math.log(0.5 / 0.2))
    root = math.sqrt(0.2 * 0.5)
    assert stubborn.p[0] == pytest.approx(np.array([root, root, 0.3]) / (2 * root + 0.3), abs=1e-15)


def test_a_temperature_flattens_three_logits_too():
    z = logits(50, 3, 5)
    assert combine(z, None, Calibration(temperature=2.0)).logp == pytest.approx(log_softmax(z / 2, axis=1))
    assert combine(z + 123.0).p == pytest.approx(combine(z).p)


@pytest.mark.parametrize("columns", [1, 3])
def test_a_temperature_leaves_the_logit_and_the_position_bias_as_they_are(columns):
    z_ab, z_ba = logits(50, columns, 6), logits(50, columns, 7)
    plain, flat = combine(z_ab, z_ba), combine(z_ab, z_ba, Calibration(temperature=3.0))
    assert (plain.s == flat.s).all() and (plain.bias == flat.bias).all()
    assert flat.logp[:, 1] - flat.logp[:, 0] == pytest.approx(plain.s / 3)


@pytest.mark.parametrize("calibration", [NEUTRAL, Calibration(0.05), Calibration(7.0)])
def test_three_log_weights_average_the_log_probabilities_of_both_orders(calibration):
    """The long way round: a softmax of each order, sides exchanged back, averaged, and a softmax again."""
    z_ab, z_ba = logits(2000, 3, 8), logits(2000, 3, 9)
    first, back = (log_softmax(z / calibration.temperature, axis=1) for z in (z_ab, z_ba))
    expected = log_softmax((first + back[:, A_FIRST]) / 2, axis=1)
    found = combine(z_ab, z_ba, calibration)
    assert found.logp == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert found.s / calibration.temperature == pytest.approx(expected[:, 1] - expected[:, 0], rel=1e-12, abs=1e-12)
    second = back[:, 1] - back[:, 0]
    assert found.bias / calibration.temperature == pytest.approx(
        (first[:, 1] - first[:, 0] + second) / 2, rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("calibration", [NEUTRAL, Calibration(1.0, 0.6), Calibration(2.5, 0.1)])
def test_log_likelihoods_made_of_one_logit_give_what_the_logit_gives(calibration):
    """What lm-eval sees of this judge: ln P of each order on its own. Only the units are those of the calibration."""
    z_ab, z_ba = logits(2000, 1, 10)[:, 0], logits(2000, 1, 11)[:, 0]
    expected = combine(z_ab, z_ba, calibration)
    found = combine(log_probabilities(z_ab, calibration), log_probabilities(z_ba, calibration))
    assert found.logp == pytest.approx(expected.logp, rel=1e-12, abs=1e-12)
    assert found.s == pytest.approx(expected.s / calibration.temperature, rel=1e-12, abs=1e-12)
    assert found.bias == pytest.approx(expected.bias / calibration.temperature, rel=1e-12, abs=1e-12)


def test_extreme_logits_stay_finite():
    found = davidson_log_probabilities([3000.0, -3000.0], [0.0, -np.inf])
    assert found[0].tolist() == [-3000.0, 0.0, -1500.0]
    assert found[1].tolist() == [0.0, -3000.0, -np.inf]


def test_a_choice_that_is_never_made_is_told_from_an_unlikely_one():
    assert is_impossible(IMPOSSIBLE) and is_impossible(IMPOSSIBLE * 2) and is_impossible(-math.inf)
    assert not is_impossible(-1e6)


def test_logits_of_another_shape_are_refused():
    for z in (np.zeros((4, 2)), np.zeros((4, 4)), np.zeros((2, 2, 1)), np.float64(1.0)):
        with pytest.raises(DataError, match="shape"):
            combine(z)
    for z_ba in (np.zeros((4, 3)), np.zeros(3), np.zeros((1, 1))):
        with pytest.raises(DataError, match="in the other"):
            combine(np.zeros(4), z_ba)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
def test_a_silly_temperature_is_refused(temperature):
    with pytest.raises(UsageError, match="temperature"):
        Calibration(temperature=temperature)


@pytest.mark.parametrize("nu", [-1e-9, math.nan, math.inf])
def test_a_silly_tie_mass_is_refused(nu):
    with pytest.raises(UsageError, match="tie_nu"):
        Calibration(tie_nu=nu)


def test_equal_probabilities_are_exactly_half_a_win_whatever_the_tie_mass():
    for nu in np.round(np.geomspace(0.01, 50, 200), 6):
        p = np.exp(log_probabilities([0.0, 1.3, -1.3], Calibration(tie_nu=float(nu))))
        wins = win_of_b(p[:, 0], p[:, 1])
        assert wins[0] == 0.5 and wins[1] + wins[2] == 1.0
        assert wins == pytest.approx(p[:, 1] + p[:, 2] / 2, abs=1e-15)
