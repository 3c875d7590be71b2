"""Attention of packed sequences in torch: segments of queries, each with its own run of keys, causal at the end."""

import inspect

import torch
from torch.nn import functional as F

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before PyTorch 2.10
    varlen_attn = None


def flash_runs_on(device: torch.device) -> bool:
    """Whether PyTorch's variable-length flash attention does: on CUDA from Ampere (compute capability 8.0) on."""
    return device.type == "cuda" and varlen_attn is not None and torch.cuda.get_device_capability(device) >= (8, 0)


class Attention:
    """Attends as a `packing.Layout` says: on CUDA with PyTorch's variable-length flash attention, where the dtype and
    the PyTorch here allow it; else segment by segment."""

    def __init__(self, heads, device: torch.device):
        self.heads, self.device = heads, device
        self.flash = not heads.softcap and flash_runs_on(device)
        # needed from 2.13 on; before, grouped queries need no word
        grouped = self.flash and "enable_gqa" in inspect.signature(varlen_attn).parameters
        self._options = {"enable_gqa": heads.queries != heads.keys} if grouped else {}
        self._moved: tuple = (None, None)

    def __call__(self, q, k, v, layout, window: int) -> torch.Tensor:
        """q (queries, heads, size), k and v (rows, key heads, size) -> (queries, heads, size)."""
        if self.flash and q.dtype in (torch.bfloat16, torch.float16):
            return self._flash(q, k, v, layout, window)
        out = torch.zeros_like(q)
        for s in range(len(layout.q_start)):
            first, count = int(layout.q_start[s]), int(layout.q_length[s])
            runs = range(layout.ptr[s], layout.ptr[s + 1])
            spans = [slice(int(layout.start[r]), int(layout.start[r] + layout.length[r])) for r in runs]
            keys, values = (torch.cat([x[span] for span in spans]) for x in (k, v))
            out[first : first + count] = self._segment(q[first : first + count], keys, values, window)
        return out

    def _segment(self, q, k, v, window: int) -> torch.Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        at = torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=q.device)[:, None]
        key = torch.arange(k.shape[2], device=q.device)[None]
        seen = (key <= at) & (key > at - window) if window else key <= at
        if not self.heads.softcap:
            plain = q.shape[2] == k.shape[2] and not (window and k.shape[2] > window)
            mask = {"is_causal": True} if plain else {"attn_mask": seen}
            out = F.scaled_dot_product_attention(q, k, v, scale=self.heads.scale, enable_gqa=True, **mask)
            return out[0].transpose(0, 1)
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = (q @ k.transpose(2, 3)).to(torch.promote_types(q.dtype, torch.float32)) * self.heads.scale
        scores = (scores / self.heads.softcap).tanh() * self.heads.softcap
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(q.dtype)
        return (weights @ v)[0].transpose(0, 1)

    def _flash(self, q, k, v, layout, window: int) -> torch.Tensor:
        if self._moved[0] is not layout:  # the same for every layer: moved to the device once
            self._moved = (layout, self._device_layout(layout))
        rows, cu_q, cu_k, most_q, most_k = self._moved[1]
        if rows is not None:
            k, v = k.index_select(0, rows), v.index_select(0, rows)
        return varlen_attn(
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
        def starts(lengths):
            return F.pad(torch.as_tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0))

        keys = layout.keys
        own = len(layout.start) == len(layout.q_start) and (layout.start == layout.q_start).all()
        rows = None if own and (keys == layout.q_length).all() else torch.as_tensor(layout.rows()).to(self.device)
        cu_q, cu_k = (starts(x).to(self.device, non_blocking=True) for x in (layout.q_length, keys))
        return rows, cu_q, cu_k, int(layout.q_length.max()), int(keys.max())
