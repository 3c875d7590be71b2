"""A plain LoRA is folded in without PEFT, and the result is PEFT's, bit for bit."""

import json
import subprocess
import sys

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from harness_plugin.errors import ModelError
from harness_plugin.model import load_model, network
from harness_plugin.model.adapter import CONFIG, read_adapter
from harness_plugin.model.lora_settings import PLAIN, UNUSED, adapter_settings, plain_settings
from harness_plugin.model.part_hashes import KINDS, NAMES, STAMPS, settings


@pytest.fixture
def by_peft(monkeypatch):
    """Calls something with no adapter taken for a plain one."""

    def call(work):
        with monkeypatch.context() as patch:
            patch.setattr(network, "fold", lambda *arguments: False)
            return work()

    return call


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["gemma3", "llama"])  # without and with biases on the layers
def test_folding_gives_the_network_that_peft_gives(tiny_spec, by_peft, kind, dtype):
    spec = tiny_spec(kind, dtype=dtype)
    ours, theirs = load_model(spec), by_peft(lambda: load_model(spec))
    assert torch.equal(ours.head, theirs.head) and ours.identity == theirs.identity
    mine, other = ours.network.state_dict(), theirs.network.state_dict()
    assert mine.keys() == other.keys()
    for name, tensor in other.items():
        assert mine[name].dtype == tensor.dtype and torch.equal(mine[name], tensor), name


@pytest.mark.parametrize("change", [{"use_rslora": True}, {"alpha_pattern": {"q_proj": 8}}, {"bias": "lora_only"}])
def test_an_adapter_that_is_not_plain_goes_through_peft(adapter_copy, tiny_spec, by_peft, change):
    folder = adapter_copy()
    tiny.change_json(folder / CONFIG, **change)
    assert plain_settings(json.loads((folder / CONFIG).read_text(encoding="utf-8"))) is None
    spec = tiny_spec(peft=str(folder))
    mine, other = (
        work().network.state_dict() for work in (lambda: load_model(spec), lambda: by_peft(lambda: load_model(spec)))
    )
    assert all(torch.equal(mine[name], other[name]) for name in other)


@pytest.mark.parametrize(
    "change",
    [
        {"target_modules": ["q_proj", "k_proj"]},  # layers short
        {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]},  # one kind too many
        {"target_modules": ["self_attn"]},  # not a linear layer
        {"modules_to_save": ["score", "norm"]},  # norms are to be replaced too
    ],
)
def test_an_adapter_that_does_not_fit_exactly_is_left_to_peft(adapter_copy, tiny_base, change):
    folder = adapter_copy("gemma")
    tiny.change_json(folder / CONFIG, **change)
    model, _ = network.load_base(str(tiny_base("gemma")), 1, torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not network.fold(model, read_adapter(str(folder)), torch.float32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("targets", [[], ["no_such_layer"]])
def test_an_adapter_of_a_head_alone_that_changes_no_layer_is_refused(adapter_copy, tiny_spec, targets):
    folder = adapter_copy()
    tiny.change_json(folder / CONFIG, target_modules=targets)
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor for name, tensor in tensors.items() if "lora" not in name}, weights)
    with pytest.raises(ModelError, match="does not fit"):
        load_model(tiny_spec(peft=str(folder), kind="pair"))


def test_the_settings_of_a_plain_adapter_are_those_that_peft_gives(adapter_copy):
    from peft import PeftConfig

    folder = adapter_copy()
    for change in (
        {},
        {"r": 8, "lora_alpha": 8.5, "target_modules": ["v_proj", "q_proj", "v_proj"]},
        {"lora_dropout": 0},
    ):
        tiny.change_json(folder / CONFIG, **change)
        fields = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        assert plain_settings(fields) == adapter_settings(folder) == settings(PeftConfig.from_pretrained(str(folder)))


def test_the_defaults_are_those_of_peft():
    from peft import LoraConfig

    theirs = LoraConfig().to_dict()
    known = {name: value for name, value in theirs.items() if name not in NAMES | STAMPS | KINDS}
    assert known == {name: value for name, value in (PLAIN | UNUSED).items() if name in known}


def test_loading_a_judge_with_a_plain_adapter_imports_no_peft(tiny_spec, tiny_base, tiny_adapter):
    code = f"""
import sys
from harness_plugin import open_judge
open_judge(pretrained={str(tiny_base("gemma"))!r}, peft={str(tiny_adapter("gemma"))!r}, device="cpu")
print("peft" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_merge_false_keeps_pefts_layers(tiny_spec):
    names = [name for name, _ in load_model(tiny_spec(merge=False)).network.named_parameters()]
    assert any("lora_A" in name for name in names)
