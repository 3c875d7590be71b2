"""How often a gate is wrong, by simulation: builds of a chatbot whose quality is known, each decided by `decide`'s own
tests, beside the simpler rules that people often use.

A build's soft preferences over a fixed baseline are sigma(a + b (sqrt(r) u + sqrt(1 - r) e)) with a prompt's difficulty
u shared by both builds and e of a build alone: most near 0 or 1, as a judge's are. r is found so that the preferences
correlate as asked, and a so that the mean is as wanted.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness_plugin.stats.bounded import excludes
from harness_plugin.stats.paired import drop_test, mcnemar
from harness_plugin.stats.search import bisect

SIZES, DROPS = (100, 200, 400, 805), (0.0, 0.02, 0.04)
MEAN, SPREAD = 0.15, 2.7  # of the preferences, and of what is under the sigmoid
RULES = ("new < old", "drop > 1 point", "drop > 2 points", "gate", "gate, right or wrong")
POPULATION = 40_000


@dataclass(frozen=True)
class Simulated:
    """Shares of builds with `n` prompts and a true drop: failed by each of RULES, and passed by the gate."""

    n: int
    drop: float
    failed: dict[str, float]
    passed: float
    deviation: float


def simulate(
    builds: int, alpha: float, margin: float, correlation: float, seed: int, sizes=SIZES, drops=DROPS
) -> list[Simulated]:
    """One row per size and drop, each from so many builds; the same seed gives the same numbers. `correlation`: between
    the preferences of two builds. Raises ValueError for one outside [0, 1)."""
    if not 0 <= correlation < 1:
        raise ValueError(f"correlation {correlation}: needs 0 <= correlation < 1")
    found = []
    for n in sizes:
        for drop in drops:
            rng = np.random.default_rng([seed, n, round(drop * 1e6)])
            base, new = _builds(rng, builds, n, drop, correlation)
            decided = [_decided(b, a, alpha, margin) for b, a in zip(base, new, strict=True)]
            failed = np.array([d[0] for d in decided]).mean(axis=0)
            shares = dict(zip(RULES, failed.tolist(), strict=True))
            found.append(Simulated(n, drop, shares, float(np.mean([d[1] for d in decided])), float((new - base).std())))
    return found


def _decided(base: np.ndarray, new: np.ndarray, alpha: float, margin: float) -> tuple[list[bool], bool]:
    """(which of RULES fail the build, whether the gate passes it)."""
    test = drop_test(new, base, None, alpha)
    passes = excludes(test.sums, test.sizes, -1.0, alpha, -margin)
    hard = (new > 0.5).astype(int) - (base > 0.5).astype(int)
    p_hard, _ = mcnemar(int((hard > 0).sum()), int((hard < 0).sum()))
    d = test.difference
    return [d < 0, d < -0.01, d < -0.02, not passes and test.p <= alpha, p_hard <= alpha], passes


def _builds(rng, builds: int, n: int, drop: float, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Preferences of the baseline's and the new build, shape (builds, n) each."""
    shared = _shared_variance(correlation)
    u = rng.standard_normal((builds, n)) * math.sqrt(shared)
    own = math.sqrt(1 - shared)
    means = (MEAN, MEAN - drop)
    old, new = (_preference(u + own * rng.standard_normal((builds, n)), _offset(mean)) for mean in means)
    return old, new


def _preference(latent: np.ndarray, offset: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(offset + SPREAD * latent)))


@lru_cache
def _offset(mean: float) -> float:
    """The offset with which preferences have this mean, over a fixed population."""
    latent = _population()[0]
    return bisect(lambda offset: mean - _preference(latent, offset).mean(), -30.0, 30.0)


@lru_cache
def _shared_variance(correlation: float) -> float:
    """The share of latent variance that both builds have in common, so that their preferences correlate as asked."""
    u, one, other = _population()
    offset = _offset(MEAN)

    def missing(r: float) -> float:
        a, b = (_preference(math.sqrt(r) * u + math.sqrt(1 - r) * e, offset) for e in (one, other))
        return correlation - np.corrcoef(a, b)[0, 1]

    return bisect(missing, 0.0, 1.0)


@lru_cache(maxsize=1)
def _population() -> np.ndarray:
    """Three independent standard normal columns, shape (3, POPULATION)."""
    return np.random.default_rng(7).standard_normal((3, POPULATION))
