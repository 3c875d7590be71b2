"""Ratings: exact cases, symmetries, second implementations, and what has none."""

import math

import numpy as np
import pytest
from rating_games import FITS, close, fit, round_robin, same, sigma, sparse, with_ties
from scipy import optimize
from scipy import stats as reference

from harness_plugin import stats
from harness_plugin.stats.ratings import POINTS

# Values


def test_ten_to_one_odds_are_four_hundred_points():
    found = stats.bradley_terry_ratings([0, 1], [1, 0], [10 / 11, 1 / 11], clusters=["p", "q"])
    assert close(found.rating, [800, 1200])
    assert found.estimate(1).value == found.rating[1]
    assert found.estimate(1).n == 2


@FITS
def test_true_ratings_come_back_from_true_probabilities(ties):
    theta = np.array([0.3, -1.0, 2.0, 0.9, -2.2])
    found = fit(round_robin(5, 30, None, theta, spread=0), ties)
    assert close(found.rating, 1000 + POINTS * (theta - theta.mean()))
    assert found.concerns == ()
    assert not ties or close(found.tie.value, 0.6)


def test_ratings_come_back_from_sampled_outcomes_within_their_errors():
    rng = np.random.default_rng(1)
    theta, games = np.linspace(-1, 1, 6), round_robin(6, 400, rng, np.linspace(-1, 1, 6), spread=0)
    games["p"] = (rng.random(len(games["p"])) < games["p"]).astype(float)
    found = stats.bradley_terry_ratings(**games)
    assert (np.abs(found.rating - 1000 - POINTS * theta) < 4 * found.stderr).all()
    assert (found.stderr < 10).all()


def test_ties_as_half_wins_squeeze_the_scale_and_davidson_does_not():
    theta = np.linspace(-1, 1, 5)
    games = with_ties(round_robin(5, 40, None, theta, spread=0), nu=1.0)
    halves = stats.bradley_terry_ratings(
        games["i"], games["j"], games["p"] + games["tie"] / 2, clusters=games["clusters"]
    )
    assert np.ptp(stats.davidson_ratings(**games).rating) == pytest.approx(POINTS * 2)
    assert np.ptp(halves.rating) < 0.85 * POINTS * 2


def test_the_gradient_is_zero_at_the_ratings():
    games = sparse(np.random.default_rng(2))
    theta = stats.bradley_terry_ratings(**games).rating / POINTS
    residual = games["weight"] * (games["p"] - sigma(theta[games["j"]] - theta[games["i"]]))
    slope = np.bincount(games["j"], residual, 5) - np.bincount(games["i"], residual, 5)
    assert np.abs(slope).max() < 1e-9


def slow(games, models):
    """Maximum likelihood by BFGS over a plain loop, and the sandwich from numeric derivatives of each cluster."""
    tie = games.get("tie", np.zeros(len(games["p"])))
    rows = list(zip(games["i"], games["j"], games["p"], tie, games["weight"], games["clusters"], strict=True))
    names = sorted({row[-1] for row in rows})

    def loss(x, cluster=None):
        total = 0.0
        for i, j, p, t, w, name in rows:
            if cluster is None or name == cluster:
                d, nu = x[j] - x[i], math.exp(x[models]) if tie.any() else 0.0
                z = math.exp(d / 2) + math.exp(-d / 2) + nu
                total -= w * ((p - (1 - p - t)) * d / 2 + (t * math.log(nu) if t else 0.0) - math.log(z))
        return total

    def penalised(x):
        return loss(x) + sum(x[:models]) ** 2

    size = models + bool(tie.any())
    x = optimize.minimize(penalised, np.zeros(size), method="BFGS", options={"gtol": 1e-7}).x
    scores = np.array([optimize.approx_fprime(x, loss, 1e-6, name) for name in names])
    step = 1e-4 * np.eye(size)
    hessian = [
        [
            (penalised(x + a + b) - penalised(x + a - b) - penalised(x - a + b) + penalised(x - a - b)) / 4e-8
            for b in step
        ]
        for a in step
    ]
    bread = np.linalg.inv(np.array(hessian))
    return x, len(names) / (len(names) - 1) * bread @ scores.T @ scores @ bread


@FITS
def test_ratings_and_errors_agree_with_a_slow_implementation(ties):
    games = sparse(np.random.default_rng(3), rows=60, models=4, prompts=12)
    games |= {"p": 0.7 * games["p"], "tie": np.random.default_rng(4).random(60) * 0.3} if ties else {}
    found, (x, covariance) = fit(games, ties), slow(games, 4)
    centre = np.eye(4) - 1 / 4
    assert close(found.rating, 1000 + POINTS * centre @ x[:4], 1e-4)
    assert close(found.covariance, POINTS**2 * centre @ covariance[:4, :4] @ centre, 2e-3)
    half = reference.t.ppf(0.975, found.n_clusters - 1) * found.stderr
    assert close(found.high - found.rating, half)
    if ties:
        assert found.tie.value == pytest.approx(math.exp(x[4]), rel=1e-4)
        assert found.tie.stderr == pytest.approx(math.exp(x[4]) * math.sqrt(covariance[4, 4]), rel=2e-3)


def test_hard_outcomes_agree_with_evalica():
    evalica = pytest.importorskip("evalica")
    rng = np.random.default_rng(5)
    i, j = rng.integers(0, 5, 400), rng.integers(1, 5, 400)
    j = (i + j) % 5
    outcome = rng.choice([0.0, 0.5, 1.0], 400)
    winners = [{0.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 1.0: evalica.Winner.Y}[x] for x in outcome]
    names = [[str(x) for x in side] for side in (i, j)]
    theirs = evalica.bradley_terry(*names, winners, tolerance=1e-12, limit=10_000).scores
    expected = np.log([theirs[str(m)] for m in range(5)]) * POINTS
    assert close(stats.bradley_terry_ratings(i, j, outcome).rating, 1000 + expected - expected.mean(), 1e-5)
    theirs = evalica.newman(*names, winners, tolerance=1e-12, limit=10_000)
    expected = np.log([theirs.scores[str(m)] for m in range(5)]) * POINTS
    found = stats.davidson_ratings(i, j, outcome == 1, outcome == 0.5)
    assert close(found.rating, 1000 + expected - expected.mean(), 1e-5)
    assert found.tie.value == pytest.approx(2 * theirs.v, rel=1e-5)


# Symmetries


@FITS
def test_names_and_order_of_models_prompts_and_rows_do_not_matter(ties):
    rng = np.random.default_rng(6)
    games = with_ties(sparse(rng)) if ties else sparse(rng)
    expected = fit(games, ties)
    new = rng.permutation(5)
    renamed = games | {"i": new[games["i"]], "j": new[games["j"]]}
    assert same(expected, fit(renamed, ties), new)
    order = rng.permutation(150)
    assert same(expected, fit({name: column[order] for name, column in games.items()}, ties))
    assert same(expected, fit(games | {"clusters": np.unique(games["clusters"], return_inverse=True)[1] + 1000}, ties))


@FITS
def test_swapping_the_sides_changes_nothing(ties):
    rng = np.random.default_rng(7)
    games = with_ties(sparse(rng)) if ties else sparse(rng)
    flip = rng.random(150) < 0.5
    other = 1 - games["p"] - games.get("tie", 0.0)
    swapped = games | {
        "i": np.where(flip, games["j"], games["i"]),
        "j": np.where(flip, games["i"], games["j"]),
        "p": np.where(flip, other, games["p"]),
    }
    assert same(fit(games, ties), fit(swapped, ties))


@FITS
def test_a_weight_is_a_number_of_repeated_rows_and_zero_is_none(ties):
    rng = np.random.default_rng(8)
    games = sparse(rng) | {"weight": rng.integers(0, 4, 150)}
    games = with_ties(games) if ties else games
    repeated = {name: np.repeat(column, games["weight"]) for name, column in games.items()} | {"weight": None}
    weighted, expected = fit(games, ties), fit(repeated, ties)
    assert close(weighted.rating, expected.rating)
    assert close(weighted.covariance, expected.covariance)
    assert weighted.n_clusters.tolist() == expected.n_clusters.tolist()


def test_repeating_a_comparison_within_its_prompt_adds_no_information():
    games = round_robin(4, 30, np.random.default_rng(9))
    thrice = {name: np.repeat(column, 3) for name, column in games.items()}
    assert close(stats.bradley_terry_ratings(**games).stderr, stats.bradley_terry_ratings(**thrice).stderr)
    assert (
        stats.bradley_terry_ratings(**thrice | {"clusters": None}).stderr
        < 0.7 * stats.bradley_terry_ratings(**thrice).stderr
    ).all()


def test_a_prompt_that_says_what_is_known_moves_no_rating():
    games = round_robin(4, 30, np.random.default_rng(10))
    before = stats.bradley_terry_ratings(**games)
    a, b = np.triu_indices(4, 1)
    expected = sigma((before.rating[b] - before.rating[a]) / POINTS)
    more = {"i": a, "j": b, "p": expected, "clusters": np.full(len(a), 999)}
    after = stats.bradley_terry_ratings(**{name: np.concatenate([games[name], more[name]]) for name in games})
    assert close(after.rating, before.rating)
    # 30 prompts became 31 in the information, and in G / (G - 1).
    assert close(after.stderr / before.stderr, 30 / 31 * math.sqrt(31 / 30 * 29 / 30))


def test_an_anchor_fixes_one_rating_and_leaves_all_differences():
    games = sparse(np.random.default_rng(11))
    free, anchored = stats.bradley_terry_ratings(**games), stats.bradley_terry_ratings(**games, anchor=3, mean=1114)
    assert (anchored.rating[3], anchored.stderr[3], anchored.low[3]) == (1114, 0, 1114)
    for name in ("difference", "stderr", "p", "p_holm"):
        assert close(getattr(free.tests(), name), getattr(anchored.tests(), name))
    assert close(anchored.stderr[0], anchored.tests().stderr[0, 3])
    assert close(np.nanmean(free.rating), 1000)


def test_ties_alone_have_ratings_but_no_errors():
    """All outcomes fit exactly, which says that they agree, and not how sure the ratings are."""
    games = round_robin(3, 40, None, np.zeros(3), spread=0)
    for anchor in (None, 1):
        found = stats.bradley_terry_ratings(**games, anchor=anchor)
        assert close(found.rating, [1000] * 3)
        known = [anchor == m for m in range(3)]
        assert [np.isfinite(x).tolist() for x in (found.stderr, found.low, found.high)] == [known] * 3
    length = np.linspace(-1, 1, len(games["i"]))
    slope = stats.style_controlled_ratings(**games, features=length[:, None]).slope
    assert slope.value == pytest.approx(0, abs=1e-9) and math.isnan(slope.low)


# What has no finite rating


def concerns(found):
    return {concern.kind: concern.models for concern in found.concerns}


@FITS
@pytest.mark.parametrize(("kind", "outcome"), [("winless", 0.0), ("unbeaten", 1.0)])
def test_a_model_that_only_loses_or_only_wins_is_named_and_has_no_interval(ties, kind, outcome):
    games = round_robin(5, 40, np.random.default_rng(12))
    games = with_ties(games) if ties else games
    last = games["j"] == 4
    games["p"][last] = outcome
    games |= {"tie": np.where(last, 0.0, games["tie"])} if ties else {}
    found = fit(games, ties)
    rest = fit({name: column[~last] for name, column in games.items()}, ties)
    assert concerns(found) == {kind: (4,)}
    assert np.isfinite(found.rating).all()
    assert 700 < abs(found.rating[4] - 1000) < 4000
    assert np.isnan([found.stderr[4], found.low[4], found.high[4]]).all()
    assert close(found.rating[:4], rest.rating)
    assert close(found.stderr[:4], rest.stderr)
    assert close(found.tie.value, rest.tie.value)
    tests = found.tests()
    assert np.isnan(tests.p[4]).all()
    assert tests.rank_ranges()[4].tolist() == [1, 5]


def test_a_group_that_beats_all_others_is_separated():
    games = round_robin(6, 40, np.random.default_rng(13))
    across = (games["i"] < 4) & (games["j"] >= 4)
    games["p"][across] = 1.0
    found = stats.bradley_terry_ratings(**games)
    assert concerns(found) == {"separated": (4, 5)}
    assert np.isfinite(found.stderr).tolist() == [True] * 4 + [False] * 2
    assert found.rating[4:].min() > found.rating[:4].max()
    # The anchor says whose ratings are wanted.
    assert concerns(stats.bradley_terry_ratings(**games, anchor=5)) == {"separated": (0, 1, 2, 3)}


def test_models_without_a_chain_of_comparisons_have_no_rating():
    left = round_robin(3, 40, np.random.default_rng(14))
    right = {name: left[name] + 3 for name in ("i", "j")}
    right = {name: column[:80] for name, column in (left | right).items()}
    right = {name: column[(right["i"] < 5) & (right["j"] < 5)] for name, column in right.items()}
    both = {name: np.concatenate([left[name], right[name]]) for name in left}
    found = stats.bradley_terry_ratings(**both, models=6)
    assert concerns(found) == {"uncompared": (5,), "disconnected": (3, 4), "few_clusters": (3, 4)}
    assert close(found.rating[:3], stats.bradley_terry_ratings(**left).rating)
    assert np.isnan(found.rating[3:]).all()
    assert found.tests().rank_ranges()[4].tolist() == [1, 6]


def test_too_few_prompts_have_ratings_without_errors_or_a_warning():
    one = stats.bradley_terry_ratings(**round_robin(3, 1, np.random.default_rng(15)))
    assert np.isfinite(one.rating).all()
    assert np.isnan([one.stderr, one.low, one.high]).all()
    assert np.isnan(one.tests().p).all()
    few = stats.bradley_terry_ratings(**round_robin(3, 29, np.random.default_rng(15)))
    assert concerns(few) == {"few_clusters": (0, 1, 2)}
    assert np.isfinite(few.low).all()
    assert concerns(stats.bradley_terry_ratings(**round_robin(3, 30, np.random.default_rng(15)))) == {}


def test_a_model_seen_at_one_prompt_has_no_interval_and_the_others_do():
    games = round_robin(4, 40, np.random.default_rng(16))
    games = {name: column[(games["j"] < 3) | (games["clusters"] == 7)] for name, column in games.items()}
    found = stats.bradley_terry_ratings(**games)
    assert found.n_clusters.tolist() == [40, 40, 40, 1]
    assert np.isfinite(found.stderr).tolist() == [True, True, True, False]


def test_nothing_and_no_ties_and_only_ties():
    assert stats.bradley_terry_ratings([], [], []).rating.shape == (0,)
    empty = stats.davidson_ratings([], [], [], [], models=2)
    assert concerns(empty) == {"uncompared": (0, 1)}
    assert np.isnan(empty.rating).all()
    assert math.isnan(empty.tie.value)
    games = round_robin(3, 40, np.random.default_rng(17))
    none = stats.davidson_ratings(**games, tie=np.zeros(120))
    assert concerns(none) == {"no_ties": ()}
    assert none.tie.value == 0
    assert close(none.rating, stats.bradley_terry_ratings(**games).rating)
    only = stats.davidson_ratings(**games | {"p": np.zeros(120)}, tie=np.ones(120))
    assert concerns(only) == {"unbounded": (0, 1, 2)}
    assert np.isnan([only.rating, only.stderr]).all()
    assert math.isnan(only.tie.value)


def test_a_likelihood_that_grows_for_ever_gives_no_numbers():
    # Ties between neighbours and wins across: nu and the ratings would grow together.
    found = stats.davidson_ratings([0, 1, 0, 0], [1, 2, 2, 2], [0, 0, 1, 0], [1, 1, 0, 1], clusters=list("abcd"))
    assert "unbounded" in concerns(found)
    assert np.isnan(found.rating).all()


@pytest.mark.parametrize("share", [1e-4, 1e-7])
def test_very_uneven_outcomes_still_have_the_rating_that_belongs_to_them(share):
    found = stats.bradley_terry_ratings([0, 0, 1], [1, 1, 2], [share, share, 0.5], clusters=["a", "b", "c"])
    assert found.rating[1] - found.rating[0] == pytest.approx(400 * math.log10(share / (1 - share)), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": [0.5, math.nan]}, "p has numbers that are not finite"),
        ({"p": [0.5, 1.2]}, "probabilities"),
        ({"p": [0.5]}, "p has 1 entries for 2"),
        ({"weight": [1, -1]}, "weights at least 0"),
        ({"j": [1, 1]}, "comparison 1 is of a model with itself"),
        ({"j": [1.0, 2.0]}, "whole numbers"),
        ({"i": [-1, 1]}, "whole numbers from 0"),
        ({"models": 2}, "a model is 2, and there are 2"),
        ({"anchor": 3}, "anchor is model 3"),
        ({"clusters": ["a"]}, "1 cluster names for 2"),
    ],
)
def test_what_is_no_comparison_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        stats.bradley_terry_ratings(**{"i": [0, 1], "j": [1, 2], "p": [0.4, 0.5]} | change)
    if "p" not in change or len(change["p"]) == 2:
        with pytest.raises(ValueError, match=message):
            stats.davidson_ratings(**{"i": [0, 1], "j": [1, 2], "p": [0.4, 0.5], "tie": [0, 0]} | change)


def test_ties_beyond_what_is_left_are_refused():
    with pytest.raises(ValueError, match="add up to at most 1"):
        stats.davidson_ratings([0], [1], [0.6], [0.5])
