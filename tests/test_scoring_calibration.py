"""Calibrations find what made the data, minimise the log loss, and are said to where the data do not determine them."""

import math

import numpy as np
import pytest
import tiny

from harness_plugin.errors import DataError, ModelError
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.scoring import Judgement, open_judge
from harness_plugin.scoring.calibration import (
    TEMPERATURE_BOUNDS,
    TIE_NU_BOUNDS,
    at_bounds,
    calibration_loss,
    fit_calibration,
    fit_length_worth,
    fit_temperature,
)
from harness_plugin.scoring.judgement import joined, judged
from harness_plugin.scoring.outcome import IMPOSSIBLE, combine, length_ratio, log_probabilities

A_FIRST = [1, 0, 2]  # the columns A, B, tie after the sides are exchanged


def simulated(calibration: Calibration, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and one-hot verdicts drawn from the model itself."""
    draw = np.random.default_rng(seed)
    s = draw.normal(scale=2 * calibration.temperature, size=count)
    p = np.exp(log_probabilities(s, calibration))
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
    found = fit_calibration(s, np.exp(log_probabilities(s, truth)))
    assert (found.temperature, found.tie_nu) == (pytest.approx(1.6, abs=1e-4), pytest.approx(0.7, abs=1e-4))
    s, verdicts = simulated(truth, 300, seed=7)
    best = fit_calibration(s, verdicts)

    def loss(temperature, nu):
        return -(log_probabilities(s, Calibration(temperature, nu)) * verdicts).sum() / len(s)

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


@pytest.mark.parametrize("has_ties", [False, True])
def test_a_calibration_is_what_a_search_without_derivatives_finds(has_ties):
    """Nelder and Mead's search of the same loss, to the six digits that a manifest keeps."""
    from scipy.optimize import minimize

    s, verdicts = simulated(Calibration(1.3, 0.5 if has_ties else 0.0), 700, seed=13)

    def loss(x):
        return calibration_loss(s, verdicts, Calibration(math.exp(x[0]), math.exp(x[1]) if has_ties else 0.0))

    best = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-15}).x
    found = fit_calibration(s, verdicts)
    assert found.temperature == pytest.approx(math.exp(best[0]), abs=1e-6)
    assert not has_ties or found.tie_nu == pytest.approx(math.exp(best[1]), abs=1e-6)


def test_the_loss_of_a_verdict_that_the_judge_rules_out_is_finite():
    assert calibration_loss([0.0], [[0.0, 0.0, 1.0]], Calibration()) == -IMPOSSIBLE


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


# -- what length is worth ------------------------------------------------------------------------------------------


def test_the_worth_of_length_is_told_from_what_people_prefer():
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 4000, (500, 2))
    ratio = length_ratio(lengths[:, 0], lengths[:, 1])
    labels = 1 / (1 + np.exp(-0.5 * ratio + rng.normal(size=500)))  # people like longer responses too
    s = 1.5 * (2 * labels - 1) + 0.7 * ratio + rng.normal(scale=0.3, size=500)
    assert fit_length_worth(s, labels, lengths) == pytest.approx(0.7, abs=0.05)
    assert fit_length_worth(-s, 1 - labels, lengths[:, ::-1]) == fit_length_worth(s, labels, lengths)
    assert fit_length_worth(s[:1], labels[:1], lengths[:1]) is None
    assert fit_length_worth(s, labels, np.full((500, 2), 7)) is None


@pytest.mark.parametrize("head", [1, 3])
def test_verdicts_at_equal_length_have_the_worth_of_length_taken_off(head):
    pair = Pair("p", "no", "no " * 30)
    z = [[[0.5], [-0.3]], [[0.1, 0.6, -1.0], [0.3, -0.2, -2.0]]][head == 3]
    plain, controlled = (
        judged([pair], [z[0]], [z[1]], Calibration(1.3, 0.5, worth), "0" * 16)[0] for worth in (0.0, 0.2)
    )
    off = 0.2 * float(length_ratio(*pair.lengths))
    assert controlled.score == pytest.approx(plain.score - off) and controlled.position_bias == plain.position_bias
    assert math.log(controlled.p_b / controlled.p_a) == pytest.approx((plain.score - off) / 1.3)
    row = controlled.to_row()
    assert "length_worth" not in plain.to_row() and Judgement.from_row(row) == controlled
    assert controlled.swapped().score == -controlled.score
    with pytest.raises(DataError, match=r"score is .* but the logits give"):
        Judgement.from_row(row | {"length_worth": 0.1})
    ab = judged([pair], [z[0]], None, Calibration(1.3, 0.5, 0.2), "0" * 16)
    ba = judged([pair], None, [z[1]], Calibration(1.3, 0.5, 0.2), "0" * 16)
    assert joined(ab, ba)[0].score == pytest.approx(controlled.score)


def test_length_control_comes_from_the_manifest_and_makes_another_judge(tiny_spec, tiny_adapter, adapter_copy):
    pair = Pair("Name a prime.", "9", "7 is a prime number, and so is 11, and so is 13.")
    with pytest.raises(ModelError, match="no length_worth"):
        open_judge(tiny_spec(length_control=True))
    folder = adapter_copy(manifest=True)
    tiny.change_json(folder / "arena_rm.json", calibration={"temperature": 2.0, "tie_nu": 0.1, "length_worth": 0.5})
    plain, controlled = (open_judge(tiny_spec(peft=str(folder), length_control=on)) for on in (False, True))
    assert plain.hash != controlled.hash and controlled.identity["length_worth"] == 0.5
    one, other = (next(judge.judge([pair])) for judge in (plain, controlled))
    assert other.score == pytest.approx(one.score - 0.5 * float(length_ratio(*pair.lengths)), abs=1e-6)
