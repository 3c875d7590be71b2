"""What a judge is to the rest: whatever says of pairs which response people would prefer."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from harness_plugin.errors import ScoreError
from harness_plugin.files.journal import Journal
from harness_plugin.files.printable import listed
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.scoring.judgement import Judgement, sound_judgements

log = logging.getLogger("lm_eval.arena_rm")

NAMED = 5  # pairs in an error

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


def judged_where_possible(
    name: str, judge: Judge, pairs: Sequence[Pair], done: Done | None = None
) -> Iterator[Judgement]:
    """The judgements of the distinct pairs that the judge can judge. Those that it cannot are named on the log under
    its name, and the others are judged without them. Raises its ScoreError where the fault is not in some of the
    pairs."""
    waiting = {pair.key: pair for pair in pairs}
    while waiting:
        try:
            for judgement in judge.judge(list(waiting.values()), done):
                waiting.pop(judgement.key, None)
                yield judgement
            return
        except ScoreError as e:
            unjudged = [key for key in e.unjudged if waiting.pop(key, None) is not None]
            if not unjudged:
                raise
            log.warning("arena_rm: %s cannot judge %d of the pairs (%s)", name, len(unjudged), e)


def unjudged(pairs: Sequence[Pair], why: str) -> ScoreError:
    """The error for pairs that are left without a judgement while others have theirs."""
    error = ScoreError(
        f"no judgement of pairs {listed([pair.id for pair in pairs], NAMED)}",
        why,
        "leave these pairs out, or repeat the command where the judge can answer another time",
    )
    error.unjudged = tuple(pair.key for pair in pairs)
    return error


def judgements_in(journal: Journal) -> dict[str, Judgement]:
    """What an earlier run into the journal's file has judged, by the keys of the texts. Rows that are damaged are left
    out, so that they are judged again."""
    return {judgement.key: judgement for judgement in sound_judgements(journal.records(), str(journal.part))}
