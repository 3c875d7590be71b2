"""Simulated runs that stop when the result is clear, whose true difference is known: how often they err, how often they
decide, and after how many prompts.

`n` is the number of all prompts; `looks` as in `stats.sequential.looks_at`.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from harness_plugin import stats
from harness_plugin.stats.paired import drop_test
from harness_plugin.stats.sequential import interval_at, looks_at

ALPHA, MARGIN = 0.05, 0.02
CONCENTRATION = 3.0  # of the beta distribution of preferences; near one half their deviation is 0.25


def preferences(rng, n: int, shape, difference: float, ties: float):
    """Preferences less one half, (n, *shape), whose mean is `difference`: soft ones, and a share of exact ties."""
    mean = 0.5 + difference / (1 - ties)
    d = rng.beta(CONCENTRATION * mean, CONCENTRATION * (1 - mean), (n, *shape)) - 0.5
    return np.where(rng.random((n, *shape)) < ties, 0.0, d)


def duel(rng, n: int, looks: int | None, drop: float, ties: float = 0.0, margin: float = MARGIN) -> tuple[str, float]:
    """What a duel decides, by the tests of the gate, and the share of the prompts that it took."""
    d = preferences(rng, n, (), -drop, ties)
    for seen, look in looks_at(n, looks):
        if look.p_above(d[:seen], np.ones(seen), -0.5, -margin) <= ALPHA:  # as its lower bound, and faster
            return "pass", seen / n
        test = replace(drop_test(d[:seen], np.zeros(seen), None, ALPHA), lowest=-0.5)
        if look.drop_p(test) <= ALPHA:
            return "regression", seen / n
    return "inconclusive", 1.0


def tournament(rng, n: int, looks: int | None, difference: float, ties: float = 0.0, models: int = 1):
    """(whether the win rates against a baseline are clear, the share of the prompts, whether one of them is)."""
    d = preferences(rng, n, (models,), difference, ties)
    for seen, look in looks_at(n, looks):
        p = stats.holm([two_sided(look, column) for column in d[:seen].T])
        if (p <= ALPHA).all():
            return True, seen / n, True
    return False, 1.0, bool((p <= ALPHA).any())


def two_sided(look, d) -> float:
    return 2 * min(look.p_above(side, np.ones(len(d)), -0.5, 0.0) for side in (d, -d))


def stopped_win_rate(looks: int | None):
    """The interval of a win rate where judging stopped as soon as it was clear."""

    def draw(rng, n, truth):
        q = rng.beta(2 * truth, 2 * (1 - truth), n)
        for seen, look in looks_at(n, looks):
            if two_sided(look, q[:seen] - 0.5) <= ALPHA:
                break
        low, high = interval_at(look, q[:seen], 0.0, 1.0, ALPHA)
        return [(SimpleNamespace(low=low, high=high), truth)]

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
    return lambda rng, n: tournament(rng, n, looks, 0.0, models=3)[2]


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
