"""Batches as tensors, padded or packed, and their loss. This module knows ids, labels and logits, no files or models.

Letters in the comments on shapes:
    n presentations of a batch (a pair in both orders has two)      P pairs that are shown in both orders
    S sequences: n, or 2 n where each of two responses is a sequence of its own (kind pointwise)
    L width of the padded ids           C logits of a presentation: 1, or 3 (A, B, tie)         K classes: 2, or 3
"""

import torch
from torch.nn.functional import log_softmax, logsigmoid

from harness_plugin.engine.packing import pack_of

MULTIPLE = 16  # L is padded up to a multiple of it: matrix units work in blocks, and torch.compile meets fewer widths


def collate(rows: list[dict], padding: int) -> dict[str, torch.Tensor]:
    """Rows {"input_ids", "labels", "offset"} become tensors for n presentations.

    A row that is shown in both orders has its second presentation, with the sides exchanged, under "turned"; the two
    are neighbours in the batch. A row of a pointwise model has the ids of response B under "against"; they follow those
    of response A. The tensors:
        input_ids, attention_mask   (S, L)  int64, padded on the right with the id `padding` and with 0
        labels                      (n, K)  the probabilities of A, B and, with K = 3, of a tie
        offsets                     (n,)    what the lengths of the responses alone add to the logit
        twins                       (P,)    int64, where the first presentation of a pair in both orders stands
        weights                     (n,)    1, or 0.5 for each of two presentations of a pair
    """
    views = _views(rows)  # n of them
    sequences = _sequences(views)
    width = max(map(len, sequences))
    width += -width % MULTIPLE  # L
    ids = torch.full((len(sequences), width), padding)  # (S, L)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)  # (S, L)
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)] = torch.tensor(sequence)
        mask[i, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask, **_targets(rows, views)}


def collate_packed(rows: list[dict]) -> dict:
    """As `collate`, with a `pack` in place of the padded ids; `input_ids` (N,) are then the ids of the pack's N rows.

    The other tensors are in the order of the presentations, not in that of `pack.members`. Both responses of a pair are
    in one pack, so that a prompt that they share is computed once.
    """
    views = _views(rows)
    pack = pack_of(_sequences(views))
    return {"input_ids": torch.from_numpy(pack.ids), "pack": pack, **_targets(rows, views)}


def _views(rows: list[dict]) -> list[dict]:
    """The presentations of all rows: each row and, where it has one, its exchanged presentation."""
    return [view for row in rows for view in ([row, row["turned"]] if "turned" in row else [row])]


def _sequences(views: list[dict]) -> list[tuple[int, ...]]:
    """The ids of all presentations, (S,) of them: of a pointwise model response A and response B of each pair."""
    return [
        ids
        for view in views
        for ids in ([view["input_ids"], view["against"]] if "against" in view else [view["input_ids"]])
    ]


def of_pairs(logits: torch.Tensor) -> torch.Tensor:
    """The logits (n, 1) of pairs, r(B) - r(A), from those of their responses, (2 n, 1) as A, B, A, B, ..."""
    return logits[1::2] - logits[::2]


def _targets(rows: list[dict], views: list[dict]) -> dict[str, torch.Tensor]:
    twins: list[int] = []
    weights: list[float] = []
    for row in rows:
        if "turned" in row:
            twins.append(len(weights))
        weights += [0.5, 0.5] if "turned" in row else [1.0]
    return {
        "labels": torch.tensor([v["labels"] for v in views]),  # (n, K)
        "offsets": torch.tensor([v["offset"] for v in views]),  # (n,)
        "twins": torch.tensor(twins, dtype=torch.long),  # (P,)
        "weights": torch.tensor(weights),  # (n,)
    }


def log_probabilities(logits: torch.Tensor, offsets: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Natural logarithms of probabilities: logits (n, 1) give those of A and B, (n, 2); logits (n, 3) those of A, B and
    tie, (n, 3). `offsets` (n,) are added to a single logit; three logits take none."""
    logits = logits.float()
    if logits.shape[1] == 1:
        z = logits[:, 0] + offsets  # (n,)
        return torch.stack([logsigmoid(-z), logsigmoid(z)], dim=1)  # (n, 2)
    return log_softmax(logits, dim=1)  # (n, 3)


def preference_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None, offsets: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """The mean cross-entropy, in nats, of logits (n, C) against the probabilities `labels` (n, K).

    `weights` (n,) weigh the presentations; None: all alike.

    `offsets` (n,) are a second, fixed judge that knows only the lengths of the responses: with them, the logit has to
    explain what the lengths do not (a product of experts: Clark, Yatskar and Zettlemoyer 2019, arXiv:1909.03683).
    """
    each = -(labels * log_probabilities(logits, offsets)).sum(dim=1)  # (n,)
    return each.mean() if weights is None else (weights * each).sum() / weights.sum()


def inconsistency(logits: torch.Tensor, twins: torch.Tensor) -> torch.Tensor:
    """The squared position bias, summed over the pairs whose first presentation is at `twins` (P,).

    With one logit z it is the square of (z(A,B) + z(B,A)) / 2. With three it is the square of half the difference
    between the log-probabilities of the two orders, after the classes A and B of the second order are exchanged,
    averaged over the classes.
    """
    first, second = logits[twins].float(), logits[twins + 1].float()  # (P, C) each
    if logits.shape[1] == 1:
        return ((first + second) / 2).square().sum()
    difference = log_softmax(first, dim=1) - log_softmax(second, dim=1)[:, [1, 0, 2]]  # (P, 3)
    return (difference / 2).square().mean(dim=1).sum()
