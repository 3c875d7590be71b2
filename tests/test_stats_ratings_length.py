"""Ratings at equal length."""

import math

import numpy as np
import pytest
from rating_games import SPREAD, close, round_robin, same, sigma
from scipy import optimize

from harness_plugin import stats
from harness_plugin.stats.ratings import POINTS


def wordy(models, prompts, rng, beta=1.0, theta=None, longer=0.0, spread=SPREAD):
    """A round robin under a judge that likes length; `longer`: by how much each model outdoes the one before it."""
    games = round_robin(models, prompts, rng, theta, spread=spread)
    length = 1000 * np.exp(rng.normal(longer * np.arange(models), 0.4, (prompts, models)))
    sides = (games["clusters"], games["i"]), (games["clusters"], games["j"])
    games |= {"lengths_i": length[sides[0]], "lengths_j": length[sides[1]]}
    gap = games["lengths_j"] - games["lengths_i"]
    feature = np.tanh(gap / np.sqrt((gap**2).mean()))
    odds = np.log(games["p"] / (1 - games["p"])) + beta * feature
    return games | {"p": sigma(odds)}, feature


def at_equal_length(games, **options):
    return stats.length_controlled_ratings(**games, **options)


def without(games, *names):
    return {name: column for name, column in games.items() if name not in names}


def test_the_fit_at_equal_length_agrees_with_a_slow_implementation():
    games, feature = wordy(4, 20, np.random.default_rng(30))
    i, j, p = games["i"], games["j"], games["p"]

    def each(x):
        z = x[j] - x[i] + x[4] * feature
        return p * z - np.logaddexp(0, z)

    def loss(x):
        return -each(x).sum() + x[:4].sum() ** 2 + 0.01 * x[4] ** 2 / 2

    x = optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x
    found = at_equal_length(games)
    assert close(found.rating, 1000 + POINTS * (x[:4] - x[:4].mean()), 1e-5)
    assert found.slope.value == pytest.approx(x[4], abs=1e-5)
    by_prompt = [optimize.approx_fprime(x, lambda x, k=k: each(x)[games["clusters"] == k].sum()) for k in range(20)]
    d = np.stack([(np.arange(5) == b) * 1.0 - (np.arange(5) == a) for a, b in zip(i, j, strict=True)])
    d[:, 4] = feature
    v = sigma(d @ x) * sigma(-(d @ x))
    bread = np.linalg.inv(d.T @ (v[:, None] * d) + np.diag([0, 0, 0, 0, 0.01]) + 2 * np.pad(np.ones((4, 4)), (0, 1)))
    covariance = 20 / 19 * bread @ np.transpose(by_prompt) @ by_prompt @ bread
    centre = np.eye(4) - 1 / 4
    assert close(found.covariance, POINTS**2 * centre @ covariance[:4, :4] @ centre, 1e-3)
    assert found.slope.stderr == pytest.approx(math.sqrt(covariance[4, 4]), rel=1e-3)


def test_the_true_ratings_come_back_whatever_the_judge_gives_for_length():
    theta = np.array([0.6, 0.2, -0.1, -0.7])
    games, _ = wordy(4, 200, np.random.default_rng(31), 1.5, theta, longer=0.4, spread=0)
    found, plain = at_equal_length(games), stats.bradley_terry_ratings(**without(games, "lengths_i", "lengths_j"))
    assert close(found.rating, 1000 + POINTS * (theta - theta.mean()), 1e-3)
    assert found.slope.value == pytest.approx(1.5, abs=0.01)
    assert np.ptp(plain.rating) < np.ptp(found.rating) / 5, "worse models write longer, and the judge likes that"


def test_without_differences_of_length_it_is_bradley_terry_and_exchanged_sides_change_nothing():
    games, _ = wordy(5, 40, np.random.default_rng(32))
    level = games | {"lengths_j": games["lengths_i"]}
    plain = stats.bradley_terry_ratings(**without(games, "lengths_i", "lengths_j"), anchor=2)
    assert same(plain, at_equal_length(level, anchor=2)) and math.isnan(at_equal_length(level).slope.value)
    turn = np.random.default_rng(33).random(len(games["p"])) < 0.5
    sides = ("i", "j"), ("j", "i"), ("lengths_i", "lengths_j"), ("lengths_j", "lengths_i")
    turned = games | {a: np.where(turn, games[b], games[a]) for a, b in sides}
    turned["p"] = np.where(turn, 1 - games["p"], games["p"])
    one, two = at_equal_length(games), at_equal_length(turned)
    assert same(one, two) and close([one.slope.value, one.slope.stderr], [two.slope.value, two.slope.stderr])


def test_a_judge_of_length_alone_is_finite_and_who_has_no_rating_has_none_at_equal_length():
    games, feature = wordy(4, 40, np.random.default_rng(34))
    found = at_equal_length(games | {"p": (feature > 0).astype(float)})
    assert np.isfinite(found.rating).all() and 2 < found.slope.value < 200
    never = games | {"p": np.select([games["i"] == 3, games["j"] == 3], [1.0, 0.0], games["p"])}
    found = at_equal_length(never)
    rest = games["j"] != 3
    alone = at_equal_length({name: column[rest] for name, column in never.items()})
    assert math.isnan(found.rating[3]) and "winless" in {c.kind for c in found.concerns}
    assert np.ptp(found.rating[:3]) == pytest.approx(np.ptp(alone.rating), rel=0.2), "only the lengths' scale differs"
    empty = at_equal_length({name: [] for name in games}, models=2)
    assert np.isnan(empty.rating).all() and math.isnan(empty.slope.value)
    one = at_equal_length({name: column[games["clusters"] == 0] for name, column in games.items()})
    assert np.isnan([*one.rating, *one.stderr, one.slope.value, one.slope.stderr]).all(), "six battles say too little"
    for bad in (np.full(len(games["p"]), -1.0), np.full(len(games["p"]), math.inf), np.ones(9)):
        with pytest.raises(ValueError, match="lengths must be 240 finite numbers"):
            at_equal_length(games | {"lengths_j": bad})
    with pytest.raises(ValueError, match="the anchor is model 9"):
        at_equal_length(games, anchor=9)


def test_length_and_quality_that_cannot_be_told_apart_are_not():
    games = round_robin(2, 60, np.random.default_rng(37))
    found = at_equal_length(games | {"lengths_i": [100] * 60, "lengths_j": [200] * 60})
    assert np.isnan(found.rating).all() and math.isnan(found.slope.value)
    games, _ = wordy(2, 60, np.random.default_rng(37))
    assert np.isfinite(at_equal_length(games).rating).all()


def test_intervals_at_equal_length_cover_the_value_of_very_many_prompts():
    options = {"beta": 0.8, "theta": np.linspace(-1, 1, 8), "longer": 0.1}
    truth, inside, slopes = at_equal_length(wordy(8, 20000, np.random.default_rng(35), **options)[0]), [], []
    rng = np.random.default_rng(36)
    for _ in range(200):
        found = at_equal_length(wordy(8, 60, rng, **options)[0])
        inside.append((found.low <= truth.rating) & (truth.rating <= found.high))
        slopes.append(found.slope.low <= truth.slope.value <= found.slope.high)
    assert 0.92 <= np.mean(inside) <= 0.97
    assert 0.90 <= np.mean(slopes) <= 0.98
