"""Sequence classifiers that `decoder` cannot run: the network's own forward pass on padded batches of similar lengths.

Sequences are padded on the right. A decoder attends causally, so no token of a sequence attends to the padding after
it; other networks get an attention mask.

Letters in the comments on shapes:
    B sequences of a batch      L tokens of its longest         D width of the model            C logits (num_labels)
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from harness_plugin.errors import ScoreError

FIRST_POSITION = 2  # of RoBERTa, in whose count of positions the two before it are contained


class Padded:
    """Scores with the forward pass of transformers, `model.network` or `model.backbone`."""

    format = "padded"

    def __init__(self, model):
        self.model = model

    def batches(
        self, sequences: Sequence[Sequence[int]], budget: int, most: int | None
    ) -> Iterator[tuple[list[int], list[Sequence[int]]]]:
        """Batches as (positions in `sequences`, their sequences), of at most `budget` ids, padding included.

        A batch has at most `most` sequences. The longest come first, so that too little memory shows at once.
        """
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        start = 0
        while start < len(order):
            count = max(1, budget // len(sequences[order[start]]))
            index = order[start : start + min(count, most or count)]
            yield index, [sequences[i] for i in index]
            start += len(index)

    def logits(self, batch: list[Sequence[int]]) -> np.ndarray:
        """The logits of the sequences of a batch, (B, C) float64. Raises ScoreError for a sequence that is longer than
        the network can read."""
        try:
            return self._logits(batch)
        except torch.OutOfMemoryError:
            raise
        except (IndexError, RuntimeError) as e:  # where positions are learned, there are none for more tokens
            positions = getattr(self.model.network.config.get_text_config(), "max_position_embeddings", None)
            longest = max(map(len, batch))
            if positions is None or longest <= positions - FIRST_POSITION:
                raise
            raise ScoreError(
                f"a sequence of {longest} tokens ({type(e).__name__}: {e})",
                f"the model has {positions} positions",
                "give a smaller max_length",
            ) from e

    @torch.inference_mode()
    def _logits(self, batch: list[Sequence[int]]) -> np.ndarray:
        lengths = torch.tensor([len(ids) for ids in batch], device=self.model.device)  # (B,)
        # Where the network itself looks for the last token of a sequence, it takes the padding token for no token.
        padding = self.model.network.config.get_text_config().pad_token_id
        ids = torch.full((len(batch), int(lengths.max())), padding)  # (B, L)
        for row, sequence in zip(ids, batch, strict=True):
            row[: len(sequence)] = torch.tensor(sequence)
        ids = ids.to(self.model.device)
        if self.model.backbone is None:
            mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]  # (B, L)
            logits = self.model.network(input_ids=ids, attention_mask=mask.long()).logits  # (B, C)
        else:
            hidden = self.model.backbone(input_ids=ids, use_cache=False).last_hidden_state  # (B, L, D)
            last = hidden[torch.arange(len(batch), device=ids.device), lengths - 1]  # (B, D), the last token of each
            # The head is applied in float32: a logit in bfloat16 would have three digits.
            logits = last.float() @ self.model.head.T  # (B, D) @ (D, C) -> (B, C)
        return logits.double().cpu().numpy()
