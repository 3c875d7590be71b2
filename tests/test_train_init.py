"""A run that starts from another adapter: its first weights, the frozen layers, the manifest, and what is refused."""

import json

import pytest
import tiny
import torch
from safetensors.torch import load_file
from test_train_packed import CPU, packs
from test_train_survival import fail_at, stop, weights
from tiny import refusal
from training_runs import lesson

from harness_plugin.engine import Engine
from harness_plugin.errors import ModelError, UsageError
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.model.embedded import ADAPTER, base_folder
from harness_plugin.model.file_hashes import file_sha256
from harness_plugin.pairs import write_pairs
from harness_plugin.train import run
from harness_plugin.train.config import LoraFields, TrainConfig, find_config, read_config
from harness_plugin.train.init import read_init
from harness_plugin.train.network import build, save
from harness_plugin.train.packed import can_pack, pack
from harness_plugin.train.prepare import Request


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("init") / "votes.jsonl"
    write_pairs(file, lesson(64))
    return str(file)


@pytest.fixture
def sequences():
    return [[2, *range(10, 10 + n)] for n in (3, 40, 41, 90)]


def config(base, adapter, **more):
    settings = {
        "base": str(base),
        "init": str(adapter),
        "max_length": 96,
        "epochs": 1.0,
        "learning_rate": 0.01,
        "batch_size": 4,
        "accumulation": 1,
        "precision": "float32",
        "evaluations": 3,
        "validation_share": 0.2,
        "lora": LoraFields(lora_dropout=0.0),
    }
    return TrainConfig(**settings | more)


def started(settings):
    """The network as it stands before the first step."""
    return build(settings, settings.base, read_init(settings, settings.base))


def trained(settings, data, out):
    return run.train(settings, Request([data], device="cpu"), out)


def tensors(folder):
    return load_file(folder / "adapter_model.safetensors")


def layer_of(name):
    return int(name.split(".layers.")[1].split(".")[0]) if ".layers." in name else None


# The first weights


@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_before_the_first_step_its_logits_are_the_adapters(tiny_base, tiny_adapter, sequences, kind, frozen):
    base, adapter = tiny_base(kind), tiny_adapter(kind)
    network = started(config(base, adapter, head_std=0.5, frozen_layers=frozen)).eval()
    judge = load_model(ModelSpec(pretrained=str(base), peft=str(adapter), dtype="float32", device="cpu"))
    expected = torch.from_numpy(Engine(judge).logits(sequences)).float()
    with torch.no_grad():
        padded = torch.cat([network(input_ids=torch.tensor([ids])).logits for ids in sequences])
    assert expected.std() > 0.05 and torch.allclose(padded, expected, atol=1e-4)
    assert can_pack(network, CPU)
    pack(network)
    whole = packs(sequences)
    with torch.no_grad():
        packed = network(**whole).logits[torch.tensor(whole["pack"].members).argsort()]
    assert torch.allclose(packed, expected, atol=1e-4)


def test_saved_before_the_first_step_it_is_the_adapter_again(tiny_base, tiny_adapter, tmp_path):
    base, adapter = tiny_base("gemma"), tiny_adapter("gemma")
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        settings = config(base, adapter, frozen_layers=1, save_precision=precision)
        save(started(settings), str(base), settings, tmp_path / precision)
        saved, expected = tensors(tmp_path / precision), tensors(adapter)
        assert saved.keys() == expected.keys()
        assert all(torch.equal(saved[name], expected[name].to(dtype)) for name in expected)


def test_the_adapter_in_the_package_can_be_named():
    lora = LoraFields(lora_dropout=0.0, target_modules="all-linear")
    settings = TrainConfig(base="embedded", init="embedded", lora=lora)
    adapter = read_init(settings, str(base_folder()))
    assert adapter.folder == ADAPTER and adapter.num_labels == 1
    assert read_init(TrainConfig(base="embedded"), str(base_folder())) is None


# The frozen layers


@pytest.mark.slow
def test_frozen_layers_keep_their_weights_and_the_others_learn(tiny_base, tiny_adapter, data, tmp_path):
    base, adapter = tiny_base("gemma3"), tiny_adapter("gemma3")
    settings = config(base, adapter, frozen_layers=2, both_orders=1.0, consistency=1.0)
    trained(settings, data, tmp_path / "mine")
    before, after = tensors(adapter), tensors(tmp_path / "mine")
    assert before.keys() == after.keys() and {layer_of(n) for n in after} == {0, 1, 2, None}
    for name in before:
        stays = layer_of(name) in (0, 1)
        assert torch.equal(before[name], after[name]) == stays, name
        assert before[name].shape == after[name].shape


@pytest.mark.parametrize("packed", [False, True])
def test_frozen_layers_cost_no_backward_pass(tiny_base, tiny_adapter, sequences, packed):
    network = started(config(tiny_base("gemma3"), tiny_adapter("gemma3"), frozen_layers=1))
    inner = network.get_base_model().model
    reached = []
    if packed:
        pack(network)
        network(**packs(sequences)).logits.sum().backward()
    else:
        for layer in inner.layers:
            layer.register_forward_hook(lambda module, inputs, output: reached.append(output[0].requires_grad))
        network(input_ids=torch.tensor([sequences[1]])).logits.sum().backward()
        assert reached == [False, True, True]
    for name, parameter in network.named_parameters():
        if ".lora_" in name:
            assert (parameter.grad is None) == (layer_of(name) == 0), name


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_adapter(tiny_base, tiny_adapter, data, tmp_path, monkeypatch):
    settings = config(tiny_base("gemma"), tiny_adapter("gemma"), frozen_layers=1)
    trained(settings, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        fail_at(patch, 8, stop)
        with pytest.raises(KeyboardInterrupt):
            trained(settings, data, tmp_path / "mine")
    assert list((tmp_path / "mine.part").glob("checkpoint-*"))
    other = config(tiny_base("gemma"), tiny_adapter("gemma", seed=2), frozen_layers=1)
    refusal(UsageError, lambda: trained(other, data, tmp_path / "mine"), "another run, unfinished")
    trained(settings, data, tmp_path / "mine")
    assert weights(tmp_path / "mine") == weights(tmp_path / "whole")


@pytest.mark.slow
def test_the_recipe_continue_goes_on_from_what_it_made(tiny_base, data, tmp_path):
    base, short = tiny_base("gemma3"), ("max_length=96", "validation_share=0.25", "compile=false")
    file, request = find_config("continue"), Request([data], device="cpu")
    changes = (f"base={base}", *short, "init=null", "frozen_layers=0", "head_std=0.1")
    run.train(read_config(file, changes), request, tmp_path / "first")
    changes = (f"base={base}", *short, f"init={tmp_path / 'first'}", "frozen_layers=1")
    run.train(read_config(file, changes), request, tmp_path / "second")
    before, after = tensors(tmp_path / "first"), tensors(tmp_path / "second")
    assert {t.dtype for t in after.values()} == {torch.bfloat16} and before.keys() == after.keys()
    assert {layer_of(n) for n in before if torch.equal(before[n], after[n])} == {0}


# The manifest


@pytest.mark.slow
def test_the_manifest_names_the_adapters_before_and_their_data(tiny_base, tiny_adapter, data, tmp_path):
    base, adapter = tiny_base("gemma"), tiny_adapter("gemma")
    first = trained(config(base, adapter), data, tmp_path / "first")
    more = tmp_path / "more.jsonl"
    write_pairs(more, lesson(48, seed=3))
    second = trained(config(base, tmp_path / "first"), str(more), tmp_path / "second")
    of_adapter = {"name": adapter.name, "sha256": file_sha256(adapter / "adapter_model.safetensors"), "files": []}
    assert first.training["init"] == of_adapter
    assert second.training["init"] == {
        "name": "first",
        "sha256": file_sha256(tmp_path / "first" / "adapter_model.safetensors"),
        "files": [{"name": "votes.jsonl", "sha256": file_sha256(data), "pairs": 64}],
        "init": of_adapter,
    }
    assert second.training["recipe"]["init"] == "first"
    written = (tmp_path / "second" / "arena_rm.json").read_text(encoding="utf-8")
    record = json.loads((tmp_path / "second" / "training.json").read_text(encoding="utf-8"))
    assert json.loads(written)["training"]["init"] == second.training["init"] == record["data"]["init"]
    assert str(tmp_path) not in written.replace(str(base), "")
    card = (tmp_path / "second" / "README.md").read_text(encoding="utf-8")
    assert f"| started from the adapter | `first`, sha256 `{second.training['init']['sha256']}` |" in card
    assert f"| `votes.jsonl (data of first)` | 64 | `{file_sha256(data)}` |" in card
    assert f"| `not known (data of {adapter.name})` | not known | `not known` |" in card


@pytest.mark.slow
def test_a_run_without_init_records_none(tiny_base, data, tmp_path):
    plain = trained(config(tiny_base("gemma"), "", init=None), data, tmp_path / "plain")
    assert "init" not in plain.training and plain.training["recipe"]["init"] is None


# What is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora": LoraFields(r=8, lora_dropout=0.0)}, ("has r 16", "lora.r is 8", "set lora.r to 16")),
        ({"lora": LoraFields(lora_alpha=16)}, ("has lora_alpha 32", "set lora.lora_alpha to 32")),
        ({"lora": LoraFields(use_rslora=True)}, ("use_rslora False",)),
        ({"lora": LoraFields(use_dora=True)}, ("use_dora False",)),
        ({"lora": LoraFields(target_modules=["q_proj"])}, ("no place for", "k_proj", "lora.target_modules")),
        ({"lora": LoraFields(target_modules="all-linear")}, ("lacks", "down_proj", "lora.target_modules")),
        ({"lora": LoraFields(layers_to_transform=[1])}, ("no place for", "layers.0", "layers_to_transform")),
        (
            {"num_labels": 3},
            ("score.weight has the shape (1, 32), and the recipe's network needs (3, 32)", "num_labels"),
        ),
        ({"frozen_layers": 2}, ("frozen_layers: 2", "2 layers", "smaller number")),
    ],
)
def test_what_does_not_fit_the_recipe_is_refused(tiny_base, tiny_adapter, change, words):
    settings = config(tiny_base("gemma"), tiny_adapter("gemma"), **change)
    refusal(UsageError, lambda: started(settings), *words)


def test_another_base_is_refused(tiny_base, tiny_adapter, tmp_path):
    recorded = tiny_adapter("gemma", manifest=True)
    other = tiny.save_base("gemma", tmp_path / "other", seed=5)
    said = "trained on", str(tiny_base("gemma")), "set base to the one that it was trained on"
    refusal(UsageError, lambda: read_init(config(other, recorded), str(other)), *said)
    wide = tiny.save_base("gemma", tmp_path / "wide", hidden_size=64)  # without a manifest only the shapes tell
    refusal(UsageError, lambda: started(config(wide, tiny_adapter("gemma"))), "the shape", "another size")


def test_an_adapter_with_several_ranks_is_refused(adapter_copy, tiny_base):
    folder = adapter_copy()
    tiny.change_json(folder / "adapter_config.json", rank_pattern={"q_proj": 4})
    refusal(UsageError, lambda: started(config(tiny_base("gemma"), folder)), "has a rank_pattern")


def test_a_folder_that_is_no_adapter_is_refused_before_the_data_is_read(tiny_base, tmp_path):
    settings, data = config(tiny_base("gemma"), tmp_path), tmp_path / "broken.jsonl"
    data.write_text("no pairs", encoding="utf-8")
    refusal(ModelError, lambda: trained(settings, str(data), tmp_path / "out"), "adapter_config.json")
    assert not (tmp_path / "out.part").exists()


@pytest.mark.parametrize("change", [{"frozen_layers": -1}, {"frozen_layers": 1, "init": None}])
def test_frozen_layers_that_are_negative_or_without_init_are_refused(change):
    refusal(UsageError, lambda: TrainConfig(**change), "frozen_layers")
