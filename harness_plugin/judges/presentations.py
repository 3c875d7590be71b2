"""Pairs -> logits: each pair rendered, each distinct presentation among the neighbours of a pair scored once.

The join of prompt, engine and store. A judge of pairs is shown a pair in one or both orders; a pointwise reward model
is shown each answer. What follows from the logits is a matter of `scoring`.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from harness_plugin.errors import DataError, ScoreError, UsageError
from harness_plugin.files.printable import listed
from harness_plugin.judges.judge import NAMED
from harness_plugin.pairs import Pair
from harness_plugin.prompt import Rendered, RenderedAnswer
from harness_plugin.scoring.store import ScoreCache

ORDERS = ("ab", "both")
FIELDS = ("prompt", "response_a", "response_b")
CHUNK = 128  # pairs scored together, whose shared beginnings are computed once: what a killed run can lose
GPU_CHUNKS = 32  # so many of them at once on a GPU, where a chunk would take no second
AHEAD = 8  # chunks held at most while looking for one that is not scored yet
REMEMBERED = 1 << 18  # presentations whose logits are kept in memory for the pairs to come: about 60 MB

Views = list[tuple[bytes, Any]]  # a pair's presentations, each with the digest of its ids
Render = Callable[[Pair], Sequence[Rendered] | Sequence[RenderedAnswer]]
Logits = tuple[float, ...]
Made = TypeVar("Made")


@dataclass(frozen=True)
class ScoredPart:
    """Neighbouring pairs with their logits: n tuples of one or three for each order, `z_ba` None with one order;
    `reading`: what was read of each pair, as the fields `tokens`, `truncated` and `kept` of a `Judgement`, and `r_a`
    and `r_b` where each answer has a logit of its own."""

    pairs: Sequence[Pair]
    z_ab: list[Logits]
    z_ba: list[Logits] | None
    reading: list[dict[str, Any]]


def check_order(order: str) -> str:
    """The order, if it is one of `ORDERS`. Raises UsageError."""
    if order not in ORDERS:
        raise UsageError(f"order={order!r}", "there is no such order", f"use one of {', '.join(ORDERS)}")
    return order


class _Tally:
    """Counts presentations that are done, which are fractions of a pair, and reports whole pairs."""

    def __init__(self, done: Callable[[int], Any]):
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
    pairs: Sequence[Pair],
    order: str = "both",
    done: Callable[[int], Any] | None = None,
    store: ScoreCache | None = None,
) -> Iterator[ScoredPart]:
    """Logits of the pairs, part by part in input order.

    `order`: "both" presents each pair twice, "ab" only as it stands. Presentations with the same token ids are scored
    once. `done(k)` is called as k more pairs finish. `store`, bound to this judge, gives the scores that it has and
    takes the new ones. Raises ScoreError that names the pairs whose logits are not finite.
    """
    both = check_order(order) == "both"
    for part, views, logits in _scored(engine, lambda p: renderer.render_orders(p, both=both), pairs, done, store):
        yield ScoredPart(
            part,
            [logits[shown[0][0]] for shown in views],
            [logits[shown[1][0]] for shown in views] if both else None,
            [reading_of_views([view for _, view in shown]) for shown in views],
        )


def score_answers(
    engine,
    renderer,
    pairs: Sequence[Pair],
    order: str = "both",
    done: Callable[[int], Any] | None = None,
    store: ScoreCache | None = None,
) -> Iterator[ScoredPart]:
    """As `score_pairs`, of a pointwise reward model: each answer to a prompt is scored once, however many opponents it
    has. The logit of a pair is r(B) - r(A), and in the other order its negative."""
    both = check_order(order) == "both"
    for part, views, logits in _scored(engine, naming_pairs(renderer.render_answers), pairs, done, store):
        rewards = [(logits[a][0], logits[b][0]) for (a, _), (b, _) in views]
        yield ScoredPart(
            part,
            [(r_b - r_a,) for r_a, r_b in rewards],
            [(r_a - r_b,) for r_a, r_b in rewards] if both else None,
            [
                reading_of_answers(a, b) | {"r_a": r_a, "r_b": r_b}
                for ((_, a), (_, b)), (r_a, r_b) in zip(views, rewards, strict=True)
            ],
        )


def naming_pairs(render: Callable[[Pair], Made]) -> Callable[[Pair], Made]:
    """What renders pairs, with errors about a pair's texts that name the pair."""

    def rendered(pair: Pair) -> Made:
        try:
            return render(pair)
        except DataError as e:
            raise DataError(f"pair {pair.id}: {e.found}", e.why, e.do) from e

    return rendered


def _scored(
    engine, render: Render, pairs: Sequence[Pair], done, store
) -> Iterator[tuple[list[Pair], list[Views], dict[bytes, Logits]]]:
    """Part by part: pairs, their presentations, and the logits of all presentations by the digests of their ids."""
    tally = _Tally(done or (lambda k: None))
    logits: dict[bytes, Logits] = {}  # by a digest of the ids, which would be far larger
    chunk = CHUNK * (GPU_CHUNKS if engine.model.device.type == "cuda" else 1)
    for part, views in _parts(render, pairs, logits, store, chunk):
        _score_new(engine, part, views, logits, tally, store)
        yield part, views, logits
        for digest in list(islice(logits, max(0, len(logits) - REMEMBERED))):  # the oldest; neighbours share answers
            del logits[digest]


def reading_of_views(views: list[Rendered]) -> dict[str, Any]:
    """What was read of a pair. The kept tokens are those of the first presentation, where A stands first."""
    counts = {name: getattr(views[0], name) for name in FIELDS}
    return {
        "tokens": sum(len(view.ids) for view in views),
        "truncated": any(view.truncated for view in views),
        "kept": {name: (count.kept, count.original) for name, count in counts.items()},
    }


def reading_of_answers(a: RenderedAnswer, b: RenderedAnswer) -> dict[str, Any]:
    """What was read of a pair whose answers were read apart; of the prompt, the smaller part that was kept."""
    counts = dict(
        zip(FIELDS, (min(a.prompt, b.prompt, key=lambda kept: kept.kept), a.response, b.response), strict=True)
    )
    return {
        "tokens": len(a.ids) + len(b.ids),
        "truncated": a.truncated or b.truncated,
        "kept": {name: (count.kept, count.original) for name, count in counts.items()},
    }


def _parts(render: Render, pairs, known, store, chunk: int) -> Iterator[tuple[list[Pair], list[Views]]]:
    """Pairs with their presentations, in input order: so many at a time that about `chunk` of them need the engine,
    since few would fill its batches badly. Adds to `known` what the store has."""
    part: list[Pair] = []
    views: list[Views] = []
    new = 0
    for start in range(0, len(pairs), chunk):
        more = list(pairs[start : start + chunk])
        shown = [[(_digest(v.ids), v) for v in render(p)] for p in more]
        if store:
            known.update(store.get(list({d: None for pair in shown for d, _ in pair if d not in known})))
        part, views = part + more, views + shown
        new += sum(any(d not in known for d, _ in pair) for pair in shown)
        if new >= chunk or len(part) >= AHEAD * chunk:
            yield part, views
            part, views, new = [], [], 0
    if part:
        yield part, views


def _digest(ids: tuple[int, ...]) -> bytes:
    return hashlib.sha256(array("q", ids).tobytes()).digest()


def _score_new(engine, part, views, known, tally, store) -> None:
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
        pairs = [p for p, shown in zip(part, views, strict=True) if any(digest in bad for digest, _ in shown)]
        if not pairs:
            raise
        error = ScoreError(f"{e.found}: pairs {listed([p.id for p in pairs], NAMED)}", e.why, e.do)
        error.unjudged = tuple(p.key for p in pairs)
        raise error from e
    scores = dict(zip(fresh, (tuple(map(float, row)) for row in z), strict=True))
    known.update(scores)
    if store:
        store.put(scores)
