"""Simulated tournaments whose true win rates and ratings are known: pairs of an interval and the truth, and p values
of tests where nothing differs.

`n` is the number of prompts, which every chatbot answers, and `truth` the win rate of the first.
"""

import math
from functools import cache

import numpy as np

from harness_plugin import stats
from harness_plugin.stats.ratings import POINTS

DIFFICULTY, NOISE, MODELS = 1.0, 1.0, 4
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def sigma(z):
    return 1 / (1 + np.exp(-z))


@cache
def strength(truth: float, spread: float = math.hypot(DIFFICULTY, NOISE)) -> float:
    """The logit with which the mean preference is `truth`, when normal noise of this spread is added."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = float(sigma(middle + spread * NODES) @ WEIGHTS / WEIGHTS.sum())
        low, high = (middle, high) if mean < truth else (low, middle)
    return low


def soft_win_rate(rng, n, truth):
    """Against a baseline, with a judge's probabilities."""
    q = sigma(strength(truth) + math.hypot(DIFFICULTY, NOISE) * rng.standard_normal(n))
    return [(stats.win_rates(np.zeros(n, int), np.ones(n, int), q, 0)[1].soft, truth)]


def certain_win_rate(rng, n, truth):
    """Against a baseline, with a judge whose probabilities are 0 and 1."""
    q = (rng.random(n) < truth).astype(float)
    return [(stats.win_rates(np.zeros(n, int), np.ones(n, int), q, 0)[1].soft, truth)]


def certain_difference(ties: float = 0.0):
    """Of two win rates of a judge whose probabilities are nearly 0 or 1, of which the second is 1, and of the first and
    the baseline's one half; of each chatbot's preferences the share `ties` is exactly one half."""

    def draw(rng, n, truth):
        won = rng.random((2, n)) < np.array([[truth], [1.0]])
        q = np.where(rng.random((2, n)) < ties, 0.5, np.where(won, 1.0, 0.0) + 0.001 * (1 - 2 * won))
        shrunk = 0.998 * (1 - ties)
        return _rate_differences(q, shrunk * (truth - 1), shrunk * (truth - 0.5))

    return draw


def soft_difference(rng, n, truth):
    """Of two win rates with a judge's probabilities, of which the second is one half, at the same prompts."""
    hard = DIFFICULTY * rng.standard_normal(n)
    q = np.stack([sigma(strength(share) + hard + NOISE * rng.standard_normal(n)) for share in (truth, 0.5)])
    return _rate_differences(q, truth - 0.5, truth - 0.5)


def _rate_differences(q, less_second: float, less_baseline: float):
    """Of the first of two chatbots less the second, and less the baseline, as a leaderboard has them."""
    n = q.shape[1]
    i, j, prompts = np.zeros(2 * n, int), np.repeat([1, 2], n), np.tile(np.arange(n), 2)
    tests = stats.column_tests(stats.win_table(i, j, q.ravel(), prompts, 0), shares=True)
    columns = tests.difference, tests.stderr, tests.low, tests.high
    found = []
    for b, true in ((2, less_second), (0, less_baseline)):
        value, stderr, low, high = (float(column[1, b]) for column in columns)
        found.append((stats.Estimate(value, stderr, n, n, low, high), true))
    return found


def hard_win_rate(rng, n, truth):
    """A round robin in which the first wins as often against each of three others, more often at easy prompts."""
    chance = sigma(strength(truth, 1.0) + rng.standard_normal((n, 1)))
    first = (rng.random((n, MODELS - 1)) < chance).astype(float)
    i, j = np.zeros(first.size, int), np.tile(np.arange(1, MODELS), n)
    found = stats.round_robin_win_rates(i, j, 1 - first.ravel(), np.repeat(np.arange(n), MODELS - 1))
    return [(found[0].hard, truth), (found[0].soft, truth)]


def at_equal_length(rng, n, truth):
    """Against a baseline, where the judge likes length and some answers are longer."""
    base, lengths = rng.lognormal(6, 0.5, n), rng.lognormal(6.3, 0.5, (n, MODELS))
    longer = lengths - base[:, None]
    theta = np.array([strength(truth, math.hypot(1.0, 0.8)), -0.5, 0.0, 0.5])
    z = theta + 0.8 * np.tanh(longer / np.sqrt((longer**2).mean())) + rng.normal(0, 1, (n, 1))
    p = sigma(z + 0.8 * rng.standard_normal(z.shape))
    i, j, prompts = np.zeros(p.size, int), np.tile(np.arange(1, MODELS + 1), n), np.repeat(np.arange(n), MODELS)
    found = stats.length_controlled_win_rates(i, j, p.ravel(), np.repeat(base, MODELS), lengths.ravel(), 0, prompts)
    return [(found.win_rates[1], truth)]


def games(rng, n, theta, ties: bool = False):
    """(i, j, P(j wins), P(tie), prompts) of a round robin of one-hot outcomes drawn from Davidson's model."""
    a, b = np.triu_indices(len(theta), 1)
    d = np.tile(theta[b] - theta[a], n)
    weights = np.stack([np.exp(-d / 2), np.exp(d / 2), np.full_like(d, 0.5 if ties else 0.0)], axis=1)
    chosen = (rng.random(len(d))[:, None] > (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)[:, :2]).sum(1)
    return np.tile(a, n), np.tile(b, n), (chosen == 1) * 1.0, (chosen == 2) * 1.0, np.repeat(np.arange(n), len(a))


def rating(ties: bool = False):
    """Of the first of four models, relative to the mean, which it beats with the chance `truth`."""

    def draw(rng, n, truth):
        theta = np.array([math.log(truth / (1 - truth)), 0.0, 0.0, 0.0])
        i, j, p, tie, prompts = games(rng, n, theta, ties)
        if ties:
            found = stats.davidson_ratings(i, j, p, tie, clusters=prompts, models=MODELS)
        else:
            found = stats.bradley_terry_ratings(i, j, p, clusters=prompts, models=MODELS)
        return [(found.estimate(0), 1000 + POINTS * (theta[0] - theta.mean()))]

    return draw


def equal_win_rates(rng, n) -> float:
    """The smallest Holm-adjusted p of four equal models, by paired win rates."""
    z = rng.standard_normal((n, 1)) + rng.standard_normal((n, MODELS))
    return _smallest(stats.column_tests(sigma(2 * z), shares=True))


def equal_ratings(rng, n) -> float:
    """The same by Bradley-Terry ratings."""
    i, j, p, _, prompts = games(rng, n, np.zeros(MODELS))
    return _smallest(stats.bradley_terry_ratings(i, j, p, clusters=prompts, models=MODELS).tests())


def _smallest(tests) -> float:
    p = tests.p_holm[np.triu_indices(MODELS, 1)]
    return float(np.nanmin(p)) if np.isfinite(p).any() else math.nan


def detected(rng, n) -> bool:
    """Whether the smallest difference that a leaderboard of ten models says it detects is detected."""
    noise = rng.standard_normal((n, 10)) * 0.02
    claim = stats.column_tests(0.5 + noise, shares=True).smallest_difference()
    moved = 0.5 + rng.standard_normal((n, 10)) * 0.02
    moved[:, 0] += claim
    return bool(stats.column_tests(moved, shares=True).p_holm[0, 1] <= 0.05)
