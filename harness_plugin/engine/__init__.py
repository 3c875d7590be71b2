"""Token ids -> logits: packed without padding, shared prefixes computed once, order restored.

Knows no pairs, no text and no outcomes. `packing` decides what is computed together, `decoder` runs Gemmas on packs
with the arithmetic of `ops` (any device) or `fused` (CPUs in bfloat16 and int8); `padded` is for other classifiers.
"""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from harness_plugin.engine.attention import flash_runs_on
from harness_plugin.engine.decoder import PackedDecoder, decoder_of, heads_of
from harness_plugin.engine.ops import TorchOps
from harness_plugin.engine.packing import packed
from harness_plugin.engine.padded import Padded
from harness_plugin.engine.threads import use_the_cpus_allowed
from harness_plugin.errors import ScoreError, UsageError

log = logging.getLogger("lm_eval.arena_rm")

CPU_TOKENS = 4096  # rows a pack: with fewer, more prefixes are computed twice; with more, rows fall out of the caches
GPU_TOKENS = 65536  # at most; fewer where the free memory is less
COMPILE_FROM = 4_000_000  # ids a job must have before torch.compile's half minute pays on a GPU


class Engine:
    """Scores ids with one model. `batch_size`: at most so many sequences at once (None: only the token budget); a
    deterministic model is asked for one at a time. `identity`: what of this decides a logit, for caches."""

    def __init__(self, model, batch_size: int | None = None):
        self.model, self.batch_size = model, 1 if model.deterministic else batch_size
        self.share = not model.deterministic
        if model.device.type == "cpu":
            use_the_cpus_allowed()
        self.decoder = _decoder(model)
        self.padded = Padded(model)
        self.budget = CPU_TOKENS if model.device.type != "cuda" else _gpu_tokens(model)
        self.identity = {
            "format": (self.decoder.ops if self.decoder else self.padded).format,
            "deterministic": model.deterministic,
        }

    def logits(self, sequences: Sequence[Sequence[int]], done: Callable[[int], None] | None = None) -> np.ndarray:
        """Logits of shape (n, num_labels), float64, in the order given. `done(k)` is called after each k sequences.

        Raises ScoreError naming the positions of non-finite logits, or when a single sequence does not fit.
        """
        out = np.full((len(sequences), self.model.num_labels), np.nan)
        seen = 0
        for index, part in self.stream(sequences):
            out[index] = part
            seen += len(index)
            if done:
                done(len(index))
        if seen != len(sequences):
            raise RuntimeError("a sequence was not scored")
        bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
        if len(bad):
            raise self._non_finite(bad)
        return out

    def stream(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], np.ndarray]]:
        """(positions, logits) batch by batch, in the engine's own order; sequences that share a beginning share its
        computation within a call. What was scored before memory ran out is not scored again."""
        if not all(len(ids) for ids in sequences):
            raise ScoreError("a sequence without ids", "there is nothing to score", "give at least the first token")
        if self.decoder and self.model.device.type == "cuda" and sum(map(len, sequences)) >= COMPILE_FROM:
            self.decoder.ops.compile()
        todo = list(range(len(sequences)))
        while todo:
            scored: set[int] = set()
            try:
                for index, part in self._batches([sequences[i] for i in todo]):
                    index = [todo[i] for i in index]
                    yield index, part
                    scored.update(index)
            except torch.OutOfMemoryError as e:
                self._smaller(e, sequences)
            todo = [i for i in todo if i not in scored]

    def _batches(self, sequences) -> Iterator[tuple[list[int], np.ndarray]]:
        if self.decoder:
            for pack in packed(sequences, self.budget, self.batch_size, share=self.share):
                yield pack.members, self._tried(self.decoder.logits, pack, pack.members)
        else:
            for index, batch in self.padded.batches(sequences, self.budget, self.batch_size):
                yield index, self._tried(self.padded.logits, batch, index)

    def _tried(self, score, batch, members: list[int]) -> np.ndarray:
        try:
            return score(batch)
        except torch.OutOfMemoryError as e:
            e.members = members
            raise

    def _smaller(self, error: torch.OutOfMemoryError, sequences) -> None:
        members = getattr(error, "members", None)
        if members is None:
            raise error
        if len(members) == 1:
            raise ScoreError(
                f"out of memory on one sequence, the longest of which here has {max(map(len, sequences))} tokens",
                "nothing is left to make smaller",
                "lower max_length or use a device with more memory",
            ) from None
        self.budget = max(1, self.budget // 2)
        log.warning("arena_rm: out of memory; batches of at most %d tokens from here", self.budget)
        torch.cuda.empty_cache()

    def _non_finite(self, rows: np.ndarray) -> ScoreError:
        broken = [n for n, p in self.model.network.named_parameters() if not p.isfinite().all()]
        cause = f"the weights {', '.join(broken[:3])} are not finite" if broken else "the arithmetic overflowed"
        error = ScoreError(
            f"non-finite logits in {len(rows)} sequences",
            cause,
            "get the weights again" if broken else "use dtype=bfloat16 or float32",
        )
        error.rows = tuple(int(r) for r in rows)
        return error


def _decoder(model) -> PackedDecoder | None:
    backbone = decoder_of(model.backbone)
    heads = backbone and heads_of(backbone)
    if backbone is None or (model.device.type == "cuda" and (heads.softcap or not flash_runs_on(model.device))):
        # Gemma 2 caps its attention scores, which PyTorch's variable-length attention cannot
        if model.reduced:
            raise UsageError(f"dtype={model.reduced}", "only a Gemma's linear layers are reduced", "use dtype=auto")
        return None
    return PackedDecoder(backbone, model.head, _ops(model, backbone, heads))


def _ops(model, backbone, heads) -> TorchOps:
    dtype, eps = backbone.embed_tokens.weight.dtype, backbone.config.rms_norm_eps
    kind = TorchOps
    if model.device.type == "cpu" and dtype is torch.bfloat16:
        from harness_plugin.engine.fused import FusedOps, Int8Ops

        kind = Int8Ops if model.reduced else FusedOps
    return kind(heads, eps, dtype, model.device)


def _gpu_tokens(model) -> int:
    """Rows a pack from the memory that is free now: about twice what a row's widest activations take, gate and up in
    one and their product, of a half of it."""
    config = model.network.config.get_text_config()
    row = 2 * (3 * getattr(config, "intermediate_size", 4 * config.hidden_size) + 8 * config.hidden_size)
    free = torch.cuda.mem_get_info(model.device)[0]
    return int(min(GPU_TOKENS, max(512, free // 2 // (2 * row))))
