"""Battles -> verdicts: each pair judged in both orders, streamed to a journal, continued after a kill.

Whoever scores the pairs (this process, lm-eval's filter, a cluster), a verdict is made here.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from harness_plugin.judge.match import VERDICTS_FILE, Battles
from harness_plugin.outcome import Calibration, davidson
from harness_plugin.pairs import Pair, text_length
from harness_plugin.scoring import Journal, identity_hash, judge_identity, output_row, score_pairs, score_row

log = logging.getLogger("lm_eval.arena_rm")


def judge_battles(
    engine, battles: Battles, folder: Path, done: Callable[[int], None] | None = None, cache=None
) -> tuple[list[dict], str]:
    """(verdicts, the judge's hash): also written to `folder`/verdicts.jsonl, sorted by the models' names, then prompt.

    A verdict is a line of `arena-rm score` with both lengths. Identical answers are not shown to the judge: their score
    is 0 and `identical` is true. `done(k)` is called as k more pairs finish; `cache` as in `score_pairs`. Raises
    ScoreError as scoring does, DataError for a journal of another judge and UsageError for one that is in use.
    """
    model = engine.model
    identity = judge_identity(model, "both")
    judge = identity_hash(identity)
    with Journal(folder / VERDICTS_FILE, identity) as journal:
        todo = list({p.key: p for p in battles.pairs if p.key not in journal.rows}.values())
        if journal.rows:
            log.info("continuing: %d verdicts were given before", len(journal.rows))
        if done and len(todo) < len(battles.pairs):
            done(len(battles.pairs) - len(todo))
        for scored in score_pairs(engine, model.renderer, todo, "both", done, cache):
            journal.add(score_row(scored, model.calibration))
        verdicts = all_verdicts(battles, journal.rows, model.calibration, judge)
        journal.finish(verdicts)
    return verdicts, judge


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
    a, b, tie = np.exp(davidson([0.0], calibration)[0]).tolist()
    return {
        "key": pair.key, "z_ab": None, "z_ba": None, "score": 0.0, "position_bias": None, "p_a": a, "p_b": b,
        "p_tie": tie, "tokens": 0, "truncated": False,
    }  # fmt: skip
