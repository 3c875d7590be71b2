"""The int16 kernels: products are exact sums, and attention keeps its digits beside numbers that are far larger."""

import pytest
import torch
from kernel_needs import CPU, EPS, SHAPE, needs_int16
from torch.nn import functional as F

from harness_plugin.engine.fused import FusedOps, Int16Ops, address, block_of, hadamard, largest_activation
from harness_plugin.engine.ops import TorchOps
from harness_plugin.engine.packing import packed


@needs_int16
@pytest.mark.parametrize(
    "rows, width, outs", [(1, 2, 1), (13, 77, 20), (50, 96, 33), (48, 640, 64), (200, 2048, 96), (97, 1101, 70)]
)
def test_int16_products_are_exact_sums_whatever_the_activations_are(draw, rows, width, outs):
    ops = Int16Ops(SHAPE, torch.float32, CPU)
    linear = torch.nn.Linear(width, outs)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(outs, width, generator=draw))
        linear.weight[0] = 1  # after the rotation, all of it is in one number of each block
    weight = ops.weight(linear)
    _, scales, bias, _ = weight
    (x, scale), _ = ops._out(rows, width)
    most = largest_activation(width)
    rotated = hadamard(linear.weight.detach(), block_of(width)) / block_of(width) ** 0.5
    whole = (rotated / scales[:, None]).round().long()
    x[:, :width] = torch.randint(-most, most + 1, (rows, width), generator=draw)
    x[0, :width] = torch.where(whole[-1] < 0, -most, most)  # the largest sum that there can be
    scale[:] = torch.rand(rows, generator=draw)
    found, _ = ops.linear((x, scale), weight)
    sums = x[:, :width].long() @ whole.T
    assert sums.abs().max() < 2**31
    expected = sums.float() * (scales * scale[:, None]) + bias
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


@needs_int16
def test_no_rows_have_a_product_without_rows():
    ops, linear = Int16Ops(SHAPE, torch.float32, CPU), torch.nn.Linear(96, 2 * 96, bias=False)
    (x, scale), _ = ops._out(0, 96)
    assert ops.linear((x, scale), ops.weight(linear))[0].shape == (0, 192)
    assert len(ops.gated_product((x, scale), ops.weight(linear))[0]) == 0


@needs_int16
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_row_that_is_not_finite_leaves_the_products_of_the_other_rows_as_they_are(draw, number):
    """The product adds rows up in 16 bits before it multiplies them: a row of large numbers without a scale would
    change its partner."""
    ops, linear = Int16Ops(SHAPE, torch.float32, CPU), torch.nn.Linear(128, 2 * 96, bias=False)
    residual = torch.randn(20, 128, generator=draw) * 1e4
    weight = ops.weight(linear)

    def product(rows):
        x, out = ops._out(*rows.shape)
        ops.kernels.quantize(True, address(rows), out, *rows.shape)
        return ops.linear(x, weight)[0]

    expected = product(residual)
    residual[15, 3] = number
    found = product(residual)
    assert found[15].isnan().all()
    others = torch.arange(20) != 15
    assert torch.equal(found[others], expected[others])


@needs_int16
@pytest.mark.parametrize("width", [96, 128, 640])
def test_int16_products_are_those_of_the_matrices_to_three_digits(draw, width):
    ops = Int16Ops(SHAPE, torch.float32, CPU)
    residual = torch.randn(200, width, generator=draw)
    residual[:, 3] *= 50  # an outlier as Gemma's activations have them
    ones, linear = torch.ones(width), torch.nn.Linear(width, 2 * 96, bias=False)
    _, x = ops.add_norm(None, None, residual.clone(), ones)
    expected = F.rms_norm(residual, (width,), ones, EPS) @ linear.weight.detach().T
    error = (ops.linear(x, ops.weight(linear))[0] - expected).square().mean().sqrt()
    assert error < 0.001 * expected.square().mean().sqrt()
    whole, scale = ops.gated_product(x, ops.weight(linear))
    apart, scale_apart = ops.gated(ops.linear(x, ops.weight(linear)))  # the same steps, one after the other
    assert torch.allclose(scale, scale_apart, rtol=1e-5)
    assert (whole[:, :96].int() - apart[:, :96].int()).abs().max() <= 1


def attention_pack(window, q, k, v, sequences):
    """Attention in int16, and in torch; q, k and v make the tensors for a number of rows."""
    (pack,) = packed(sequences, 10**6)
    q, k, v = (x(len(pack.ids)) for x in (q, k, v))
    found = FusedOps.attend(Int16Ops(SHAPE, torch.float32, CPU), q, k, v, pack.layout, window)[0]
    return found, TorchOps(SHAPE, torch.float32, CPU).attend(q, k, v, pack.layout, window)[0]


@needs_int16
@pytest.mark.parametrize("window", [0, 20, 150])
@pytest.mark.parametrize("sink", [False, True])
def test_int16_attention_keeps_three_digits_beside_keys_and_values_that_outweigh_the_rest(draw, window, sink):
    stem = tuple(range(200))
    sequences = [stem + (200 + n,) * n for n in (1, 7, 64, 330)] + [(5,) * 3, stem[:50] + (7,) * 20]

    def values(rows):
        v = torch.randn(rows, 2, 64, generator=draw)
        v[:, :, 3] *= 50
        return v

    def keys(rows):
        k = torch.randn(rows, 2, 64, generator=draw)
        k[:, :, 0] = 0
        k[0, :, 0] = 40 if sink else 0  # with a query's 10 there: a weight of about 0.9 at the first key
        return k

    def queries(rows):
        q = torch.randn(rows, 4, 64, generator=draw)
        q[:, :, 0] = 10
        return q

    found, expected = attention_pack(window, queries, keys, values, sequences)
    columns = (x.view(-1, 64) for x in (found - expected, expected))  # (T * H, E) each
    error, size = (x.square().mean(0).sqrt() for x in columns)
    assert (error < 0.001 * size).all()


@needs_int16
@pytest.mark.parametrize("alike", [True, False])
def test_int16_attention_does_not_overflow(alike):
    """Queries and keys that are parallel have the largest products that there can be (all numbers alike, or one that is
    not zero), and values that are all alike the largest sums."""
    row = torch.full((64,), 4.0) if alike else 32 * torch.eye(64)[5]

    def opposite(rows):
        return (-1.0) ** torch.arange(rows)[:, None, None] * torch.ones(rows, 2, 1)  # every second key

    found, expected = attention_pack(
        window=0,
        q=lambda rows: row.repeat(rows, 4, 1),
        k=lambda rows: row * opposite(rows),
        v=lambda rows: torch.cat([torch.ones(rows, 2, 32), opposite(rows).expand(rows, 2, 32)], 2),
        sequences=[tuple(range(300))],
    )
    assert torch.allclose(found, expected, atol=0.002)


@needs_int16
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("broken", ["q", "k", "v"])
def test_int16_attention_shows_a_number_that_is_not_finite_where_it_is_seen(draw, broken, number):
    def rows(name, heads):
        def made(n):
            x = torch.randn(n, heads, 64, generator=draw)
            if name == broken:
                x[9, :, 5] = number
            return x

        return made

    sequences = [tuple(range(10)), tuple(range(20, 50))]
    found, _ = attention_pack(0, rows("q", 4), rows("k", 2), rows("v", 2), sequences)
    assert found[9].view(4, 64)[:, 5].isnan().all() and found[10:].isfinite().all()
