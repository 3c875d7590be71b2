"""The arithmetic of `ops` for CPUs: our own kernels between the matrix products, in bfloat16, float32, int8 or int16.

Matrix products in whole numbers: a weight matrix has one scale for each output and the activations have one scale for
each row. Before that, both are multiplied block by block with a Hadamard matrix, which is a rotation: their product
stays the same, and one large value is spread over its block, so that it does not cost the other values their precision
(the idea of QuaRot, Ashkboos et al. 2024). On the embedded judge the rotation lowers the error of a logit in int8 from
0.09 to 0.02 (root mean square).

Letters in the comments on shapes, as in `ops`:
    N rows (tokens)             D width of the model            I width of the MLP
    H query heads               G key-value heads               E size of a head
"""

import ctypes
from math import isqrt

import numpy as np
import torch
from torch.nn import functional as F

from harness_plugin.engine.ops import Rows, TorchOps, joined, joined_bias
from harness_plugin.engine.shape import Shape
from harness_plugin.errors import ModelError
from harness_plugin.kernels.instructions import has_int8, has_int16
from harness_plugin.kernels.library import Out, kernels

BLOCK = 64  # the size of a block of the Hadamard rotation; larger blocks gave no smaller errors
LARGEST = 2**13 - 1  # number in int16 whose product with another is exact: see kernels/product.c


def address(x) -> int:
    """The memory address of the values of a tensor or an array, for a kernel; 0 (NULL in C) for None."""
    return 0 if x is None else x.ctypes.data if isinstance(x, np.ndarray) else x.data_ptr()


def block_of(width: int) -> int:
    """The largest power of two that divides a width, at most BLOCK."""
    return min(BLOCK, width & -width)


class FusedOps(TorchOps):
    """bfloat16 or float32. Each step between two matrix products reads and writes its rows only once.

    Where the kernels cannot be compiled, every step is that of `TorchOps`. Shapes are those of `TorchOps`.
    """

    format = "packed"

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, dtype, device)
        self.kernels = kernels()
        self.float32 = dtype is torch.float32
        heads = shape.heads
        fits = heads.size % 64 == 0 and not heads.softcap and heads.queries // heads.keys <= 48
        self.fused_attention = getattr(self.kernels, self._attention_name(), None) if fits else None
        self.format += "-fused" if self.kernels else ""

    def _attention_name(self) -> str:
        return "attention_float" if self.float32 else "attention_bf16"

    def _out(self, rows: int, width: int) -> tuple[Rows, Out]:
        """Memory for an activation (N, width), and the same as the kernels take it."""
        values = torch.empty(rows, width, dtype=self.dtype)
        return (values, None), Out(values.data_ptr(), None, width, 1, 0)

    def add_norm(self, y, after, residual, before):
        if self.kernels is None:
            return super().add_norm(y, after, residual, before)
        rows, width = residual.shape  # N, D; the kernel adds to `residual` in place
        x, out = (None, Out()) if before is None else self._out(rows, width)
        y, scale = (None, None) if y is None else y
        pointers = map(address, (y, scale, after, residual, before))
        self.kernels.add_norm(self.float32, *pointers, out, rows, width, self.eps)
        return residual, x

    def split(self, qkv, norm_q, norm_k, angles, positions):
        if self.kernels is None:
            return super().split(qkv, norm_q, norm_k, angles, positions)
        x, scale = qkv  # (N, (H + 2 G) * E), and in int8 (N,); the kernel writes q, k and v in place
        h = self.heads
        pointers = map(address, (x, scale, norm_q, norm_k, *angles, positions))
        self.kernels.rotate(self.float32, *pointers, len(x), h.queries, h.keys, h.size, self.eps)
        # (N, H + 2 G, E) -> (N, H, E), (N, G, E), (N, G, E): views with gaps between the rows
        return x.view(len(x), -1, h.size).split((h.queries, h.keys, h.keys), dim=1)

    def attend(self, q, k, v, layout, window):
        if self.fused_attention is None:
            return super().attend(q, k, v, layout, window)
        h = self.heads
        out = torch.empty(len(q), h.queries * h.size, dtype=self.dtype)  # (T, H * E)
        out[int(layout.q_length.sum()) :] = 0  # the padding rows, which belong to no segment
        segments = map(address, (layout.q_start, layout.q_length, layout.ptr, layout.start, layout.length))
        failed = self.fused_attention(
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
        x, out = self._out(rows, width // 2)  # (N, I)
        form = self.shape.activation
        self.kernels.gated(self.float32, *map(address, gate_up), out, rows, width // 2, form.linear, form.cubic)
        return x


class WholeNumberOps(FusedOps):
    """What the formats of whole numbers share: the products of `Int8Ops` and `Int16Ops`, the rest as in `FusedOps`."""

    name: str
    kernels: ctypes.CDLL

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, dtype, device)
        if self.kernels is None:
            raise ModelError(
                f"dtype={self.name} needs a C compiler, and there is none",
                "the kernels that it runs are compiled on this machine at the first use",
                "install gcc, or use dtype=float32",
            )

    def rotated_weight(self, *linears) -> torch.Tensor:
        """The joined matrix (out, in) in float32, each row rotated block by block."""
        weight = joined(*linears).float()  # (out, in)
        block = block_of(weight.shape[1])
        return hadamard(weight, block) / block**0.5

    def attend(self, q, k, v, layout, window):
        mixed = super().attend(q, k, v, layout, window)[0].contiguous()  # (T, H * E)
        x, out = self._out(*mixed.shape)
        self.kernels.quantize(self.float32, address(mixed), out, *mixed.shape)
        return x


class Int8Ops(WholeNumberOps):
    """int8, by oneDNN; activations are bfloat16 between the products.

    They are uint8 around 128 in a product, because oneDNN multiplies unsigned by signed bytes. The product of a matrix
    is bfloat16 and still has to be multiplied by the scale of its row, which is passed on as the second of the pair.
    """

    name, format = "int8", "packed-int8"

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, dtype, device)
        if not has_int8():
            raise ModelError(
                "dtype=int8 does not work on this CPU",
                "the CPU adds int8 products in 16 bits, which overflow, so the logits would be wrong",
                "use dtype=auto",
            )

    def _out(self, rows, width):
        values, scale = torch.empty(rows, width, dtype=torch.uint8), torch.empty(rows)
        return (values, scale), Out(values.data_ptr(), scale.data_ptr(), width, block_of(width), 127)

    def weight(self, *linears):
        """The joined matrix (out, in) as oneDNN takes it, (int8 weights, scales (out,), zero points (out,)), and the
        joined bias (out,) or None."""
        rotated = self.rotated_weight(*linears)  # (out, in)
        scales = rotated.abs().amax(1).clamp_min(1e-12) / 127  # (out,)
        whole = (rotated / scales[:, None]).round().to(torch.int8)  # (out, in)
        # oneDNN chooses its own order in memory; 1024 rows is a hint of how many to expect
        prepacked = torch.ops.onednn.qlinear_prepack(whole, [1024, whole.shape[1]])  # (in, out)
        return (prepacked, scales, torch.zeros(len(whole), dtype=torch.int32)), joined_bias(*linears)

    def linear(self, x, weight):
        (rows, scale), (matrix, bias) = x, weight  # (N, in) uint8, (N,)
        y = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 128, *matrix, None, 1.0, 0, torch.bfloat16, "none", [], ""
        )  # (N, out) bfloat16
        if bias is None:
            return y, scale  # the step that reads the product multiplies it by the scale of each row
        return torch.addcmul(bias.float(), y.float(), scale[:, None]).bfloat16(), None


class Int16Ops(WholeNumberOps):
    """int16, by our own product and attention; activations are float32 between them.

    The numbers of a product have about 12 bits, as many as a sum in 32 bits allows, which is four more than bfloat16
    has.
    """

    name, format = "int16", "packed-int16"
    GAP = 32  # unused columns at the end of a row: rows that are a power of two apart would share few places of a cache

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, dtype, device)
        if not has_int16() or not hasattr(self.kernels, "product"):
            raise ModelError("dtype=int16 does not work on this CPU", "it has no AVX2", "use dtype=auto")

    def _attention_name(self):
        return "attention_int16"

    def _out(self, rows, width):
        stride = width + self.GAP
        values, scale = torch.empty(rows, stride, dtype=torch.int16), torch.empty(rows)
        if width % 4:
            values[:, width:] = 0  # the product reads up to three columns of the gap: see `weight`
        out = Out(values.data_ptr(), scale.data_ptr(), stride, block_of(width), largest_activation(width))
        return (values, scale), out

    def weight(self, *linears):
        """The joined matrix (out, in) in the panels of product.c, its scales (out,), the joined bias (out,) or None,
        and in, rounded up to a multiple of 4."""
        rotated = self.rotated_weight(*linears)  # (out, in)
        most = largest_activation(rotated.shape[1])
        # The product adds up pairs in each half of the columns. Columns of zeros make their number a
        # multiple of 4; in the rows of the activations zeros of the gap stand there.
        rotated = F.pad(rotated, (0, -rotated.shape[1] % 4))
        out, width = rotated.shape
        # |sum over k of x w| <= largest activation * sum of |w|. The sum of the rounded |w| is at most that of |w| plus
        # width / 2, so with these scales no sum leaves 32 bits, whatever the activations are.
        largest_sum = (2**31 - 1) / most - width / 2
        scales = torch.maximum(rotated.abs().sum(1) / largest_sum, rotated.abs().amax(1) / LARGEST).clamp_min(1e-30)
        whole = (rotated / scales[:, None]).round().to(torch.int16)  # (out, in)
        pair = 2 * self.kernels.panel()
        panels = torch.empty(-(-out // pair) * pair, width, dtype=torch.int16)
        self.kernels.pack_panels(address(whole), address(panels), out, width)
        return panels, scales, joined_bias(*linears), width

    def linear(self, x, weight):
        (rows, scale), (panels, scales, bias, width) = x, weight  # (N, in + GAP), (N,)
        y = torch.empty(len(rows), len(scales))  # (N, out)
        pointers = map(address, (scale, panels, scales, bias, y))
        if self.kernels.product(address(rows), rows.stride(0), *pointers, len(rows), width, len(scales)):
            raise torch.OutOfMemoryError("out of memory in a product")
        return y, None

    def gated_product(self, x, weight):
        (rows, scale), (panels, scales, bias, width) = x, weight
        half = len(scales) // 2  # I
        if bias is not None or half % self.kernels.panel():
            return super().gated_product(x, weight)
        y, out = self._out(len(rows), half)  # (N, I)
        form = self.shape.activation
        pointers = map(address, (scale, panels, scales))
        failed = self.kernels.gated_product(
            address(rows), rows.stride(0), *pointers, out, len(rows), width, half, form.linear, form.cubic
        )
        if failed:
            raise torch.OutOfMemoryError("out of memory in a gated product")
        return y


def largest_activation(width: int) -> int:
    """The largest whole number of an activation in int16 where `width` products are added.

    Weights are like draws from a normal distribution after the rotation: the mean of |w| is about a fifth of the
    largest. So this leaves about as many bits to the weights as it gives to the activations.
    """
    return min(LARGEST, isqrt(2**33 // width))


def hadamard(x: torch.Tensor, block: int) -> torch.Tensor:
    """x (n, width) with each block of each row multiplied by the Hadamard matrix of size `block`, a power of two.

    The matrix has entries 1 and -1; divided by sqrt(block) it is a rotation.
    """
    for step in (1 << i for i in range(block.bit_length() - 1)):
        low, high = x.reshape(len(x), -1, 2, step).unbind(2)  # (n, width / (2 * step), step) each
        x = torch.stack((low + high, low - high), 2).reshape(len(x), -1)  # (n, width)
    return x
