"""Our kernels say what torch says: each by itself, and a whole decoder in each format beside float32."""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from harness_plugin.engine import Engine
from harness_plugin.engine.fused import FusedOps, Int8Ops, Int16Ops, address, block_of, hadamard, largest_activation
from harness_plugin.engine.ops import TorchOps
from harness_plugin.engine.packing import packed
from harness_plugin.engine.shape import GELU, SILU, Heads, Shape
from harness_plugin.errors import ModelError
from harness_plugin.kernels import instructions, library
from harness_plugin.model import ModelSpec, load_model

CPU, EPS = torch.device("cpu"), 1e-6
HEADS = Heads(queries=4, keys=2, size=64, scale=0.125, softcap=None)
SHAPE = Shape(HEADS, EPS, GELU, norm_offset=1.0, embedding_factor=1.0, kinds=(), windows=())
NO_COMPILER = library.kernels() is None
needs_a_compiler = pytest.mark.skipif(NO_COMPILER, reason="no C compiler here")
needs_int8 = pytest.mark.skipif(NO_COMPILER or not instructions.has_int8(), reason="no compiler, or a CPU without VNNI")
needs_int16 = pytest.mark.skipif(
    NO_COMPILER or not instructions.has_int16(), reason="no compiler, or a CPU without AVX2"
)
# What each dtype of the activations may differ by, of the largest value.
DTYPES = pytest.mark.parametrize(
    "dtype, digits", [(torch.bfloat16, 2.0**-8), (torch.float32, 2.0**-20)], ids=["bfloat16", "float32"]
)


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


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


@pytest.fixture
def wide(tmp_path, tmp_path_factory):
    """wide(kind, dtype) -> a small judge whose heads are of the kernels' size."""
    root = tmp_path_factory.mktemp("wide")
    size = {
        "hidden_size": 128,
        "intermediate_size": 192,
        "head_dim": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.1,
    }

    def loaded(kind, dtype):
        if not (root / kind).is_dir():
            tiny.save_base(kind, root / kind, **size)
            tiny.save_adapter(root / kind, root / f"{kind}-adapter")
        spec = {"pretrained": str(root / kind), "peft": str(root / f"{kind}-adapter"), "device": "cpu"}
        return load_model(ModelSpec(**spec, dtype=dtype))

    return loaded


@pytest.fixture
def sequences():
    draw = np.random.default_rng(1)
    stem = tuple(draw.integers(10, 600, 90).tolist())
    own = [(2, *draw.integers(10, 600, n).tolist()) for n in (1, 30, 64, 150, 300) * 3]
    return own + [stem + ids for ids in own]


@needs_a_compiler
@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_bfloat16_with_our_kernels_is_as_near_to_float32_as_transformers_is(wide, kind, sequences):
    expected = Engine(wide(kind, "float32")).logits(sequences)[:, 0]
    model = wide(kind, "bfloat16")
    engine = Engine(model)
    assert engine.identity["format"] == "packed-fused"
    found = engine.logits(sequences)[:, 0]
    with torch.inference_mode():
        theirs = np.array([float(model.network(input_ids=torch.tensor([ids])).logits) for ids in sequences])
    assert expected.std() > 0.2
    assert np.sqrt(np.mean((found - expected) ** 2)) < 1.2 * np.sqrt(np.mean((theirs - expected) ** 2))


@needs_int8
@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_int8_keeps_the_logits_to_a_few_hundredths_of_their_spread(wide, kind, sequences):
    expected = Engine(wide(kind, "float32")).logits(sequences)[:, 0]
    model = wide(kind, "int8")
    engine = Engine(model)
    assert engine.identity["format"] == "packed-int8-fused" and model.identity["dtype"] == "int8"
    error = engine.logits(sequences)[:, 0] - expected
    assert 0 < np.sqrt(np.mean(error**2)) < 0.1 * expected.std()
    assert np.abs(error).max() < 0.25 * expected.std()


@needs_int16
@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_int16_is_nearer_to_float32_than_bfloat16_is(wide, kind, sequences):
    expected = Engine(wide(kind, "float32")).logits(sequences)[:, 0]
    bfloat16 = Engine(wide(kind, "bfloat16")).logits(sequences)[:, 0]
    model = wide(kind, "int16")
    engine = Engine(model)
    assert engine.identity["format"] == "packed-int16-fused" and model.identity["dtype"] == "int16"
    error = engine.logits(sequences)[:, 0] - expected
    assert 0 < np.sqrt(np.mean(error**2)) < 0.5 * np.sqrt(np.mean((bfloat16 - expected) ** 2))


@needs_int8
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int8", "int16"])
def test_a_weight_that_is_not_a_number_shows_in_the_logit(wide, dtype):
    model = wide("gemma3", dtype)
    with torch.no_grad():
        model.network.get_input_embeddings().weight[77] = torch.nan
    assert np.isnan(Engine(model).decoder.logits(next(packed([(2, 77, 5)], 10)))).all()


def test_without_a_compiler_torch_computes_the_same_and_int8_says_what_is_missing(wide, sequences, monkeypatch, caplog):
    with_kernels = Engine(wide("gemma2", "bfloat16")).logits(sequences)
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(library.shutil, "which", lambda name: None)
    library.kernels.cache_clear()
    try:
        with caplog.at_level("INFO"):
            engine = Engine(wide("gemma2", "bfloat16"))
        assert engine.identity["format"] == "packed" and "no C compiler" in caplog.text
        assert np.abs(engine.logits(sequences) - with_kernels).max() < 0.1 * with_kernels.std()
        for dtype in ("int8", "int16"):
            with pytest.raises(ModelError, match="install gcc"):
                Engine(wide("gemma2", dtype))
    finally:
        library.kernels.cache_clear()


@needs_a_compiler
def test_a_library_is_compiled_once_and_another_source_or_a_failure_never_loads_a_stale_one(tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path))
    first = library._compiled()
    stamp = first.stat().st_mtime_ns
    assert library._compiled() == first and first.stat().st_mtime_ns == stamp
    for_less = limited(monkeypatch, "avx2")
    assert for_less != first and limited(monkeypatch, "") == first
    changed = tmp_path / "sources"
    shutil.copytree(library.FOLDER, changed)
    monkeypatch.setattr(library, "FOLDER", changed)
    assert library._compiled() == first
    (changed / "common.h").write_text((changed / "common.h").read_text() + "\nint more(void);\n")
    assert library._compiled() not in (first, for_less)
    (changed / "steps.c").write_text("this is not C")
    with pytest.raises(subprocess.CalledProcessError):
        library._compiled()
    assert len(list((tmp_path / "kernels").glob("*"))) == 3, "nothing half made stays"


def limited(monkeypatch, limit):
    """The library that is compiled under a limit of the instructions."""
    monkeypatch.setenv(instructions.LIMIT, limit)
    return library._compiled()


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are compiled only on Linux")
def test_a_compiler_that_does_not_know_an_option_of_a_limit_compiles_without_it(tmp_path, monkeypatch):
    """As gcc 10 does not know AVX-VNNI."""
    compiler, calls = tmp_path / "cc", tmp_path / "calls"
    compiler.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\n'
        'case " $* " in *" -mno-avxvnni "*) echo "unrecognized command-line option" >&2; exit 1;; esac\n'
        'while [ $# -gt 1 ] && [ "$1" != -o ]; do shift; done\n'
        '[ "$1" != -o ] || echo library > "$2"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    assert limited(monkeypatch, "avx2").read_text() == "library\n"
    assert " -mno-avx512f " in calls.read_text().splitlines()[-1]


@needs_int16
def test_a_limit_of_pytorch_holds_for_the_kernels_too_and_changes_what_auto_chooses(monkeypatch):
    from harness_plugin.model.device import choose_dtype, describe_devices

    monkeypatch.setenv(instructions.LIMIT, "avx2")
    assert instructions.instructions() == {"avx2"}
    dtype, reduced, reason = choose_dtype("auto", CPU)
    assert (dtype, reduced) == (torch.float32, "int16") and "twice as fast as float32" in reason
    assert choose_dtype("auto", CPU, packs=False)[:2] == (torch.float32, None)
    assert "limited to avx2" in describe_devices()["cpu"] and "int16" in describe_devices()["default"]
    monkeypatch.setenv(instructions.LIMIT, "default")
    assert choose_dtype("auto", CPU)[:2] == (torch.float32, None)
    with pytest.raises(ModelError, match="no AVX2"):
        Int16Ops(SHAPE, torch.float32, CPU)


@needs_int16
def test_a_model_that_is_not_scored_on_packs_is_not_computed_in_int16_by_itself(tiny_base, tiny_adapter, monkeypatch):
    monkeypatch.setenv(instructions.LIMIT, "avx2")
    spec = {"pretrained": str(tiny_base("gemma3")), "peft": str(tiny_adapter("gemma3")), "device": "cpu"}
    for merge, arithmetic in ((True, "int16"), (False, "float32")):
        model = load_model(ModelSpec(**spec, merge=merge))
        assert model.identity["dtype"] == arithmetic
        assert np.isfinite(Engine(model).logits([(2, 5, 9), (2, 7)])).all()


@needs_a_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the limits are those of x86")
@pytest.mark.parametrize("limit", ["avx2", "default"])
def test_the_kernels_compute_the_same_with_fewer_instructions(limit):
    """In a process of its own, since a library is loaded once: the tests above, in float32 and int16."""
    chosen = "float32 and (norm or rotation or gate or attention) or int16_products or int16_attention"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__, "-k", chosen]
    done = subprocess.run(
        command, env=os.environ | {instructions.LIMIT: limit}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "[100%]" in done.stdout, done.stdout[-2000:]


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are compiled only on Linux")
def test_a_damaged_library_is_compiled_anew_and_not_loaded(tmp_path, monkeypatch, caplog):
    """Loading one that was cut would end the process with SIGBUS."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do source=$1; shift; done\ncp "$source" "$2"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    whole = (library.FOLDER / "steps.c").read_bytes()
    file = library._compiled()
    for damage in (whole[:5000], b"", whole[:-1] + b"?"):
        file.write_bytes(damage)
        assert library._compiled() == file and file.read_bytes() == whole
        assert "is damaged" in caplog.text
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_whole_numbers_are_for_cpus(dtype):
    from harness_plugin.errors import UsageError
    from harness_plugin.model.device import choose_dtype

    with pytest.raises(UsageError, match="it is for CPUs"):
        choose_dtype(dtype, torch.device("cuda"))
