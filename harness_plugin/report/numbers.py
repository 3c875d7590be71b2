"""Numbers as reports show them: with a fixed number of digits, and with their intervals."""

from decimal import ROUND_HALF_UP, Decimal

LARGEST = 1e15  # from here on doubles have at most three digits behind the point, and decimals might have too few


def number(value: float | None, digits: int) -> str:
    """A number with so many digits; halves go away from zero, as in the page (JavaScript's toFixed), so that both say
    the same. "-" for None."""
    if value is None:
        return "-"
    if abs(value) >= LARGEST:
        return f"{value:.{digits}f}"
    shown = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{shown + 0:f}"  # + 0: never -0


def with_interval(value: float | None, low: float | None, high: float | None, digits: int) -> str:
    """A number with its interval, such as "0.61 [0.55, 0.67]"; without it where an end is None."""
    shown = number(value, digits)
    return shown if low is None or high is None else f"{shown} [{number(low, digits)}, {number(high, digits)}]"
