"""From logits to probabilities: worked examples, exact antisymmetry, and calibrations that find what made the data."""

import math

import numpy as np
import pytest

from harness_plugin.errors import DataError, UsageError
from harness_plugin.model.calibration import Calibration
from harness_plugin.scoring.outcome import (
    NEUTRAL,
    TEMPERATURE_BOUNDS,
    TIE_NU_BOUNDS,
    at_bounds,
    combine,
    davidson,
    fit_calibration,
    fit_temperature,
    log_softmax,
)

A_FIRST = [1, 0, 2]  # the columns A, B, tie after the sides are exchanged


def logits(count: int, columns: int, seed: int, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=(count, columns))


def test_a_worked_example_of_davidsons_ties():
    """T = 2 and s = 2 ln 4 give d = ln 4: weights 1/2 for A, 2 for B, and nu = 1.5 for a tie, 4 in all."""
    p = np.exp(davidson([2 * math.log(4)], Calibration(temperature=2.0, tie_nu=1.5)))
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
    assert o.logp == pytest.approx(davidson([1.0, 1.0]), nan_ok=False)


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
    assert combine(z, None, Calibration(temperature=2.0)).logp == pytest.approx(log_softmax(z / 2))
    assert combine(z + 123.0).p == pytest.approx(combine(z).p)


def test_logits_of_another_shape_are_refused():
    for z in (np.zeros((4, 2)), np.zeros((4, 4)), np.zeros((2, 2, 1)), np.float64(1.0)):
        with pytest.raises(DataError, match="shape"):
            combine(z)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
def test_a_silly_temperature_is_refused(temperature):
    with pytest.raises(UsageError, match="temperature"):
        Calibration(temperature=temperature)


@pytest.mark.parametrize("nu", [-1e-9, math.nan, math.inf])
def test_a_silly_tie_mass_is_refused(nu):
    with pytest.raises(UsageError, match="tie_nu"):
        Calibration(tie_nu=nu)


def simulated(calibration: Calibration, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and one-hot verdicts drawn from the model itself."""
    draw = np.random.default_rng(seed)
    s = draw.normal(scale=2 * calibration.temperature, size=count)
    p = np.exp(davidson(s, calibration))
    return s, np.eye(3)[(draw.random(count)[:, None] > p.cumsum(axis=1)[:, :2]).sum(axis=1)]


@pytest.mark.parametrize(
    "truth", [Calibration(1.0, 1.0), Calibration(3.0, 0.4), Calibration(0.3, 2.5), Calibration(2.0)]
)
def test_a_calibration_finds_the_temperature_and_the_tie_mass_that_made_the_data(truth):
    s, verdicts = simulated(truth, 4_000, seed=6)
    found = fit_calibration(s, verdicts)
    assert found.temperature == pytest.approx(truth.temperature, rel=0.1)
    assert found.tie_nu == pytest.approx(truth.tie_nu, rel=0.1)


def test_a_calibration_is_the_minimum_of_the_log_loss_and_fits_soft_labels_exactly():
    truth = Calibration(1.6, 0.7)
    s = np.linspace(-4, 4, 41)
    found = fit_calibration(s, np.exp(davidson(s, truth)))
    assert (found.temperature, found.tie_nu) == (pytest.approx(1.6, abs=1e-4), pytest.approx(0.7, abs=1e-4))
    s, verdicts = simulated(truth, 300, seed=7)
    best = fit_calibration(s, verdicts)

    def loss(temperature, nu):
        return -(davidson(s, Calibration(temperature, nu)) * verdicts).sum() / len(s)

    around = [(best.temperature * x, best.tie_nu * y) for x in (0.9, 0.99, 1.01, 1.1) for y in (0.9, 0.99, 1.01, 1.1)]
    assert all(loss(best.temperature, best.tie_nu) < loss(*other) for other in around)


def test_without_ties_there_is_no_tie_mass_and_a_single_pair_is_no_data():
    s, verdicts = simulated(Calibration(2.0), 500, seed=8)
    assert fit_calibration(s, verdicts).tie_nu == 0.0
    with pytest.raises(DataError, match="1 labelled pairs"):
        fit_calibration(s[:1], verdicts[:1])
    with pytest.raises(DataError):
        fit_calibration(s, verdicts[:, :2])


def test_data_that_a_judge_gets_all_right_gives_a_finite_calibration():
    s = np.array([-1.0, 1.0, -2.0, 2.0])
    found = fit_calibration(s, np.eye(3)[[0, 1, 0, 1]])
    assert 0 < found.temperature < 0.1 and found.tie_nu == 0


@pytest.mark.parametrize(
    ("codes", "name", "end"),
    [
        ([0, 1, 0, 1], "temperature", TEMPERATURE_BOUNDS[0]),
        ([1, 0, 1, 0], "temperature", TEMPERATURE_BOUNDS[1]),
        ([2, 2, 2, 2], "tie_nu", TIE_NU_BOUNDS[1]),
    ],
    ids=["always right", "always wrong", "only ties"],
)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_what_the_pairs_do_not_fix_ends_at_a_bound_and_is_said_to(codes, name, end, scale):
    found = fit_calibration(scale * np.array([-1.0, 1.0, -2.0, 2.0]), np.eye(3)[codes])
    assert getattr(found, name) == pytest.approx(end, rel=1e-3) and name in at_bounds(found)


def test_what_the_pairs_fix_is_at_no_bound():
    assert at_bounds(fit_calibration(*simulated(Calibration(2.0, 0.5), 500, seed=12))) == []
    assert at_bounds(Calibration(2.0, 0.0)) == [], "no ties is no bound"
    low, high = TEMPERATURE_BOUNDS
    assert [at_bounds(Calibration(t)) for t in (low, low * 1.02, high / 1.02, high)] == [
        ["temperature"],
        [],
        [],
        ["temperature"],
    ]


# Three logits


def three_ways(temperature: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of both orders, with noise between them, and verdicts drawn from what they say at this temperature."""
    draw = np.random.default_rng(seed)
    z = draw.normal(scale=2 * temperature, size=(count, 3))
    z_ab, back = (z + draw.normal(scale=temperature / 2, size=z.shape) for _ in range(2))
    p = combine(z_ab, back[:, A_FIRST], Calibration(temperature)).p
    return z_ab, back[:, A_FIRST], np.eye(3)[(draw.random(count)[:, None] > p.cumsum(axis=1)[:, :2]).sum(axis=1)]


@pytest.mark.parametrize("truth", [0.3, 1.0, 4.0])
def test_three_logits_find_the_temperature_that_made_the_data(truth):
    z_ab, z_ba, verdicts = three_ways(truth, 4_000, seed=9)
    found = fit_temperature(z_ab, z_ba, verdicts)
    assert found.temperature == pytest.approx(truth, rel=0.1) and found.tie_nu == 0.0
    said = combine(z_ab, z_ba, Calibration(truth)).p
    assert fit_temperature(z_ab, z_ba, said).temperature == pytest.approx(truth, abs=1e-4), "soft labels, exactly"


def test_the_temperature_of_three_logits_is_the_minimum_of_the_log_loss_from_either_side():
    z_ab, z_ba, verdicts = three_ways(1.7, 200, seed=10)
    best = fit_temperature(z_ab, z_ba, verdicts)

    def loss(temperature):
        first, second = (z / temperature - np.log(np.exp(z / temperature).sum(1, keepdims=True)) for z in (z_ab, z_ba))
        mean = np.exp((first + second[:, A_FIRST]) / 2)
        return -np.log((mean / mean.sum(1, keepdims=True) * verdicts).sum(1)).mean()

    around = [best.temperature * x for x in (0.9, 0.99, 0.999, 1.001, 1.01, 1.1)]
    assert all(loss(best.temperature) < loss(other) for other in around)
    assert fit_temperature(z_ba, z_ab, verdicts[:, A_FIRST]) == best


def test_a_temperature_of_bad_numbers_is_refused():
    z_ab, z_ba, verdicts = three_ways(1.0, 6, seed=11)
    broken = np.where(np.arange(6)[:, None] == 3, np.nan, z_ab)
    for given in ((broken, z_ba, verdicts), (z_ab, broken * math.inf, verdicts), (z_ab, z_ba, broken)):
        with pytest.raises(DataError, match="not finite"):
            fit_temperature(*given)
    for given in (
        (z_ab[:1], z_ba[:1], verdicts[:1]),
        (z_ab[:, :1], z_ba[:, :1], verdicts),
        (z_ab, z_ba[:5], verdicts),
        (z_ab, z_ba, verdicts[:5]),
        (z_ab, z_ba, verdicts[:, :2]),
    ):
        with pytest.raises(DataError, match="labelled pairs"):
            fit_temperature(*given)


@pytest.mark.parametrize(("shift", "end"), [(0, TEMPERATURE_BOUNDS[0]), (1, TEMPERATURE_BOUNDS[1])])
def test_three_logits_that_are_always_right_or_wrong_end_at_a_bound_too(shift, end):
    z = 3 * np.eye(3)
    found = fit_temperature(z, z[:, A_FIRST], np.roll(np.eye(3), shift, axis=0))
    assert found.temperature == pytest.approx(end, rel=1e-3) and at_bounds(found) == ["temperature"]
