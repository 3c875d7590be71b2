"""Ratings against evalica, another project's solver of the same models (Newman's iteration, in Rust). It is used here
only: it has no errors by prompt, and gives all models one score where one of them never wins."""

import numpy as np
import pytest

from harness_plugin import stats
from harness_plugin.stats.ratings import POINTS

evalica = pytest.importorskip("evalica")


def games(models, rows, seed, ties=0.0):
    """Random comparisons with soft outcomes: i, j, P(j wins), P(tie)."""
    rng = np.random.default_rng(seed)
    i = rng.integers(0, models, rows)
    j = (i + rng.integers(1, models, rows)) % models
    p = rng.random(rows)
    tie = ties * rng.random(rows)
    return i, j, p * (1 - tie), tie


def as_wins(i, j, p, tie):
    """Soft outcomes as evalica's weighted decisive comparisons and draws."""
    x, y = np.concatenate([i, i, i]), np.concatenate([j, j, j])
    kinds = [evalica.Winner.Y, evalica.Winner.X, evalica.Winner.Draw]
    winners = [kind for kind in kinds for _ in i]
    return {
        "xs": x.tolist(),
        "ys": y.tolist(),
        "winners": winners,
        "weights": np.concatenate([p, 1 - p - tie, tie]).tolist(),
    }


def points(scores, models):
    """Scores in the order of the models, as ratings whose mean is 1000."""
    logs = np.log([scores[m] for m in range(models)])
    return 1000 + POINTS * (logs - logs.mean())


@pytest.mark.parametrize(("models", "rows", "seed"), [(3, 60, 0), (12, 800, 1), (30, 3000, 2)])
def test_bradley_terry_agrees(models, rows, seed):
    i, j, p, tie = games(models, rows, seed)
    theirs = evalica.bradley_terry(**as_wins(i, j, p, tie), tolerance=1e-12, limit=100_000).scores
    ours = stats.bradley_terry_ratings(i, j, p, models=models)
    assert not ours.concerns or {c.kind for c in ours.concerns} == {"few_clusters"}
    assert ours.rating == pytest.approx(points(theirs, models), abs=1e-3)


@pytest.mark.parametrize(("models", "rows", "seed"), [(3, 60, 3), (12, 800, 4), (30, 3000, 5)])
def test_davidson_agrees_and_so_does_the_weight_of_a_tie(models, rows, seed):
    i, j, p, tie = games(models, rows, seed, ties=0.5)
    found = evalica.newman(**as_wins(i, j, p, tie), tolerance=1e-12, limit=100_000)
    ours = stats.davidson_ratings(i, j, p, tie, models=models)
    assert ours.rating == pytest.approx(points(found.scores, models), abs=1e-3)
    assert ours.tie.value == pytest.approx(2 * found.v, rel=1e-4)
