"""Sequence classifiers of every other kind: the network's own forward on padded batches of like lengths.

Sequences are padded on the right and decoders attend causally, so a padded position is never seen by a real one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch


class Padded:
    """Scores with `model.network` as transformers computes it."""

    format = "padded"

    def __init__(self, model):
        self.model = model

    def batches(
        self, sequences: Sequence[Sequence[int]], budget: int, most: int | None
    ) -> Iterator[tuple[list[int], list[Sequence[int]]]]:
        """(positions, sequences) batch by batch, longest first so that trouble with memory shows at once; at most
        `budget` ids in each, padding included."""
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        start = 0
        while start < len(order):
            count = max(1, budget // len(sequences[order[start]]))
            index = order[start : start + min(count, most or count)]
            yield index, [sequences[i] for i in index]
            start += len(index)

    @torch.inference_mode()
    def logits(self, batch: list[Sequence[int]]) -> np.ndarray:
        """(n, num_labels), float64."""
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
