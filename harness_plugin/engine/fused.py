"""The arithmetic of `ops` for CPUs: our own kernels between the matrix products of oneDNN, in bfloat16 or int8.

In int8, a weight matrix has one scale for each output and the activations have one scale for each row. Before that,
both are multiplied block by block with a Hadamard matrix, which is a rotation: their product stays the same, and one
large value is spread over its block, so that it does not cost the other values their precision (the idea of QuaRot,
Ashkboos et al. 2024). On the embedded judge the rotation lowers the error of a logit from 0.09 to 0.02 (root mean
square).

Letters in the comments on shapes, as in `ops`:
    N rows (tokens)             D width of the model            I width of the MLP
    H query heads               G key-value heads               E size of a head
"""

import ctypes

import numpy as np
import torch

from harness_plugin.engine.native import kernels
from harness_plugin.engine.ops import Rows, TorchOps, joined, joined_bias
from harness_plugin.engine.shape import Shape
from harness_plugin.errors import ModelError

BLOCK = 64  # the size of a block of the Hadamard rotation; larger blocks gave no smaller errors


def cpu_has_int8() -> bool:
    """Whether this CPU sums products of int8 in 32 bits, as VNNI and AMX of x86 do; 16 bits would overflow."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def address(x) -> int:
    """The memory address of the values of a tensor or an array, for a kernel; 0 (NULL in C) for None."""
    return 0 if x is None else x.ctypes.data if isinstance(x, np.ndarray) else x.data_ptr()


def block_of(width: int) -> int:
    """The largest power of two that divides a width, at most BLOCK."""
    return min(BLOCK, width & -width)


class FusedOps(TorchOps):
    """bfloat16 activations. Each step between two matrix products reads and writes its rows only once.

    Where the kernels cannot be compiled, every step is that of `TorchOps`. Shapes are those of `TorchOps`.
    """

    format = "packed"
    reduced = False

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, dtype, device)
        self.kernels = kernels()
        own, heads = self.kernels is not None and hasattr(self.kernels, "attention"), shape.heads
        self.fused_attention = own and heads.size % 64 == 0 and not heads.softcap and heads.queries // heads.keys <= 48
        self.format += "-fused" if self.kernels else ""

    def _empty(self, rows: int, width: int) -> Rows:
        """Memory for an activation: (N, width) values, and in int8 (N,) scales."""
        if self.reduced:
            return torch.empty(rows, width, dtype=torch.uint8), torch.empty(rows)
        return torch.empty(rows, width, dtype=torch.bfloat16), None

    def add_norm(self, y, after, residual, before):
        if self.kernels is None:
            return super().add_norm(y, after, residual, before)
        rows, width = residual.shape  # N, D; the kernel adds to `residual` in place
        x = (None, None) if before is None else self._empty(rows, width)
        y, scale = (None, None) if y is None else y
        pointers = map(address, (y, scale, after, residual, before, *x))
        self.kernels.add_norm(*pointers, rows, width, block_of(width), self.eps)
        return residual, None if before is None else x

    def split(self, qkv, norm_q, norm_k, angles, positions):
        if self.kernels is None:
            return super().split(qkv, norm_q, norm_k, angles, positions)
        x, scale = qkv  # (N, (H + 2 G) * E) bfloat16, and in int8 (N,); the kernel writes q, k and v in place
        h = self.heads
        pointers = map(address, (x, scale, norm_q, norm_k, *angles, positions))
        self.kernels.rotate(*pointers, len(x), h.queries, h.keys, h.size, self.eps)
        # (N, H + 2 G, E) -> (N, H, E), (N, G, E), (N, G, E): views with gaps between the rows
        return x.view(len(x), -1, h.size).split((h.queries, h.keys, h.keys), dim=1)

    def attend(self, q, k, v, layout, window):
        if self.kernels is None or not self.fused_attention:
            return super().attend(q, k, v, layout, window)
        h = self.heads
        out = torch.empty(len(q), h.queries * h.size, dtype=torch.bfloat16)  # (T, H * E)
        out[int(layout.q_length.sum()) :] = 0  # the padding rows, which belong to no segment
        segments = map(address, (layout.q_start, layout.q_length, layout.ptr, layout.start, layout.length))
        failed = self.kernels.attention(
            address(q),
            q.stride(0),
            address(k),
            address(v),
            k.stride(0),
            address(out),
            len(layout.q_start),
            *segments,
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
        rows, width = gate_up[0].shape  # N, 2 I
        x = self._empty(rows, width // 2)  # (N, I)
        form = self.shape.activation
        pointers = map(address, (*gate_up, *x))
        self.kernels.gated(*pointers, rows, width // 2, block_of(width // 2), form.linear, form.cubic)
        return x


class Int8Ops(FusedOps):
    """Matrix products in int8, everything else as in `FusedOps`.

    The activations are uint8 around 128, because oneDNN multiplies unsigned by signed bytes. The product of a matrix
    is bfloat16 and still has to be multiplied by the scale of its row, which is passed on as the second of the pair.
    """

    format = "packed-int8"
    reduced = True

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, dtype, device)
        library = kernels()
        if library is None:
            raise ModelError(
                "dtype=int8 needs a C compiler, and there is none",
                "the kernels that it runs are compiled on this machine at the first use",
                "install gcc, or use dtype=auto",
            )
        if not cpu_has_int8():
            raise ModelError(
                "dtype=int8 does not work on this CPU",
                "the CPU adds int8 products in 16 bits, which overflow, so the logits would be wrong",
                "use dtype=auto",
            )
        self.kernels: ctypes.CDLL = library

    def weight(self, *linears):
        """The joined matrix (out, in) as oneDNN takes it, (int8 weights, scales (out,), zero points (out,)), and the
        joined bias (out,) or None."""
        weight = joined(*linears)  # (out, in)
        out, width = weight.shape
        rotated = hadamard(weight.float(), block_of(width)) / block_of(width) ** 0.5  # (out, in)
        scales = rotated.abs().amax(1).clamp_min(1e-12) / 127  # (out,)
        whole = (rotated / scales[:, None]).round().to(torch.int8)  # (out, in)
        # oneDNN chooses its own order in memory; 1024 rows is a hint of how many to expect
        prepacked = torch.ops.onednn.qlinear_prepack(whole, [1024, width])  # (in, out)
        return (prepacked, scales, torch.zeros(out, dtype=torch.int32)), joined_bias(*linears)

    def linear(self, x, weight):
        (rows, scale), (matrix, bias) = x, weight  # (N, in) uint8, (N,)
        y = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 128, *matrix, None, 1.0, 0, torch.bfloat16, "none", [], ""
        )  # (N, out) bfloat16
        if bias is None:
            return y, scale  # the step that reads the product multiplies it by the scale of each row
        return torch.addcmul(bias.float(), y.float(), scale[:, None]).bfloat16(), None

    def attend(self, q, k, v, layout, window):
        out = super().attend(q, k, v, layout, window)[0].contiguous()  # (T, H * E) bfloat16
        x = self._empty(*out.shape)  # (T, H * E) uint8, (T,)
        self.kernels.quantize(*map(address, (out, *x)), *out.shape, block_of(out.shape[1]))
        return x


def hadamard(x: torch.Tensor, block: int) -> torch.Tensor:
    """x (n, width) with each block of each row multiplied by the Hadamard matrix of size `block`, a power of two.

    The matrix has entries 1 and -1; divided by sqrt(block) it is a rotation.
    """
    for step in (1 << i for i in range(block.bit_length() - 1)):
        low, high = x.reshape(len(x), -1, 2, step).unbind(2)  # (n, width / (2 * step), step) each
        x = torch.stack((low + high, low - high), 2).reshape(len(x), -1)  # (n, width)
    return x
