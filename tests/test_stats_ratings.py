"""Ratings and tests of all pairs: exact cases, symmetries, second implementations, and simulated coverage."""

import math

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as reference

from harness_plugin import stats
from harness_plugin.stats.ratings import POINTS

SPREAD = 1.2  # deviation of a model's quality from prompt to prompt, in logits
ARRAYS = ("rating", "stderr", "low", "high", "covariance", "n", "n_clusters")


def sigma(z):
    return 1 / (1 + np.exp(-np.asarray(z, dtype=float)))


def close(x, y, tolerance=1e-8):
    return np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)


def round_robin(models, prompts, rng, theta=None, hard=False, spread=SPREAD):
    """Every pair of models at every prompt; outcomes share the models' quality at that prompt."""
    theta = np.linspace(-1.2, 1.2, models) if theta is None else theta
    a, b = np.triu_indices(models, 1)
    quality = theta + rng.normal(0, spread, (prompts, models)) if spread else np.tile(theta, (prompts, 1))
    d = (quality[:, b] - quality[:, a]).ravel()
    p = (d > 0).astype(float) if hard else sigma(d)
    return {
        "i": np.tile(a, prompts),
        "j": np.tile(b, prompts),
        "p": p,
        "clusters": np.repeat(np.arange(prompts), len(a)),
    }


def with_ties(games, nu=0.6):
    """The same odds with a share of ties as in Davidson's model."""
    d = np.log(games["p"] / (1 - games["p"]))
    total = np.exp(d / 2) + np.exp(-d / 2) + nu
    return games | {"p": np.exp(d / 2) / total, "tie": nu / total}


def sparse(rng, rows=150, models=5, prompts=40):
    """Unequal numbers of comparisons per pair and prompt, with weights."""
    i = rng.integers(0, models, rows)
    j = (i + rng.integers(1, models, rows)) % models
    names = np.array([f"prompt {k}" for k in rng.integers(0, prompts, rows)])
    return {"i": i, "j": j, "p": rng.random(rows), "weight": rng.random(rows) * 2, "clusters": names}


def same(x, y, models=slice(None), tolerance=1e-7):
    """Two results agree, the second's models taken in the given order."""
    for name in ARRAYS:
        left, right = getattr(x, name), getattr(y, name)
        right = right[models][:, models] if name == "covariance" else right[models]
        if not close(left, right, tolerance):
            return False
    return close(x.tie.value, y.tie.value) and close(x.tie.stderr, y.tie.stderr)


FITS = pytest.mark.parametrize("ties", [False, True], ids=["bradley-terry", "davidson"])


def fit(games, ties, **options):
    if not ties:
        return stats.bradley_terry_ratings(**games, **options)
    games = games if "tie" in games else with_ties(games)
    return stats.davidson_ratings(**games, **options)


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


# Length


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


# All pairs


def test_holm_of_a_worked_example():
    assert close(stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert close(stats.holm([0.5, math.nan, 0.9]), [1.0, math.nan, 1.0])
    assert stats.holm([]).shape == (0,)


def test_column_tests_are_students_paired_test_on_the_shared_items():
    rng = np.random.default_rng(18)
    values = rng.normal(size=(30, 1)) + rng.normal([0, 0.3, 0.6], 0.5, (30, 3))
    values[:5, 2] = np.nan
    found = stats.column_tests(values)
    for a, b, start in ((0, 1, 0), (0, 2, 5), (2, 1, 5)):
        expected = reference.ttest_rel(values[start:, a], values[start:, b])
        interval = expected.confidence_interval()
        assert close([found.p[a, b], found.low[a, b], found.high[a, b]], [expected.pvalue, interval.low, interval.high])
    assert found.n_clusters[0, 2] == 25
    upper = np.triu_indices(3, 1)
    assert close(found.p_holm[upper], stats.holm(found.p[upper]))
    assert close(found.difference, -found.difference.T)
    clustered = stats.column_tests(np.repeat(values, 2, axis=0), np.repeat(np.arange(30), 2))
    assert close(clustered.p, found.p)


def test_rank_ranges_count_the_models_that_are_surely_better_or_worse():
    # 3 > 2 = 1 > 0, and nothing is known of 4.
    difference = np.subtract.outer([0, 10, 11, 20, 5.0], [0, 10, 11, 20, 5.0])
    stderr = np.full((5, 5), 1.0)
    stderr[4, :], stderr[:, 4] = math.nan, math.nan
    found = stats.pairwise(difference, stderr, np.full((5, 5), 100))
    assert found.better().sum() == 5
    assert found.rank_ranges().tolist() == [[4, 5], [2, 4], [2, 4], [1, 2], [1, 5]]
    assert stats.pairwise(difference, stderr * 100, np.full((5, 5), 100)).rank_ranges().tolist() == [[1, 5]] * 5


def test_outcomes_that_never_vary_decide_nothing():
    games = round_robin(3, 40, None, spread=0)
    tests = stats.bradley_terry_ratings(**games).tests()
    assert np.isnan(tests.p).all()
    assert not tests.better().any()
    assert np.isnan(stats.column_tests(np.tile([0.2, 0.9], (50, 1))).p).all()


@pytest.mark.parametrize("n", [6, 20, 300])
def test_the_smallest_difference_is_seen_with_the_power_it_claims(n):
    delta, degrees = float(stats.smallest_difference(0.5, n)) / 0.5, n - 1
    critical = reference.t.ppf(0.975, degrees)
    power = reference.nct.sf(critical, degrees, delta) + reference.nct.cdf(-critical, degrees, delta)
    assert power == pytest.approx(0.8, abs=0.02)
    assert np.isnan(stats.smallest_difference(0.5, 1))
    with pytest.raises(ValueError, match="power"):
        stats.smallest_difference(0.5, n, power=0.01)


def test_the_smallest_difference_of_a_table_is_the_mean_square_of_its_pairs_at_holms_first_level():
    found = stats.bradley_terry_ratings(**round_robin(4, 60, np.random.default_rng(19))).tests()
    each = stats.smallest_difference(found.stderr, found.n_clusters, alpha=0.05 / 6)[np.triu_indices(4, 1)]
    assert found.smallest_difference() == pytest.approx(np.sqrt(np.mean(each**2)))
    assert math.isnan(stats.bradley_terry_ratings([0], [1], [0.5]).tests().smallest_difference())


# Coverage


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
