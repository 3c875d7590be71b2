"""Battles -> verdicts: each pair judged in both orders, streamed to a journal, continued after a kill, and never judged
again in a folder that has the verdict already. Whoever scores the pairs (this process, lm-eval's filter, a cluster), a
verdict is made here."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files import atomic_write
from harness_plugin.files.journal import Journal
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, text_length
from harness_plugin.scoring.identity import identity_hash, judge_identity
from harness_plugin.scoring.outcome import log_probabilities
from harness_plugin.scoring.presentations import SCORE_FIELDS, output_row, score_pairs, score_row
from harness_plugin.tournament.match import Battles

log = logging.getLogger("lm_eval.arena_rm")

VERDICTS_FILE, RED_TEAM_FILE = "verdicts.jsonl", "red_team.jsonl"


@dataclass(frozen=True)
class Judged:
    """Battles with their verdicts, and for each verdict what people said where they judged the battle (`known_labels`),
    else None."""

    battles: Battles
    verdicts: list[dict]
    labels: list[float | None]


@dataclass(frozen=True)
class EngineJudge:
    """An engine that judges pairs in both orders; `cache`: as in `score_pairs`. Whatever has `identity`
    (`scoring.judge_identity`), `calibration` and `rows` can take its place, as a cluster does."""

    engine: Any
    cache: Any = None

    @property
    def identity(self) -> dict:
        return judge_identity(self.engine.model, "both")

    @property
    def calibration(self) -> Calibration:
        return self.engine.model.calibration

    def rows(self, pairs: list[Pair], done: Callable[[int], None] | None = None) -> Iterator[dict]:
        """`score_row` of each pair, in any order. `done(k)` is called as k more pairs finish."""
        scored = score_pairs(self.engine, self.engine.model.renderer, pairs, "both", done, self.cache)
        return (score_row(s, self.calibration) for s in scored)


def judge_battles(
    engine,
    battles: Battles,
    folder: Path,
    done: Callable[[int], None] | None = None,
    cache=None,
    file: str = VERDICTS_FILE,
) -> tuple[list[dict], str]:
    """`collect_verdicts` of an engine in this process; `cache` as in `score_pairs`."""
    return collect_verdicts(EngineJudge(engine, cache), battles, folder, done, file)


def collect_verdicts(
    judge, battles: Battles, folder: Path, done: Callable[[int], None] | None = None, file: str = VERDICTS_FILE
) -> tuple[list[dict], str]:
    """(verdicts, the judge's hash): also written to `folder`/`file`, sorted by the models' names, then prompt.

    A verdict is a line of `arena-rm score` with both lengths. Identical answers are not shown to the judge: their score
    is 0 and `identical` is true. `judge`: an `EngineJudge` or what can take its place. Verdicts of this judge that an
    earlier run left there are used again, by the content of the pair; those that this run has no use for are kept
    beside the file, as `.spare`. `done(k)` is called as k more pairs finish. Raises ScoreError as scoring does,
    DataError for verdicts or a journal of another judge and UsageError for a journal that is in use.
    """
    out, identity = folder / file, judge.identity
    owner = identity_hash(identity)
    spare = out.with_suffix(".spare" + out.suffix)
    aside, earlier = _earlier(spare, owner), _earlier(out, owner)
    with Journal(out, identity) as journal:
        known = aside | earlier | journal.rows
        todo = list({p.key: p for p in battles.pairs if p.key not in known}.values())
        todo.sort(key=lambda p: (p.prompt_key, p.model_a, p.model_b))  # the engine reads what neighbours share once
        _say(battles.pairs, journal.rows, earlier | aside, folder)
        if done and len(todo) < len(battles.pairs):
            done(len(battles.pairs) - len(todo))
        for row in judge.rows(todo, done):
            known[row["key"]] = row
            journal.add(row)
        verdicts = all_verdicts(battles, known, judge.calibration, owner)
        unused = {key: known[key] for key in known.keys() - {v["key"] for v in verdicts}}
        _keep(spare, aside | unused, owner)  # a kill from here on finds each verdict in one file or the other
        journal.finish(verdicts)
        _keep(spare, unused, owner)
    return verdicts, owner


def _say(pairs: list[Pair], journal: dict, earlier: dict, folder: Path) -> None:
    if journal:
        log.info("continuing: %d verdicts were given before", len(journal))
    again = len({p.key for p in pairs} & (earlier.keys() - journal.keys()))
    if again:
        log.info("%d verdicts of an earlier run in %s are used again", again, folder)


def _earlier(path: Path, judge: str) -> dict[str, dict]:
    """Scores by the pairs' content from a file of verdicts, if it is there. Raises DataError for another judge's, which
    a run would replace, and for lines that are none."""
    found = {}
    if not path.exists():
        return found
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                owner, even = row["judge"], row.get("identical", False)
                scores = None if even else {name: row[name] for name in SCORE_FIELDS}
            except (ValueError, KeyError, TypeError, AttributeError) as e:
                raise DataError(
                    f"{path} line {number} is no verdict of arena-rm",
                    "it would be replaced",
                    "move the file away, or choose another -o",
                ) from e
            if owner != judge:
                raise DataError(
                    f"{path} holds verdicts of another judge ({owner}, now it is {judge})",
                    "they cannot be mixed, and would be replaced",
                    "choose another -o, or delete them to start afresh",
                )
            if scores:
                found[scores["key"]] = scores
    return found


def _keep(spare: Path, rows: dict[str, dict], judge: str) -> None:
    if rows:
        with atomic_write(spare) as out:
            out.writelines(json.dumps(rows[key] | {"judge": judge}, ensure_ascii=False) + "\n" for key in sorted(rows))
    else:
        spare.unlink(missing_ok=True)


def all_verdicts(battles: Battles, rows: Mapping[str, dict], calibration: Calibration, judge: str) -> list[dict]:
    """The lines of verdicts.jsonl, sorted. `rows`: the scores of the battles' texts by the pairs' keys."""
    verdicts = [verdict(p, rows[p.key], judge) for p in battles.pairs]
    verdicts += [even_verdict(p, calibration, judge) for p in battles.identical]
    return sorted(verdicts, key=lambda v: (v["model_a"], v["model_b"], v["id"]))


def verdict(pair: Pair, row: dict, judge: str) -> dict:
    """A pair's scores (`score_row`) with what the pair knows, both lengths and the judge's hash."""
    lengths = {"length_a": text_length(pair.response_a), "length_b": text_length(pair.response_b)}
    return output_row(pair, row, judge) | lengths


def even_verdict(pair: Pair, calibration: Calibration, judge: str) -> dict:
    """The verdict on a text and itself: what any judge must say of it, once both orders are averaged."""
    return verdict(pair, _even(pair, calibration), judge) | {"identical": True}


def _even(pair: Pair, calibration: Calibration) -> dict:
    a, b, tie = np.exp(log_probabilities([0.0], calibration)[0]).tolist()
    return {
        "key": pair.key,
        "z_ab": None,
        "z_ba": None,
        "score": 0.0,
        "position_bias": None,
        "p_a": a,
        "p_b": b,
        "p_tie": tie,
        "tokens": 0,
        "truncated": False,
    }
