"""What the tests of our kernels share: the shape of a decoder, and whether the machine can run the kernels."""

import pytest
import torch

from harness_plugin.engine.shape import GELU, Heads, Shape
from harness_plugin.kernels import instructions, library

CPU, EPS = torch.device("cpu"), 1e-6
HEADS = Heads(queries=4, keys=2, size=64, scale=0.125, softcap=None)
SHAPE = Shape(HEADS, EPS, GELU, norm_offset=1.0, embedding_factor=1.0, kinds=(), windows=())
NO_COMPILER = library.kernels() is None
needs_a_compiler = pytest.mark.skipif(NO_COMPILER, reason="no C compiler here")
needs_int8 = pytest.mark.skipif(NO_COMPILER or not instructions.has_int8(), reason="no compiler, or a CPU without VNNI")
needs_int16 = pytest.mark.skipif(
    NO_COMPILER or not instructions.has_int16(), reason="no compiler, or a CPU without AVX2"
)
