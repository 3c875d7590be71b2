"""The two numbers that turn a judge's logits into probabilities. Where they are fitted and used is `scoring`'s."""

import math
from dataclasses import dataclass

from harness_plugin.errors import UsageError


@dataclass(frozen=True)
class Calibration:
    """Two numbers fitted on held-out data: `temperature` divides logits, `tie_nu` is Davidson's tie mass (0: none)."""

    temperature: float = 1.0
    tie_nu: float = 0.0

    def __post_init__(self):
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"temperature={self.temperature}", "logits are divided by it", "give a number above 0")
        if not (math.isfinite(self.tie_nu) and self.tie_nu >= 0):
            raise UsageError(
                f"tie_nu={self.tie_nu}", "it is the weight of a tie", "give 0 (no ties) or a number above 0"
            )
