"""Krippendorff's alpha and the share of votes that agree, with their intervals."""

import math

import numpy as np
import pytest

from harness_plugin.stats.agreement import agreement_of_votes, krippendorff_alpha


def test_alpha_is_that_of_krippendorffs_own_example():
    # Krippendorff 2011, section C: four observers, twelve units, nominal alpha 0.743
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    counts = [[sum(row[u] == c for row in observers) for c in range(1, 6)] for u in range(12)]
    assert krippendorff_alpha(counts) == pytest.approx(0.743, abs=5e-4)
    found = agreement_of_votes(counts)
    assert found.alpha.value == krippendorff_alpha(counts) and found.alpha.low < 0.743 < found.alpha.high
    assert found.share.n == 11, "the last unit has one value"


def test_alpha_of_perfect_and_of_random_votes():
    rng = np.random.default_rng(0)
    assert krippendorff_alpha([[2, 0], [0, 2], [2, 0]]) == 1.0
    assert math.isnan(krippendorff_alpha([[2, 0], [3, 0]])) and math.isnan(krippendorff_alpha(np.zeros((0, 3))))
    random = [np.bincount(rng.integers(0, 3, 2), minlength=3) for _ in range(4000)]
    assert abs(krippendorff_alpha(random)) < 0.05


def two_votes(agree: int, differ: int, ties: int = 0):
    """Counts of two people's votes for A, B and tie: how many battles they agree on, differ on, and call a tie."""
    return [[2, 0, 0]] * agree + [[1, 1, 0]] * differ + [[0, 0, 2]] * ties


def test_the_interval_of_alpha_holds_where_all_agree_and_where_nearly_all_votes_are_alike():
    all_agree = agreement_of_votes(two_votes(10, 0, 10)).alpha
    assert (all_agree.value, all_agree.high) == (1.0, 1.0) and 0.6 < all_agree.low < 0.9
    # 39 battles of one class and one that they differ on: next to nothing is known of an agreement beyond chance.
    alike = agreement_of_votes(two_votes(39, 1)).alpha
    assert alike.value < 0.01 and alike.low < -0.9 and alike.high > 0.7
    assert math.isnan(agreement_of_votes(two_votes(5, 0)).alpha.low), "votes of one class have no alpha"
    of_one_prompt = agreement_of_votes(two_votes(5, 2, 3), ["p"] * 10).alpha
    assert math.isnan(of_one_prompt.low) and of_one_prompt.value > 0
