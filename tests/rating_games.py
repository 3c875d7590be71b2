"""Comparisons for the tests of ratings: round robins from known ratings, with ties, sparse; and how results agree."""

import numpy as np
import pytest

from harness_plugin import stats

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
