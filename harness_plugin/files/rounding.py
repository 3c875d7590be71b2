"""Numbers as files and terminals have them: rounded, and never -0.0, which a reader would take for a small loss."""

import math


def rounded(value: float, digits: int) -> float:
    """The value to so many decimal places; NaN and infinity stay."""
    return round(float(value), digits) + 0.0


def rounded_or_none(value: float, digits: int) -> float | None:
    """As `rounded`; None for NaN and infinity, which JSON does not have."""
    return rounded(value, digits) if math.isfinite(value) else None
