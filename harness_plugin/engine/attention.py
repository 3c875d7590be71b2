"""Attention of packed sequences in torch, causal, with grouped queries and on request with a sliding window.

A `packing.Layout` says which rows are the queries of each segment and which rows are its keys. The last query of a
segment has the position of its last key; each query attends to the keys up to its own position.

Letters in the comments on shapes:
    N rows of a pack            T query rows: N, in the last layer M        Q, K queries and keys of one segment
    H query heads               G key-value heads; H / G query heads share one        E size of a head
"""

import inspect
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F


@cache
def _varlen_attn() -> Any:
    """PyTorch's flash attention for variable lengths, or None before PyTorch 2.10. It is imported where there is a GPU,
    since it imports torch._dynamo, which takes a second."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def flash_runs_on(device: torch.device) -> bool:
    """Whether PyTorch's flash attention for variable lengths runs on `device`: CUDA from compute capability 8.0
    (Ampere) on, with PyTorch 2.10 or later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) and _varlen_attn() is not None


class Attention:
    """Attends as a `packing.Layout` says.

    On CUDA with bfloat16 or float16 all segments go through PyTorch's flash attention for variable lengths in one call;
    everywhere else each segment is computed by itself.
    """

    def __init__(self, heads, device: torch.device):
        self.heads, self.device = heads, device
        self.flash = not heads.softcap and flash_runs_on(device)
        self._varlen: Any = None
        if self.flash:
            self._varlen = _varlen_attn()
        # PyTorch 2.13 and later want to be told that queries are grouped; earlier versions have no such argument.
        grouped = self.flash and "enable_gqa" in inspect.signature(self._varlen).parameters
        self._options = {"enable_gqa": heads.queries != heads.keys} if grouped else {}
        self._moved: tuple = (None, None)

    def __call__(self, q, k, v, layout, window: int) -> torch.Tensor:
        """q (T, H, E), k and v (N, G, E) -> (T, H, E). `window`: how many keys a query sees, itself included; 0: all.

        Query rows that belong to no segment (the padding of `PackedDecoder.hidden`, none on CUDA) give zeros.
        """
        if self.flash and q.dtype in (torch.bfloat16, torch.float16):
            return self._flash(q, k, v, layout, window)
        out = torch.zeros_like(q)  # (T, H, E)
        for s in range(len(layout.q_start)):
            first, count = int(layout.q_start[s]), int(layout.q_length[s])
            runs = range(layout.ptr[s], layout.ptr[s + 1])
            spans = [slice(int(layout.start[r]), int(layout.start[r] + layout.length[r])) for r in runs]
            keys, values = (torch.cat([x[span] for span in spans]) for x in (k, v))  # (K, G, E) each
            out[first : first + count] = self._segment(q[first : first + count], keys, values, window)
        return out

    def _segment(self, q, k, v, window: int) -> torch.Tensor:
        """q (Q, H, E), k and v (K, G, E) -> (Q, H, E) for one segment."""
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # q (1, H, Q, E), k and v (1, G, K, E)
        at = torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=q.device)[:, None]  # (Q, 1) queries' positions
        key = torch.arange(k.shape[2], device=q.device)[None]  # (1, K) keys' positions
        visible = (key <= at) & (key > at - window) if window else key <= at  # (Q, K)
        if not self.heads.softcap:
            plain = q.shape[2] == k.shape[2] and not (window and k.shape[2] > window)
            mask = {"is_causal": True} if plain else {"attn_mask": visible}
            out = F.scaled_dot_product_attention(q, k, v, scale=self.heads.scale, enable_gqa=True, **mask)
            return out[0].transpose(0, 1)  # (1, H, Q, E) -> (Q, H, E)
        # Gemma 2 caps its scores with a tanh, which PyTorch's kernels cannot do: the same steps written out.
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))  # (1, H, K, E) each
        scores = (q @ k.transpose(2, 3)).to(torch.promote_types(q.dtype, torch.float32)) * self.heads.scale
        scores = (scores / self.heads.softcap).tanh() * self.heads.softcap  # (1, H, Q, K)
        weights = scores.masked_fill(~visible, -torch.inf).softmax(-1).to(q.dtype)  # (1, H, Q, K)
        return (weights @ v)[0].transpose(0, 1)  # (1, H, Q, E) -> (Q, H, E)

    def _flash(self, q, k, v, layout, window: int) -> torch.Tensor:
        """As `__call__`, for all segments in one call."""
        if self._moved[0] is not layout:  # all layers but the last use the same layout: it is moved to the device once
            self._moved = (layout, self._device_layout(layout))
        rows, cu_q, cu_k, most_q, most_k = self._moved[1]
        if rows is not None:
            k, v = k.index_select(0, rows), v.index_select(0, rows)  # (sum of K, G, E): shared keys are repeated
        return self._varlen(  # (T, H, E)
            q.contiguous(),
            k.contiguous(),
            v.contiguous(),
            cu_q,
            cu_k,
            most_q,
            most_k,
            scale=self.heads.scale,
            window_size=(window - 1 if window else -1, 0),
            **self._options,
        )

    def _device_layout(self, layout):
        """The layout as `varlen_attn` wants it: (rows of all segments' keys or None, cu_q, cu_k, largest Q, largest K).

        cu_q and cu_k, int32 (S + 1,), say where the queries and the keys of each segment begin; the last entry is the
        end of the last segment. The rows are None where the keys of each segment are exactly its queries' own rows,
        one segment after the other, so that k and v can be used as they are.
        """

        def starts(lengths):  # (S,) -> (S + 1,)
            return F.pad(torch.as_tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0))

        keys = layout.keys
        own = len(layout.start) == len(layout.q_start) and (layout.start == layout.q_start).all()
        rows = None if own and (keys == layout.q_length).all() else torch.as_tensor(layout.rows()).to(self.device)
        cu_q, cu_k = (starts(x).to(self.device, non_blocking=True) for x in (layout.q_length, keys))
        return rows, cu_q, cu_k, int(layout.q_length.max()), int(keys.max())
