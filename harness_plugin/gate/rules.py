"""How a gate decides, with every default. Imports nothing heavy, so that the options of a command can read it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness_plugin.errors import UsageError

MARGIN = 0.02  # the smallest drop that matters
ALPHA = 0.05  # how often an unchanged build may fail
POWER = 0.8  # with which probability the smallest drop that is reported would be seen
MAX_MISSING = 0.01  # the share of all items that may be in one run only
SMALLEST = 1e-6  # margin above 0, since values are rounded to it, and alpha, whose quantiles are exact so far
WARN, FAIL = "warn", "fail"
ON_INCONCLUSIVE = ("pass", WARN, FAIL)
PROMPTS, ITEMS = "prompts", "items"
WEIGHTS = (PROMPTS, ITEMS)


@dataclass(frozen=True)
class Rules:
    """How to decide. `metrics`: those that decide, none for the kind's first; `margin`: the smallest drop that matters,
    None for MARGIN where values lie in [0, 1]; `alpha`, `power`: of every test; `on_inconclusive`: one of
    ON_INCONCLUSIVE; `weigh`: whether all PROMPTS or all ITEMS count the same, where some prompts have more items than
    others. Raises UsageError for numbers outside their range."""

    metrics: tuple[str, ...] = ()
    margin: float | None = None
    alpha: float = ALPHA
    power: float = POWER
    on_inconclusive: str = WARN
    weigh: str = PROMPTS

    def __post_init__(self):
        margin = 0.0 if self.margin is None else self.margin
        if not (math.isfinite(margin) and (margin == 0 or margin >= SMALLEST)):
            raise UsageError(
                f"--margin {margin}",
                "it is the smallest drop that matters",
                f"give 0, or {SMALLEST:g} or more",
            )
        if not SMALLEST <= self.alpha < 0.5 or not self.alpha < self.power < 1:
            raise UsageError(
                f"--alpha {self.alpha} with --power {self.power}",
                "alpha is the chance of a false alarm and power the chance of seeing a real drop",
                f"give {SMALLEST:g} <= alpha < 0.5 and alpha < power < 1",
            )
        for name, allowed in (("on_inconclusive", ON_INCONCLUSIVE), ("weigh", WEIGHTS)):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name}={getattr(self, name)!r}", "", f"use one of {', '.join(allowed)}")


@dataclass(frozen=True)
class Reading:
    """How two paths are read and compared: arguments of `read_two` and `compare`. `baseline_model`: the chatbot's name
    in the baseline, if it had another one there; `labels`: a file of people's votes, which then decide;
    `label_fields` and `label_words`: how it is read (`fields` and `winner_map` of `read_pairs`)."""

    task: str | None = None
    model: str | None = None
    baseline_model: str | None = None
    pairs: str | None = None
    ignore: tuple[str, ...] = ()
    max_missing: float = MAX_MISSING
    labels: str | None = None
    label_fields: Mapping[str, str] = field(default_factory=dict)
    label_words: Mapping[str, str | None] = field(default_factory=dict)


DEFAULT_READING = Reading()
