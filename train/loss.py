"""Batches as tensors, padded or packed, and their loss. Knows ids, labels and logits; nothing of files or models."""

import torch
from torch.nn.functional import log_softmax, logsigmoid

from harness_plugin.engine.packing import pack_of

MULTIPLE = 16  # widths are padded up to it: matrix units work in blocks, and fewer widths meet the compiler


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Rows {"input_ids", "labels", "offset"}, each with the exchanged presentation in "turned" if it is shown in both
    orders, to tensors for n presentations, a pair's two side by side.

    `input_ids`, `attention_mask` (n, width), padded on the right with 0; `labels` (n, 2), or (n, 3) with ties: the
    probability of A, B (, tie); `offsets` (n,) what length says of the logit; `twins` (pairs in both orders,) the
    positions of their first presentation; `weights` (n,), half for each of two presentations.
    """
    views = _views(rows)
    width = max(len(v["input_ids"]) for v in views)
    width += -width % MULTIPLE
    ids = torch.zeros(len(views), width, dtype=torch.long)
    mask = torch.zeros(len(views), width, dtype=torch.long)
    for i, view in enumerate(views):
        n = len(view["input_ids"])
        ids[i, :n] = torch.tensor(view["input_ids"])
        mask[i, :n] = 1
    return {"input_ids": ids, "attention_mask": mask, **_targets(rows, views)}


def collate_packed(rows: list[dict]) -> dict:
    """As `collate`, with a `pack` in place of the padded ids; `input_ids` are then its rows."""
    views = _views(rows)
    pack = pack_of([v["input_ids"] for v in views])
    return {"input_ids": torch.from_numpy(pack.ids), "pack": pack, **_targets(rows, views)}


def _views(rows: list[dict]) -> list[dict]:
    return [view for row in rows for view in ([row, row["turned"]] if "turned" in row else [row])]


def _targets(rows: list[dict], views: list[dict]) -> dict[str, torch.Tensor]:
    twins, weights = [], []
    for row in rows:
        if "turned" in row:
            twins.append(len(weights))
        weights += [0.5, 0.5] if "turned" in row else [1.0]
    return {
        "labels": torch.tensor([v["labels"] for v in views]),
        "offsets": torch.tensor([v["offset"] for v in views]),
        "twins": torch.tensor(twins, dtype=torch.long),
        "weights": torch.tensor(weights),
    }


def log_probabilities(logits: torch.Tensor, offsets: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Logits (n, 1) to ln P of A, B, shape (n, 2); logits (n, 3) to ln P of A, B, tie. `offsets` are added to a single
    logit."""
    logits = logits.float()
    if logits.shape[1] == 1:
        z = logits[:, 0] + offsets
        return torch.stack([logsigmoid(-z), logsigmoid(z)], dim=1)
    return log_softmax(logits, dim=1)


def preference_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None, offsets: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """Mean cross-entropy of logits (n, 1 or 3) against the probabilities `labels` (n, 2 or 3), weighted by row.

    `offsets` (n,) stand for a second, fixed expert that knows only the lengths: with them the logit has to explain
    what length does not (a product of experts: Clark, Yatskar and Zettlemoyer 2019, arXiv:1909.03683).
    """
    each = -(labels * log_probabilities(logits, offsets)).sum(dim=1)
    return each.mean() if weights is None else (weights * each).sum() / weights.sum()


def inconsistency(logits: torch.Tensor, twins: torch.Tensor) -> torch.Tensor:
    """Squared position bias, summed over the pairs at `twins` and, with three logits, averaged over the classes: the
    square of (z(A,B) + z(B,A)) / 2; for three, of half the difference in ln P after the sides are exchanged back."""
    first, second = logits[twins].float(), logits[twins + 1].float()
    if logits.shape[1] == 1:
        return ((first + second) / 2).square().sum()
    difference = log_softmax(first, dim=1) - log_softmax(second, dim=1)[:, [1, 0, 2]]
    return (difference / 2).square().mean(dim=1).sum()
