"""What judging costs: battles, tokens and the measured speed of a device to device-hours. Arithmetic only."""

from dataclasses import dataclass

PRESENTATIONS = 2  # of a battle: both orders


@dataclass(frozen=True)
class Cost:
    """`tokens`: all that the judge reads, in both orders; `hours`: device-hours, shared by as many devices as judge."""

    battles: int
    tokens: float
    hours: float


def cost(battles: int, tokens_per_presentation: float, tokens_per_second: float) -> Cost:
    """tokens = battles x 2 x tokens per presentation; hours = tokens / (tokens per second of a device x 3600).

    `tokens_per_presentation`: mean after the cut to the judge's length, half of `tokens` in verdicts.jsonl;
    `tokens_per_second`: tokens of presentations over seconds of scoring, as `--engine ray` prints them, so that
    whatever the engine saves (shared prefixes, padding) is in the rate. Raises ValueError for a rate that is not
    positive.
    """
    if battles < 0 or tokens_per_presentation < 0 or not tokens_per_second > 0:
        raise ValueError(f"{battles} battles of {tokens_per_presentation} tokens at {tokens_per_second} tokens/s")
    tokens = battles * PRESENTATIONS * tokens_per_presentation
    return Cost(battles, tokens, tokens / (tokens_per_second * 3600))
