"""Simulated runs that stop when the result is clear, whose true difference is known: how often they err, how often they
decide, and after how many prompts.

`n` is the number of all prompts; `looks` as in `stats.sequential.looks_at`.
"""

from types import SimpleNamespace

import numpy as np

from harness_plugin.stats.paired import drop_test
from harness_plugin.stats.sequential import compare_at, drop_test_at, looks_at

ALPHA, DEVIATION, MARGIN = 0.05, 0.25, 0.02


def preferences(rng, n: int, shape, difference: float, ties: float):
    """Preferences less one half, (n, *shape), with this mean: mostly soft, and a share of exact ties."""
    d = np.clip(rng.normal(difference / (1 - ties), DEVIATION, (n, *shape)), -0.5, 0.5)
    return np.where(rng.random((n, *shape)) < ties, 0.0, d)


def duel(rng, n: int, looks: int | None, drop: float, ties: float = 0.0, margin: float = MARGIN) -> tuple[str, float]:
    """What a duel decides, by the tests of the gate, and the share of the prompts that it took."""
    d = preferences(rng, n, (), -drop, ties)
    for seen, look in looks_at(n, looks):
        test = drop_test(d[:seen], np.zeros(seen), None, ALPHA, (-0.5, 0.5))
        test = drop_test_at(look, test, ALPHA)
        if test.low >= -margin:
            return "pass", seen / n
        if test.p <= ALPHA:
            return "regression", seen / n
    return "inconclusive", 1.0


def tournament(rng, n: int, looks: int | None, difference: float, ties: float = 0.0, models: int = 1):
    """(whether the win rates against a baseline are clear, the share of the prompts, the comparisons at the end)."""
    table = np.column_stack([np.full(n, 0.5), 0.5 + preferences(rng, n, (models,), difference, ties)])
    pairs = [(m, 0) for m in range(1, models + 1)]
    for seen, look in looks_at(n, looks):
        found = compare_at(look, table[:seen], pairs, ALPHA, -0.5)
        if all(c.p_holm <= ALPHA for c in found):
            return True, seen / n, found
    return False, 1.0, found


def stopped_win_rate(looks: int | None):
    """The interval of a win rate where judging stopped as soon as it was clear."""

    def draw(rng, n, truth):
        q = rng.beta(2 * truth, 2 * (1 - truth), n)
        table = np.column_stack([np.full(n, 0.5), q])
        for seen, look in looks_at(n, looks):
            (found,) = compare_at(look, table[:seen], [(1, 0)], ALPHA, -0.5)
            if found.p <= ALPHA:
                break
        return [(SimpleNamespace(low=0.5 + found.low, high=0.5 + found.high), truth)]

    return draw


def passed(looks: int | None):
    """Whether a duel passes that lost the margin."""
    return lambda rng, n: duel(rng, n, looks, MARGIN)[0] == "pass"


def failed(looks: int | None):
    """Whether a duel without a change is a regression."""
    return lambda rng, n: duel(rng, n, looks, 0.0)[0] == "regression"


def any_clear(looks: int | None):
    """Whether one of three models that are as good as the baseline is clearly better or worse at the look where the
    run ends."""
    return lambda rng, n: any(c.p_holm <= ALPHA for c in tournament(rng, n, looks, 0.0, models=3)[2])


def table(generator, draws: int) -> list[str]:
    """Rows of Markdown: the decisions of a duel and of a leaderboard with the share of prompts they take."""
    rows = []
    for n in (200, 805):
        for ties in (0.0, 0.5):
            for difference in (0.0, 0.05, 0.1):
                for looks, name in ((1, "none"), (5, "5"), (None, "any time")):
                    rng = generator("early", n, ties, difference, looks)
                    duels = [duel(rng, n, looks, difference, ties) for _ in range(draws)]
                    boards = [tournament(rng, n, looks, difference, ties)[:2] for _ in range(draws)]
                    decided = [np.mean([d[0] == state for d in duels]) for state in ("pass", "regression")]
                    numbers = [*decided, np.mean([d[1] for d in duels]), *np.mean(boards, axis=0)]
                    row = " | ".join(f"{x:.3f}" for x in numbers)
                    rows.append(f"| {difference:g} | {ties:.0%} | {n} | {name} | {row} |")
    return rows
