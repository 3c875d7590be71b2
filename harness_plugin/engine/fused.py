"""The arithmetic on CPUs with bfloat16: our own kernels between oneDNN's matrix products, and int8 products.

int8: a matrix has one scale an output, a row of activations one scale, and both are rotated by a Hadamard matrix in
blocks first, which leaves their product as it is and spreads outliers (the idea of QuaRot, Ashkboos et al. 2024).
Measured on the embedded judge, the rotation takes the error of a logit from 0.09 to 0.02 (rms).
"""

import numpy as np
import torch

from harness_plugin.engine.native import kernels
from harness_plugin.engine.ops import Heads, Rows, TorchOps, joined
from harness_plugin.errors import ModelError

BLOCK = 64  # of the Hadamard rotation; larger ones measure no better


def cpu_has_int8() -> bool:
    """Whether products of int8 are summed in 32 bits: VNNI or AMX on x86."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(found.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def at(x) -> int:
    """Where a tensor's or an array's values lie, 0 for None."""
    return 0 if x is None else x.ctypes.data if isinstance(x, np.ndarray) else x.data_ptr()


def block_of(width: int) -> int:
    """The largest power of two that divides a width, at most BLOCK."""
    return min(BLOCK, width & -width)


class FusedOps(TorchOps):
    """bfloat16 rows; norm, residual, rotation and GELU in one pass each. Without a compiler: `TorchOps`."""

    format = "packed"
    reduced = False

    def __init__(self, heads: Heads, eps: float, dtype: torch.dtype, device: torch.device):
        super().__init__(heads, eps, dtype, device)
        self.kernels = kernels()
        own = self.kernels is not None and hasattr(self.kernels, "attention")
        self.fused_attention = own and heads.size % 64 == 0 and not heads.softcap and heads.queries // heads.keys <= 48
        self.format += "-fused" if self.kernels else ""

    def _empty(self, rows: int, width: int) -> Rows:
        """Where an activation goes."""
        if self.reduced:
            return torch.empty(rows, width, dtype=torch.uint8), torch.empty(rows)
        return torch.empty(rows, width, dtype=torch.bfloat16), None

    def add_norm(self, y, after, residual, before):
        if self.kernels is None:
            return super().add_norm(y, after, residual, before)
        rows, width = residual.shape
        x = (None, None) if before is None else self._empty(rows, width)
        y, scale = (None, None) if y is None else y
        self.kernels.add_norm(
            at(y),
            at(scale),
            at(after),
            at(residual),
            at(before),
            at(x[0]),
            at(x[1]),
            rows,
            width,
            block_of(width),
            self.eps,
        )
        return residual, None if before is None else x

    def split(self, qkv, norm_q, norm_k, angles, positions):
        if self.kernels is None:
            return super().split(qkv, norm_q, norm_k, angles, positions)
        x, scale = qkv
        h, cos, sin = self.heads, *angles
        self.kernels.rotate(
            at(x),
            at(scale),
            at(norm_q),
            at(norm_k),
            at(cos),
            at(sin),
            at(positions),
            len(x),
            h.queries,
            h.keys,
            h.size,
            self.eps,
        )
        return x.view(len(x), -1, h.size).split((h.queries, h.keys, h.keys), dim=1)

    def attend(self, q, k, v, layout, window):
        if not self.fused_attention:
            return super().attend(q, k, v, layout, window)
        h = self.heads
        out = torch.empty(len(q), h.queries * h.size, dtype=torch.bfloat16)
        out[int(layout.q_length.sum()) :] = 0  # rows that fill up
        failed = self.kernels.attention(
            at(q),
            q.stride(0),
            at(k),
            at(v),
            k.stride(0),
            at(out),
            len(layout.q_start),
            at(layout.q_start),
            at(layout.q_length),
            at(layout.ptr),
            at(layout.start),
            at(layout.length),
            h.queries,
            h.keys,
            h.size,
            h.scale,
            window,
        )
        if failed:
            raise torch.OutOfMemoryError("out of memory in attention")
        return out, None

    def gated(self, gate_up):
        if self.kernels is None:
            return super().gated(gate_up)
        rows, width = gate_up[0].shape
        x, scale = self._empty(rows, width // 2)
        self.kernels.gated_gelu(
            at(gate_up[0]), at(gate_up[1]), at(x), at(scale), rows, width // 2, block_of(width // 2)
        )
        return x, scale


class Int8Ops(FusedOps):
    """Matrix products of whole numbers of 8 bits, everything else as in `FusedOps`."""

    format = "packed-int8"
    reduced = True

    def __init__(self, heads: Heads, eps: float, dtype: torch.dtype, device: torch.device):
        super().__init__(heads, eps, dtype, device)
        if self.kernels is None:
            raise ModelError(
                "dtype=int8 without a C compiler", "its kernels are compiled here", "install gcc, or use auto"
            )
        if not cpu_has_int8():
            raise ModelError("dtype=int8 on this CPU", "it adds int8 products in 16 bits, which overflow", "use auto")

    def weight(self, *linears):
        """(weights packed by oneDNN, a scale an output, zero points)."""
        weight = joined(*linears)
        out, width = weight.shape
        rotated = hadamard(weight.float(), block_of(width)) / block_of(width) ** 0.5
        scales = rotated.abs().amax(1).clamp_min(1e-12) / 127
        whole = (rotated / scales[:, None]).round().to(torch.int8)
        prepacked = torch.ops.onednn.qlinear_prepack(whole, [1024, width])  # a hint of the rows to expect
        return prepacked, scales, torch.zeros(out, dtype=torch.int32)

    def linear(self, x, weight):
        rows, scale = x
        return torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 128, *weight, None, 1.0, 0, torch.bfloat16, "none", [], ""
        ), scale  # the rows' scales are applied by what reads the product

    def attend(self, q, k, v, layout, window):
        out, _ = super().attend(q, k, v, layout, window)
        x, scale = self._empty(*out.shape)
        self.kernels.quantize(at(out.contiguous()), at(x), at(scale), *out.shape, block_of(out.shape[1]))
        return x, scale


def hadamard(x: torch.Tensor, block: int) -> torch.Tensor:
    """Rows, each block of them times the Hadamard matrix of its size, not scaled."""
    for step in (1 << i for i in range(block.bit_length() - 1)):
        low, high = x.reshape(len(x), -1, 2, step).unbind(2)
        x = torch.stack((low + high, low - high), 2).reshape(len(x), -1)
    return x
