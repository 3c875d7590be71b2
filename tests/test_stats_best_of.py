"""RewardBench 2's scores: against values computed by hand, and against its own formula for scores of single answers."""

import math
import random

import numpy as np
import pytest

from harness_plugin import stats


def margins(right, wrong):
    """The margins of a model that scores answers one by one."""
    return np.subtract.outer(np.array(right, dtype=float), np.array(wrong, dtype=float))


def test_the_best_of_four_is_right_wrong_or_shared():
    rows = [margins([3], [1, 2, 0]), margins([1], [1, 2, 0]), margins([2], [2, 1, 0]), margins([2], [2, 2, 2])]
    found = stats.best_of(rows)
    assert found.value == pytest.approx((1 + 0 + 1 / 2 + 1 / 4) / 4)
    assert found.n == 4 and found.low <= found.value <= found.high
    assert math.isnan(stats.best_of([]).value)


def published(ref, tied):
    """The score of Ties from scores of single answers: id -> (right, wrong), as RewardBench 2 publishes it."""
    gap = {name: min(right) - max(wrong) for name, (right, wrong) in ref.items()}
    accurate_ref = np.mean([g > 0 for g in gap.values()])
    accurate_tied = np.mean([min(right) > max(wrong) for right, wrong in tied.values()])
    both = [name for name in ref if name in tied and len(tied[name][0]) > 1]
    spread = {name: max(tied[name][0]) - min(tied[name][0]) for name in both}
    tied_gap = {name: min(tied[name][0]) - max(tied[name][1]) for name in both}
    easy = np.mean([tied_gap[name] > spread[name] for name in both])
    hard = np.mean([min(gap[name], tied_gap[name]) > spread[name] for name in both])
    ratios = [min(gap[name], tied_gap[name]) / spread[name] for name in both if spread[name] > 0]
    ratio = np.mean([math.tanh(r - 1) for r in ratios])
    return 0.3 * accurate_tied + 0.3 * accurate_ref + 0.2 * easy + 0.2 * hard + 0.01 * ratio


def test_ties_are_scored_as_published_for_a_model_that_scores_answers_one_by_one():
    rng = random.Random(5)
    for _ in range(20):
        ref, tied = {}, {}
        for n in range(12):
            wrong = [rng.gauss(0, 1) for _ in range(3)]
            ref[str(n)] = ([rng.gauss(2, 1)], wrong)
            tied[str(n)] = ([rng.gauss(2, 0.4) for _ in range(rng.randrange(2, 6))], wrong)
        found = stats.ties(
            {name: margins(*scores) for name, scores in ref.items()},
            {name: margins(*scores) for name, scores in tied.items()},
        )
        assert found.value == pytest.approx(published(ref, tied))
        assert found.n == 12 and found.stderr > 0


def test_ties_count_prompts_of_one_kind_alone_and_nothing_is_nan():
    assert stats.ties({"1": margins([1], [0])}, {}).value == pytest.approx(0.3)
    assert stats.ties({}, {"1": margins([1, 1], [0])}).value == pytest.approx(0.3)
    assert math.isnan(stats.ties({}, {}).value)


def test_the_mean_of_estimates_joins_their_errors_and_intervals():
    one, other = (stats.best_of([margins([n % size], [0.5]) for n in range(60)]) for size in (2, 3))
    found = stats.mean_of([one, other])
    assert found.value == pytest.approx((one.value + other.value) / 2)
    assert found.stderr == pytest.approx(math.hypot(one.stderr, other.stderr) / 2)
    assert found.value - found.low == pytest.approx(math.hypot(one.value - one.low, other.value - other.low) / 2)
    assert found.n == 120
    always = stats.best_of([margins([1], [0])] * 60)
    assert 0 < stats.mean_of([one, always]).low < stats.mean_of([one, always]).value
    assert math.isnan(stats.mean_of([one, stats.best_of([])]).value)


def test_ties_have_an_interval_where_nearly_all_prompts_are_right_or_all_are():
    right, wrong = margins([5, 5.1], [0]), margins([5, -1], [0])
    one = margins([5], [0])
    refs = {str(n): one for n in range(20)}
    all_right = stats.ties(refs, dict.fromkeys(refs, right))
    assert all_right.low < 0.85 and all_right.value <= all_right.high <= 1.01
    nearly = stats.ties(refs, {name: wrong if name == "0" else right for name in refs})
    assert nearly.low < 0.9 and nearly.low < nearly.value < nearly.high <= 1.01
    assert math.isnan(stats.ties({"1": one}, {"1": right}).low), "one prompt"
