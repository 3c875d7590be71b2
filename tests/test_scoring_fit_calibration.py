"""Calibrations find what made the data, minimise the log loss with the prior, and never end at a limit."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tiny

from harness_plugin.errors import DataError, ModelError
from harness_plugin.judges import open_judge
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.scoring import Judgement
from harness_plugin.scoring.fit_calibration import (
    PRIOR,
    PRIOR_LOGIT,
    PRIOR_PAIRS,
    PRIOR_SLOPE,
    calibration_loss,
    fit_calibration,
    fit_length_worth,
    fit_surface_worth,
    fit_temperature,
)
from harness_plugin.scoring.identity import differences
from harness_plugin.scoring.judgement import joined, judged
from harness_plugin.scoring.probabilities import IMPOSSIBLE, combine, length_ratio, log_probabilities
from harness_plugin.scoring.surface import surface_logit

A_FIRST = [1, 0, 2]  # the columns A, B, tie after the sides are exchanged


def simulated(calibration: Calibration, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and one-hot verdicts drawn from the model itself."""
    draw = np.random.default_rng(seed)
    s = draw.normal(scale=2 * calibration.temperature, size=count)
    p = np.exp(log_probabilities(s, calibration))
    return s, np.eye(3)[(draw.random(count)[:, None] > p.cumsum(axis=1)[:, :2]).sum(axis=1)]


def penalised(s, verdicts, calibration: Calibration) -> float:
    """The log loss of the pairs and of the prior."""
    prior = np.array([PRIOR_LOGIT, -PRIOR_LOGIT])
    said = np.exp(log_probabilities(prior, PRIOR if verdicts[:, 2].any() or len(s) < 100 else Calibration(1.0)))
    own = len(s) * calibration_loss(s, verdicts, calibration)
    own += PRIOR_SLOPE * math.log(calibration.temperature)
    return own + PRIOR_PAIRS * calibration_loss(prior, said, calibration)


@pytest.mark.parametrize(
    "truth", [Calibration(1.0, 1.0), Calibration(3.0, 0.4), Calibration(0.3, 2.5), Calibration(2.0)]
)
def test_a_calibration_finds_the_temperature_and_the_tie_mass_that_made_the_data(truth):
    s, verdicts = simulated(truth, 4_000, seed=6)
    found = fit_calibration(s, verdicts)
    assert found.temperature == pytest.approx(truth.temperature, rel=0.1)
    assert found.tie_nu == pytest.approx(truth.tie_nu, rel=0.1)


def test_a_calibration_is_the_minimum_of_the_log_loss_and_fits_soft_labels_exactly():
    s = np.linspace(-4, 4, 41)
    found = fit_calibration(s, np.exp(log_probabilities(s, PRIOR)))
    assert (found.temperature, found.tie_nu) == (pytest.approx(1.0, abs=0.02), pytest.approx(0.5, abs=0.01))
    s, verdicts = simulated(Calibration(1.6, 0.7), 300, seed=7)
    best = fit_calibration(s, verdicts)

    def loss(temperature, nu):
        return penalised(s, verdicts, Calibration(temperature, nu))

    around = [(best.temperature * x, best.tie_nu * y) for x in (0.9, 0.99, 1.01, 1.1) for y in (0.9, 0.99, 1.01, 1.1)]
    assert all(loss(best.temperature, best.tie_nu) < loss(*other) for other in around)


def test_without_ties_there_is_no_tie_mass_and_a_single_pair_is_no_data():
    s, verdicts = simulated(Calibration(2.0), 500, seed=8)
    assert fit_calibration(s, verdicts).tie_nu == 0.0
    assert fit_calibration(s[:3], verdicts[:3]).tie_nu > 0.1, "three pairs do not say that there are no ties"
    with pytest.raises(DataError, match="1 labelled pairs"):
        fit_calibration(s[:1], verdicts[:1])
    with pytest.raises(DataError):
        fit_calibration(s, verdicts[:, :2])


@pytest.mark.parametrize("share", [0.05, 0.2, 0.6])
def test_a_stated_share_of_ties_sets_the_tie_mass_and_leaves_the_temperature_to_the_decisive_pairs(share):
    truth = Calibration(0.7, 1.2)
    s, verdicts = simulated(truth, 4_000, seed=9)
    found = fit_calibration(s, verdicts, share)
    assert found.temperature == pytest.approx(truth.temperature, rel=0.1)
    assert np.exp(log_probabilities(s, found))[:, 2].mean() == pytest.approx(share, abs=1e-5)
    decisive = verdicts[:, 2] == 0
    assert found.temperature == fit_calibration(s[decisive], verdicts[decisive]).temperature
    assert fit_calibration(s[:9], verdicts[:9], share).tie_nu > 0, "also where there are few pairs"
    with pytest.raises(DataError, match="1 decisive pair; "):
        fit_calibration(s[:9], [[0, 0, 1]] * 8 + [[1, 0, 0]], share)


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_a_share_of_ties_that_no_tie_mass_gives_is_refused_by_its_name(share):
    s, verdicts = simulated(Calibration(0.7), 200, seed=9)
    with pytest.raises(DataError, match=f"a share of ties of {share}"):
        fit_calibration(s, verdicts, share)


@pytest.mark.parametrize("codes", [[0, 1, 0, 1], [1, 0, 1, 0], [2, 2, 2, 2]], ids=["right", "wrong", "only ties"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_few_pairs_that_all_say_the_same_give_moderate_numbers(codes, scale):
    found = fit_calibration(scale * np.array([-1.0, 1.0, -2.0, 2.0]), np.eye(3)[codes])
    assert 0.05 < found.temperature < 150 and 0.05 < found.tie_nu < 10


def test_three_pairs_give_a_better_loss_with_the_prior_than_a_temperature_of_403():
    truth = Calibration(1.0, 0.5)
    s, _ = simulated(truth, 4_000, seed=14)
    said, worst = np.exp(log_probabilities(s, truth)), 0.0
    for seed in range(40):
        found = fit_calibration(*simulated(truth, 3, seed))
        worst = max(worst, calibration_loss(s, said, found))
    assert worst < math.log(3) + 0.25, "never much worse than knowing nothing"


def test_scores_that_go_against_many_labels_have_no_temperature_and_are_refused():
    s, verdicts = simulated(Calibration(1.0, 0.5), 500, seed=15)
    with pytest.raises(DataError, match="the best temperature for these labels is 403") as error:
        fit_calibration(-s, verdicts)
    assert "which side a positive score prefers" in error.value.do


@pytest.mark.parametrize("bad", [[math.nan, 0.5, 0.5], [0.5, 0.6, 0.2], [1.5, -0.5, 0.0]])
def test_targets_that_are_no_probabilities_are_refused(bad):
    target = np.array([[1.0, 0.0, 0.0], bad])
    with pytest.raises(DataError, match="no probabilities"):
        fit_calibration([1.0, -1.0], target)
    with pytest.raises(DataError, match="no probabilities"):
        fit_temperature(np.eye(3)[:2], np.eye(3)[:2], target)


@pytest.mark.parametrize("has_ties", [False, True])
def test_a_calibration_is_what_a_search_without_derivatives_finds(has_ties):
    """Nelder and Mead's search of the same loss, to the six digits that a manifest keeps."""
    from scipy.optimize import minimize

    s, verdicts = simulated(Calibration(1.3, 0.5 if has_ties else 0.0), 700, seed=13)

    def loss(x):
        return penalised(s, verdicts, Calibration(math.exp(x[0]), math.exp(x[1]) if has_ties else 0.0))

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
    assert fit_temperature(z_ab, z_ba, said).temperature == pytest.approx(truth, rel=0.01), "soft labels"


def test_the_temperature_of_three_logits_is_the_minimum_of_the_log_loss_from_either_side():
    z_ab, z_ba, verdicts = three_ways(1.7, 200, seed=10)
    best = fit_temperature(z_ab, z_ba, verdicts)

    def loss(temperature):
        first, second = (z / temperature - np.log(np.exp(z / temperature).sum(1, keepdims=True)) for z in (z_ab, z_ba))
        mean = np.exp((first + second[:, A_FIRST]) / 2)
        own = -np.log((mean / mean.sum(1, keepdims=True) * verdicts).sum(1)).sum()
        prior = np.array([PRIOR_LOGIT, -PRIOR_LOGIT])
        said, nu = np.exp(log_probabilities(prior, PRIOR)), PRIOR.tie_nu ** (1 / temperature)
        own += PRIOR_SLOPE * math.log(temperature)
        return own + PRIOR_PAIRS * calibration_loss(prior, said, Calibration(temperature, nu))

    around = [best.temperature * x for x in (0.9, 0.99, 0.999, 1.001, 1.01, 1.1)]
    assert all(loss(best.temperature) < loss(other) for other in around)
    assert fit_temperature(z_ba, z_ab, verdicts[:, A_FIRST]) == best


def test_a_temperature_of_bad_numbers_is_refused():
    z_ab, z_ba, verdicts = three_ways(1.0, 6, seed=11)
    broken = np.where(np.arange(6)[:, None] == 3, np.nan, z_ab)
    for given in ((broken, z_ba, verdicts), (z_ab, broken * math.inf, verdicts)):
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


@pytest.mark.parametrize("shift", [0, 1])
def test_three_logits_that_are_always_right_or_wrong_give_moderate_temperatures_too(shift):
    z = 3 * np.eye(3)
    assert 0.05 < fit_temperature(z, z[:, A_FIRST], np.roll(np.eye(3), shift, axis=0)).temperature < 50


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


# -- what the surface tells beside a judge -------------------------------------------------------------------------


def test_the_worth_of_the_surface_is_what_the_verdicts_were_drawn_with():
    rng = np.random.default_rng(0)
    s, surface = rng.normal(scale=3, size=4000), rng.normal(scale=0.5, size=4000)
    target = np.eye(3)[(rng.random(4000) < 1 / (1 + np.exp(-(s + 1.5 * surface) / 3))).astype(int)]
    worth = fit_surface_worth(s, target, surface)
    assert worth == pytest.approx(1.5, abs=0.45)  # three standard errors
    assert fit_surface_worth(-s, target[:, A_FIRST], -surface) == pytest.approx(worth, abs=1e-5)
    assert fit_surface_worth(100 * s, target, surface) == pytest.approx(100 * worth, rel=1e-2)
    without = calibration_loss(s, target, fit_calibration(s, target))
    assert calibration_loss(s + worth * surface, target, fit_calibration(s + worth * surface, target)) < without


def test_the_worth_of_the_surface_is_small_where_it_tells_nothing_or_there_are_few_pairs():
    rng = np.random.default_rng(1)
    s, surface = rng.normal(size=4000), rng.normal(scale=0.5, size=4000)
    target = np.eye(3)[(rng.random(4000) < 1 / (1 + np.exp(-s))).astype(int)]
    assert abs(fit_surface_worth(s, target, surface)) < 0.25
    assert fit_surface_worth(s, target, np.zeros(4000)) == 0
    assert abs(fit_surface_worth([1.0, -1.0], [[0, 1, 0], [1, 0, 0]], [0.5, -0.5])) < 1
    assert fit_surface_worth([1.0, -1.0], [[0, 0, 1]] * 2, [0.5, 0.5]) == 0  # ties alone tell nothing


@pytest.mark.parametrize(
    ("s", "said"), [([-1.0, 1.0, -2.0], "go against the labels"), ([math.nan, 1.0, 1.0], "not finite")]
)
def test_a_worth_of_the_surface_that_cannot_be_fitted_is_refused(s, said):
    with pytest.raises(DataError, match=said):
        fit_surface_worth(s * 9, [[0, 1, 0], [1, 0, 0], [0, 1, 0]] * 9, [0.1, -0.2, 0.3] * 9)


@pytest.mark.parametrize("head", [1, 3])
def test_verdicts_with_a_surface_term_have_it_added(head):
    pair = Pair("Name three primes.", "2, 3", "Here they are:\n\n- 2\n- 3\n- 5")
    z = [[[0.5], [-0.3]], [[0.1, 0.6, -1.0], [0.3, -0.2, -2.0]]][head == 3]
    plain, added = (
        judged([pair], [z[0]], [z[1]], Calibration(1.3, 0.5, surface_worth=worth), "0" * 16)[0] for worth in (0, 2.0)
    )
    more = 2.0 * surface_logit(pair)
    assert abs(more) > 0.2 and plain.surface is None and added.surface == more / 2
    assert added.score == pytest.approx(plain.score + more) and added.position_bias == plain.position_bias
    assert added.logit == pytest.approx(plain.score) and plain.logit == plain.score
    assert math.log(added.p_b / added.p_a) == pytest.approx((plain.score + more) / 1.3)
    row = added.to_row()
    assert "surface_worth" not in plain.to_row() and Judgement.from_row(row) == added
    (turned,) = judged([pair.swap()], [z[1]], [z[0]], Calibration(1.3, 0.5, surface_worth=2.0), "0" * 16)
    assert (turned.score, turned.p) == (added.swapped().score, pytest.approx(added.swapped().p))
    assert added.of_pair(pair) == added
    for change in ({"surface_worth": 1.0}, {"surface": 0.0}, {"surface": None}):
        with pytest.raises(DataError, match=r"score is|surface is"):
            Judgement.from_row(row | change)
    ab = judged([pair], [z[0]], None, Calibration(1.3, 0.5, surface_worth=2.0), "0" * 16)
    ba = judged([pair], None, [z[1]], Calibration(1.3, 0.5, surface_worth=2.0), "0" * 16)
    assert joined(ab, ba)[0].score == pytest.approx(added.score)


def test_a_surface_term_comes_from_the_manifest_and_counts_no_more_at_equal_length(tiny_spec, adapter_copy):
    pair = Pair("Name a prime.", "9", "7 is a prime number:\n\n- and so is 11\n- and so is 13.")
    folder = adapter_copy(manifest=True)
    numbers = {"temperature": 2.0, "tie_nu": 0.1, "length_worth": 0.5}
    tiny.change_json(folder / "arena_rm.json", calibration=numbers)
    spec = tiny_spec(peft=str(folder))
    without = open_judge(spec)
    bare = next(without.judge([pair]))
    tiny.change_json(folder / "arena_rm.json", calibration=numbers | {"surface_worth": 0.75})
    with_it, controlled = open_judge(spec), open_judge(replace(spec, length_control=True))
    one, other = (next(judge.judge([pair])) for judge in (with_it, controlled))
    assert one.score == pytest.approx(bare.score + 0.75 * surface_logit(pair), abs=1e-6)
    assert other.score == pytest.approx(bare.score - 0.5 * float(length_ratio(*pair.lengths)), abs=1e-6)
    assert "surface_worth" not in without.identity and with_it.identity["surface_worth"] == 0.75
    assert differences(without.identity, with_it.identity) == ["surface_worth"]
    assert len({without.hash, with_it.hash, controlled.hash}) == 3
