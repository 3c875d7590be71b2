"""A whole decoder in each number format beside float32, and which format is chosen."""

import numpy as np
import pytest
import tiny
import torch
from kernel_needs import CPU, SHAPE, needs_a_compiler, needs_int8, needs_int16

from harness_plugin.engine import Engine
from harness_plugin.engine.fused import Int16Ops
from harness_plugin.engine.packing import packed
from harness_plugin.errors import ModelError
from harness_plugin.kernels import instructions, library
from harness_plugin.model import ModelSpec, load_model


@pytest.fixture
def wide(tmp_path, tmp_path_factory):
    """wide(kind, dtype) -> a small judge whose heads are of the kernels' size."""
    root = tmp_path_factory.mktemp("wide")

    def loaded(kind, dtype):
        if not (root / kind).is_dir():
            tiny.save_base(kind, root / kind, **tiny.KERNEL_SIZE)
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


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_whole_numbers_are_for_cpus(dtype):
    from harness_plugin.errors import UsageError
    from harness_plugin.model.device import choose_dtype

    with pytest.raises(UsageError, match="it is for CPUs"):
        choose_dtype(dtype, torch.device("cuda"))
