"""The recipe `qlora`: training on a base in four bits."""

import sys

import pytest
import tiny
import torch
from safetensors.torch import load_file
from training_runs import HEAD, LINEAR, judges, losses, made, recipe, settings, targets

from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.train.network import build

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory):
    """A base whose rows fill whole blocks of 4-bit weights."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    return tiny.save_base("gemma", tmp_path_factory.mktemp("wide") / "gemma", **sizes)


def test_qlora_trains_on_four_bits_and_its_adapter_judges_on_the_whole_base(wide_base, lesson_file, tmp_path, watched):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    out = tmp_path / "mine"
    manifest = made("qlora", wide_base, lesson_file, out, "epochs=3")
    packed = [m for m in watched["network"].modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(packed) == 2 * len(LINEAR) and {m.weight.quant_state.quant_type for m in packed} == {"nf4"}
    assert losses(manifest, "eval_loss")[-1] < losses(manifest)[0]
    assert manifest.training["recipe"]["quantization"] == "4bit"
    assert (manifest.base, manifest.base_fingerprint) == (str(wide_base), fingerprint(str(wide_base)))
    assert targets(out) == LINEAR
    assert set(load_file(out / "adapter_model.safetensors")) >= {HEAD} and manifest.metrics["validation"]
    judges(wide_base, out)


def test_an_evaluation_leaves_four_bit_weights_trainable_as_they_were(wide_base):
    pytest.importorskip("bitsandbytes")
    network = build(recipe("qlora", wide_base, "precision=float32", "lora.lora_dropout=0"), str(wide_base))
    ids = torch.arange(10, 58)[None]

    def gradients():
        network.train()
        network.zero_grad()
        network(input_ids=ids).logits.sum().backward()
        return {n: p.grad.clone() for n, p in network.named_parameters() if ".lora_B." in n}

    before = gradients()
    assert len(before) == 2 * len(LINEAR) and all(g.isfinite().all() and g.any() for g in before.values())
    network.eval()
    with torch.no_grad():
        network(input_ids=ids)
    after = gradients()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_bitsandbytes_qlora_names_the_extra_in_one_line(wide_base, lesson_file, tmp_path, arena, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    code, out, err = arena("train", "qlora", "--data", lesson_file, "-o", tmp_path / "mine", *settings(wide_base))
    (line,) = [line for line in err.splitlines() if line.startswith("arena-rm: ")]
    assert (code, out) == (2, "") and "pip install 'lm-eval-arena-rm[qlora]'" in line and "Traceback" not in err
    assert not (tmp_path / "mine").exists()
