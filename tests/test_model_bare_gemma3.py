"""The bare parts of a Gemma 3 score bit for bit as transformers' network does."""

import shutil

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from harness_plugin.engine import Engine
from harness_plugin.model import load_model, network
from harness_plugin.model.adapter import CONFIG
from harness_plugin.model.bare_gemma3 import BareGemma3
from harness_plugin.model.embedded import WEIGHTS


@pytest.fixture
def as_embedded(monkeypatch, tiny_base):
    """The tiny Gemma 3 in the place of the embedded base."""
    monkeypatch.setattr(network, "base_folder", lambda: tiny_base("gemma3"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int16"])
def test_the_logits_are_those_of_the_whole_network(as_embedded, tiny_spec, pairs, dtype):
    spec = tiny_spec("gemma3", dtype=dtype)
    whole, bare = load_model(spec), load_model(spec, whole=False)
    assert isinstance(bare.network, BareGemma3) and not isinstance(whole.network, BareGemma3)
    assert bare.identity == whole.identity
    ids = [whole.renderer.render(pair).ids for pair in pairs]
    assert any(len(one) > tiny.WINDOW for one in ids)
    assert np.array_equal(Engine(bare).logits(ids), Engine(whole).logits(ids))


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_an_embedding_that_is_stored_in_bfloat16_stays_so_and_the_logits_are_the_same(
    monkeypatch, tiny_base, tiny_spec, tmp_path, pairs, dtype
):
    folder = tmp_path / "base"
    shutil.copytree(tiny_base("gemma3"), folder)
    stored = {name: tensor.bfloat16() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})
    monkeypatch.setattr(network, "base_folder", lambda: folder)
    spec = tiny_spec("gemma3", pretrained=str(folder), dtype=dtype)
    whole, bare = load_model(spec), load_model(spec, whole=False)
    assert (
        bare.backbone.embed_tokens.weight.dtype == torch.bfloat16 and bare.backbone.norm.weight.dtype == torch.float32
    )
    ids = [whole.renderer.render(pair).ids for pair in pairs]
    assert np.array_equal(Engine(bare).logits(ids), Engine(whole).logits(ids))


def test_the_parts_have_the_names_and_values_that_they_have_in_transformers(as_embedded, tiny_spec):
    spec = tiny_spec("gemma3", dtype="bfloat16")
    bare, whole = (load_model(spec, whole=whole).network.state_dict() for whole in (False, True))
    assert bare.keys() == whole.keys()
    assert all(torch.equal(bare[name], whole[name]) for name in whole)


@pytest.mark.parametrize("change", [{"use_rslora": True}, {"alpha_pattern": {"q_proj": 8}}])
def test_an_adapter_that_is_not_plain_gets_the_whole_network(as_embedded, adapter_copy, tiny_spec, change):
    folder = adapter_copy("gemma3")
    tiny.change_json(folder / CONFIG, **change)
    assert not isinstance(load_model(tiny_spec("gemma3", peft=str(folder)), whole=False).network, BareGemma3)


def test_another_base_and_merge_false_get_the_whole_network(as_embedded, tiny_spec):
    for spec in (tiny_spec("gemma"), tiny_spec("gemma3", merge=False)):
        assert not isinstance(load_model(spec, whole=False).network, BareGemma3)
