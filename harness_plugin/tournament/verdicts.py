"""Battles -> verdicts: each pair judged in both orders, streamed to a journal, continued after a kill, and never judged
again in a folder that has the verdict already. Whoever judges (this process, a cluster), verdicts are kept here."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.journal import Journal, Line, lines_of
from harness_plugin.files.rows import parse_json
from harness_plugin.judges.judge import Done, Judge
from harness_plugin.scoring.identity import parts
from harness_plugin.scoring.judgement import Judgement, sound_rows
from harness_plugin.scoring.judgement_arrays import StoredJudgements
from harness_plugin.tournament.battles import Battles
from harness_plugin.tournament.folder import VERDICTS_FILE
from harness_plugin.tournament.record import EARLIER, PART, Record, Settled, judgement_of

log = logging.getLogger("lm_eval.arena_rm")


@dataclass(frozen=True)
class Judged:
    """Battles with their verdicts, and for each verdict what people said where they judged the battle (`labels_of`),
    else None."""

    battles: Battles
    verdicts: Sequence[Judgement]
    labels: list[float | None]


Enough = Callable[[int, Sequence[Judgement]], bool]
"""Whether the part of this number, with these verdicts, says enough."""


def collect_verdicts(judge: Judge, battles: Battles, folder: Path) -> StoredJudgements:
    """The verdicts, also written to `folder`/VERDICTS_FILE, sorted by the models' names, then by the battle's id.

    Identical answers are not shown to the judge. Verdicts of this judge that an earlier run left in the file are used
    again, by the content of the pair; damaged ones are judged again. The store of scores keeps those that this run has
    no use for. Raises ScoreError as judging does, DataError for verdicts or a journal of another judge or no run's, and
    UsageError for a journal that is in use.
    """
    return collect_until(judge, [battles], lambda number, verdicts: True, folder)[1]


def collect_until(
    judge: Judge,
    growing: Sequence[Battles],
    enough: Enough,
    folder: Path,
    done: Done | None = None,
    file: str = VERDICTS_FILE,
) -> tuple[int, StoredJudgements]:
    """Judges one part of the battles after another until one is enough: (its number, its verdicts).

    Each of the `growing` parts holds the one before it, and the last is all there is. The verdicts are also written to
    `folder`/`file`, and `done(k)` is called as k more battles are judged. The rest is as for `collect_verdicts`.
    """
    out, whole = folder / file, growing[-1]
    keys, journal = whole.pairs.keys(), Journal(out, parts(judge.identity))
    record = Record(keys, (out, journal.part))
    _take_earlier(record, out, judge.hash)  # before the journal is begun: a file that is refused leaves no trace
    with closing(record), journal:
        for place, judgement in sound_rows(journal.records(), str(journal.part)):
            record.add(judgement, PART, place.start)
        _say(record, folder)
        before = 0
        for number, battles in enumerate(growing):
            own = keys if battles is whole else battles.pairs.keys()
            todo = record.missing(battles.pairs, record.slots(own))
            if done and before + len(todo) < len(battles.pairs):
                done(len(battles.pairs) - before - len(todo))
            for judgement in judge.judge(todo, done):
                record.add(judgement, PART, journal.add(judgement.to_row()), of_this_run=True)
            before = len(battles.pairs)
            settled = Settled(record, battles, own, judge)
            if enough(number, verdicts := settled.verdicts()):
                break
        starts = _finish(journal, settled)
    return number, StoredJudgements(verdicts.arrays, verdicts.keys, partial(_read, out, starts))


def _finish(journal: Journal, settled: Settled) -> np.ndarray:
    """Writes the verdicts; returns the byte at which the line of each begins, (n,)."""
    starts = np.zeros(len(settled) + 1, np.int64)

    def lines() -> Iterator[bytes]:
        for k in range(len(settled)):
            line = settled.line(k)
            starts[k + 1] = starts[k] + len(line)
            yield line

    journal.finish_lines(lines())
    return starts[:-1]


def _read(path: Path, starts: np.ndarray, k: int) -> Judgement:
    with open(path, "rb") as file:
        file.seek(int(starts[k]))
        return judgement_of(file.readline())


def _say(record: Record, folder: Path) -> None:
    if continued := record.count(PART):
        log.info("continuing: %d verdicts were given before", continued)
    if again := record.count(EARLIER):
        log.info("%d verdicts of an earlier run in %s are used again", again, folder)


def _take_earlier(record: Record, path: Path, judge: str) -> None:
    """Notes the judgements of a file of verdicts, if it is there; damaged ones are left out, so that they are judged
    again. Raises DataError for a file without a verdict, which a run would replace, and for verdicts of another
    judge."""
    if not path.exists():
        return
    judges = set[str]()
    for place, verdict in sound_rows(_rows(path), str(path)):
        judges.add(verdict.judge)
        if not verdict.identical:
            record.add(verdict, EARLIER, place.start)
    if not judges and path.stat().st_size:
        raise DataError(
            f"{path} holds no verdict",
            "this run would replace the file",
            "move the file away, or choose another -o",
        )
    if others := sorted(judges - {judge}):
        raise DataError(
            f"{path} holds verdicts of another judge ({others[0]}, now it is {judge})",
            "verdicts of two judges cannot be mixed, and this run would replace the file",
            "choose another -o, or delete the file to start afresh",
        )


def _rows(path: Path) -> Iterator[tuple[Line, dict[str, Any]]]:
    """(place, fields) of each line; a line that is no object has no fields. Read here and not by `read_rows`, for which
    an array or a table has rows too: a run writes objects, one per line, and would replace anything else."""
    for place, line in lines_of(path):
        try:
            value = parse_json(line.decode("utf-8"))
        except ValueError:
            value = None
        yield place, value if isinstance(value, dict) else {}
