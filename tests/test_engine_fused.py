"""The steps of our kernels give what torch gives, in bfloat16, float32 and int8."""

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kernel_needs import CPU, EPS, SHAPE, needs_a_compiler, needs_int8
from torch.nn import functional as F

from harness_plugin.engine.fused import FusedOps, Int8Ops, hadamard
from harness_plugin.engine.ops import TorchOps
from harness_plugin.engine.packing import packed
from harness_plugin.engine.shape import GELU, SILU
from harness_plugin.kernels import instructions

# What each dtype of the activations may differ by, of the largest value.
DTYPES = pytest.mark.parametrize(
    "dtype, digits", [(torch.bfloat16, 2.0**-8), (torch.float32, 2.0**-20)], ids=["bfloat16", "float32"]
)


def both(dtype, shape=SHAPE):
    return FusedOps(shape, dtype, CPU), TorchOps(shape, torch.float32, CPU)


def close(found, expected, digits):
    """Within a share of the largest value."""
    return (found.float() - expected.float()).abs().max() <= digits * expected.abs().max()


@needs_a_compiler
@DTYPES
@pytest.mark.parametrize("width", [32, 64, 96, 640])
def test_norm_and_residual(draw, width, dtype, digits):
    fused, plain = both(dtype)
    y, residual = torch.randn(7, width, generator=draw).to(dtype), torch.randn(7, width, generator=draw)
    after, before = (1 + 0.1 * torch.randn(width, generator=draw) for _ in range(2))
    for a, b in ((after, before), (None, before), (after, None)):
        r, x = fused.add_norm((y, None), a, residual.clone(), b)
        r_expected, x_expected = plain.add_norm((y.float(), None), a, residual, b)
        assert torch.allclose(r, r_expected, atol=1e-5)
        assert x is None if b is None else close(x[0], x_expected[0], digits)
    _, x = fused.add_norm(None, None, residual.clone(), before)
    assert close(x[0], plain.add_norm(None, None, residual, before)[1][0], digits)


@needs_a_compiler
@DTYPES
def test_rotation_of_queries_and_keys(draw, dtype, digits):
    fused, plain = both(dtype)
    qkv = torch.randn(9, 8 * 64, generator=draw).to(dtype)
    angles = torch.rand(50, 32, generator=draw) * 6
    positions = torch.randint(50, (9,), generator=draw, dtype=torch.int32)
    tables = (angles.cos(), angles.sin())
    for norms in ((None, None), tuple(1 + torch.rand(64, generator=draw) for _ in range(2))):
        expected = plain.split((qkv.float(), None), *norms, tables, positions)
        found = fused.split((qkv.clone(), None), *norms, tables, positions)
        assert all(close(f, e, digits) for f, e in zip(found, expected, strict=True))


@needs_a_compiler
@DTYPES
@pytest.mark.parametrize("activation", [GELU, SILU])
def test_the_gate_over_all_its_range(draw, activation, dtype, digits):
    fused, plain = both(dtype, replace(SHAPE, activation=activation))
    gate_up = (torch.randn(5, 2 * 96, generator=draw) * 8).to(dtype)
    gate_up[0, :4] = torch.tensor([0.0, -100.0, 100.0, 3e4])
    assert close(fused.gated((gate_up, None))[0], plain.gated((gate_up.float(), None))[0], digits)


@needs_a_compiler
@DTYPES
@pytest.mark.parametrize("window", [0, 20, 64])
def test_attention_of_packs_with_shared_beginnings(draw, window, dtype, digits):
    fused, plain = both(dtype)
    if not fused.fused_attention:
        pytest.skip("this CPU has no AVX512-BF16")
    stem = tuple(range(100))
    sequences = [stem + (200 + n,) * n for n in (1, 7, 64, 130)] + [(5,) * 3, stem[:50] + (7,) * 20]
    (pack,) = packed(sequences, 10**6)
    q, k, v = (torch.randn(len(pack.ids), h, 64, generator=draw).to(dtype) for h in (4, 2, 2))
    for layout, queries in ((pack.layout, q), (pack.last_layout, q[pack.last])):
        expected, _ = plain.attend(queries.float(), k.float(), v.float(), layout, window)
        assert close(fused.attend(queries.contiguous(), k, v, layout, window)[0], expected, 2 * digits)


@pytest.mark.parametrize("block", [1, 2, 64])
def test_the_hadamard_transform_is_that_of_its_matrix(draw, block):
    matrix = torch.ones(1, 1)
    while len(matrix) < block:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    x = torch.randn(3, 128, generator=draw)
    assert torch.allclose(hadamard(x, block), (x.view(3, -1, block) @ matrix).reshape(3, 128), atol=1e-4)


@needs_int8
@pytest.mark.parametrize("width", [96, 128, 640])
def test_int8_products_are_those_of_the_matrices_to_two_digits(draw, width):
    ops = Int8Ops(SHAPE, torch.bfloat16, CPU)
    weight, residual = torch.randn(48, width, generator=draw) * 0.1, torch.randn(200, width, generator=draw)
    residual[:, 3] *= 50  # an outlier as Gemma's activations have them
    ones = torch.ones(width)
    linear = torch.nn.Linear(width, 48, bias=False)
    linear.weight.data = weight
    _, x = ops.add_norm(None, None, residual.clone(), ones)
    product, scale = ops.linear(x, ops.weight(linear))
    expected = F.rms_norm(residual, (width,), ones, EPS) @ weight.T
    error = (product.float() * scale[:, None] - expected).square().mean().sqrt()
    assert error < 0.02 * expected.square().mean().sqrt()
    linear.bias = torch.nn.Parameter(torch.randn(48, generator=draw))
    product, scale = ops.linear(x, ops.weight(linear))
    assert scale is None  # it had to be used before the bias was added
    error = (product.float() - (expected + linear.bias)).square().mean().sqrt()
    assert error < 0.02 * expected.square().mean().sqrt()


@needs_a_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the limits are those of x86")
@pytest.mark.parametrize("limit", ["avx2", "default"])
def test_the_kernels_compute_the_same_with_fewer_instructions(limit):
    """In a process of its own, since a library is loaded once: the tests above in float32, and those of int16."""
    chosen = "float32 and (norm or rotation or gate or attention) or int16_products or int16_attention"
    files = __file__, Path(__file__).with_name("test_engine_int16.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files, "-k", chosen]
    done = subprocess.run(
        command, env=os.environ | {instructions.LIMIT: limit}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "[100%]" in done.stdout, done.stdout[-2000:]
