"""The numbers that turn a judge's logits into probabilities. Where they are fitted and used is `scoring`'s."""

import math
from dataclasses import dataclass

from harness_plugin.errors import UsageError


@dataclass(frozen=True)
class Calibration:
    """Numbers fitted on held-out data: `temperature` divides logits, `tie_nu` is Davidson's tie mass (0: none).
    `length_worth` is what length alone is worth to the judge, in logits per unit of
    `scoring.probabilities.length_ratio`; it is taken off the logit, and is 0 unless verdicts are to be at equal
    length. `surface_worth` is what the surface of the responses tells beside the judge, in logits per unit of
    `scoring.surface.surface_logit`; it is added to the logit, and is 0 where verdicts are to be at equal length."""

    temperature: float = 1.0
    tie_nu: float = 0.0
    length_worth: float = 0.0
    surface_worth: float = 0.0

    def __post_init__(self):
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"temperature={self.temperature}", "logits are divided by it", "give a number above 0")
        if not (math.isfinite(self.tie_nu) and self.tie_nu >= 0):
            raise UsageError(f"tie_nu={self.tie_nu}", "it is the tie mass", "give 0 (no ties) or a number above 0")
        if not math.isfinite(self.length_worth):
            raise UsageError(f"length_worth={self.length_worth}", "it is taken off every logit", "give a finite number")
        if not math.isfinite(self.surface_worth):
            raise UsageError(
                f"surface_worth={self.surface_worth}", "it is added to every logit", "give a finite number"
            )
