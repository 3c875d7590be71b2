"""Attention of packed sequences with gradients, on CPUs block by block.

PyTorch's fused kernel has a slow backward pass on CPUs, and autograd over scores written out reads and writes them a
dozen times. Here a block of queries stays in the cache from its scores to its gradients and meets no key that is hidden
from all of it; what is kept for the backward pass are the weights.
"""

from collections.abc import Iterator

import torch

from harness_plugin.engine.attention import Attention
from harness_plugin.engine.packing import Layout

BLOCK = 128  # queries; their scores against 512 keys are a megabyte, and 64 to 192 are as fast


class TrainedAttention(Attention):
    """As `Attention`, with gradients in q, k and v."""

    def __call__(self, q, k, v, layout: Layout, window: int) -> torch.Tensor:
        if self.flash and q.dtype in (torch.bfloat16, torch.float16):
            return self._flash(q, k, v, layout, window)
        return BlockAttention.apply(q, k, v, layout, self.heads, window)


class BlockAttention(torch.autograd.Function):
    """q (queries, heads, size), k and v (rows, key heads, size), grouped queries; scores and weights in float32, the
    products in the dtype of q. Rows of q that belong to no segment give zeros."""

    @staticmethod
    def forward(ctx, q, k, v, layout, heads, window):
        out, weights = torch.zeros_like(q), []
        for segment in _segments(layout):
            keys, values = segment.gather(k), segment.gather(v)
            for rows, low, seen in segment.blocks(window):
                block = _grouped(q[rows], k.shape[1])
                w = _scores(block, keys[:, low:seen], heads)[0]
                count = rows.stop - rows.start
                _hide(w.view(-1, count, seen - low), low, seen, window)
                weights.append(w.softmax(-1).to(q.dtype))
                out[rows] = _ungrouped(_product(weights[-1], values[:, low:seen]), count)
        ctx.save_for_backward(q, k, v, *weights)
        ctx.layout, ctx.heads, ctx.window = layout, heads, window
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, *weights = ctx.saved_tensors
        heads, remaining = ctx.heads, iter(weights)
        grad_q = torch.zeros_like(q)
        grad_k, grad_v = (torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (k, v))
        for segment in _segments(ctx.layout):
            keys, values = segment.gather(k), segment.gather(v)
            of_keys, of_values = (torch.zeros_like(x, dtype=grad_k.dtype) for x in (keys, values))
            for rows, low, seen in segment.blocks(ctx.window):
                block, g, w = _grouped(q[rows], k.shape[1]), _grouped(grad[rows], k.shape[1]), next(remaining)
                of_values[:, low:seen] += _product(w.transpose(1, 2), g)
                of_weights = _product(g, values[:, low:seen].transpose(1, 2)).to(grad_k.dtype)
                of_scores = torch._softmax_backward_data(of_weights, w.to(grad_k.dtype), -1, grad_k.dtype)
                if heads.softcap:
                    of_scores *= 1 - _scores(block, keys[:, low:seen], heads)[1].square()
                of_scores = of_scores.mul_(heads.scale).to(q.dtype)
                grad_q[rows] = _ungrouped(_product(of_scores, keys[:, low:seen]), rows.stop - rows.start)
                of_keys[:, low:seen] += _product(of_scores.transpose(1, 2), block)
            segment.scatter(grad_k, of_keys)
            segment.scatter(grad_v, of_values)
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None


class _Segment:
    """One of a layout: where its queries stand, and the runs of rows that are its keys."""

    def __init__(self, first: int, count: int, spans: list[slice]):
        self.first, self.count, self.spans = first, count, spans
        self.keys = sum(span.stop - span.start for span in spans)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, heads, size) to this segment's (heads, keys, size)."""
        found = torch.cat([x[span] for span in self.spans]) if len(self.spans) > 1 else x[self.spans[0]]
        return found.transpose(0, 1).contiguous()

    def scatter(self, total: torch.Tensor, part: torch.Tensor) -> None:
        """Adds what `gather` would give as `part` to the rows of `total`."""
        start = 0
        for span in self.spans:
            end = start + span.stop - span.start
            total[span] += part[:, start:end].transpose(0, 1)
            start = end

    def blocks(self, window: int) -> Iterator[tuple[slice, int, int]]:
        """Rows of q, and the first and the end of the keys that any of them attends to."""
        for start in range(0, self.count, BLOCK):
            end = min(start + BLOCK, self.count)
            seen = self.keys - self.count + end
            low = max(0, seen - (end - start) - window + 1) if window else 0
            yield slice(self.first + start, self.first + end), low, seen


def _segments(layout: Layout) -> Iterator[_Segment]:
    starts, lengths = layout.start.tolist(), layout.length.tolist()
    for s, (first, count) in enumerate(zip(layout.q_start.tolist(), layout.q_length.tolist(), strict=True)):
        runs = range(layout.ptr[s], layout.ptr[s + 1])
        yield _Segment(first, count, [slice(starts[r], starts[r] + lengths[r]) for r in runs])


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Batched; of one pair as plain matrices, which oneDNN multiplies a sixth faster."""
    return torch.mm(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b)


def _scores(q, keys, heads) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scores in float32 at least, and where they are capped the tanh that caps them."""
    scores = _product(q, keys.transpose(1, 2)).to(torch.promote_types(q.dtype, torch.float32)).mul_(heads.scale)
    if not heads.softcap:
        return scores, None
    tanh = (scores / heads.softcap).tanh_()
    return tanh * heads.softcap, tanh


def _hide(scores: torch.Tensor, low: int, seen: int, window: int) -> None:
    """Sets to -inf what query i of the last ones may not see, in place; scores (any, queries, keys low to seen)."""
    count = scores.shape[1]
    if not window or seen <= window:
        hidden = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu(1)
        scores[:, :, -count:].masked_fill_(hidden, -torch.inf)
        return
    at = torch.arange(seen - count, seen, device=scores.device)[:, None]
    key = torch.arange(low, seen, device=scores.device)[None]
    scores.masked_fill_((key > at) | (key <= at - window), -torch.inf)


def _grouped(x: torch.Tensor, groups: int) -> torch.Tensor:
    """(n, heads, size) to (groups, heads of a group x n, size)."""
    count, heads, size = x.shape
    return x.view(count, groups, heads // groups, size).permute(1, 2, 0, 3).reshape(groups, -1, size)


def _ungrouped(x: torch.Tensor, count: int) -> torch.Tensor:
    groups, _, size = x.shape
    return x.view(groups, -1, count, size).permute(2, 0, 1, 3).reshape(count, -1, size)
