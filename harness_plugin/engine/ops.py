"""What a decoder computes between and in its matrix products, in torch: on any device, in any floating dtype.

Rows are tokens. The residual stream stays in float32 (float64 for a float64 model), everything else in the model's
dtype. Formats with less (`fused`) override what they do otherwise; values travel as (rows, scales), a scale for each
row that was reduced to whole numbers, None where nothing was.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from harness_plugin.engine.attention import Attention

Rows = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class Heads:
    """The shape of attention: query heads, key-value heads, their size; the factor on scores; tanh softcap or None."""

    queries: int
    keys: int
    size: int
    scale: float
    softcap: float | None


def add_norm(y, after, residual, before, eps: float, dtype: torch.dtype):
    """(residual + norm(y), norm of that): norm(y) is y itself without `after`, and y may be None."""
    width = residual.shape[-1:]
    if y is not None:
        y = y.to(residual.dtype)
        residual = residual + (y if after is None else F.rms_norm(y, width, after, eps))
    return residual, None if before is None else F.rms_norm(residual, width, before, eps).to(dtype)


def rotated(x, norm, cos, sin, eps: float):
    """Heads x (rows, heads, size), normalised where a norm is given, turned by (rows, size / 2) angles."""
    wide = x.to(cos.dtype)
    wide = wide if norm is None else F.rms_norm(wide, wide.shape[-1:], norm, eps)
    low, high = wide.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).to(x.dtype)


def gated_gelu(gate_up):
    """gelu(gate) * up in GELU's tanh form, from rows [gate | up]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up


def joined(*linears) -> torch.Tensor:
    """The layers' matrices one below the other. Their own parameters become views of it, so that no weight is held
    twice."""
    if len(linears) == 1:
        return linears[0].weight.detach()
    whole = torch.cat([linear.weight.detach() for linear in linears])
    for linear, part in zip(linears, whole.split([linear.out_features for linear in linears]), strict=True):
        linear.weight.data = part
    return whole


class TorchOps:
    """The plain arithmetic. `compiled`: torch.compile the elementwise parts, which pays on a GPU over a long job."""

    format = "packed"

    def __init__(self, heads: Heads, eps: float, dtype: torch.dtype, device: torch.device):
        self.heads, self.eps, self.dtype, self.device = heads, eps, dtype, device
        self.multiple = 32 if device.type == "cpu" else 1  # of the rows of every matrix product
        self.wide = torch.float64 if dtype is torch.float64 else torch.float32
        self.attention = Attention(heads, device)
        self._add_norm, self._rotated, self._gated = add_norm, rotated, gated_gelu

    def compile(self) -> None:
        self._add_norm, self._rotated, self._gated = (
            torch.compile(f, dynamic=True) for f in (add_norm, rotated, gated_gelu)
        )

    def weight(self, *linears):
        """The matrices (out, in) of linear layers that read the same rows, in one, as `linear` wants it."""
        return joined(*linears)

    def linear(self, x: Rows, weight) -> Rows:
        return F.linear(x[0], weight), None

    def add_norm(self, y: Rows | None, after, residual, before) -> tuple[torch.Tensor, Rows | None]:
        residual, x = self._add_norm(None if y is None else y[0], after, residual, before, self.eps, self.dtype)
        return residual, None if x is None else (x, None)

    def split(self, qkv: Rows, norm_q, norm_k, angles, positions):
        """Queries, keys, values (rows, heads, size) from rows [q | k | v]; the first two normalised and turned."""
        h = self.heads
        cos, sin = (table[positions] for table in angles)
        heads = qkv[0].view(len(qkv[0]), -1, h.size)
        q, k, v = heads.split((h.queries, h.keys, h.keys), dim=1)
        return self._rotated(q, norm_q, cos, sin, self.eps), self._rotated(k, norm_k, cos, sin, self.eps), v

    def attend(self, q, k, v, layout, window: int) -> Rows:
        """Rows (queries, heads * size) for a layout of the pack; window 0: everything before."""
        return self.attention(q, k, v, layout, window).flatten(1), None

    def gated(self, gate_up: Rows) -> Rows:
        return self._gated(gate_up[0]), None
