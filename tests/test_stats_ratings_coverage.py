"""Intervals of ratings hold the true value as often as they say, in simulations."""

import math

import numpy as np
import pytest
from rating_games import SPREAD, round_robin, sigma, with_ties
from scipy import stats as reference

from harness_plugin import stats


def true_ratings(theta, hard):
    """The ratings that infinitely many prompts would give: the fit to the exact mean outcome of every pair."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    a, b = np.triu_indices(len(theta), 1)
    d, deviation = theta[b] - theta[a], SPREAD * math.sqrt(2)
    soft = sigma(d[:, None] + deviation * nodes) @ weights / weights.sum()
    return stats.bradley_terry_ratings(a, b, reference.norm.cdf(d / deviation) if hard else soft).rating


@pytest.mark.slow
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_intervals_clustered_by_prompt_cover_the_truth_95_times_in_100(hard):
    models, prompts, replicates = 20, 200, 300
    rng, theta = np.random.default_rng(20), np.linspace(-1.2, 1.2, models)
    truth, upper = true_ratings(theta, hard), np.triu_indices(models, 1)
    rank = models - np.argsort(np.argsort(truth))
    inside, naive, apart, ranks = [], [], [], []
    for replicate in range(replicates):
        games = round_robin(models, prompts, rng, theta, hard)
        found = stats.bradley_terry_ratings(**games)
        inside.append((found.low <= truth) & (truth <= found.high))
        tests = found.tests()
        difference = np.subtract.outer(truth, truth)
        apart.append(((tests.low <= difference) & (difference <= tests.high))[upper])
        best, worst = tests.rank_ranges().T
        ranks.append(((best <= rank) & (rank <= worst)).all())
        if replicate < 30:
            independent = stats.bradley_terry_ratings(**games | {"clusters": None})
            naive.append((independent.low <= truth) & (truth <= independent.high))
    assert 0.93 <= np.mean(inside) <= 0.97
    assert 0.93 <= np.mean(apart) <= 0.97
    assert np.mean(ranks) >= 0.95
    assert np.mean(naive) < 0.8  # as if comparisons were independent: what the clusters are for


def test_intervals_hold_with_ten_prompts_and_with_few_comparisons_each():
    rng, theta = np.random.default_rng(21), np.linspace(-1, 1, 8)
    truth = true_ratings(theta, hard=False)
    few, thin = [], []
    for _ in range(300):
        found = stats.bradley_terry_ratings(**round_robin(8, 10, rng, theta))
        few.append((found.low <= truth) & (truth <= found.high))
        games = round_robin(8, 40, rng, theta)
        kept = (rng.random((40, 28)).argsort(axis=1) < 4).ravel()
        found = stats.bradley_terry_ratings(**{name: column[kept] for name, column in games.items()}, models=8)
        thin.append((found.low <= truth) & (truth <= found.high))
    assert 0.92 <= np.mean(few) <= 0.98
    assert 0.92 <= np.mean(thin) <= 0.98


def test_among_equal_models_a_false_difference_is_as_rare_as_alpha_says():
    rng, false, single = np.random.default_rng(22), 0, []
    for _ in range(300):
        tests = stats.bradley_terry_ratings(**round_robin(8, 40, rng, np.zeros(8))).tests()
        false += tests.better().any()
        single.append((tests.p[np.triu_indices(8, 1)] <= 0.05).mean())
    assert false / 300 <= 0.09  # 0.05 and three errors
    assert np.mean(single) == pytest.approx(0.05, abs=0.02)


def test_the_interval_of_the_tie_parameter_covers_it():
    rng, inside = np.random.default_rng(23), 0
    games = with_ties(round_robin(6, 40, None, np.linspace(-1, 1, 6), spread=0))
    for _ in range(300):
        u = rng.random(len(games["p"]))
        sampled = {"p": u < games["p"], "tie": (u >= games["p"]) & (u < games["p"] + games["tie"])}
        nu = stats.davidson_ratings(**games | sampled).tie
        inside += nu.low <= 0.6 <= nu.high
    assert 0.915 <= inside / 300 <= 0.985
