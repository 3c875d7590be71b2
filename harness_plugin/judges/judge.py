"""What a judge is to the rest: whatever says of pairs which response people would prefer."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from harness_plugin.files.journal import Journal
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.scoring.judgement import Judgement, sound_judgements

Done = Callable[[int], Any]
"""Called with k as k more pairs are judged."""


class Judge(Protocol):
    """What `tournament`, the command line and the tasks ask for verdicts.

    `identity`: everything that decides a judgement, JSON-able (`scoring.identity` says what counts); `hash`: a short
    hash of it, which every judgement carries; `calibration`: what turns the logits into probabilities; `limit`: what
    longer texts are cut to, in words.
    """

    @property
    def identity(self) -> dict[str, Any]: ...

    @property
    def hash(self) -> str: ...

    @property
    def calibration(self) -> Calibration: ...

    @property
    def limit(self) -> str: ...

    def judge(self, pairs: Sequence[Pair], done: Done | None = None) -> Iterator[Judgement]:
        """A judgement of each pair, in any order: `Judgement.key` says of which texts. Raises ScoreError where a pair
        cannot be judged."""
        ...


class OpenJudge(Judge, Protocol):
    """A judge as `open_judge` gives it: a context manager, which closes what was opened for the judge."""

    def __enter__(self) -> "OpenJudge": ...

    def __exit__(self, *exc: object) -> None: ...


def judgements_in(journal: Journal) -> dict[str, Judgement]:
    """What an earlier run into the journal's file has judged, by the keys of the texts. Rows that are damaged are left
    out, so that they are judged again."""
    rows = ((f"{journal.part}, the record {key}", row) for key, row in journal.rows.items())
    return {judgement.key: judgement for judgement in sound_judgements(rows, str(journal.part))}
