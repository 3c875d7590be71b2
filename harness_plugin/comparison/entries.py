"""The judgements of each judge of a comparison: judged now, and kept for the next time, or read from where they are
stored."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness_plugin.comparison.named import Named
from harness_plugin.errors import DataError
from harness_plugin.files.checked import remedy
from harness_plugin.files.journal import Journal
from harness_plugin.files.rows import read_object, whole_rows
from harness_plugin.files.writing import atomic_write
from harness_plugin.gate.readers.lm_eval_files import RESULTS
from harness_plugin.gate.readers.lm_eval_results import read_pair_judgements
from harness_plugin.judges.judge import Judge, judged_where_possible, judgements_in
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import parts
from harness_plugin.scoring.judgement import Judgement, read_judgements, sound_judgements
from harness_plugin.scoring.store import ScoreCache

ORDERS = {"both": 2, "ab": 1, "ba": 1}  # presentations of a pair


@dataclass(frozen=True)
class Timing:
    """How long judging took: `seconds` for `pairs` pairs, 0 where nothing was timed."""

    seconds: float = 0.0
    pairs: int = 0


@dataclass(frozen=True)
class Entry:
    """One judge of a comparison. `label`: its name in the results; `source`: "judged", or where its judgements are
    stored; `identity`: what is known of who judged; `judgements`: by the key of the pair; `timing`: of what was
    judged here; `readers`: how many judges have read a pair, of one that is made of others."""

    label: str
    source: str
    identity: Mapping[str, Any]
    judgements: Mapping[str, Judgement]
    timing: Timing = field(default_factory=Timing)
    readers: Callable[[Judgement], int] = lambda judgement: 1

    def of(self, pair: Pair) -> Judgement | None:
        """The judgement of a pair under the pair's name, also where it was judged with its sides exchanged; None where
        it was not judged."""
        judgement = self.judgements.get(pair.key)
        if judgement is None:
            other = self.judgements.get(pair.swap().key)
            judgement = other and other.swapped()
        return judgement and judgement.of_pair(pair)


def stored_entry(named: Named) -> Entry:
    """The judgements that are stored at a place: a file of `arena-rm score` or verdicts of `arena-rm judge`, or
    lm-eval's results or samples of a task of pairs. Rows from which a judge abstained are no judgements. Raises
    DataError for anything else, and for a file of several judges."""
    place = named.place
    if place is None:
        raise ValueError(f"{named.label} is to be opened, not read")
    if not place.exists():
        raise DataError(f"{place} is not there", "there is nothing to compare", "check the path")
    if place.is_dir() or place.name.startswith("samples_") or RESULTS.fullmatch(place.name):
        results, judgements, _ = read_pair_judgements(place, named.task)
        identity = {"model": results.content.get("model_name"), "task": results.task}
        return Entry(named.label, str(results.samples), identity, {j.key: j for j in judgements})
    judgements = _scores(place)
    if not judgements:
        raise DataError(f"{place} has no verdict", "the judge abstained from every pair", "name another file")
    return Entry(named.label, str(place), {"hash": judgements[0].judge}, {j.key: j for j in judgements})


def _scores(place: Path) -> list[Judgement]:
    rows = whole_rows(place)
    where, first = next(rows, ("", {}))
    if "z_ab" not in first or "p_a" not in first:
        raise DataError(
            f"{where or place} is not a row of scores",
            "a judge to compare is a judge's name, a file of `arena-rm score`, or lm-eval's samples of arena_pairs",
            "name one of these",
        )
    with remedy("score the pairs again"):
        judgements = [j for j in read_judgements(whole_rows(place)) if not j.abstained]
    for what, values in (("judges", {j.judge for j in judgements}), ("orders", {j.orders for j in judgements})):
        if len(values) > 1:
            raise DataError(
                f"{place} mixes {what} ({', '.join(sorted(values)[:3])})",
                "a column of the comparison is one judge in the same orders",
                "score the file in one run",
            )
    return judgements


def judged_entry(
    label: str, judge: Judge, pairs: Sequence[Pair], folder: Path, done: Callable[[int], Any] | None = None
) -> Entry:
    """Has the judge judge the pairs that are not in its file in `folder` yet, and keeps them there. The file is one of
    `arena-rm score`; its name ends in the judge's hash, so that other settings have a file of their own.

    Pairs that it cannot judge stay without a judgement, and the next call asks for them again. Raises as the judge
    does; what it judged before stays, and the next call continues."""
    out = folder / f"{_file_name(label)}-{judge.hash[:8]}.jsonl"
    kept = _kept(out)
    wanted = list({pair.key: pair for pair in pairs}.values())
    timing = _Clock(out.with_suffix(".time.json"))
    with Journal(out, parts(judge.identity)) as journal:
        kept |= judgements_in(journal)
        todo = [pair for pair in wanted if pair.key not in kept]
        if done and len(todo) < len(wanted):
            done(len(wanted) - len(todo))
        with timing.running(getattr(judge, "store", None)) as count:
            for judgement in judged_where_possible(label, judge, todo, done):
                kept[judgement.key] = judgement
                journal.add(judgement.to_row())
                count()
        named = [kept[pair.key].of_pair(pair) for pair in wanted if pair.key in kept]
        others = kept.keys() - {pair.key for pair in wanted}
        journal.finish(j.to_row() for j in (*named, *(kept[key] for key in sorted(others))))
    return Entry(label, "judged", {"hash": judge.hash, **judge.identity}, kept, timing.total)


def _kept(out: Path) -> dict[str, Judgement]:
    """What an earlier call left, by key; damaged rows are left out."""
    if not out.exists():
        return {}
    return {j.key: j for j in sound_judgements(whole_rows(out), str(out))}


def _file_name(label: str) -> str:
    """A label as the beginning of a file's name."""
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in label)[-60:].lstrip(".") or "judge"


class _Clock:
    """Adds up how long a judge took, over several runs of a command; kept in a file beside the judgements."""

    def __init__(self, file: Path):
        self.file, self.total = file, Timing()
        with suppress(DataError, KeyError, TypeError, ValueError):  # a damaged file costs a measurement, nothing else
            if file.exists():
                row = read_object(file)
                self.total = Timing(float(row["seconds"]), int(row["pairs"]))

    @contextmanager
    def running(self, store: ScoreCache | None) -> Iterator[Callable[[], None]]:
        """Within the block, time passes; the function that it yields counts one pair. Of pairs whose scores come from
        the judge's store, which takes no time, nothing is known: only the share of the others counts."""
        pairs, start, known = 0, time.perf_counter(), _presentations(store)

        def count() -> None:
            nonlocal pairs
            pairs += 1

        try:
            yield count
        finally:
            hits, misses = (now - then for now, then in zip(_presentations(store), known, strict=True))
            pairs = round(pairs * misses / (hits + misses)) if hits else pairs
            if pairs:
                seconds = self.total.seconds + time.perf_counter() - start
                self.total = Timing(round(seconds, 3), self.total.pairs + pairs)  # as the file has it
                with atomic_write(self.file) as out:
                    json.dump(vars(self.total), out)


def _presentations(store: ScoreCache | None) -> tuple[int, int]:
    """How many presentations a store had, and how many it had not."""
    return (0, 0) if store is None else (store.hits, store.misses)
