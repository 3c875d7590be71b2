"""Errors that a user can act on. Each says what was found, why it matters, and what to do.

`arena-rm` prints an error as one line on stderr and exits with its code: 2 for wrong usage, 3 for work that could not
be done. (The other codes are 0 done, 1 regression, 4 inconclusive.) This module imports nothing of the package.
"""


class ArenaError(Exception):
    """The base of all errors that are meant for the user.

    found: what is wrong, with names and values. why: why it matters, or why it cannot work. do: what the user can do
    about it. `str(error)` is one line, ``found; why; do``.
    """

    exit_code = 3

    def __init__(self, found: str, why: str = "", do: str = ""):
        self.found, self.why, self.do = found, why, do
        text = "; ".join(part.strip().rstrip(".;") for part in (found, why, do) if part)
        super().__init__(" ".join(text.split()))


class UsageError(ArenaError):
    """An option or argument that is wrong, or that contradicts another one."""

    exit_code = 2


class DataError(ArenaError):
    """A file or a row that does not follow its format; the error names the file, the row, the field and the value."""


class ModelError(ArenaError):
    """Weights, adapters or tokenizers that are missing, unsafe or damaged, or that do not fit together."""


class ScoreError(ArenaError):
    """Sequences that cannot be scored. The run stops and gives no verdict for them.

    `rows`: the positions of the sequences whose logits are not finite. `unjudged`: the keys of the pairs that the judge
    cannot judge, where the fault is in these pairs and others can be judged.
    """

    rows: tuple[int, ...] = ()
    unjudged: tuple[str, ...] = ()


class TrainError(ArenaError):
    """Training that cannot start or cannot go on."""


class HarnessError(ArenaError, ValueError):
    """A request of lm-eval that a preference judge cannot answer. It is a ValueError too, as lm-eval expects."""
