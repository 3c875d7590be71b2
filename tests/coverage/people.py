"""Simulated people and judges whose true numbers are known: intervals of the numbers for people, from labels on some of
the battles, and decisions of the gate for people.

`n` is the number of labels, which lie on different prompts, out of four times as many prompts; of the gate, out of ten
times as many, of which three tenths changed. `good`: the correlation of what people and the judge see, from 1 to -1.

    python tests/coverage/people.py --draws 1000

prints the power of the gate: the table of docs/anchor.md.
"""

import argparse
import math
from functools import cache
from statistics import NormalDist

import chatbots
import numpy as np

from harness_plugin.stats.agreement import agreement_of_votes
from harness_plugin.stats.anchored import anchored_difference, anchored_mean
from harness_plugin.stats.anchored_drop import anchored_drop
from harness_plugin.stats.anchored_ratings import anchored_ratings
from harness_plugin.stats.ratings import POINTS
from harness_plugin.tournament.people import rate_tests

KIND, TIES, POOL = 0.8, 0.2, 4  # logits that the judge is too kind, the share of ties, prompts for each label
ALPHA, CHANGED = 0.05, 0.3
ALWAYS = 1 - 1e-9  # the win rate of a model that is preferred to the baseline at every prompt
DRAWN = np.random.default_rng(0).standard_normal((2, 200_000))


def judged(taste, noise, good: float):
    """P(the model is preferred) by a judge that sees people's taste as well as `good` says, and is too kind."""
    return 1 / (1 + np.exp(-1.7 * (good * taste + math.sqrt(1 - good**2) * noise) - KIND))


def people_and_judge(rng, prompts: int, truth: float, good: float, ties: bool):
    """(what people say, what the judge says) of one battle on each prompt."""
    taste, shift = rng.standard_normal(prompts), NormalDist().inv_cdf(truth)
    people = (taste + shift > 0).astype(float)
    if ties:
        people = np.where(rng.random(prompts) < TIES, 0.5, people)
    return people, judged(taste + shift, rng.standard_normal(prompts), good)


@cache
def judges_mean(truth: float, good: float) -> float:
    return float(judged(DRAWN[0] + NormalDist().inv_cdf(truth), DRAWN[1], good).mean())


def with_labels(rng, values, n: int):
    labels = np.full(len(values), np.nan)
    chosen = rng.permutation(len(values))[:n]
    labels[chosen] = values[chosen]
    return labels


def rate(good: float, ties: bool = False, error: bool = False):
    """A win rate for people, or what the judge's is wrong by."""

    def draw(rng, n, truth):
        people, judge = people_and_judge(rng, POOL * n, truth, good, ties)
        found, true = (
            anchored_mean(with_labels(rng, people, n), judge),
            TIES / 2 + (1 - TIES) * truth if ties else truth,
        )
        return [(found.bias, judges_mean(truth, good) - true) if error else (found.estimate, true)]

    return draw


def clustered_rate(good: float):
    """Five battles on each prompt, which go the same way more often than not; the labels are scattered over all."""

    def draw(rng, n, truth):
        prompts, each = POOL * n // 2, 5
        names, shift = np.repeat(np.arange(prompts), each), NormalDist().inv_cdf(truth)
        taste = math.sqrt(0.5) * (rng.standard_normal(prompts)[names] + rng.standard_normal(len(names))) + shift
        people, judge = (taste > 0).astype(float), judged(taste, rng.standard_normal(len(names)), good)
        return [(anchored_mean(with_labels(rng, people, n), judge, names).estimate, truth)]

    return draw


def uneven_rate(good: float):
    """All battles of n in POOL n prompts are labelled, whose numbers of battles are as 1 to 1 / n."""

    def draw(rng, n, truth):
        each = np.tile(np.maximum(40 // np.arange(1, n + 1), 1), POOL)
        names, shift = np.repeat(np.arange(len(each)), each), NormalDist().inv_cdf(truth)
        taste = math.sqrt(0.5) * (rng.standard_normal(len(each))[names] + rng.standard_normal(len(names))) + shift
        people, judge = (taste > 0).astype(float), judged(taste, rng.standard_normal(len(names)), good)
        return [(anchored_mean(np.where(names < n, people, np.nan), judge, names).estimate, truth)]

    return draw


def unequal_rate(good: float):
    """Close battles are labelled four times as often as clear ones."""

    def draw(rng, n, truth):
        people, judge = people_and_judge(rng, POOL * n, truth, good, False)
        chance = np.where(np.abs(judge - 0.5) < np.median(np.abs(judge - 0.5)), 0.4, 0.1)
        labels = np.where(rng.random(len(judge)) < chance, people, np.nan)
        return [(anchored_mean(labels, judge, probability=chance).estimate, truth)]

    return draw


def rate_difference(good: float):
    """Of two models whose win rates against a baseline are `truth` and 1. The labels are scattered over the battles of
    both, which share their prompts."""

    def draw(rng, n, truth):
        battles = [people_and_judge(rng, POOL * n, share, good, False) for share in (truth, ALWAYS)]
        people, judge = (np.concatenate(column) for column in zip(*battles, strict=True))
        labels, prompts = with_labels(rng, people, 2 * n), np.tile(np.arange(POOL * n), 2)
        own = np.repeat([1.0, 0.0], POOL * n)
        first, second = (anchored_mean(labels, judge, prompts, weight=weight) for weight in (own, 1 - own))
        return [(anchored_difference(first, second), truth - ALWAYS)]

    return draw


def equal_rates(good: float, truth: float = 0.5):
    """The smallest Holm-adjusted p of four models that people prefer to a baseline as often, with n labels of each."""

    def smallest(rng, n) -> float:
        battles = [people_and_judge(rng, POOL * n, truth, good, False) for _ in range(4)]
        people, judge = (np.concatenate(column) for column in zip(*battles, strict=True))
        labels, prompts = with_labels(rng, people, 4 * n), np.tile(np.arange(POOL * n), 4)
        model = np.repeat(np.arange(4), POOL * n)
        rates = [anchored_mean(labels, judge, prompts, weight=(model == m) * 1.0) for m in range(4)]
        return _smallest(rate_tests([None, *rates], 0).p_holm[1:, 1:])

    return smallest


def equal_ratings(good: float):
    """The same of the ratings of four models in a round robin."""

    def smallest(rng, n) -> float:
        i, j, won, _, prompts = chatbots.games(rng, POOL * n, np.zeros(4))
        likes = 1.0 * (j == 3) - 1.0 * (i == 3)
        judge = 1 / (1 + np.exp(-2 * good * (won - 0.5) - likes - rng.standard_normal(len(i))))
        found = anchored_ratings(i, j, with_labels(rng, won, n), judge, clusters=prompts, models=4)
        return _smallest(found.ratings.tests().p_holm)

    return smallest


def _smallest(p) -> float:
    return float(np.nanmin(p)) if np.isfinite(p).any() else math.nan


def rating(good: float, ties: bool = False):
    """Of the first of four models, which beats the others with the chance `truth`; the judge likes the last one."""

    def draw(rng, n, truth):
        theta = np.array([math.log(truth / (1 - truth)), 0.0, 0.0, 0.0])
        i, j, won, tied, prompts = chatbots.games(rng, POOL * n, theta, ties)
        people = won + tied / 2
        likes = 1.0 * (j == 3) - 1.0 * (i == 3)
        judge = 1 / (1 + np.exp(-2 * good * (people - 0.5) - likes - rng.standard_normal(len(i))))
        both = np.stack([tied, np.minimum(0.2, 2 * np.minimum(judge, 1 - judge))]) if ties else None
        labels = with_labels(rng, people, n)
        found = anchored_ratings(i, j, labels, judge, ties=both, clusters=prompts, models=4).ratings
        return [(found.estimate(0), 1000 + POINTS * (theta[0] - theta.mean()))]

    return draw


def alpha(classes):
    """Krippendorff's alpha of two people on n battles: one votes as the other does, as often as `truth` says, and else
    by chance. `classes`: the shares of votes for A, B and tie."""

    def draw(rng, n, truth):
        one, chance = rng.choice(3, (2, n), p=classes)
        votes = np.stack([one, np.where(rng.random(n) < truth, one, chance)])
        counts = (votes[:, :, None] == np.arange(3)).sum(axis=0)
        return [(agreement_of_votes(counts).alpha, truth)]

    return draw


# -- the gate ----------------------------------------------------------------------------------------------------------


def change(rng, prompts: int, drop: float, good: float, changed: float = CHANGED):
    """(people's difference, the judge's, what changed) of a duel of old and new answers whose mean falls by `drop`."""
    moved = rng.random(prompts) < changed
    worse, tie = (1 - 0.3) / 2 + drop / changed, 0.3
    u = rng.random(prompts)
    people = np.where(u < worse, -0.5, np.where(u < worse + tie, 0.0, 0.5)) * moved
    seen = np.sign(good) * np.clip(
        abs(good) * people + math.sqrt(1 - good**2) * 0.3 * rng.standard_normal(prompts), -0.5, 0.5
    )
    return people, (seen + 0.05) * moved, moved


def gate_for_people(rng, n: int, drop: float, good: float):
    people, judge, moved = change(rng, 10 * n, drop, good)
    labels = np.full(len(people), np.nan)
    chosen = rng.permutation(np.flatnonzero(moved))[:n]
    labels[chosen] = people[chosen]
    return anchored_drop(labels, judge, moved, np.arange(len(people)), ALPHA, -0.5).test if len(chosen) else None


def passed(margin: float, good: float):
    """Whether answers that lost the margin for people pass."""

    def draw(rng, n):
        found = gate_for_people(rng, n, margin, good)
        return found is not None and bool(found.low >= -margin)

    return draw


def failed(good: float):
    """Whether answers that are as good for people as before are a regression."""

    def draw(rng, n):
        found = gate_for_people(rng, n, 0.0, good)
        return found is not None and bool(found.p <= ALPHA)

    return draw


def power(
    rng, labels: int, drop: float, good: float, everywhere: bool, margin: float = 0.05, prompts: int = 1000
) -> bool:
    """Whether a gate passes with so many labels, on any prompts or on those that changed."""
    people, judge, moved = change(rng, prompts, drop, good)
    asked = np.ones(prompts, dtype=bool) if everywhere else moved
    found = np.full(prompts, np.nan)
    chosen = rng.permutation(np.flatnonzero(asked))[:labels]
    found[chosen] = people[chosen]
    return bool(anchored_drop(found, judge, asked, np.arange(prompts), ALPHA, -0.5).test.low >= -margin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    print("| labels | drop | any prompts: no judge | good judge | changed ones: no judge | poor judge | good judge |")
    print("|---|---|---|---|---|---|---|")
    ways = ((0.0, True), (0.8, True), (0.0, False), (0.3, False), (0.8, False))
    for labels in (20, 50, 100, 200):
        for drop in (0.05, 0.0):
            rng = np.random.default_rng([labels, int(100 * drop)])
            shares = [np.mean([power(rng, labels, drop, good, every) for _ in range(draws)]) for good, every in ways]
            print(f"| {labels} | {drop:g} | {' | '.join(f'{share:.2f}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
