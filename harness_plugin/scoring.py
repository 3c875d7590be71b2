"""Pairs -> logits in one or both orders -> scored records; the join of prompt, engine and outcome.

`lm`, the CLI and the judge all score through `score_pairs`. Records stream to a file as they come and a killed run
continues where it stopped; with a cache, what was ever scored is not scored again. Knows no harness and no report.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from harness_plugin import __version__
from harness_plugin.cache import ScoreCache
from harness_plugin.errors import DataError, ScoreError, UsageError
from harness_plugin.outcome import Calibration, Outcomes, combine
from harness_plugin.pairs import Pair, atomic_write
from harness_plugin.prompt import Rendered

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
    engine, renderer, pairs: list[Pair], order: str = "both", done: Callable[[int], None] | None = None,
    cache: ScoreCache | None = None,
) -> Iterator[Scored]:  # fmt: skip
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
                pair, logits[0], logits[1] if len(logits) > 1 else None, sum(len(v.ids) for _, v in shown),
                any(v.truncated for _, v in shown),
                {f: (getattr(first, f).kept, getattr(first, f).original) for f in FIELDS},
            )  # fmt: skip


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
        "key": scored.pair.key, "z_ab": _plain(scored.z_ab), "z_ba": scored.z_ba and _plain(scored.z_ba),
        "score": float(o.s[0]), "position_bias": None if scored.z_ba is None else float(o.bias[0]),
        "p_a": float(o.p[0, 0]), "p_b": float(o.p[0, 1]), "p_tie": float(o.p[0, 2]),
        "tokens": scored.tokens, "truncated": scored.truncated, "kept": {k: list(v) for k, v in scored.kept.items()},
    }  # fmt: skip


SCORE_FIELDS = ("key", "z_ab", "z_ba", "score", "position_bias", "p_a", "p_b", "p_tie", "tokens", "truncated", "kept")
"""What `score_row` gives; a line of a score file has more."""


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


def logit_identity(model, engine=None) -> dict:
    """Everything that decides a logit of given token ids, JSON-able, for a cache: the weights and settings as they are
    in memory, so that no name, path or revision has to be trusted; what computes with them, since an upgrade may move
    logits; and `engine.identity`, where an engine has arithmetic of its own (a reduced format). Order, calibration and
    truncation are not here: they do not change what given ids score. 500 MB of weights take 0.5 s of CPU."""
    network = model.network
    adapters = getattr(network, "peft_config", None) or {}
    return {
        "weights": _weights_digest(model), "config": _settings(network.config),
        "adapters": {name: _settings(config) for name, config in adapters.items()},
        **{k: model.identity.get(k) for k in ("merge", "prompt_version", "base_fingerprint", "adapter_sha256")},
        "dtype": str(model.dtype), "device": model.device.type, "num_labels": model.num_labels,
        "engine": getattr(engine, "identity", None),
        "versions": {"arena-rm": __version__, **{name: version(name) for name in COMPUTES}},
    }  # fmt: skip


def _settings(config) -> dict:
    """A transformers or PEFT configuration without its names, JSON-able: unlike weights, settings such as lora_alpha
    or a sliding window stand nowhere else."""
    known = {k: v for k, v in config.to_dict().items() if k not in NAMES}
    return json.loads(json.dumps(known, default=lambda v: sorted(map(str, v)) if isinstance(v, set) else str(v)))


def _weights_digest(model) -> str:
    """SHA-256 over every stored tensor's name, dtype, shape and bytes, the fp32 head included; PEFT's unused copy of
    the head, drawn at random on each load, is not."""
    unused = ".original_module." if hasattr(model.network, "peft_config") else "\0"
    tensors = {k: v for k, v in model.network.state_dict().items() if unused not in k}
    tensors |= {} if model.head is None else {"head": model.head}
    with ThreadPoolExecutor(4) as pool:
        digests = pool.map(_tensor_digest, tensors.values())
    named = [[name, str(t.dtype), list(t.shape), d] for (name, t), d in zip(tensors.items(), digests, strict=True)]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _tensor_digest(tensor) -> str:
    flat = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(flat.view(flat[:0].byte().dtype).numpy()).hexdigest()  # as bytes: numpy knows no bfloat16


class Journal:
    """The file a run appends to until it is whole: OUT.part, a header line with what decides the scores, then records.

    A second run with the same header continues after the last whole line; another header is refused, since mixing two
    judges' scores in one file would mislead. `finish` writes OUT and removes the part.
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
                f"{self.part} line {number} is not from a run of arena-rm", "it would be overwritten",
                "move it away, or choose another -o",
            ) from e  # fmt: skip

    def _write(self, row: dict) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
        self._file.flush()

    def add(self, row: dict) -> None:
        self.rows[row["key"]] = row
        self._write(row)

    def finish(self, rows: Iterable[dict]) -> None:
        """OUT with one line per finished row, moved into place whole, and no part any more."""
        with atomic_write(self.out) as out:
            for row in rows:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.unlink(self.part)


def _difference(old: dict, new: dict) -> str:
    names = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    return ", ".join(f"{k}: {old.get(k)!r} then, {new.get(k)!r} now" for k in names)[:300]
