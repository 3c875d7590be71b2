"""Padding and the loss of one batch. Knows ids, labels and a model's forward pass; nothing of files or pairs."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Rows {"input_ids", "labels"}, each with the exchanged presentation in "turned" if the recipe shows both, to
    tensors: ids and mask (batch, longest), padded on the right with 0; labels (batch,)."""
    rows = [view for row in rows for view in (row, row.get("turned")) if view]
    width = max(len(r["input_ids"]) for r in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        n = len(row["input_ids"])
        ids[i, :n] = torch.tensor(row["input_ids"])
        mask[i, :n] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([float(r["labels"]) for r in rows])}


def preference_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy of logits (batch, 1) against the probability that B is preferred (batch,)."""
    return binary_cross_entropy_with_logits(logits[:, 0].float(), labels.float())
