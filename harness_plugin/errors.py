"""Typed errors that a user can act on: what was found, why it matters, what to do.

`arena-rm` turns each into one line on stderr and its exit code (design: 0 done, 1 regression, 2 usage,
3 could not be done or compared, 4 inconclusive). This room knows no other.
"""


class ArenaError(Exception):
    """Base of every error meant for the user. `str(error)` is one line: ``found; why; do``."""

    exit_code = 3

    def __init__(self, found: str, why: str = "", do: str = ""):
        self.found, self.why, self.do = found, why, do
        text = "; ".join(part.strip().rstrip(".;") for part in (found, why, do) if part)
        super().__init__(" ".join(text.split()))


class UsageError(ArenaError):
    """An option or argument that cannot mean anything."""

    exit_code = 2


class DataError(ArenaError):
    """A file or row that is not what its format promises; names file, row number, field and value."""


class ModelError(ArenaError):
    """Weights, adapters or tokenizers that are missing, mismatched, unsafe or broken."""


class ScoreError(ArenaError):
    """Sequences that cannot be scored: the run stops, no verdict is made up. `rows`: the positions of non-finite
    logits among the sequences."""

    rows: tuple[int, ...] = ()


class TrainError(ArenaError):
    """Training that cannot start or must not go on."""


class HarnessError(ArenaError, ValueError):
    """A request from lm-eval that a preference judge cannot answer. A ValueError, as lm-eval's users expect."""
