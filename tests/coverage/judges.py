"""Simulated judges whose true numbers are known: each function gives pairs of an interval and the truth.

`n` is the number of prompts and `truth` the share, or the AUC, that is estimated. With clusters each prompt has four
items, whose correlation is 0.3; ties take a fifth of the items.
"""

import math
from functools import cache
from statistics import NormalDist

import numpy as np

from harness_plugin import stats
from harness_plugin.stats.best_of import with_score_interval
from harness_plugin.stats.estimates import FEWEST_LOSSES
from harness_plugin.stats.measures import logistic
from harness_plugin.stats.panels import disagreement, effective_judges
from harness_plugin.stats.selective import threshold_for_agreement, threshold_for_error

ITEMS, CORRELATION, TIES = 4, 0.3, 0.2
NORMAL = np.random.default_rng(0).standard_normal(400_000)


def prompts(n: int, clustered: bool) -> np.ndarray:
    return np.repeat(np.arange(n), ITEMS) if clustered else np.arange(n)


def outcomes(rng, n: int, truth: float, clustered: bool) -> np.ndarray:
    """1 with the chance `truth`; in clusters with each prompt's own chance, whose variance makes the correlation."""
    if not clustered:
        return (rng.random(n) < truth).astype(float)
    k = 1 / CORRELATION - 1
    own = rng.beta(truth * k, (1 - truth) * k, n)
    return (rng.random(n * ITEMS) < np.repeat(own, ITEMS)).astype(float)


def normal(rng, n: int, clustered: bool) -> np.ndarray:
    names = prompts(n, clustered)
    shared = rng.standard_normal(n)[names] * math.sqrt(CORRELATION)
    return shared + math.sqrt(1 - CORRELATION) * rng.standard_normal(len(names))


def share(clustered: bool = False, ties: bool = False):
    """`acc`, `order_agreement` and every other share; a tie is one half."""

    def draw(rng, n, truth):
        right = outcomes(rng, n, truth, clustered)
        if ties:
            right = np.where(rng.random(len(right)) < TIES, 0.5, right)
        return [(stats.clustered_share(right, prompts(n, clustered)), TIES / 2 + (1 - TIES) * truth if ties else truth)]

    return draw


def length_balanced(clustered: bool = False):
    """The right answer is the longer one in two thirds of the pairs."""

    def draw(rng, n, truth):
        right = outcomes(rng, n, truth, clustered)
        longer = np.where(rng.random(len(right)) < 2 / 3, 1, -1)
        return [(stats.acc_length_balanced(right, longer, prompts(n, clustered)), truth)]

    return draw


def section(rng, n, truth):
    """Four categories that count the same and hold six, two, one and one in ten of the prompts."""
    s, winners = 2 * outcomes(rng, n, truth, False) - 1, np.ones(n, dtype=int)
    categories = np.array(list("aaaaaabbcd"))[np.arange(n) % 10]
    return [(stats.section_accuracy(s, winners, categories, dict.fromkeys("abcd", 1.0)), truth)]


def area(clustered: bool = False):
    """The AUC of scores that are normal in both classes."""

    def draw(rng, n, truth):
        z = normal(rng, n, clustered)
        positive = rng.random(len(z)) < 0.5
        shifted = z + math.sqrt(2) * NormalDist().inv_cdf(truth) * positive
        return [(stats.auc_estimate(shifted, positive, prompts(n, clustered)), truth)]

    return draw


def score(name: str, clustered: bool = False):
    """`log_loss` or `brier` of a judge whose probabilities are right, and mostly as certain as `truth`."""

    def draw(rng, n, truth):
        p = _three_ways(truth, normal(rng, n, clustered))
        winners = (rng.random(len(p))[:, None] > p.cumsum(axis=1)[:, :2]).sum(axis=1)
        values = getattr(stats, name)(p, winners)
        bounds = (0.0, 2.0) if name == "brier" else (0.0, math.inf)
        return [(stats.clustered_mean(values, prompts(n, clustered), bounds), _expected(name, truth))]

    return draw


def _three_ways(truth: float, z) -> np.ndarray:
    """Davidson's probabilities of A, B and tie at the logits z, scaled so that a z of 1 gives odds of truth."""
    s = z * (0.5 + math.log(truth / (1 - truth)))
    weights = np.stack([np.exp(-s / 2), np.exp(s / 2), np.full_like(s, 0.5)], axis=1)
    return weights / weights.sum(axis=1, keepdims=True)


@cache
def _expected(name: str, truth: float) -> float:
    p = _three_ways(truth, NORMAL)
    each = -(p * np.log(p)).sum(axis=1) if name == "log_loss" else 1 - (p**2).sum(axis=1)
    return float(each.mean())


def accuracy_difference(clustered: bool = False):
    """`compare`: a judge that is right as often as `truth` says, less one that is right 0.1 more rarely; they are wrong
    about the same pairs more often than by chance."""

    def draw(rng, n, truth):
        credit = _credits(rng, n, np.array([truth, truth - 0.1]), clustered)
        tests = stats.column_tests(credit, prompts(n, clustered), shares=True)
        low, high, p = tests.low[0, 1], tests.high[0, 1], tests.difference[0, 1]
        return [(stats.Estimate(p, tests.stderr[0, 1], len(credit), n, low, high), 0.1)]

    return draw


def uneven_difference(rng, n, truth):
    """`compare`: two judges that are right equally often, with prompts whose numbers of pairs are as 1 to 1 / n."""
    names = np.repeat(np.arange(n), np.maximum(40 // np.arange(1, n + 1), 1))
    own = (rng.standard_normal((n, 2)) * math.sqrt(CORRELATION))[names]
    right = own + math.sqrt(1 - CORRELATION) * rng.standard_normal((len(names), 2)) < 0.5
    tests = stats.column_tests(right.astype(float), names, shares=True)
    found = tests.difference[0, 1], tests.stderr[0, 1], len(names), n, tests.low[0, 1], tests.high[0, 1]
    return [(stats.Estimate(*found), 0.0)]


def loss_difference(rng, n, truth):
    """`compare`: the log loss of a judge whose probabilities are right, less that of one that is half as certain."""
    p, other = (_three_ways(truth, z) for z in _halved(normal(rng, n, True)))
    winners = (rng.random(len(p))[:, None] > p.cumsum(axis=1)[:, :2]).sum(axis=1)
    losses = np.stack([stats.log_loss(p, winners), stats.log_loss(other, winners)], axis=1)
    tests = stats.column_tests(losses, prompts(n, True), FEWEST_LOSSES)
    ends = tests.difference[0, 1], tests.stderr[0, 1], len(p), n, tests.low[0, 1], tests.high[0, 1]
    return [(stats.Estimate(*ends), _expected_difference(truth))]


def _halved(z) -> tuple[np.ndarray, np.ndarray]:
    return z, z / 2


@cache
def _expected_difference(truth: float) -> float:
    p, other = (_three_ways(truth, z) for z in _halved(NORMAL))
    return float((p * (np.log(other) - np.log(p))).sum(axis=1).mean())


def tied(rng, n, truth):
    """RewardBench 2's subset Ties: the mean of four parts of each prompt, each of which is right as often as `truth`
    says, more often where the others are."""
    z = math.sqrt(0.5) * (rng.standard_normal((n, 1)) + rng.standard_normal((n, 4)))
    score = (z < NormalDist().inv_cdf(truth)) @ np.array([0.3, 0.3, 0.2, 0.2])
    return [(with_score_interval(stats.clustered_mean(score)), truth)]


def independent_judges(rng, n, truth):
    """`compare`: how many independent judges four are worth that are right as often as `truth` says, or less."""
    wrong = 1 - _credits(rng, n, np.full(4, truth), True)
    return [(effective_judges(wrong, prompts(n, True)), _expected_judges(truth))]


@cache
def _expected_judges(truth: float) -> float:
    rng, limit = np.random.default_rng(1), NormalDist().inv_cdf(truth)
    z = math.sqrt(0.5) * (NORMAL[:, None] + rng.standard_normal((len(NORMAL), 4)))
    return effective_judges((z >= limit).astype(float)).value


def disagreeing(rng, n, truth):
    """`compare`: how often two judges prefer different sides, as often as `truth` says."""
    differ = outcomes(rng, n, truth, True)
    return [(disagreement(np.stack([np.ones(len(differ)), 1 - 2 * differ], axis=1), prompts(n, True)), truth)]


def over_the_error(error: float):
    """Whether a fitted abstention lets a judge err more often than `error`; False where it abstains from everything."""

    def happens(rng, n) -> bool:
        log_odds = 2 * np.abs(normal(rng, n, False))
        wrong = (rng.random(n) > logistic(log_odds)).astype(float)
        found = threshold_for_error(log_odds, wrong, None, error)
        if found is None:
            return False
        chosen = 2 * np.abs(NORMAL)
        return float(logistic(-chosen[chosen >= found]).mean()) > error

    return happens


def below_the_agreement(agreement: float):
    """Whether a fitted cascade agrees with the big judge more rarely than wanted."""

    def happens(rng, n) -> bool:
        log_odds = 2 * np.abs(normal(rng, n, False))
        differs = (rng.random(n) > logistic(log_odds)).astype(float)
        found = threshold_for_agreement(log_odds, differs, None, agreement)
        if found is None:
            return False
        chosen = 2 * np.abs(NORMAL)
        return float(np.where(chosen >= found, logistic(-chosen), 0.0).mean()) > 1 - agreement

    return happens


def equal_judges(rng, n) -> float:
    """The smallest Holm-adjusted p of four judges that are equally good, by their accuracy on the same pairs."""
    tests = stats.column_tests(_credits(rng, n, np.full(4, 0.7), True), prompts(n, True), shares=True)
    p = tests.p_holm[np.triu_indices(4, 1)]
    return float(np.nanmin(p)) if np.isfinite(p).any() else math.nan


def _credits(rng, n: int, accuracies, clustered: bool) -> np.ndarray:
    """Right and wrong of several judges on the same pairs, shape (pairs, judges), correlated by how hard a pair is."""
    hard = normal(rng, n, clustered)
    z = math.sqrt(0.5) * (hard[:, None] + rng.standard_normal((len(hard), len(accuracies))))
    limits = np.array([NormalDist().inv_cdf(accuracy) for accuracy in accuracies])
    return (z < limits).astype(float)


def position_bias(rng, n, truth):
    """The mean of normal logits. (Of exponential ones, which are very skewed, 5 prompts give 0.88 and 20 give 0.93.)"""
    return [(stats.clustered_mean(rng.standard_normal(n) + truth), truth)]


def length_correlation(rng, n, truth):
    """Spearman's correlation of normal columns, which is 6 / pi arcsin(r / 2) for Pearson's r."""
    r, x = 2 * math.sin(math.pi * truth / 6), rng.standard_normal(n)
    y = stats.rank_codes(r * x + math.sqrt(1 - r * r) * rng.standard_normal(n))
    x = stats.rank_codes(x)
    return [(stats.jackknife(lambda keep: stats.spearman(x[keep], y[keep]), n, bounds=(-1.0, 1.0)), truth)]


def certain_error(rng, n, truth):
    """The expected calibration error of a judge that gives about 0.999 everywhere and is right in 0.95."""
    right = (rng.random(n) < 0.95).astype(float)
    return [(stats.ece_estimate(0.9985 + rng.random(n) / 1000, right), 0.049)]


def calibration_error(gap: float):
    """The expected calibration error of a judge that is `gap` too confident everywhere; `truth` does not matter."""

    def draw(rng, n, truth):
        confidence = 0.5 + gap + rng.random(n) * (0.5 - gap)
        right = (rng.random(n) < confidence - gap).astype(float)
        return [(stats.ece_estimate(confidence, right), gap)]

    return draw
