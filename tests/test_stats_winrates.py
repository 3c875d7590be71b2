"""Win rates, plain and length-controlled: worked examples, symmetries, a second implementation, coverage."""

import math

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as reference

from harness_plugin import stats


def sigma(z):
    return 1 / (1 + np.exp(-np.asarray(z, dtype=float)))


def close(x, y, tolerance=1e-9):
    return np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)


def values(estimate):
    return estimate.value, estimate.stderr, estimate.n, estimate.n_clusters, estimate.low, estimate.high


def star(models, prompts, rng, beta=0.0, theta=None, noise=0.0, longer=0.0):
    """Models 1.. against model 0 at every prompt, with difficult prompts and a judge that likes length by beta."""
    theta = np.linspace(-1.0, 0.6, models) if theta is None else np.asarray(theta, dtype=float)
    base = rng.lognormal(6, 0.5, prompts)
    lengths = rng.lognormal(6 + longer, 0.5, (prompts, models))
    d = lengths - base[:, None]
    z = theta + beta * np.tanh(d / np.sqrt((d**2).mean())) + rng.normal(0, 1, (prompts, 1))
    c, m = np.divmod(np.arange(prompts * models), models)
    return {
        "i": np.zeros(len(m), dtype=int),
        "j": m + 1,
        "p": sigma(z + noise * rng.normal(size=z.shape)).ravel(),
        "lengths_i": base[c],
        "lengths_j": lengths.ravel(),
        "clusters": c,
    }


def plain(games):
    return {name: column for name, column in games.items() if not name.startswith("lengths")}


def swapped(games, flip):
    """The same comparisons with the sides exchanged where flip says so."""
    new = dict(games)
    for name, other in (("i", "j"), ("lengths_i", "lengths_j")):
        if name in games:
            new[name], new[other] = (np.where(flip, games[x], games[y]) for x, y in ((other, name), (name, other)))
    return new | {"p": np.where(flip, 1 - games["p"], games["p"])}


# Against a baseline


def test_soft_and_hard_win_rates_of_a_worked_example():
    i, j = [0, 0, 1, 0], [1, 1, 0, 1]
    found = stats.win_rates(i, j, [0.9, 0.5, 0.8, 0.6], baseline=0, clusters=["a", "b", "c", "d"])[1]
    # As seen by model 1: 0.9, 0.5, 0.2, 0.6.
    assert found.soft.value == pytest.approx(0.55)
    assert found.hard.value == 0.625
    assert (found.wins, found.ties, found.losses, found.opponents) == (2, 1, 1, 1)
    assert found.soft.stderr == pytest.approx(reference.sem([0.9, 0.5, 0.2, 0.6]))
    assert close(values(found.soft), values(stats.clustered_mean([0.9, 0.5, 0.2, 0.6], bounds=(0.0, 1.0))))
    assert found.hard == stats.clustered_share([1, 0.5, 0, 1])


def test_win_rates_cluster_by_prompt():
    games = plain(star(2, 40, np.random.default_rng(0), noise=1.0))
    twice = {name: np.repeat(column, 2) for name, column in games.items()}
    once, again = (stats.win_rates(**rows, baseline=0)[2] for rows in (games, twice))
    assert close(values(again.soft)[:2] + values(again.soft)[3:], values(once.soft)[:2] + values(once.soft)[3:])
    assert again.soft.n == 2 * once.soft.n
    assert stats.win_rates(**twice | {"clusters": None}, baseline=0)[2].soft.stderr < 0.8 * once.soft.stderr


def test_the_baseline_has_one_half_and_models_without_it_nothing():
    found = stats.win_rates([0, 2], [1, 3], [0.3, 0.9], baseline=1, models=4)
    assert [rate.soft.value for rate in found][:2] == [0.7, 0.5]
    assert math.isnan(found[1].soft.stderr)
    assert math.isnan(found[3].soft.value)
    assert (found[3].opponents, found[3].hard.n) == (0, 0)
    assert math.isnan(found[0].soft.low)  # one prompt


def test_a_model_that_wins_everything_keeps_a_hard_interval():
    found = stats.win_rates([0] * 60, [1] * 60, [0.99] * 60, baseline=0)[1]
    assert found.hard.value == 1
    assert 0.9 < found.hard.low < 0.96
    assert found.wins == 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": [0.5, math.nan]}, "from 0 to 1"),
        ({"p": [0.5, 1.1]}, "from 0 to 1"),
        ({"p": [0.5]}, "2 and 2 models for 1"),
        ({"j": [1, 1]}, "comparison 1 is of a model with itself"),
        ({"i": [0.0, 1.0]}, "whole numbers"),
        ({"models": 2}, "a model is 2, and there are 2"),
        ({"clusters": ["a"]}, "1 cluster names for 2"),
    ],
)
def test_what_is_no_comparison_is_refused(change, message):
    games = {"i": [0, 1], "j": [1, 2], "p": [0.4, 0.5], "clusters": ["a", "b"]} | change
    for function in (stats.round_robin_win_rates, stats.win_table):
        with pytest.raises(ValueError, match=message):
            function(**games)
    with pytest.raises(ValueError, match=message):
        stats.win_rates(**games, baseline=1)
    with pytest.raises(ValueError, match=message):
        stats.length_controlled_win_rates(**games, lengths_i=[1, 1], lengths_j=[1, 1], baseline=1)


def test_a_baseline_that_no_comparison_has_is_refused():
    with pytest.raises(ValueError, match="no comparison has the baseline, model 7"):
        stats.win_rates([0], [1], [0.5], baseline=7)
    assert stats.win_rates([], [], [], baseline=0, models=2)[1].soft.n == 0


# Round robin


def test_a_complete_round_robin_is_the_mean_of_the_prompts_means():
    rng = np.random.default_rng(1)
    a, b = np.triu_indices(4, 1)
    p, prompts = rng.random((20, 6)), np.repeat(np.arange(20), 6)
    i, j = np.tile(a, 20), np.tile(b, 20)
    found = stats.round_robin_win_rates(i, j, p.ravel(), prompts)
    for m in range(4):
        per_prompt = np.where(a == m, 1 - p, p)[:, (a == m) | (b == m)].mean(axis=1)
        expected = stats.clustered_mean(per_prompt)
        assert close([found[m].soft.value, found[m].soft.stderr], [expected.value, expected.stderr])
        assert (found[m].soft.n_clusters, found[m].opponents) == (20, 3)
        assert close(stats.win_table(i, j, p.ravel(), prompts)[:, m], per_prompt)
    assert close(np.mean([rate.soft.value for rate in found]), 0.5)


def test_each_opponent_counts_the_same_however_often_it_was_met():
    found = stats.round_robin_win_rates([0] * 6, [1, 1, 1, 1, 2, 2], [0, 0, 0.2, 0.2, 0.9, 0.7], list("abcdab"))[0]
    assert found.soft.value == pytest.approx((0.9 + 0.2) / 2)
    # By prompt: (0.1 / 4 - 0.1 / 2) / 2, (0.1 / 4 + 0.1 / 2) / 2, and -0.1 / 8 twice.
    parts = np.array([0.025 - 0.05, 0.025 + 0.05, -0.025, -0.025]) / 2
    assert found.soft.stderr == pytest.approx(math.sqrt(4 / 3 * (parts @ parts)))
    assert (found.wins, found.losses) == (4, 2)
    alone = stats.round_robin_win_rates([0] * 3, [1, 1, 2], [0.1, 0.2, 0.9], list("aba"))[0]
    assert alone.soft.value == pytest.approx((0.85 + 0.1) / 2)
    assert math.isnan(alone.soft.stderr)


def test_the_table_of_wins_feeds_the_column_tests():
    games = plain(star(3, 50, np.random.default_rng(2), noise=0.5))
    table = stats.win_table(**games, baseline=0)
    tests = stats.column_tests(table)
    expected = reference.ttest_rel(table[:, 2], table[:, 1])
    assert tests.p[2, 1] == pytest.approx(expected.pvalue)
    assert tests.difference[1, 0] == pytest.approx(stats.win_rates(**games, baseline=0)[1].soft.value - 0.5)
    kept = (games["j"] != 2) | (games["clusters"] > 9)
    table = stats.win_table(**{name: column[kept] for name, column in games.items()}, baseline=0)
    assert np.isnan(table[:10, 2]).all()
    assert np.isfinite(table[10:]).all()


# Length


def test_the_length_controlled_fit_agrees_with_a_slow_implementation():
    games = star(3, 25, np.random.default_rng(3), beta=1.0, noise=0.7, longer=0.3)
    gap = (games["lengths_j"] - games["lengths_i"]).reshape(25, 3)
    feature, q = np.tanh(gap / np.sqrt((gap**2).mean())), games["p"].reshape(25, 3)

    def loss(x):
        z = x[:3] + x[3] * feature + x[4:, None]
        return -(q * z - np.logaddexp(0, z)).sum() + x[4:] @ x[4:] / 2 + 0.01 * x[3] ** 2 / 2

    x = optimize.minimize(loss, np.zeros(29), method="BFGS", options={"gtol": 1e-8}).x
    found = stats.length_controlled_win_rates(**games, baseline=0)
    assert close([rate.value for rate in found.win_rates[1:]], sigma(x[:3] + x[4:, None]).mean(axis=0), 1e-6)
    assert found.slope.value == pytest.approx(x[3], abs=1e-5)
    assert (found.win_rates[0].value, found.win_rates[1].n, found.win_rates[1].n_clusters) == (0.5, 25, 25)


def test_without_differences_of_length_it_is_the_win_rate():
    games = star(3, 30, np.random.default_rng(4), noise=0.7)
    games["lengths_j"] = games["lengths_i"]
    found = stats.length_controlled_win_rates(**games, baseline=0)
    for controlled, rate in zip(found.win_rates[1:], stats.win_rates(**plain(games), baseline=0)[1:], strict=True):
        assert controlled.value == pytest.approx(rate.soft.value, abs=1e-9)
        assert controlled.stderr == pytest.approx(rate.soft.stderr, rel=1e-6)
    assert math.isnan(found.slope.value)


def test_exchanging_sides_changes_nothing_and_exchanging_roles_mirrors_the_rate():
    games = star(1, 40, np.random.default_rng(5), beta=1.0, noise=0.5, longer=0.4)
    found = stats.length_controlled_win_rates(**games, baseline=0)
    mixed = swapped(games, np.random.default_rng(6).random(40) < 0.5)
    again = stats.length_controlled_win_rates(**mixed, baseline=0)
    assert close(values(found.win_rates[1]), values(again.win_rates[1]), 1e-7)
    assert close(values(found.slope), values(again.slope), 1e-7)
    mirrored = stats.length_controlled_win_rates(**games, baseline=1)
    assert mirrored.win_rates[0].value == pytest.approx(1 - found.win_rates[1].value)
    assert mirrored.win_rates[0].low == pytest.approx(1 - found.win_rates[1].high)
    assert mirrored.slope.value == pytest.approx(found.slope.value)


def test_a_judge_that_likes_length_gives_long_winded_models_less_once_controlled():
    games = star(3, 150, np.random.default_rng(7), beta=1.5, theta=[0, 0, 0], noise=0.3, longer=0.8)
    raw = stats.win_rates(**plain(games), baseline=0)
    found = stats.length_controlled_win_rates(**games, baseline=0)
    assert found.slope.low > 0.8
    for m in (1, 2, 3):
        assert raw[m].soft.low > 0.55
        assert found.win_rates[m].low < 0.5 < found.win_rates[m].high


def test_what_is_always_as_much_longer_has_no_number_at_equal_length():
    rng = np.random.default_rng(15)

    def games(means, spread):
        lengths = rng.normal(means, spread, (200, len(means)))
        z = 2.0 * np.tanh((lengths - 1000) / 1000) + rng.normal(0, 1, (200, 1))
        return {
            "i": np.zeros(lengths.size, int),
            "j": np.tile(np.arange(len(means)) + 1, 200),
            "p": sigma(z).ravel(),
            "lengths_i": np.full(lengths.size, 1000.0),
            "lengths_j": lengths.ravel(),
            "clusters": np.repeat(np.arange(200), len(means)),
        }

    alone = games([3000], 60)
    assert stats.win_rates(**plain(alone), baseline=0)[1].soft.value > 0.8
    found = stats.length_controlled_win_rates(**alone, baseline=0)
    assert found.confounded == (1,) and math.isnan(found.win_rates[1].value) and math.isnan(found.slope.value)
    found = stats.length_controlled_win_rates(**games([1000, 1020, 1040, 2500], 20), baseline=0)
    assert found.confounded == (4,) and math.isnan(found.win_rates[4].value)
    assert all(rate.low < 0.5 < rate.high for rate in found.win_rates[1:4])
    found = stats.length_controlled_win_rates(**games([1000, 1100, 1200, 2500], 300), baseline=0)
    assert found.confounded == () and all(rate.low < 0.5 < rate.high for rate in found.win_rates[1:])
    assert found.slope.value > 1


def test_a_judge_of_length_alone_is_finite():
    games = star(3, 40, np.random.default_rng(8))
    games["p"] = (games["lengths_j"] > games["lengths_i"]).astype(float)
    found = stats.length_controlled_win_rates(**games, baseline=0)
    assert 2 < found.slope.value < 100
    assert all(0 < rate.low < rate.high < 1 for rate in found.win_rates[1:])


def test_a_model_that_wins_or_loses_everything_has_that_rate_without_an_error():
    games = star(3, 30, np.random.default_rng(9), beta=0.5, noise=0.5)
    games["lengths_j"] = np.repeat(games["lengths_j"][games["j"] == 3], 3)  # scaled alike with two models left out
    rest = {name: column[games["j"] == 3] for name, column in games.items()}
    games["p"] = np.select([games["j"] == 1, games["j"] == 2], [0.0, 1.0], games["p"])
    found = stats.length_controlled_win_rates(**games, baseline=0)
    assert [rate.value for rate in found.win_rates[1:3]] == [0.0, 1.0]
    assert np.isnan([rate.stderr for rate in found.win_rates[:3]]).all()
    alone = stats.length_controlled_win_rates(**rest, baseline=0, models=4)
    assert close(values(found.win_rates[3]), values(alone.win_rates[3]))
    assert math.isnan(alone.win_rates[1].value)


def test_jackknife_leaves_out_one_prompt_at_a_time_with_its_rows():
    games = star(2, 12, np.random.default_rng(10), noise=0.8)
    games["lengths_j"] = games["lengths_i"] + np.where(games["j"] == 1, 5.0, -5.0)  # scaled alike with any prompt out
    found = stats.length_controlled_win_rates(**games, baseline=0)
    left_out = []
    for prompt in range(12):
        kept = {name: column[games["clusters"] != prompt] for name, column in games.items()}
        left_out.append([rate.value for rate in stats.length_controlled_win_rates(**kept, baseline=0).win_rates[1:]])
    expected = np.sqrt(11 / 12 * ((left_out - np.mean(left_out, axis=0)) ** 2).sum(axis=0))
    assert close([rate.stderr for rate in found.win_rates[1:]], expected, 1e-7)


def test_too_few_prompts_and_bad_lengths():
    one = stats.length_controlled_win_rates(**star(2, 1, np.random.default_rng(11)), baseline=0)
    assert math.isnan(one.win_rates[1].value) and one.confounded == (1, 2), "length and quality are the same there"
    assert np.isnan([one.win_rates[1].stderr, one.slope.stderr]).all()
    empty = stats.length_controlled_win_rates([], [], [], [], [], baseline=0, clusters=[], models=2)
    assert math.isnan(empty.win_rates[1].value)
    games = star(2, 5, np.random.default_rng(12))
    for bad in (np.full(10, -1.0), np.full(10, math.inf), np.ones(9)):
        with pytest.raises(ValueError, match="lengths must be 10 finite numbers"):
            stats.length_controlled_win_rates(**games | {"lengths_j": bad}, baseline=0)


# Coverage


def normal_mean(theta, deviation):
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return sigma(np.asarray(theta)[:, None] + deviation * nodes) @ weights / weights.sum()


@pytest.mark.slow
def test_length_controlled_intervals_cover_the_rate_at_equal_length():
    rng, theta = np.random.default_rng(13), np.linspace(-1.2, 0.6, 8)
    truth, inside, raw = normal_mean(theta, math.hypot(1.0, 0.8)), [], []
    for _ in range(150):
        games = star(8, 60, rng, beta=0.8, theta=theta, noise=0.8, longer=0.4)
        found = stats.length_controlled_win_rates(**games, baseline=0).win_rates[1:]
        inside.append([rate.low <= true <= rate.high for rate, true in zip(found, truth, strict=True)])
        found = [rate.soft for rate in stats.win_rates(**plain(games), baseline=0)[1:]]
        raw.append([rate.low <= true <= rate.high for rate, true in zip(found, truth, strict=True)])
    assert 0.91 <= np.mean(inside) <= 0.98
    assert np.mean(raw) < 0.8


@pytest.mark.parametrize(("middle", "prompts"), [(0.0, 20), (-2.0, 60), (-3.0, 200)])
def test_win_rate_intervals_cover_the_truth_for_strong_and_weak_models(middle, prompts):
    rng = np.random.default_rng(14)
    truth, inside = normal_mean([middle], 1.5)[0], 0
    for _ in range(600):
        q = sigma(rng.normal(middle, 1.5, prompts))
        found = stats.win_rates(np.zeros(prompts, int), np.ones(prompts, int), q, baseline=0)[1].soft
        inside += found.low <= truth <= found.high
    assert inside / 600 >= 0.93
