"""The arithmetic of a decoder in torch, step by step, on any device and in any floating dtype.

Rows are tokens. The residual stream stays in float32 (float64 for a float64 model); everything else has the dtype of
the model. `fused` has the same steps for CPUs, in bfloat16 and int8, and overrides what it computes in another way.
Activations are passed as the pair (values, scales): int8 activations have one scale for each row, all others None.

Letters in the comments on shapes:
    N rows (tokens)             D width of the model            I width of the MLP
    H query heads               G key-value heads               E size of a head
"""

import torch
from torch.nn import functional as F

from harness_plugin.engine.attention import Attention
from harness_plugin.engine.shape import Activation, Shape

Rows = tuple[torch.Tensor, torch.Tensor | None]  # values (N, width) and their scales (N,), or None


def add_norm(y, after, residual, before, eps: float, dtype: torch.dtype):
    """Adds a sub-layer's output to the residual stream, and norms the sum for the next sub-layer.

    y (N, D) or None, residual (N, D); `after` and `before` are the (D,) weights of the RMS norms, or None for no norm.
    Returns (residual + norm_after(y), norm_before of that), both (N, D); the second is None without `before`.
    """
    width = residual.shape[-1:]
    if y is not None:
        y = y.to(residual.dtype)
        residual = residual + (y if after is None else F.rms_norm(y, width, after, eps))
    return residual, None if before is None else F.rms_norm(residual, width, before, eps).to(dtype)


def rotated(x, norm, cos, sin, eps: float):
    """Rotary embedding of heads x (N, H or G, E), after an RMS norm of each head where a `norm` (E,) is given.

    cos and sin are (N, E / 2). Values i and i + E / 2 of a head are one point in a plane, turned by angle i of the row.
    """
    wide = x.to(cos.dtype)  # (N, H or G, E)
    wide = wide if norm is None else F.rms_norm(wide, wide.shape[-1:], norm, eps)
    low, high = wide.chunk(2, dim=-1)  # (N, H or G, E / 2) each
    cos, sin = cos[:, None], sin[:, None]  # (N, 1, E / 2): the same angles for all heads
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).to(x.dtype)  # (N, H or G, E)


def gated(gate_up, activation: Activation):
    """activation(gate) * up: (N, 2 I) rows [gate | up] -> (N, I)."""
    gate, up = gate_up.chunk(2, dim=-1)  # (N, I) each
    return activation.function(gate) * up


def joined(*linears) -> torch.Tensor:
    """The weights (out, in) of several linear layers, one below the other: (sum of the outs, in).

    The layers' own parameters become views of the joined matrix, so that no weight is in memory twice.
    """
    if len(linears) == 1:
        return linears[0].weight.detach()
    whole = torch.cat([linear.weight.detach() for linear in linears])
    for linear, part in zip(linears, whole.split([linear.out_features for linear in linears]), strict=True):
        linear.weight.data = part
    return whole


def joined_bias(*linears) -> torch.Tensor | None:
    """The biases of the same layers, (sum of the outs,), zeros for a layer without one; None if none has one."""
    if all(linear.bias is None for linear in linears):
        return None
    return torch.cat([x.weight.new_zeros(len(x.weight)) if x.bias is None else x.bias.detach() for x in linears])


class TorchOps:
    """The plain arithmetic."""

    format = "packed"

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device):
        self.shape, self.dtype, self.device = shape, dtype, device
        self.heads, self.eps = shape.heads, shape.eps
        self.multiple = 32 if device.type == "cpu" else 1  # N is padded up to a multiple of it
        self.wide = torch.float64 if dtype is torch.float64 else torch.float32
        self.attention = Attention(shape.heads, device)
        self._add_norm, self._rotated, self._gated = add_norm, rotated, gated

    def compile(self) -> None:
        """From here on, torch.compile runs the elementwise steps; on a GPU this pays over a long job."""
        self._add_norm, self._rotated, self._gated = (
            torch.compile(f, dynamic=True) for f in (add_norm, rotated, gated)
        )

    def weight(self, *linears):
        """The matrices and biases of linear layers that read the same rows, joined, in the form that `linear` takes."""
        return joined(*linears), joined_bias(*linears)

    def linear(self, x: Rows, weight) -> Rows:
        """x (N, in) and a weight ((out, in), bias (out,) or None) -> (N, out)."""
        return F.linear(x[0], *weight), None

    def add_norm(self, y: Rows | None, after, residual, before) -> tuple[torch.Tensor, Rows | None]:
        """The function `add_norm` on activations: (residual (N, D), its normed rows (N, D))."""
        residual, x = self._add_norm(None if y is None else y[0], after, residual, before, self.eps, self.dtype)
        return residual, None if x is None else (x, None)

    def split(self, qkv: Rows, norm_q, norm_k, angles, positions):
        """Queries (N, H, E), keys and values (N, G, E) from rows [q | k | v]; `rotated` is applied to q and k.

        `angles`: tables of cos and sin, (positions, E / 2); `positions`: (N,).
        """
        h = self.heads
        cos, sin = (table[positions] for table in angles)  # (N, E / 2) each
        heads = qkv[0].view(len(qkv[0]), -1, h.size)  # (N, (H + 2 G) * E) -> (N, H + 2 G, E)
        q, k, v = heads.split((h.queries, h.keys, h.keys), dim=1)  # (N, H, E), (N, G, E), (N, G, E)
        return self._rotated(q, norm_q, cos, sin, self.eps), self._rotated(k, norm_k, cos, sin, self.eps), v

    def attend(self, q, k, v, layout, window: int) -> Rows:
        """Attention for a layout of the pack: q (T, H, E), k and v (N, G, E) -> (T, H * E), T query rows.

        `window`: how many keys a query sees, itself included; 0: all keys up to its own position.
        """
        return self.attention(q, k, v, layout, window).flatten(1), None  # (T, H, E) -> (T, H * E)

    def gated(self, gate_up: Rows) -> Rows:
        """The function `gated` on activations: (N, 2 I) -> (N, I)."""
        return self._gated(gate_up[0], self.shape.activation), None

    def gated_product(self, x: Rows, weight) -> Rows:
        """The first half of an MLP: rows x (N, D) and the joined weight of gate and up -> (N, I)."""
        return self.gated(self.linear(x, weight))
