"""Battles -> verdicts: each pair judged in both orders, streamed to a journal, continued after a kill, and never judged
again in a folder that has the verdict already. Whoever judges (this process, a cluster), verdicts are kept here."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.journal import Journal
from harness_plugin.files.rows import parse_json
from harness_plugin.judges.judge import Done, Judge, judgements_in
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import parts
from harness_plugin.scoring.judgement import Judgement, judged_identical, sound_judgements
from harness_plugin.tournament.battles import Battles
from harness_plugin.tournament.folder import VERDICTS_FILE

log = logging.getLogger("lm_eval.arena_rm")


@dataclass(frozen=True)
class Judged:
    """Battles with their verdicts, and for each verdict what people said where they judged the battle (`labels_of`),
    else None."""

    battles: Battles
    verdicts: list[Judgement]
    labels: list[float | None]


Enough = Callable[[int, list[Judgement]], bool]
"""Whether the part of this number, with these verdicts, says enough."""


def collect_verdicts(
    judge: Judge, battles: Battles, folder: Path, done: Done | None = None, file: str = VERDICTS_FILE
) -> list[Judgement]:
    """The verdicts, also written to `folder`/`file`, sorted by the models' names, then by the battle's id.

    Identical answers are not shown to the judge. Verdicts of this judge that an earlier run left in the file are used
    again, by the content of the pair; damaged ones are judged again. The store of scores keeps those that this run has
    no use for. `done(k)` is called as k more battles are judged. Raises ScoreError as judging does, DataError for
    verdicts or a journal of another judge or no run's, and UsageError for a journal that is in use.
    """
    return collect_until(judge, [battles], lambda number, verdicts: True, folder, done, file)[1]


def collect_until(
    judge: Judge,
    growing: Sequence[Battles],
    enough: Enough,
    folder: Path,
    done: Done | None = None,
    file: str = VERDICTS_FILE,
) -> tuple[int, list[Judgement]]:
    """Judges one part of the battles after another until one is enough: (its number, its verdicts).

    Each of the `growing` parts holds the one before it, and the last is all there is. The rest is as for
    `collect_verdicts`.
    """
    out = folder / file
    earlier = _earlier(out, judge.hash)
    with Journal(out, parts(judge.identity)) as journal:
        continued = judgements_in(journal)
        judgements = earlier | continued
        _say(growing[-1].pairs, continued, earlier, folder)
        before = 0
        for number, battles in enumerate(growing):
            todo = list({p.key: p for p in battles.pairs if p.key not in judgements}.values())
            todo.sort(key=lambda p: (p.prompt_key, p.model_a, p.model_b))  # the engine reads what neighbours share once
            if done and before + len(todo) < len(battles.pairs):
                done(len(battles.pairs) - before - len(todo))
            for judgement in judge.judge(todo, done):
                judgements[judgement.key] = judgement
                journal.add(judgement.to_row())
            before = len(battles.pairs)
            verdicts = _verdicts(judge, battles, judgements)
            if enough(number, verdicts):
                break
        journal.finish(verdict.to_row() for verdict in verdicts)
    return number, verdicts


def _verdicts(judge: Judge, battles: Battles, judgements: dict[str, Judgement]) -> list[Judgement]:
    """One verdict for each battle, sorted by the models' names, then by the battle's id."""
    verdicts = [judgements[p.key].of_pair(p) for p in battles.pairs]
    verdicts += [judged_identical(p, judge.calibration, judge.hash) for p in battles.identical]
    return sorted(verdicts, key=lambda v: (v.model_a, v.model_b, v.id))


def _say(pairs: list[Pair], continued: dict, earlier: dict, folder: Path) -> None:
    if continued:
        log.info("continuing: %d verdicts were given before", len(continued))
    again = len({p.key for p in pairs} & (earlier.keys() - continued.keys()))
    if again:
        log.info("%d verdicts of an earlier run in %s are used again", again, folder)


def _earlier(path: Path, judge: str) -> dict[str, Judgement]:
    """The judgements of a file of verdicts, if it is there, by the content of the pairs; damaged ones are left out, so
    that they are judged again. Raises DataError for a file without a verdict, which a run would replace, and for
    verdicts of another judge."""
    if not path.exists():
        return {}
    verdicts = list(sound_judgements(_rows(path), str(path)))
    if not verdicts and path.stat().st_size:
        raise DataError(
            f"{path} holds no verdict",
            "this run would replace the file",
            "move the file away, or choose another -o",
        )
    others = sorted({v.judge for v in verdicts} - {judge})
    if others:
        raise DataError(
            f"{path} holds verdicts of another judge ({others[0]}, now it is {judge})",
            "verdicts of two judges cannot be mixed, and this run would replace the file",
            "choose another -o, or delete the file to start afresh",
        )
    return {v.key: v for v in verdicts if not v.identical}


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, fields) of each line; a line that is no object has no fields. Read here and not by `read_rows`, for which
    an array or a table has rows too: a run writes objects, one per line, and would replace anything else."""
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                value = parse_json(line.decode("utf-8"))
            except ValueError:
                value = None
            yield f"line {number}", value if isinstance(value, dict) else {}
