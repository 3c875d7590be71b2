"""Every interval and test that is printed holds as often as it says: `table.py` with few draws, and what is in it."""

import math

import early
import numpy as np
import pytest
import table

from harness_plugin.comparison import figures
from harness_plugin.harness import judge_task_metrics, task_metrics

DRAWS = 200
SMALLEST, ERROR, POWER = 0.93, 0.055, 0.8
NONE = "rating at equal style, 1% of the style within pairs"


def chance(p: float, n: int, draws: int = DRAWS, name: str = "") -> float:
    """Three times the error of a simulated share."""
    return 3 * math.sqrt(p * (1 - p) / table.draws_of(n, draws, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*table.INTERVALS, *table.ALONE])
def test_an_interval_holds_the_truth(name):
    for truth in table.TRUTHS if name in table.INTERVALS else (0.5,):
        for n in table.SIZES:
            held = table.coverage(name, n, truth, DRAWS)
            assert math.isnan(held) or held >= SMALLEST - chance(SMALLEST, n, name=name), (n, truth)
        assert math.isnan(held) == (name == NONE), "of many prompts there is an interval"


@pytest.mark.slow
@pytest.mark.parametrize("name", table.ERRORS)
def test_an_error_is_as_rare_as_it_is_said_to_be(name):
    for n in table.SIZES:
        assert table.frequency(name, n, DRAWS) <= ERROR + chance(ERROR, n, name=name), n


@pytest.mark.slow
@pytest.mark.parametrize("name", table.POWERS)
def test_a_drop_that_is_said_to_be_reported_is_reported_that_often(name):
    for n in table.SIZES:
        found = table.frequency(name, n, DRAWS)
        allowed = 0.03 + chance(POWER, n, name=name)
        assert math.isnan(found) or abs(found - POWER) <= allowed, (n, found)


@pytest.mark.slow
def test_five_looks_decide_as_often_as_none_and_take_fewer_prompts():
    found = {}
    for looks in (1, 5):
        rng = table.generator("looks", looks)
        runs = [early.duel(rng, 400, looks, 0.04) for _ in range(2 * DRAWS)]
        found[looks] = np.mean([state == "regression" for state, _ in runs]), np.mean([share for _, share in runs])
    assert found[5][0] >= found[1][0] - 0.02 - chance(found[1][0], 400, 2 * DRAWS) and found[5][1] < 0.7


def test_every_number_that_is_printed_is_in_the_table():
    simulated = {name for names in table.STANDS_FOR.values() for name in names}
    assert {*task_metrics._SCORES, *judge_task_metrics._RATES} <= simulated
    assert {*figures.FIGURES, *figures.BASELINES, *(f"difference of {name}" for name in figures.COMPARED)} <= simulated
    assert table.STANDS_FOR.keys() <= table.INTERVALS.keys() | table.ALONE.keys()
