"""Means and ratings for people, from a judge's verdicts everywhere and labels on some battles."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from harness_plugin.stats import bradley_terry_ratings, clustered_mean, davidson_ratings
from harness_plugin.stats.anchored import anchored_difference, anchored_mean
from harness_plugin.stats.anchored_plan import label_plan
from harness_plugin.stats.anchored_ratings import anchored_ratings


def world(rng, n=600, good=0.8):
    """(what people say, what the judge says): a judge that is too kind and knows this much of people's taste."""
    taste = rng.standard_normal(n)
    people = np.where(np.abs(taste) < 0.25, 0.5, (taste > 0) * 1.0)
    seen = good * taste + math.sqrt(1 - good**2) * rng.standard_normal(n)
    return people, 1 / (1 + np.exp(-1.7 * seen - 0.8))


def some(rng, people, n):
    labels = np.full(len(people), np.nan)
    chosen = rng.choice(len(people), n, replace=False)
    labels[chosen] = people[chosen]
    return labels


def by_hand(labels, judge):
    """theta(1) and its error without clusters, from the textbook form: the judge's mean plus the mean of the errors of
    the labelled battles, whose variances add up but for the battles that are in both."""
    chosen = np.isfinite(labels)
    n, total = chosen.sum(), len(labels)
    value = labels[chosen].mean() + judge.mean() - judge[chosen].mean()
    influence = np.where(chosen, 1 / n, 0) * (np.where(chosen, labels, 0) - labels[chosen].mean())
    influence += (judge - judge.mean()) / total - chosen * (judge - judge[chosen].mean()) / n
    return value, math.sqrt(n / (n - 1) * (influence**2).sum())


def test_with_the_full_weight_it_is_prediction_powered_inference(monkeypatch):
    rng = np.random.default_rng(0)
    people, judge = world(rng)
    labels = some(rng, people, 120)
    monkeypatch.setattr("harness_plugin.stats.anchored.tuned", lambda of_labels, of_judge: 1.0)
    found = anchored_mean(labels, judge)
    value, stderr = by_hand(labels, judge)
    assert found.estimate.value == pytest.approx(value) and found.estimate.stderr == pytest.approx(stderr)
    assert found.bias.value == pytest.approx(judge.mean() - value) and found.tuning == 1.0


def test_a_good_judge_makes_labels_worth_more_and_a_bad_or_adversarial_one_costs_nothing():
    rng = np.random.default_rng(1)
    people, judge = world(rng, 2000)
    labels = some(rng, people, 150)
    good, alone = anchored_mean(labels, judge), clustered_mean(labels[np.isfinite(labels)])
    assert good.worth > 190 and good.correlation > 0.5 and not good.adds_nothing
    assert good.estimate.high - good.estimate.low < 0.9 * (good.labels_alone.high - good.labels_alone.low)
    assert good.estimate.low < people.mean() < good.estimate.high < judge.mean()
    for bad in (rng.random(2000), 1 - judge):
        found = anchored_mean(labels, bad)
        assert found.adds_nothing and found.tuning == 0 and found.worth == 150
        assert found.estimate == found.labels_alone
        assert found.estimate.value == pytest.approx(alone.value) and found.estimate.stderr == pytest.approx(
            alone.stderr
        )


def test_the_interval_is_clustered_by_prompt_and_does_not_depend_on_the_order_of_battles():
    rng = np.random.default_rng(2)
    people, judge = world(rng, 400)
    prompts = np.repeat(np.arange(80), 5)
    shared = people[::5].repeat(5)  # all battles of a prompt end alike
    labels = np.where(prompts < 30, shared, np.nan)
    by_prompt, each = (anchored_mean(labels, judge, names) for names in (prompts, None))
    assert by_prompt.estimate.n == 150 and by_prompt.estimate.n_clusters == 30
    assert by_prompt.labels_alone.stderr > 2 * each.labels_alone.stderr
    order = rng.permutation(400)
    moved = anchored_mean(labels[order], judge[order], prompts[order])
    assert moved.estimate.low == pytest.approx(by_prompt.estimate.low)


def test_unequal_probabilities_are_undone():
    rng = np.random.default_rng(3)
    people, judge = world(rng, 4000)
    chance = np.where(people == 1, 0.3, 0.1)  # whoever labels sees wins more often
    labels = np.where(rng.random(4000) < chance, people, np.nan)
    weighed, plain = anchored_mean(labels, judge, probability=chance), anchored_mean(labels, judge)
    assert weighed.estimate.low < people.mean() < weighed.estimate.high < plain.estimate.low
    with pytest.raises(ValueError, match="probability above 0"):
        anchored_mean(labels, judge, probability=np.zeros(4000))


def test_strata_and_battles_that_need_no_label():
    rng = np.random.default_rng(4)
    people, judge = world(rng, 1000)
    group = (judge > 0.7).astype(int)
    labels = people.copy()
    for k, kept in ((0, 40), (1, 80)):
        here = np.flatnonzero(group == k)
        labels[rng.permutation(here)[kept:]] = np.nan
    found = anchored_mean(labels, judge, strata=group)
    means = [np.nanmean(labels[group == k]) for k in (0, 1)]
    expected = np.average(means, weights=[(group == 0).sum(), (group == 1).sum()])
    assert found.labels_alone.value == pytest.approx(expected) and found.estimate.n == 120
    with pytest.raises(ValueError, match="stratum"):
        anchored_mean(np.where(group == 0, labels, np.nan), judge, strata=group)
    same = np.arange(1000) < 900
    known = anchored_mean(np.where(same, 0.5, labels), np.where(same, 0.5, judge), known=same)
    rest = anchored_mean(labels[~same], judge[~same])
    assert known.labels_alone.value == pytest.approx(0.9 * 0.5 + 0.1 * rest.labels_alone.value)
    assert known.estimate.n == rest.estimate.n and known.estimate.stderr < 0.2 * rest.estimate.stderr


@pytest.mark.parametrize("labelled", [0, 1, 9])
def test_too_few_labels_have_no_interval(labelled):
    rng = np.random.default_rng(5)
    people, judge = world(rng, 50)
    found = anchored_mean(some(rng, people, labelled), judge)
    assert found.estimate.n == labelled and math.isnan(found.estimate.low) and math.isnan(found.bias.high)
    assert math.isnan(found.estimate.value) == (labelled == 0) and not found.worth > labelled


def test_one_prompt_has_no_interval_and_labels_that_all_agree_have_a_wide_one():
    rng = np.random.default_rng(6)
    people, judge = world(rng, 100)
    assert math.isnan(anchored_mean(some(rng, people, 60), judge, np.zeros(100)).estimate.low)
    found = anchored_mean(np.where(np.arange(100) < 20, 1.0, np.nan), judge).estimate
    assert found.value == found.high == 1 and 0.8 < found.low < 0.86, "as Wilson's of 20 of 20"


@pytest.mark.parametrize(("kind", "truth", "n"), [("known", 0.9, 20), ("known", 0.93, 30), ("ties", 0.995, 20)])
def test_few_labels_that_are_nearly_alike_have_intervals_that_hold(kind, truth, n):
    """Battles that are known without a label, or ties, leave a variance although the labels say nothing of the rare
    outcome."""
    held = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        people = (rng.random(4 * n) < truth).astype(float)
        special = rng.random(4 * n) < (0.05 if kind == "known" else 0.2)
        people[special] = 0.5
        known = special & (kind == "known")
        labels = np.where(known, 0.5, np.nan)
        chosen = rng.permutation(np.flatnonzero(~known))[:n]
        labels[chosen] = people[chosen]
        found = anchored_mean(labels, np.where(known, 0.5, rng.random(4 * n)), known=known).estimate
        share = 0.05 if kind == "known" else 0.2
        held += found.low <= share / 2 + (1 - share) * truth <= found.high
    assert held >= 0.94 * 120


def test_known_battles_do_not_hide_that_labels_which_all_agree_say_little():
    known = np.arange(120) % 20 == 0
    labels = np.where(known, 0.5, np.where(np.arange(120) < 32, 1.0, np.nan))
    found = anchored_mean(labels, np.full(120, 0.5), np.arange(120) // 4, known=known).estimate
    assert found.value == pytest.approx(0.975) and found.n == 30 and found.low < 0.8, "on 8 prompts"


def test_where_everything_is_labelled_the_judge_counts_nothing():
    people, judge = world(np.random.default_rng(7), 200)
    found = anchored_mean(people, judge)
    assert found.estimate.value == pytest.approx(people.mean()) and found.worth == pytest.approx(200)


def test_a_difference_of_two_models_is_paired_by_prompt():
    rng = np.random.default_rng(8)
    hard, n = rng.standard_normal(300), 300
    first, second = (
        np.round(1 / (1 + np.exp(-2 * hard - shift - 0.3 * rng.standard_normal(n))), 2) for shift in (1, 0)
    )
    labelled = rng.random(n) < 0.5
    found = [anchored_mean(np.where(labelled, x, np.nan), rng.random(n)) for x in (first, second)]
    difference = anchored_difference(*found)
    paired = (first - second)[labelled]
    assert difference.value == pytest.approx(paired.mean())
    assert difference.stderr == pytest.approx(paired.std(ddof=1) / math.sqrt(len(paired)))
    assert difference.low < paired.mean() < difference.high


def test_degrees_of_freedom_are_those_of_the_prompts_that_the_labels_are_worth():
    rng, sizes = np.random.default_rng(9), np.maximum(40 // np.arange(1, 21), 1)
    codes = np.repeat(np.arange(20), sizes)
    people = (rng.random(len(codes)) < 0.5).astype(float)
    uneven = anchored_mean(people, np.full(len(codes), 0.5), codes)
    assert uneven.degrees == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum() - 1) and uneven.degrees < 8
    assert agreeing(5, 20).degrees == pytest.approx(19)
    as_many = anchored_mean(people, np.full(len(codes), 0.5), codes, weight=1 / sizes[codes])
    assert as_many.degrees == pytest.approx(19), "where every prompt counts the same"
    assert anchored_mean(people, people, np.zeros(len(codes))).degrees == 0, "of one prompt"


@cache
def agreeing(wins: int, n: int):
    """n labels, so many of which are wins, on one in four of the prompts; the judge says nothing."""
    return anchored_mean(np.repeat([1.0, 0.0, np.nan], [wins, n - wins, 3 * n]), np.full(4 * n, 0.5))


@pytest.mark.parametrize("n", [10, 40, 100])
@pytest.mark.parametrize(("first", "second"), [(1.0, 0.95), (1.0, 0.8), (0.97, 0.97), (0.9, 0.5), (0.5, 0.5)])
def test_a_difference_of_two_win_rates_for_people_holds_near_0_and_1_too(n, first, second):
    """Summed over all possible labels. Student's interval held the truth in 0.88 (100 labels, 1 and 0.95), and there
    was none where all labels of both agreed (10 labels, 1 and 0.95: 0.60)."""
    found, nothing = [agreeing(k, n) for k in range(n + 1)], np.zeros(4 * n)
    # On prompts of their own the two are independent.
    one = [replace(x, influence=np.append(x.influence, nothing)) for x in found]
    other = [replace(x, influence=np.append(nothing, x.influence)) for x in found]
    chance = [[math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)] for p in (first, second)]
    likely = [[k for k in range(n + 1) if row[k] > 1e-4] for row in chance]
    held = 0.0
    for k in likely[0]:
        for m in likely[1]:
            less = anchored_difference(one[k], other[m])
            held += chance[0][k] * chance[1][m] * (less.low - 1e-12 <= first - second <= less.high + 1e-12)
    assert held > 0.945


def test_two_models_with_the_same_labels_are_not_surely_alike():
    one = agreeing(5, 10)
    found = anchored_difference(one, one)
    assert found.value == 0 and math.isnan(found.stderr) and found.low < -0.2 and found.high > 0.2


# -- ratings ----------------------------------------------------------------------------------------------------------


def battles(rng, prompts=60, models=4, good=1.5):
    """(i, j, people, ties, judge, prompts): a round robin by Davidson's model; the judge likes the weakest model."""
    a, b = np.triu_indices(models, 1)
    i, j, names = np.tile(a, prompts), np.tile(b, prompts), np.repeat(np.arange(prompts), len(a))
    d = 0.5 * (j - i)
    weights = np.stack([np.exp(-d / 2), np.exp(d / 2), np.full(len(d), 0.5)])
    chance = weights / weights.sum(axis=0)
    u = rng.random(len(d))
    people = np.where(u < chance[0], 0.0, np.where(u < chance[0] + chance[1], 1.0, 0.5))
    z = 2 * good * (people - 0.5) + rng.standard_normal(len(d)) + 1.5 * ((j == 0) * 1.0 - (i == 0))
    return i, j, people, (people == 0.5) * 1.0, 1 / (1 + np.exp(-z)), names


@pytest.mark.parametrize("ties", [False, True])
def test_ratings_of_battles_that_are_all_labelled_are_those_of_the_labels(ties):
    i, j, people, tied, judge, names = battles(np.random.default_rng(9))
    both = np.stack([tied, np.full(len(tied), 0.1)]) if ties else None
    found = anchored_ratings(i, j, people, judge, ties=both, clusters=names, models=4)
    if ties:
        plain = davidson_ratings(i, j, people * (people != 0.5), tied, clusters=names, models=4)
        assert found.ratings.tie.value == pytest.approx(plain.tie.value, rel=1e-6)
        assert found.ratings.tie.high == pytest.approx(plain.tie.high, rel=0.02)
    else:
        plain = bradley_terry_ratings(i, j, people, clusters=names, models=4)
    assert found.ratings.rating == pytest.approx(plain.rating, abs=1e-4) and found.labels == len(i)
    assert found.ratings.stderr == pytest.approx(plain.stderr, rel=0.02), "other corrections for few labels"
    assert found.tuning == 0 or found.worth == pytest.approx(len(i), rel=1e-6)


def test_a_judge_shortens_the_intervals_of_ratings_and_its_likes_do_not_move_them():
    rng = np.random.default_rng(10)
    i, j, people, _, judge, names = battles(rng, 200)
    found = anchored_ratings(i, j, some(rng, people, 150), judge, clusters=names, models=4)
    own = bradley_terry_ratings(i, j, judge, clusters=names, models=4)
    true = bradley_terry_ratings(i, j, people, clusters=names, models=4)
    assert own.low[0] > true.rating[0] + 50, "the judge is wrong about this model"
    assert (found.ratings.low < true.rating).all() and (true.rating < found.ratings.high).all()
    assert found.worth > 200 and (found.ratings.stderr < found.labels_alone.stderr).all()
    against = anchored_ratings(i, j, some(rng, people, 150), 1 - judge, clusters=names, models=4)
    assert against.adds_nothing and against.correlation < 0 and against.tuning == 0 and against.worth == 150


def test_models_without_a_rating_in_the_labels_say_why():
    rng = np.random.default_rng(11)
    i, j, people, _, judge, names = battles(rng, 60, 5)
    labels = np.where((j == 4), 1.0, np.where(i == 0, np.nan, some(rng, people, 300)))
    labels[j == 1] = np.nan  # all of model 0's battles but those with model 4, which always wins
    found = anchored_ratings(i, j, labels, judge, clusters=names, models=5)
    kinds = {concern.kind: concern.models for concern in found.ratings.concerns}
    assert 4 in kinds["unbeaten"] and 0 in kinds["winless"]
    assert np.isnan(found.ratings.rating[[0, 4]]).all() and np.isfinite(found.ratings.low[[1, 2, 3]]).all()
    few = anchored_ratings(i, j, some(rng, people, 6), judge, clusters=names, models=5)
    assert np.isnan(few.ratings.rating).all() and math.isnan(few.worth)
    assert few.ratings.concerns[-1].kind == "few_labels"


def test_a_model_with_few_labels_has_a_rating_without_an_interval_and_moves_no_other_interval():
    rng = np.random.default_rng(14)
    i, j, people, _, judge, names = battles(rng, 80, 4)
    own = (i == 3) | (j == 3)
    labels = np.where(own, np.nan, some(rng, people, 240))
    labels[np.flatnonzero(own)[[0, 7]]] = 0.5, 0.5
    found = anchored_ratings(i, j, labels, judge, clusters=names, models=4).ratings
    assert {k.kind: k.models for k in found.concerns}["few_own_labels"] == (3,)
    assert np.isfinite(found.rating[3]) and np.isnan([found.stderr[3], found.low[3], found.high[3]]).all()
    assert np.isfinite(found.low[:3]).all() and found.rating[:3].mean() == pytest.approx(1000)
    assert np.isnan(found.tests().p[3]).all() and np.isfinite(found.tests().p[0, 1])
    assert np.isnan(anchored_ratings(i, j, labels, judge, clusters=names, models=4, anchor=3).ratings.low).all()


@pytest.mark.parametrize("with_ties", [False, True])
def test_labels_that_are_all_ties_give_no_interval_without_a_width(with_ties):
    rng, n = np.random.default_rng(16), 60
    labels = np.where(np.arange(n) < 40, 0.5, np.nan)
    ties = np.stack([(labels == 0.5) * 1.0, np.full(n, 0.1)]) if with_ties else None
    given = (np.zeros(n, dtype=int), np.ones(n, dtype=int), labels, rng.random(n))
    found = anchored_ratings(*given, ties=ties, clusters=np.arange(n), models=2).ratings
    assert found.rating == pytest.approx(1000) and np.isnan([found.stderr, found.low, found.high]).all()
    assert np.isnan(found.tests().p).all() and math.isnan(found.tie.value)
    assert not with_ties or "all_ties" in {concern.kind for concern in found.concerns}


def test_labels_without_a_tie_give_bradley_terry_and_say_so():
    rng = np.random.default_rng(12)
    i, j, people, _, judge, names = battles(rng, 80)
    labels = np.where(people == 0.5, np.nan, people)
    ties = np.stack([np.zeros(len(i)), np.full(len(i), 0.2)])
    found = anchored_ratings(i, j, labels, judge, ties=ties, clusters=names, models=4)
    plain = anchored_ratings(i, j, labels, judge, clusters=names, models=4)
    assert found.ratings.rating == pytest.approx(plain.ratings.rating)
    assert "no_ties" in {concern.kind for concern in found.ratings.concerns}


# -- how many labels ---------------------------------------------------------------------------------------------------


def test_a_plan_foretells_the_labels_that_a_width_takes():
    rng = np.random.default_rng(13)
    people, judge = world(rng, 3000)
    names, order = np.arange(3000) // 3, rng.permutation(3000)

    def first(n):
        labels = np.full(3000, np.nan)
        labels[order[:n]] = people[order[:n]]
        return labels

    plan = label_plan(first(60), judge, names, 0.05)
    assert plan.pilot == 60 and plan.low < plan.labels < plan.high and plan.all < 0.05 < plan.now
    found = anchored_mean(first(plan.labels), judge, names).estimate
    assert 0.85 * 0.05 < (found.high - found.low) / 2 < 1.15 * 0.05
    weak = label_plan(first(60), rng.random(3000), names, 0.05)
    assert weak.labels > 1.3 * plan.labels, "a judge that knows nothing saves no labels"
    assert label_plan(first(60), judge, names, 0.01).labels is None and plan.all > 0.01
    assert label_plan(first(9), judge, names, 0.05) is None
    same = names < 500
    known = label_plan(np.where(same, 0.5, first(100)), np.where(same, 0.5, judge), names, 0.05, known=same)
    assert known.labels < 0.6 * plan.labels and known.pilot < 60, "half of the battles need no label"


def test_a_pilot_whose_labels_all_agree_does_not_promise_a_width():
    rng = np.random.default_rng(15)
    plan = label_plan(np.where(np.arange(2000) < 50, 1.0, np.nan), rng.random(2000), np.arange(2000), 0.02)
    assert plan.now > 0.02 and plan.labels > 60, "another one may be different"
