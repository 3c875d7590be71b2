"""Battles -> verdicts: each pair judged in both orders, streamed to a journal, continued after a kill.

Whoever scores the pairs (this process, lm-eval's filter, a cluster), a verdict is made here.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness_plugin.judge.match import VERDICTS_FILE, Battles
from harness_plugin.outcome import Calibration, davidson
from harness_plugin.pairs import Pair, text_length
from harness_plugin.scoring import Journal, identity_hash, judge_identity, output_row, score_pairs, score_row

log = logging.getLogger("lm_eval.arena_rm")


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
    engine, battles: Battles, folder: Path, done: Callable[[int], None] | None = None, cache=None
) -> tuple[list[dict], str]:
    """`collect_verdicts` of an engine in this process; `cache` as in `score_pairs`."""
    return collect_verdicts(EngineJudge(engine, cache), battles, folder, done)


def collect_verdicts(
    judge, battles: Battles, folder: Path, done: Callable[[int], None] | None = None
) -> tuple[list[dict], str]:
    """(verdicts, the judge's hash): also written to `folder`/verdicts.jsonl, sorted by the models' names, then prompt.

    A verdict is a line of `arena-rm score` with both lengths. Identical answers are not shown to the judge: their score
    is 0 and `identical` is true. `judge`: an `EngineJudge` or what can take its place. `done(k)` is called as k more
    pairs finish. Raises ScoreError as scoring does, DataError for a journal of another judge and UsageError for one
    that is in use.
    """
    identity = judge.identity
    hash = identity_hash(identity)
    with Journal(folder / VERDICTS_FILE, identity) as journal:
        todo = list({p.key: p for p in battles.pairs if p.key not in journal.rows}.values())
        if journal.rows:
            log.info("continuing: %d verdicts were given before", len(journal.rows))
        if done and len(todo) < len(battles.pairs):
            done(len(battles.pairs) - len(todo))
        for row in judge.rows(todo, done):
            journal.add(row)
        verdicts = [verdict(p, journal.rows[p.key], hash) for p in battles.pairs]
        verdicts += [even_verdict(p, judge.calibration, hash) for p in battles.identical]
        verdicts.sort(key=lambda v: (v["model_a"], v["model_b"], v["id"]))
        journal.finish(verdicts)
    return verdicts, hash


def verdict(pair: Pair, row: dict, judge: str) -> dict:
    """A pair's scores (`score_row`) with what the pair knows, both lengths and the judge's hash."""
    lengths = {"length_a": text_length(pair.response_a), "length_b": text_length(pair.response_b)}
    return output_row(pair, row, judge) | lengths


def even_verdict(pair: Pair, calibration: Calibration, judge: str) -> dict:
    """The verdict on a text and itself: what any judge must say of it, once both orders are averaged."""
    return verdict(pair, _even(pair, calibration), judge) | {"identical": True}


def _even(pair: Pair, calibration: Calibration) -> dict:
    a, b, tie = np.exp(davidson([0.0], calibration)[0]).tolist()
    return {
        "key": pair.key, "z_ab": None, "z_ba": None, "score": 0.0, "position_bias": None, "p_a": a, "p_b": b,
        "p_tie": tie, "tokens": 0, "truncated": False,
    }  # fmt: skip
