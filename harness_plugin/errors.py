"""Errors that a user can act on, and the exit codes of `arena-rm`.

Each error says what was found, why it matters, and what to do; `arena-rm` prints it as one line on stderr. This module
imports nothing of the package.
"""

DONE = 0  # or the gate passes
REGRESSION = 1
USAGE = 2
NOT_DONE = 3  # or the gate cannot compare the runs
INCONCLUSIVE = 4  # and the gate is to fail on that, or every prompt got worse
INTERRUPTED = 130  # with Ctrl-C
PIPE_CLOSED = 141  # the program that read stdout has ended


class ArenaError(Exception):
    """The base of all errors that are meant for the user.

    found: what is wrong, with names and values. why: why it matters, or why it cannot work. do: what the user can do
    about it. `str(error)` is one line, ``found; why; do``.
    """

    exit_code = NOT_DONE

    def __init__(self, found: str, why: str = "", do: str = ""):
        self.found, self.why, self.do = found, why, do
        text = "; ".join(part.strip().rstrip(".;") for part in (found, why, do) if part)
        super().__init__(" ".join(text.split()))


class UsageError(ArenaError):
    """An option or argument that is wrong, or that contradicts another one."""

    exit_code = USAGE


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
