"""Simulated pairs of runs whose true change is known, for the gate's bounds, tests and statements of power."""

import math

import numpy as np

from harness_plugin.stats.paired import drop_test
from harness_plugin.stats.power import detectable_drop

ALPHA, POWER, RANGE = 0.05, 0.8, (-1.0, 1.0)


def binary(changed: float, drop: float):
    """Right and wrong: this share of the items changes, and the mean falls by `drop`."""

    def draw(rng, n):
        u = rng.random(n)
        up, down = (changed - drop) / 2, (changed + drop) / 2
        base = np.where(u < up, 0.0, 1.0)
        return base, np.where((u >= up) & (u < up + down), 0.0, 1.0)

    return draw


def sparse(changed: float, drop: float):
    """Probabilities of which only this share changes, up or down by at most 1."""

    def draw(rng, n):
        size = np.abs(rng.uniform(0, 1, n))
        worse = (1 + 2 * drop / changed) / 2
        d = (rng.random(n) < changed) * size * np.where(rng.random(n) < worse, -1, 1)
        return np.where(d < 0, 1.0, 0.0), np.where(d < 0, 1.0, 0.0) + d

    return draw


def rare(drop: float):
    """Nothing changes but one item in 1 / drop, which loses everything."""

    def draw(rng, n):
        return np.ones(n), (rng.random(n) >= drop).astype(float)

    return draw


def dense(deviation: float, drop: float):
    """Every value changes a little."""

    def draw(rng, n):
        return np.full(n, 0.6), np.clip(0.6 - drop + deviation * rng.standard_normal(n), 0, 1)

    return draw


def clustered(drop: float):
    """Prompts of one to eight items that change together; the change is smaller in large prompts."""

    def draw(rng, n):
        sizes = rng.integers(1, 9, n)
        d = np.repeat(rng.normal(-drop, 0.1, n), sizes) + 0.1 * rng.standard_normal(sizes.sum())
        return np.full(sizes.sum(), 0.5), np.clip(0.5 + d, 0, 1), np.repeat(np.arange(n), sizes)

    return draw


def compared(rng, n, draw):
    base, new, *clusters = draw(rng, n)
    return drop_test(new, base, clusters[0] if clusters else None, ALPHA, RANGE)


def passed(margin: float, draw):
    """Whether a run that lost the margin passes."""
    return lambda rng, n: bool(compared(rng, n, draw).low >= -margin)


def failed(draw):
    """Whether a run without a change shows a drop."""
    return lambda rng, n: bool(compared(rng, n, draw).p <= ALPHA)


def outside(drop: float, draw):
    """Whether the interval, 90 % with one-sided ends, misses the truth."""

    def missed(rng, n):
        found = compared(rng, n, draw)
        return not found.low - 1e-12 <= -drop <= found.high + 1e-12

    return missed


def reported(margin: float, kind, size: float):
    """Whether a drop as large as the smallest that a run without a change says it reports is reported; None where it
    says that it reports none. `kind`: `binary` or `dense`; `size`: its share of changes or its deviation."""
    claims: dict[int, float] = {}

    def draw(rng, n):
        if n not in claims:
            claims[n] = _claim(n, margin, kind, size)
        if math.isnan(claims[n]):
            return None
        more = size + claims[n] if kind is binary else size
        found = compared(rng, n, kind(more, claims[n]))
        return bool(found.p <= ALPHA and found.low < -margin)

    return draw


def _claim(n: int, margin: float, kind, size: float) -> float:
    """What a run of n prompts without a change, with exactly this noise, says."""
    if kind is binary:
        each = round(n * size / 2)
        d = np.repeat([1.0, 0.0, -1.0], [each, n - 2 * each, each])
        base = (d < 0).astype(float)
    else:
        d = np.resize([1.0, -1.0], n) - (n % 2) / n
        d, base = d / d.std(ddof=1) * size, np.full(n, 0.6)
    return detectable_drop(drop_test(base + d, base, None, ALPHA, RANGE), ALPHA, POWER, margin, ALPHA, 0.6)


def decisions(rng, n: int, drop: float, draws: int, margin: float = 0.02) -> tuple[float, float, float]:
    """Shares of runs that pass, are inconclusive and are regressions: the curve of the gate."""
    from harness_plugin.cli.gate.simulate import CORRELATION
    from harness_plugin.gate.simulate import simulate

    (row,) = simulate(draws, ALPHA, margin, CORRELATION, int(rng.integers(1 << 30)), sizes=(n,), drops=(drop,))
    return row.passed, max(0.0, 1 - row.passed - row.failed["gate"]), row.failed["gate"]
