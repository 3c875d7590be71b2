"""What is said about a file that was read: in the package's log, which the command line prints on stderr."""

import logging
from collections.abc import Sequence

log = logging.getLogger("lm_eval.arena_rm")

_SHOWN = 20


def listed(items: Sequence[str]) -> str:
    """The items with commas between them; of many the first twenty, and how many more there are."""
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
