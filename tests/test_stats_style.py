"""Ratings and win rates at equal style: what each feature is worth, and when style and quality cannot be told apart."""

import math

import numpy as np
import pytest

from harness_plugin import stats
from harness_plugin.stats.ratings import POINTS
from harness_plugin.stats.style import error_ratios

MODELS = 5


def written(prompts, rng, beta=(0.8, -0.5, 0.3), theta=None, within=1.0, models=MODELS, noise=0.5, star=False):
    """A round robin, or all against model 0, of soft outcomes, where the models' styles differ and so do their answers:
    `within` scales how much the answers of one model differ among each other."""
    theta = np.linspace(-0.6, 0.6, models) if theta is None else np.asarray(theta)
    a, b = np.triu_indices(models, 1)
    if star:
        a, b = np.zeros(models - 1, int), np.arange(1, models)
    style = np.linspace(-0.5, 0.5, models)[:, None] * np.array([1.0, -0.6, 0.4])
    answers = style + within * rng.standard_normal((prompts, models, 3))
    features = np.tanh(answers[:, b] - answers[:, a]).reshape(-1, 3)
    i, j, clusters = np.tile(a, prompts), np.tile(b, prompts), np.repeat(np.arange(prompts), len(a))
    level = noise * rng.standard_normal((prompts, models))
    z = theta[j] - theta[i] + features @ np.array(beta) + level[clusters, j] - level[clusters, i]
    return {"i": i, "j": j, "p": 1 / (1 + np.exp(-z)), "features": features, "clusters": clusters}, theta


def test_true_ratings_and_the_worth_of_each_feature_come_back():
    games, theta = written(300, np.random.default_rng(0), noise=0)
    found = stats.style_controlled_ratings(**games)
    assert np.allclose(found.rating, 1000 + POINTS * (theta - theta.mean()), atol=0.5)
    assert [s.value for s in found.slopes] == pytest.approx([0.8, -0.5, 0.3], abs=0.01)
    assert found.slope is found.slopes[0] and not found.concerns
    plain = stats.bradley_terry_ratings(**{k: v for k, v in games.items() if k != "features"})
    assert np.abs(plain.rating - found.rating).max() > 40


def test_the_fit_agrees_with_the_one_at_equal_length_and_with_exchanged_sides():
    rng = np.random.default_rng(1)
    games, _ = written(60, rng)
    lengths = rng.integers(50, 500, (2, len(games["p"])))
    feature = stats.length_feature(lengths[1] - lengths[0])
    rest = {k: v for k, v in games.items() if k != "features"}
    one = stats.length_controlled_ratings(**rest, lengths_i=lengths[0], lengths_j=lengths[1])
    other = stats.style_controlled_ratings(**rest, features=feature[:, None])
    assert np.array_equal(one.rating, other.rating) and one.slope == other.slope
    turn = rng.random(len(games["p"])) < 0.5
    turned = games | {
        "i": np.where(turn, games["j"], games["i"]),
        "j": np.where(turn, games["i"], games["j"]),
        "p": np.where(turn, 1 - games["p"], games["p"]),
        "features": np.where(turn[:, None], -1, 1) * games["features"],
    }
    straight, mixed = stats.style_controlled_ratings(**games), stats.style_controlled_ratings(**turned)
    assert np.allclose(straight.rating, mixed.rating) and np.allclose(straight.low, mixed.low)


def test_a_feature_that_no_answer_has_changes_nothing_and_has_no_worth():
    games, _ = written(60, np.random.default_rng(2))
    more = games | {"features": np.column_stack([games["features"], np.zeros(len(games["p"]))])}
    found, with_it = stats.style_controlled_ratings(**games), stats.style_controlled_ratings(**more)
    assert np.allclose(found.rating, with_it.rating) and math.isnan(with_it.slopes[3].value)
    assert [s.value for s in with_it.slopes[:3]] == pytest.approx([s.value for s in found.slopes])


def test_features_that_always_go_together_hide_each_others_worth_and_not_the_ratings():
    games, theta = written(300, np.random.default_rng(3), noise=0, beta=(0.8, 0.0, 0.0))
    twice = games | {"features": np.repeat(games["features"][:, :1], 2, axis=1)}
    found = stats.style_controlled_ratings(**twice)
    assert np.allclose(found.rating, 1000 + POINTS * (theta - theta.mean()), atol=1)
    assert all(math.isnan(s.value) for s in found.slopes) and not found.concerns


@pytest.mark.parametrize(("within", "kind"), [(1.0, None), (0.12, "style_stretched"), (0.03, "style_confounded")])
def test_the_less_style_differs_among_a_models_answers_the_less_is_known_at_equal_style(within, kind):
    games, _ = written(100, np.random.default_rng(4), within=within)
    found = stats.style_controlled_ratings(**games)
    assert {c.kind for c in found.concerns} - {"few_clusters"} >= ({kind} if kind else set())
    named = next((c.models for c in found.concerns if c.kind == "style_confounded"), ())
    assert np.isnan(found.rating[list(named)]).all() and (not named or kind == "style_confounded")


def test_where_there_are_no_ratings_none_is_called_extrapolated():
    games = {"i": [0, 0, 1] * 2, "j": [1, 2, 2] * 2, "p": [0.1, 0.1, 0.3, 0.3, 0.1, 1.0], "clusters": [0] * 3 + [1] * 3}
    lengths = {"lengths_i": [800, 800, 5, 200, 800, 50], "lengths_j": [50, 200, 5, 50, 200, 5]}
    found = stats.length_controlled_ratings(**games, **lengths)
    assert np.isnan(found.rating).all() and {c.kind for c in found.concerns} <= {"few_clusters"}


def test_error_ratios_are_those_of_the_full_inverse():
    rng = np.random.default_rng(5)
    root = rng.standard_normal((30, 6))
    information = root.T @ root
    prior = np.diag([0, 0, 0, 0, 0.01, 0.01])
    contrasts = rng.standard_normal((3, 4))
    ratios, alone = error_ratios(information + prior, contrasts)
    whole, inner = np.linalg.inv(information), np.linalg.inv(information[:4, :4])
    beside = np.einsum("ck,kl,cl->c", contrasts, whole[:4, :4], contrasts)
    assert ratios == pytest.approx(np.sqrt(beside / np.einsum("ck,kl,cl->c", contrasts, inner, contrasts)))
    assert alone == pytest.approx(1 / np.diag(whole)[4:])


def test_win_rates_at_equal_style_hold_the_baselines_style():
    games, theta = written(400, np.random.default_rng(6), star=True, noise=0.3, theta=[0, 0.5, 0.0, -0.5, 1.0])
    found = stats.style_controlled_win_rates(**games, baseline=0)
    plain = stats.win_rates(games["i"], games["j"], games["p"], 0, games["clusters"])
    expected = 1 / (1 + np.exp(-theta[1:]))
    near = np.array([rate.value for rate in found.win_rates[1:]])
    assert np.abs(near - expected).max() < 0.03 < np.abs([r.soft.value for r in plain[1:]] - expected).max()
    assert [s.value for s in found.slopes] == pytest.approx([0.8, -0.5, 0.3], abs=0.15)
    assert all(rate.low < rate.value < rate.high for rate in found.win_rates[1:])


def test_counts_are_compared_by_their_share():
    assert stats.count_feature([0, 0, 3, 5], [0, 4, 1, 5]).tolist() == [0, 0.8, -0.4, 0]
    for bad in ([-1.0], [math.nan], [1.0, 2.0]):
        with pytest.raises(ValueError, match="counts"):
            stats.count_feature([1.0], bad)
    for bad in (np.zeros(3), np.zeros((2, 1)), np.full((3, 1), math.inf)):
        with pytest.raises(ValueError, match="features must be 3 rows"):
            stats.style_controlled_ratings([0, 1, 0], [1, 2, 2], [0.5, 0.5, 0.5], bad)
