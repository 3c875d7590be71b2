"""How many prompts a gate needs before it can see a drop; from two runs that exist, or from typical deviations."""

import math
from dataclasses import dataclass

import numpy as np

from harness_plugin.gate.decide import CATEGORY, Decision
from harness_plugin.stats.paired import MCNEMAR, DropTest, drop_test
from harness_plugin.stats.power import detectable_drop, prompts_to_detect, prompts_to_pass

SIZES = (50, 100, 200, 400, 805, 2000)
RANGE = (-1.0, 1.0)  # of a difference of two values from 0 to 1


@dataclass(frozen=True)
class Noise:
    """How two runs without a change differ. deviation: the standard deviation of the differences, prompt by prompt; for
    right and wrong the root of the share of items that change."""

    name: str
    deviation: float
    right_and_wrong: bool = False


# As found on AlpacaEval's preferences by GPT-4 Turbo.
TYPICAL = (
    Noise("win rate, small change of one chatbot", 0.18),
    Noise("win rate, two different chatbots", 0.25),
    Noise("hard win rate, two different chatbots", 0.28),
    Noise("right or wrong, 10% of the items change", math.sqrt(0.1), True),
    Noise("right or wrong, 20% of the items change", math.sqrt(0.2), True),
)


@dataclass(frozen=True)
class Power:
    """What noise means, in numbers of prompts and in drops: `detect` a drop of the margin, `clear` a run without a
    change (a drop of the margin is ruled out), both with the power asked for; `drops`: the smallest drop that the gate
    reports at each of SIZES, NaN where it reports none so often. None where no number can be given."""

    noise: Noise
    detect: int | None
    clear: int | None
    drops: tuple[float, ...]


def power_table(noises, margin: float, alpha: float, power: float) -> list[Power]:
    """One row for each Noise, for values from 0 to 1."""
    return [
        Power(
            noise,
            prompts_to_detect(margin, noise.deviation, alpha, power, noise.right_and_wrong)
            if noise.deviation
            else None,
            prompts_to_pass(margin, *_differences(noise), RANGE[0], alpha, power),
            tuple(detectable_drop(_unchanged(noise, n, alpha), alpha, power, margin, alpha, RANGE[1]) for n in SIZES),
        )
        for noise in noises
    ]


def _differences(noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """Differences without a change and their shares: as often up as down, all of one size."""
    share = noise.deviation**2 if noise.right_and_wrong else 1.0
    size = 1.0 if noise.right_and_wrong else noise.deviation
    return np.array([size, 0.0, -size]), np.array([share / 2, 1 - share, share / 2])


def _unchanged(noise: Noise, n: int, alpha: float) -> DropTest:
    """The test of n prompts with these differences; an odd one among them is 0."""
    differences, shares = _differences(noise)
    each = round(n * float(shares[0]) - 1e-9)
    d = np.repeat(differences, [each, n - 2 * each, each])
    base = (d < 0).astype(float) if noise.right_and_wrong else np.full(n, 0.5)
    return drop_test(base + d, base, None, alpha, RANGE)


def noise_of(decision: Decision) -> list[Noise]:
    """The noise of every metric of two runs that were compared."""
    return [
        Noise(
            f"{m.name}, {'items that change' if m.test.method == MCNEMAR else 'as in these runs'}",
            m.test.deviation if m.test.n > 1 else 0.0,
            m.test.method == MCNEMAR,
        )
        for m in decision.measured
        if m.role != CATEGORY
    ]
