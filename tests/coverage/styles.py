"""Simulated round robins in which the judge likes style, and chatbots differ in theirs: ratings at equal style and the
worth of two features, whose truth is known."""

import math

import numpy as np
from scipy.special import ndtr

from harness_plugin import stats
from harness_plugin.stats.ratings import POINTS

MODELS, BETA = 6, np.array([0.6, -0.4])
THETA = np.linspace(-0.6, 0.6, MODELS)


def battles(rng, n: int, within: float) -> dict:
    """One-hot outcomes at n prompts. `within`: the share of the variance of the differences in style that lies within
    the pairs of chatbots; the rest is what always sets two of them apart."""
    a, b = np.triu_indices(MODELS, 1)
    own = np.stack([np.linspace(-1, 1, MODELS), np.linspace(-1, 1, MODELS)[[2, 5, 0, 3, 1, 4]]], axis=1)  # (M, 2)
    gap = 0.3 * np.tile(own[b] - own[a], (n, 1))
    spread = np.sqrt((gap**2).mean(axis=0) * within / (1 - within) / 2)
    answers = spread * rng.standard_normal((n, MODELS, 2))
    features = gap + (answers[:, b] - answers[:, a]).reshape(-1, 2)
    z = np.tile(THETA[b] - THETA[a], n) + features @ BETA
    shared = np.repeat(rng.standard_normal(n), len(a))  # outcomes of a prompt correlate, and each keeps its chance
    luck = ndtr(math.sqrt(0.3) * shared + math.sqrt(0.7) * rng.standard_normal(len(z)))
    p = (luck < 1 / (1 + np.exp(-z))).astype(float)
    return {
        "i": np.tile(a, n),
        "j": np.tile(b, n),
        "p": p,
        "features": features,
        "clusters": np.repeat(np.arange(n), len(a)),
    }


def controlled(within: float, slopes: bool):
    """The ratings, or the worth of both features, with their truths."""

    def draw(rng, n, truth):
        found = stats.style_controlled_ratings(**battles(rng, n, within), models=MODELS)
        if slopes:
            return list(zip(found.slopes, BETA.tolist(), strict=True))
        return [(found.estimate(m), 1000 + POINTS * THETA[m]) for m in range(MODELS)]

    return draw
