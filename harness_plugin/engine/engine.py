"""The engine: sequences of token ids to logits, in batches that fit into memory, in the order of the input."""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from harness_plugin.engine.attention import flash_runs_on
from harness_plugin.engine.decoder import PackedDecoder
from harness_plugin.engine.memory import keep_freed_memory, tokens_of_a_batch
from harness_plugin.engine.ops import TorchOps
from harness_plugin.engine.packing import packed
from harness_plugin.engine.padded import Padded
from harness_plugin.engine.shape import Shape, language_model, shape_of
from harness_plugin.errors import ScoreError, UsageError

log = logging.getLogger("lm_eval.arena_rm")

COMPILE_FROM = 4_000_000  # ids from which a job on a GPU gains more than the half minute that torch.compile takes


class _OutOfMemory(Exception):
    """Memory ran out on the batch of the sequences `members`."""

    def __init__(self, members: list[int]):
        self.members = members
        super().__init__(f"out of memory on a batch of {len(members)} sequences")


class Engine:
    """Scores sequences of token ids with one model.

    `batch_size` is the largest number of sequences that are computed together; None: only the number of tokens is
    limited. A deterministic model computes one sequence at a time, so that its logits do not depend on the others.
    `identity` holds what the engine does that changes a logit, for the stores of scores.
    """

    def __init__(self, model, batch_size: int | None = None):
        self.model, self.batch_size = model, 1 if model.deterministic else batch_size
        self.share = not model.deterministic
        if model.device.type == "cpu":
            keep_freed_memory()
        self.decoder = _decoder(model)
        self.padded = Padded(model)
        self.budget = tokens_of_a_batch(model)
        self.identity = {
            "format": (self.decoder.ops if self.decoder else self.padded).format,
            "deterministic": model.deterministic,
        }

    def logits(self, sequences: Sequence[Sequence[int]], done: Callable[[int], None] | None = None) -> np.ndarray:
        """Logits of shape (n, num_labels), float64, in the order of the n sequences.

        After each batch, `done` is called with the number of its sequences. Raises ScoreError for logits that are not
        finite, with their positions in `rows`, for an empty sequence, and for one that does not fit into memory alone.
        """
        out = np.full((len(sequences), self.model.num_labels), np.nan)
        scored = 0
        for index, part in self.stream(sequences):
            out[index] = part  # (batch, num_labels)
            scored += len(index)
            if done:
                done(len(index))
        if scored != len(sequences):
            raise RuntimeError("a sequence was not scored")
        bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
        if len(bad):
            raise self._non_finite(bad)
        return out

    def stream(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Batches as (positions in `sequences`, logits (batch, num_labels)), in an order that suits the engine.

        Within a call, a prefix that several sequences of a batch share is computed once. When memory runs out, smaller
        batches are tried; what was scored before is not scored again. Raises ScoreError as `logits` does, but does not
        look whether the logits are finite.
        """
        if not all(len(ids) for ids in sequences):
            raise ScoreError(
                "a sequence without ids",
                "a logit is read at the last token, and there is none",
                "give each sequence at least the BOS token",
            )
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
            except _OutOfMemory as e:
                self._halve_budget(e.members, sequences)
            todo = [i for i in todo if i not in scored]

    def _batches(self, sequences) -> Iterator[tuple[list[int], np.ndarray]]:
        if self.decoder:
            for pack in packed(sequences, self.budget, self.batch_size, share=self.share):
                yield pack.members, self._run(self.decoder.logits, pack, pack.members)
        else:
            for index, batch in self.padded.batches(sequences, self.budget, self.batch_size):
                yield index, self._run(self.padded.logits, batch, index)

    def _run(self, score, batch, members: list[int]) -> np.ndarray:
        """The logits of a batch that holds `members`."""
        try:
            return score(batch)[:, self.model.classes]  # (batch, num_labels), the classes of the head in our order
        except torch.OutOfMemoryError as e:
            raise _OutOfMemory(members) from e

    def _halve_budget(self, members: list[int], sequences) -> None:
        """Makes the next batches smaller than that of `members`; raises where one sequence alone does not fit."""
        if len(members) == 1:
            raise ScoreError(
                f"out of memory on one sequence; the longest one has {max(map(len, sequences))} tokens",
                "a batch cannot be smaller than one sequence",
                "lower max_length, or use a device with more memory",
            ) from None
        self.budget = max(1, self.budget // 2)
        log.warning("arena_rm: out of memory; the next batches have at most %d tokens", self.budget)
        torch.cuda.empty_cache()

    def _non_finite(self, rows: np.ndarray) -> ScoreError:
        broken = [n for n, p in self.model.network.named_parameters() if not p.isfinite().all()]
        cause = f"the weights {', '.join(broken[:3])} are not finite" if broken else "the arithmetic overflowed"
        error = ScoreError(
            f"non-finite logits in {len(rows)} sequences",
            f"{cause}, so no verdict follows from these logits",
            "get the weights again" if broken else "use dtype=bfloat16 or float32",
        )
        error.rows = tuple(int(r) for r in rows)
        return error


def _decoder(model) -> PackedDecoder | None:
    """The decoder for the model, or None where it has to be scored on padded batches."""
    backbone = language_model(model.backbone)
    shape = shape_of(backbone)
    if backbone is None or shape is None or not _packs_on(model.device, shape):
        if model.reduced:
            raise UsageError(
                f"dtype={model.reduced} does not work with this model",
                "the engine has whole-number arithmetic only for the decoders of Gemma, Llama, Mistral and Qwen",
                "use dtype=auto",
            )
        return None
    return PackedDecoder(backbone, model.head, _ops(model, backbone, shape))


def _packs_on(device: torch.device, shape: Shape) -> bool:
    """Whether packs are faster than padded batches on the device.

    On CUDA they need PyTorch's attention for variable lengths, which cannot cap scores with a tanh as Gemma 2 does.
    """
    return device.type != "cuda" or (not shape.heads.softcap and flash_runs_on(device))


def _ops(model, backbone, shape: Shape) -> TorchOps:
    """The arithmetic for the model's device and dtype."""
    dtype = backbone.norm.weight.dtype  # an embedding may be stored in a narrower one
    if model.device.type != "cpu" or dtype not in (torch.bfloat16, torch.float32):
        return TorchOps(shape, dtype, model.device)
    from harness_plugin.engine.fused import FusedOps, Int8Ops, Int16Ops

    kinds = {"int8": Int8Ops, "int16": Int16Ops}
    return kinds.get(model.reduced, FusedOps)(shape, dtype, model.device)
