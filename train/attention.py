"""Attention of packed sequences with gradients; on CPUs it is computed block by block.

PyTorch's fused kernel has a slow backward pass on CPUs, and autograd over plain tensor operations reads and writes the
scores a dozen times. Here a block of queries stays in the cache of the CPU from its scores to its gradients, and is
multiplied only with keys that at least one of its queries sees. The attention weights are kept for the backward pass.

Letters in the comments on shapes:
    N rows of a pack            T query rows: N, in the last layer M (members)
    H query heads               G key-value heads: each is shared by H / G query heads          E size of a head
    K keys of a segment         q queries of a block            k keys that the block is multiplied with
A block is reshaped from (q, H, E) to (G, H / G * q, E): for each key-value head, the queries of all its query heads
below one another. One batched product with the keys (G, k, E) then serves all query heads of a group.
"""

from collections.abc import Iterator

import torch

from harness_plugin.engine.attention import Attention
from harness_plugin.engine.packing import Layout

BLOCK = 128  # queries; their scores for 4 heads and 512 keys take a megabyte, and 64 to 192 queries are as fast


class TrainedAttention(Attention):
    """As `Attention`, with gradients for q, k and v."""

    def __call__(self, q, k, v, layout: Layout, window: int) -> torch.Tensor:
        if self.flash and q.dtype in (torch.bfloat16, torch.float16):
            return self._flash(q, k, v, layout, window)
        return BlockAttention.apply(q, k, v, layout, self.heads, window)


class BlockAttention(torch.autograd.Function):
    """q (T, H, E), k and v (N, G, E) -> (T, H, E), with gradients for q, k and v.

    Scores and softmax are in float32, the matrix products in the dtype of q. Rows of q that belong to no segment give
    zeros.

    Forward, for each block: scores S = scale * Q K' (capped by a tanh where the model says so, hidden keys -inf),
    weights W = softmax(S), output O = W V. Backward, from the gradient dO:
        dV = W' dO      dW = dO V'      dS = W * (dW - sum of W * dW over the keys)
        dQ = scale * dS K               dK = scale * dS' Q
    Where scores are capped, dS is also multiplied by 1 - tanh^2. dK and dV are sums over all blocks and segments that
    use a key.
    """

    @staticmethod
    def forward(ctx, q, k, v, layout, heads, window):
        out, weights = torch.zeros_like(q), []  # out (T, H, E)
        for segment in _segments(layout):
            keys, values = segment.gather(k), segment.gather(v)  # (G, K, E) each
            for rows, low, high in segment.blocks(window):
                block = _grouped(q[rows], k.shape[1])  # (q, H, E) -> (G, H / G * q, E)
                w = _scores(block, keys[:, low:high], heads)[0]  # (G, H / G * q, k)
                count = rows.stop - rows.start
                _hide(w.view(-1, count, high - low), low, high, window)  # in place, on w as (H, q, k)
                weights.append(w.softmax(-1).to(q.dtype))  # (G, H / G * q, k)
                out[rows] = _ungrouped(_product(weights[-1], values[:, low:high]), count)  # (q, H, E)
        ctx.save_for_backward(q, k, v, *weights)
        ctx.layout, ctx.heads, ctx.window = layout, heads, window
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, *weights = ctx.saved_tensors
        heads, remaining = ctx.heads, iter(weights)
        grad_q = torch.zeros_like(q)  # (T, H, E)
        # (N, G, E) each, in float32 at least: they are sums of many parts
        grad_k, grad_v = (torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (k, v))
        for segment in _segments(ctx.layout):
            keys, values = segment.gather(k), segment.gather(v)  # (G, K, E) each
            of_keys, of_values = (torch.zeros_like(x, dtype=grad_k.dtype) for x in (keys, values))  # (G, K, E) each
            for rows, low, high in segment.blocks(ctx.window):
                # block and g (G, H / G * q, E), w (G, H / G * q, k)
                block, g, w = _grouped(q[rows], k.shape[1]), _grouped(grad[rows], k.shape[1]), next(remaining)
                of_values[:, low:high] += _product(w.transpose(1, 2), g)  # (G, k, E)
                of_weights = _product(g, values[:, low:high].transpose(1, 2)).to(grad_k.dtype)  # (G, H / G * q, k)
                of_scores = torch._softmax_backward_data(of_weights, w.to(grad_k.dtype), -1, grad_k.dtype)  # the same
                tanh = _scores(block, keys[:, low:high], heads)[1] if heads.softcap else None
                if tanh is not None:  # c * tanh(s / c) has the derivative 1 - tanh(s / c)^2
                    of_scores *= 1 - tanh.square()
                of_scores = of_scores.mul_(heads.scale).to(q.dtype)
                grad_q[rows] = _ungrouped(_product(of_scores, keys[:, low:high]), rows.stop - rows.start)  # (q, H, E)
                of_keys[:, low:high] += _product(of_scores.transpose(1, 2), block)  # (G, k, E)
            segment.scatter(grad_k, of_keys)
            segment.scatter(grad_v, of_values)
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None


class _Segment:
    """One segment of a layout: its queries are the `count` rows from `first` on, its keys are the rows of `spans`."""

    def __init__(self, first: int, count: int, spans: list[slice]):
        self.first, self.count, self.spans = first, count, spans
        self.keys = sum(span.stop - span.start for span in spans)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """The rows of this segment's keys, with the heads first: x (N, G, E) -> (G, K, E)."""
        rows = torch.cat([x[span] for span in self.spans]) if len(self.spans) > 1 else x[self.spans[0]]  # (K, G, E)
        return rows.transpose(0, 1).contiguous()

    def scatter(self, total: torch.Tensor, part: torch.Tensor) -> None:
        """The reverse of `gather`: adds `part` (G, K, E) to the rows of `total` (N, G, E) that it belongs to."""
        start = 0
        for span in self.spans:
            end = start + span.stop - span.start
            total[span] += part[:, start:end].transpose(0, 1)  # (length of the span, G, E)
            start = end

    def blocks(self, window: int) -> Iterator[tuple[slice, int, int]]:
        """Blocks as (rows of q, low, high): at least one of the rows sees a key from `low` on, none sees key `high`."""
        for start in range(0, self.count, BLOCK):
            end = min(start + BLOCK, self.count)
            high = self.keys - self.count + end  # one more than the position of the block's last query
            low = max(0, high - (end - start) - window + 1) if window else 0  # the first key of the first query
            yield slice(self.first + start, self.first + end), low, high


def _segments(layout: Layout) -> Iterator[_Segment]:
    starts, lengths = layout.start.tolist(), layout.length.tolist()
    for s, (first, count) in enumerate(zip(layout.q_start.tolist(), layout.q_length.tolist(), strict=True)):
        runs = range(layout.ptr[s], layout.ptr[s + 1])
        yield _Segment(first, count, [slice(starts[r], starts[r] + lengths[r]) for r in runs])


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Batched matrix product. A single pair is multiplied as plain matrices, which oneDNN does a sixth faster."""
    return torch.mm(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b)


def _scores(q, keys, heads) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scores of q (G, H / G * q, E) with keys (G, k, E), and where they are capped the tanh of the cap, else None.

    Both are (G, H / G * q, k), in float32 at least.
    """
    scores = _product(q, keys.transpose(1, 2)).to(torch.promote_types(q.dtype, torch.float32)).mul_(heads.scale)
    if not heads.softcap:
        return scores, None
    tanh = (scores / heads.softcap).tanh_()
    return tanh * heads.softcap, tanh


def _hide(scores: torch.Tensor, low: int, high: int, window: int) -> None:
    """Sets the scores of keys that a query may not see to -inf, in place.

    scores (H, q, k), for the keys low to high - 1; the last query has the position high - 1.
    """
    count = scores.shape[1]
    if not window or high <= window:  # only later keys are hidden: those above the diagonal of the last q columns
        hidden = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu(1)  # (q, q)
        scores[:, :, -count:].masked_fill_(hidden, -torch.inf)
        return
    at = torch.arange(high - count, high, device=scores.device)[:, None]  # (q, 1) positions of the queries
    key = torch.arange(low, high, device=scores.device)[None]  # (1, k) positions of the keys
    scores.masked_fill_((key > at) | (key <= at - window), -torch.inf)


def _grouped(x: torch.Tensor, groups: int) -> torch.Tensor:
    """x (q, H, E) -> (G, H / G * q, E), with G = `groups`."""
    count, heads, size = x.shape
    # (q, G, H / G, E) -> (G, H / G, q, E) -> (G, H / G * q, E)
    return x.view(count, groups, heads // groups, size).permute(1, 2, 0, 3).reshape(groups, -1, size)


def _ungrouped(x: torch.Tensor, count: int) -> torch.Tensor:
    """The reverse of `_grouped`: x (G, H / G * q, E) -> (q, H, E), with q = `count`."""
    groups, _, size = x.shape
    # (G, H / G, q, E) -> (q, G, H / G, E) -> (q, H, E)
    return x.view(groups, -1, count, size).permute(2, 0, 1, 3).reshape(count, -1, size)
