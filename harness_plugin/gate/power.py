"""How many prompts a gate needs before it can see a drop; from two runs that exist, or from typical deviations."""

import math
from dataclasses import dataclass

from harness_plugin.gate.decide import Decision
from harness_plugin.stats.paired import MCNEMAR, prompts_needed, smallest_drop

SIZES = (50, 100, 200, 400, 805, 2000)
# Standard deviations of the difference per prompt, as found on AlpacaEval's preferences by GPT-4 Turbo; for right and
# wrong the root of the share of items that change.
TYPICAL = {
    "win rate, small change of one chatbot": 0.18,
    "win rate, two different chatbots": 0.25,
    "hard win rate, two different chatbots": 0.28,
    "right or wrong, 10% of the items change": math.sqrt(0.1),
    "right or wrong, 20% of the items change": math.sqrt(0.2),
}


@dataclass(frozen=True)
class Power:
    """What a deviation means: `needed` prompts to see a drop of the margin, and the smallest drop seen at each of
    SIZES."""

    name: str
    deviation: float
    needed: int | None
    drops: tuple[float, ...]


def power_table(deviations: dict[str, float], margin: float, alpha: float, power: float) -> list[Power]:
    """One row per deviation; for a deviation of 0 no number of prompts can be given."""
    return [
        Power(
            name,
            sd,
            prompts_needed(margin, sd, alpha, power) if sd > 0 and margin > 0 else None,
            tuple(smallest_drop(sd, n, alpha, power) for n in SIZES),
        )
        for name, sd in deviations.items()
    ]


def deviations_of(decision: Decision) -> dict[str, float]:
    """The deviation of every metric of two runs that were compared."""
    return {
        f"{m.name}, {'items that change' if m.test.method == MCNEMAR else 'as in these runs'}": m.test.deviation
        for m in decision.measured
        if m.role != "category"
    }
