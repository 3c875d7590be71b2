"""Pairs -> logits in one or both orders -> scored records; the join of prompt, engine and outcome.

`lm`, the CLI and the judge all score through `score_pairs`. Records stream to a file as they come and a killed run
continues where it stopped. Knows no harness and no report.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness_plugin.errors import DataError, ScoreError, UsageError
from harness_plugin.outcome import Calibration, Outcomes, combine
from harness_plugin.pairs import Pair, atomic_write

ORDERS = ("ab", "both")
FIELDS = ("prompt", "response_a", "response_b")
CHUNK = 32  # pairs scored together: what a killed run can lose; more fills batches no better on a CPU


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
    engine, renderer, pairs: list[Pair], order: str = "both", done: Callable[[int], None] | None = None
) -> Iterator[Scored]:
    """Scores in input order. `order`: "both" presents each pair twice, "ab" as it stands. Identical presentations are
    scored once. `done(k)` is called as k more pairs finish. Raises ScoreError naming pairs with non-finite logits."""
    if order not in ORDERS:
        raise UsageError(f"order={order!r}", "no such order", f"use one of {', '.join(ORDERS)}")
    tally = _Tally(done or (lambda k: None))
    known: dict[bytes, tuple[float, ...]] = {}  # by a digest of the ids, which would be far larger
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        rendered = [renderer.render_orders(p, both=order == "both") for p in part]
        _score_new(engine, part, rendered, known, tally)
        for pair, views in zip(part, rendered, strict=True):
            logits = [known[_digest(v.ids)] for v in views]
            yield Scored(
                pair, logits[0], logits[1] if len(logits) > 1 else None, sum(len(v.ids) for v in views),
                any(v.truncated for v in views),
                {f: (getattr(views[0], f).kept, getattr(views[0], f).original) for f in FIELDS},
            )  # fmt: skip


def _digest(ids: tuple[int, ...]) -> bytes:
    return hashlib.sha256(array("q", ids).tobytes()).digest()


def _score_new(engine, part, rendered, known, tally) -> None:
    """Adds the logits of the presentations that are not known yet; names the pairs where they are not finite."""
    fresh = {_digest(v.ids): v.ids for views in rendered for v in views}
    fresh = {digest: ids for digest, ids in fresh.items() if digest not in known}
    if not fresh:
        tally.add(len(part))
        return
    share = len(part) / len(fresh)
    try:
        z = engine.logits(list(fresh.values()), lambda k: tally.add(k * share))
    except ScoreError as e:
        digests = list(fresh)
        bad = {digests[i] for i in e.rows}
        names = [p.id for p, views in zip(part, rendered, strict=True) if any(_digest(v.ids) in bad for v in views)]
        if not names:
            raise
        more = f" and {len(names) - 5} more" if names[5:] else ""
        raise ScoreError(f"{e.found}: pairs {', '.join(names[:5])}{more}", e.why, e.do) from e
    known.update(zip(fresh, (tuple(map(float, row)) for row in z), strict=True))


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
        "key": scored.pair.key, "z_ab": _plain(scored.z_ab), "z_ba": scored.z_ba and _plain(scored.z_ba),
        "score": float(o.s[0]), "position_bias": None if scored.z_ba is None else float(o.bias[0]),
        "p_a": float(o.p[0, 0]), "p_b": float(o.p[0, 1]), "p_tie": float(o.p[0, 2]),
        "tokens": scored.tokens, "truncated": scored.truncated, "kept": {k: list(v) for k, v in scored.kept.items()},
    }  # fmt: skip


def _plain(logits: tuple[float, ...]) -> float | list[float]:
    return logits[0] if len(logits) == 1 else list(logits)


def output_row(pair: Pair, row: dict, judge: str) -> dict:
    """The line of one pair in a score file: its id, the scores of its texts, what the input knew, and `judge`, a short
    hash of everything that decides a score."""
    known = {"winner": pair.winner and pair.winner.value, "category": pair.category, "model_a": pair.model_a,
             "model_b": pair.model_b, "prompt_key": pair.prompt_key}  # fmt: skip
    return {"id": pair.id, **row, **{k: v for k, v in known.items() if v is not None}, "judge": judge}


def judge_identity(model, order: str) -> dict:
    """Everything that decides a score: the model's own identity, the order and the calibration in use."""
    c = model.calibration
    return {**model.identity, "order": order, "temperature": c.temperature, "tie_nu": c.tie_nu}


def identity_hash(identity: dict) -> str:
    """A short hash of what decides a score; names do not count where the weights themselves are identified."""
    known = {"base": "base_fingerprint", "adapter": "adapter_sha256"}
    identity = {k: v for k, v in identity.items() if not identity.get(known.get(k, ""))}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """The file a run appends to until it is whole: OUT.part, a header line with what decides the scores, then records.

    A second run with the same header continues after the last whole line; another header is refused, since mixing two
    judges' scores in one file would mislead. `finish` writes OUT in input order and removes the part.
    """

    def __init__(self, out: Path, header: dict):
        self.out, self.part, self.header = out, out.with_name(out.name + ".part"), header
        self.rows: dict[str, dict] = {}
        self._file = None

    def __enter__(self) -> "Journal":
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.part, "a+b")
        self._lock()
        self._load()
        if self._file.tell() == 0:
            self._write({"header": self.header})
        return self

    def __exit__(self, *exc) -> None:
        self._file.close()

    def _lock(self) -> None:
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: two runs into one file are on their own
            return
        except OSError as e:
            raise UsageError(f"{self.part} is in use", "another run is writing it", "wait, or choose another -o") from e

    def _load(self) -> None:
        """Reads what an earlier run left. Only an unterminated last line, which was being written when that run was
        killed, is cut off; anything else that is not ours is refused."""
        self._file.seek(0)
        good = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            row = self._parsed(line, number)
            if number == 1 and row.get("header") != self.header:
                raise DataError(
                    f"{self.part} was begun with other settings ({_difference(row['header'], self.header)})",
                    "its scores cannot be continued", "delete it to start afresh, or repeat the first command",
                )  # fmt: skip
            if number > 1:
                self.rows[row["key"]] = row
            good += len(line)
        self._file.truncate(good)
        self._file.seek(good)

    def _parsed(self, line: bytes, number: int) -> dict:
        try:
            row = json.loads(line)
            if isinstance(row["header" if number == 1 else "key"], dict if number == 1 else str):
                return row
            raise ValueError("neither a header nor a record")
        except (ValueError, KeyError, TypeError) as e:
            raise DataError(
                f"{self.part} line {number} is not from a run of `arena-rm score`", "it would be overwritten",
                "move it away, or choose another -o",
            ) from e  # fmt: skip

    def _write(self, row: dict) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
        self._file.flush()

    def add(self, row: dict) -> None:
        self.rows[row["key"]] = row
        self._write(row)

    def finish(self, pairs: list[Pair], judge: str) -> None:
        """One line per pair, in input order, moved into place whole; pairs with the same texts share their scores."""
        with atomic_write(self.out) as out:
            for pair in pairs:
                out.write(json.dumps(output_row(pair, self.rows[pair.key], judge), ensure_ascii=False) + "\n")
        os.unlink(self.part)


def _difference(old: dict, new: dict) -> str:
    names = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    return ", ".join(f"{k}: {old.get(k)!r} then, {new.get(k)!r} now" for k in names)[:300]
