"""Token ids -> logits: sorted by length, batched by a token budget, order restored.

Knows no pairs, no text and no outcomes. Sequences are padded on the right and decoders attend causally, so a padded
position is never seen by a real one and no score depends on its neighbours.
"""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from harness_plugin.errors import ScoreError

log = logging.getLogger("lm_eval.arena_rm")

CPU_TOKENS, GPU_TOKENS = 4096, 32768  # ids per batch, padding included; more gains nothing measurable on a CPU


class Engine:
    """Scores ids with one model. `batch_size`: at most so many sequences in a batch (None: only the token budget)."""

    def __init__(self, model, batch_size: int | None = None):
        self.model, self.batch_size = model, batch_size
        self.budget = GPU_TOKENS if model.device.type == "cuda" else CPU_TOKENS

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
        """(positions, logits) batch by batch, longest first so that trouble with memory shows at once."""
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        start = 0
        while start < len(order):
            index = self._batch(sequences, order, start)
            try:
                part = self._forward([sequences[i] for i in index])
            except torch.OutOfMemoryError:
                if len(index) == 1:
                    width = len(sequences[index[0]])
                    raise ScoreError(
                        f"out of memory on one sequence of {width} tokens", "nothing is left to make smaller",
                        "lower max_length or use a device with more memory",
                    ) from None  # fmt: skip
                self.budget = max(1, self.budget // 2)
                log.warning("arena_rm: out of memory; batches of at most %d tokens from here", self.budget)
                torch.cuda.empty_cache()
                continue
            yield index, part
            start += len(index)

    def _batch(self, sequences, order: list[int], start: int) -> list[int]:
        width = max(1, len(sequences[order[start]]))
        count = max(1, self.budget // width)
        return order[start : start + min(count, self.batch_size or count)]

    @torch.inference_mode()
    def _forward(self, batch: list[Sequence[int]]) -> np.ndarray:
        lengths = torch.tensor([len(ids) for ids in batch], device=self.model.device)
        ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.long)
        for row, sequence in zip(ids, batch, strict=True):
            row[: len(sequence)] = torch.tensor(sequence)
        ids = ids.to(self.model.device)
        if self.model.backbone is None:
            mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
            logits = self.model.network(input_ids=ids, attention_mask=mask.long()).logits
        else:
            hidden = self.model.backbone(input_ids=ids, use_cache=False).last_hidden_state
            last = hidden[torch.arange(len(batch), device=ids.device), lengths - 1]
            logits = last.float() @ self.model.head.T  # in fp32: a bf16 logit has three digits
        return logits.double().cpu().numpy()

    def _non_finite(self, rows: np.ndarray) -> ScoreError:
        broken = [n for n, p in self.model.network.named_parameters() if not p.isfinite().all()]
        cause = f"the weights {', '.join(broken[:3])} are not finite" if broken else "the arithmetic overflowed"
        error = ScoreError(
            f"non-finite logits in {len(rows)} sequences", cause,
            "get the weights again" if broken else "use dtype=bfloat16 or float32",
        )  # fmt: skip
        error.rows = tuple(int(r) for r in rows)
        return error
