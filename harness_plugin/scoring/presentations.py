"""Pairs -> logits in one or both orders -> scored records; the join of prompt, engine and outcome.

`lm`, the CLI and the judge all score through `score_pairs`. Records stream to a file as they come and a killed run
continues where it stopped; with a cache, what was ever scored is not scored again. Knows no harness and no report.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from harness_plugin.errors import ScoreError, UsageError
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.prompt import Rendered
from harness_plugin.scoring.outcome import Outcomes, combine
from harness_plugin.scoring.store import ScoreCache

ORDERS = ("ab", "both")
FIELDS = ("prompt", "response_a", "response_b")
COMPUTES = ("torch", "transformers", "peft")
NAMES = {"_name_or_path", "base_model_name_or_path", "revision", "transformers_version", "peft_version"}
CHUNK = 128  # pairs scored together, whose shared beginnings are computed once: what a killed run can lose
GPU_CHUNKS = 32  # so many of them at once on a GPU, where a chunk would take no second
AHEAD = 8  # chunks held at most while looking for one that is not scored yet

Views = list[tuple[bytes, Rendered]]  # a pair's presentations, each with the digest of its ids


@dataclass(frozen=True)
class Scored:
    """One pair's logits. `z_ab`, `z_ba`: tuples of num_labels logits (`z_ba` None with one order); `tokens` and
    `truncated` are over the presentations scored; `kept` maps a field to (kept, original) tokens, A first."""

    pair: Pair
    z_ab: tuple[float, ...]
    z_ba: tuple[float, ...] | None
    tokens: int
    truncated: bool
    kept: dict[str, tuple[int, int]]


class _Tally:
    """Presentations done, which are fractions of a pair, told onwards as whole pairs."""

    def __init__(self, done: Callable[[int], None]):
        self.done, self.rest = done, 0.0

    def add(self, share: float) -> None:
        self.rest += share
        whole = int(self.rest + 1e-6)
        if whole:
            self.rest -= whole
            self.done(whole)


def score_pairs(
    engine,
    renderer,
    pairs: list[Pair],
    order: str = "both",
    done: Callable[[int], None] | None = None,
    cache: ScoreCache | None = None,
) -> Iterator[Scored]:
    """Scores in input order. `order`: "both" presents each pair twice, "ab" as it stands. Identical presentations are
    scored once. `done(k)` is called as k more pairs finish. `cache`, bound to this judge (`logit_identity`), gives the
    scores it has and is given the others. Raises ScoreError naming pairs with non-finite logits."""
    if order not in ORDERS:
        raise UsageError(f"order={order!r}", "no such order", f"use one of {', '.join(ORDERS)}")
    tally = _Tally(done or (lambda k: None))
    known: dict[bytes, tuple[float, ...]] = {}  # by a digest of the ids, which would be far larger
    chunk = CHUNK * (GPU_CHUNKS if engine.model.device.type == "cuda" else 1)
    for part, views in _parts(renderer, pairs, order == "both", known, cache, chunk):
        _score_new(engine, part, views, known, tally, cache)
        for pair, shown in zip(part, views, strict=True):
            logits = [known[digest] for digest, _ in shown]
            first = shown[0][1]
            yield Scored(
                pair,
                logits[0],
                logits[1] if len(logits) > 1 else None,
                sum(len(v.ids) for _, v in shown),
                any(v.truncated for _, v in shown),
                {f: (getattr(first, f).kept, getattr(first, f).original) for f in FIELDS},
            )


def _parts(renderer, pairs, both, known, cache, chunk: int) -> Iterator[tuple[list[Pair], list[Views]]]:
    """Pairs with their presentations, in input order: so many at a time that about `chunk` of them need the engine,
    since few would fill its batches badly. Adds to `known` what the cache has."""
    part: list[Pair] = []
    views: list[Views] = []
    new = 0
    for start in range(0, len(pairs), chunk):
        more = pairs[start : start + chunk]
        shown = [[(_digest(v.ids), v) for v in renderer.render_orders(p, both=both)] for p in more]
        if cache:
            known.update(cache.get(list({d: None for pair in shown for d, _ in pair if d not in known})))
        part, views = part + more, views + shown
        new += sum(any(d not in known for d, _ in pair) for pair in shown)
        if new >= chunk or len(part) >= AHEAD * chunk:
            yield part, views
            part, views, new = [], [], 0
    if part:
        yield part, views


def _digest(ids: tuple[int, ...]) -> bytes:
    return hashlib.sha256(array("q", ids).tobytes()).digest()


def _score_new(engine, part, views, known, tally, cache) -> None:
    """Adds the logits of the presentations that are not known yet; names the pairs where they are not finite."""
    fresh = {digest: v.ids for shown in views for digest, v in shown if digest not in known}
    if not fresh:
        tally.add(len(part))
        return
    share = len(part) / len(fresh)
    try:
        z = engine.logits(list(fresh.values()), lambda k: tally.add(k * share))
    except ScoreError as e:
        digests = list(fresh)
        bad = {digests[i] for i in e.rows}
        names = [p.id for p, shown in zip(part, views, strict=True) if any(digest in bad for digest, _ in shown)]
        if not names:
            raise
        more = f" and {len(names) - 5} more" if names[5:] else ""
        raise ScoreError(f"{e.found}: pairs {', '.join(names[:5])}{more}", e.why, e.do) from e
    scores = dict(zip(fresh, (tuple(map(float, row)) for row in z), strict=True))
    known.update(scores)
    if cache:
        cache.put(scores)


def outcomes_of(scored: list[Scored], calibration: Calibration) -> Outcomes:
    """Outcomes of records that were all scored in the same orders."""
    first = np.array([r.z_ab for r in scored])
    second = None if scored[0].z_ba is None else np.array([r.z_ba for r in scored])
    return combine(first, second, calibration)


def score_row(scored: Scored, calibration: Calibration) -> dict:
    """What scoring says of a pair's texts, JSON-able. One logit: `z_ab` and `z_ba` are numbers; three: lists in the
    order A, B, tie. `key` is the content id of the texts."""
    o = outcomes_of([scored], calibration)
    return {
        "key": scored.pair.key,
        "z_ab": _plain(scored.z_ab),
        "z_ba": scored.z_ba and _plain(scored.z_ba),
        "score": float(o.s[0]),
        "position_bias": None if scored.z_ba is None else float(o.bias[0]),
        "p_a": float(o.p[0, 0]),
        "p_b": float(o.p[0, 1]),
        "p_tie": float(o.p[0, 2]),
        "tokens": scored.tokens,
        "truncated": scored.truncated,
        "kept": {k: list(v) for k, v in scored.kept.items()},
    }


SCORE_FIELDS = ("key", "z_ab", "z_ba", "score", "position_bias", "p_a", "p_b", "p_tie", "tokens", "truncated", "kept")
"""What `score_row` gives; a line of a score file has more."""


def _plain(logits: tuple[float, ...]) -> float | list[float]:
    return logits[0] if len(logits) == 1 else list(logits)


def output_row(pair: Pair, row: dict, judge: str) -> dict:
    """The line of one pair in a score file: its id, the scores of its texts, what the input knew, and `judge`, a short
    hash of everything that decides a score."""
    known = {
        "winner": pair.winner and pair.winner.value,
        "category": pair.category,
        "model_a": pair.model_a,
        "model_b": pair.model_b,
        "prompt_key": pair.prompt_key,
    }
    return {"id": pair.id, **row, **{k: v for k, v in known.items() if v is not None}, "judge": judge}
