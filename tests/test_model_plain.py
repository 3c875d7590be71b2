"""Reward models that are no plain sequence classifier are refused by name, before their weights are loaded."""

import json
import shutil

import pytest
import tiny
import tiny_rewards
import torch
from safetensors.torch import load_file, save_file

from harness_plugin.errors import ModelError
from harness_plugin.model import ModelSpec, plan_model
from harness_plugin.model.plain import refuse_other_heads, tensor_names

WORDS = ("no plain sequence classifier", "docs/judges.md", "--judge")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_rewards.save_reward_model("llama", tmp_path_factory.mktemp("reward") / "llama")


@pytest.fixture
def changed(folder, tmp_path):
    """changed(**fields) -> the spec of a copy whose config.json has these fields, and no weights."""

    def made(kind="pointwise", **fields):
        copy = shutil.copytree(folder, tmp_path / "copy", dirs_exist_ok=True)
        (copy / "model.safetensors").unlink()
        tiny.change_json(copy / "config.json", **fields)
        return ModelSpec(pretrained=str(copy), kind=kind, device="cpu", dtype="float32")

    return made


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"num_objectives": 19}, ("num_objectives is 19", "several objectives")),
        ({"num_quantiles": 19}, ("num_quantiles is 19", "quantiles")),
        ({"reward_token_id": 92527}, ("reward_token_id is 92527", "token of its own")),
        ({"value_head_prefix": "value_head"}, ("value_head_prefix is 'value_head'", "OpenRLHF")),
        (
            {"auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"}},
            ("modeling_custom.LlamaForRewardModelWithGating", "code of its own"),
        ),
        ({"auto_map": {"AutoModel": "modeling_internlm2.InternLM2ForRewardModel"}}, ("InternLM2ForRewardModel",)),
    ],
)
@pytest.mark.parametrize("kind", ["pointwise", "pair", None])
def test_marks_in_the_configuration_are_named(changed, kind, fields, words):
    tiny.refusal(ModelError, lambda: plan_model(changed(kind, **fields)), *words, *WORDS)


def test_a_map_to_the_code_of_a_language_model_is_no_mark(changed):
    spec = changed(auto_map={"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"})
    assert plan_model(spec).kind == "pointwise"


@pytest.mark.parametrize("count", [2, 5, 19])
def test_several_logits_without_names_are_refused(changed, count):
    labels = {str(n): f"LABEL_{n}" for n in range(count)}
    spec = changed(id2label=labels, label2id={name: int(n) for n, name in labels.items()})
    tiny.refusal(ModelError, lambda: plan_model(spec), f"a head of {count} logits", "several objectives")


def test_three_logits_are_no_pointwise_model(changed):
    spec = changed(id2label={"0": "a", "1": "b", "2": "tie"}, label2id={"a": 0, "b": 1, "tie": 2})
    tiny.refusal(ModelError, lambda: plan_model(spec), "kind=pointwise", "3 logits")


def test_a_language_model_is_sent_to_a_server(changed):
    spec = changed(None, architectures=["LlamaForCausalLM"])
    tiny.refusal(ModelError, lambda: plan_model(spec), "saved as LlamaForCausalLM", "--judge openai:URL#MODEL")


@pytest.mark.parametrize(
    "name",
    [
        "v_head.summary.weight",
        "value_head.weight",
        "regression_head.weight",
        "regression_layer.weight",
        "gating.layers.0.weight",
        "score.0.weight",
        "score.2.bias",
        "model.rm_head.weight",
    ],
)
def test_another_head_among_the_weights_is_named(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    tensors = load_file(copy / "model.safetensors") | {name: torch.zeros(1, 32)}
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    spec = ModelSpec(pretrained=str(copy), kind="pointwise", device="cpu", dtype="float32")
    tiny.refusal(ModelError, lambda: plan_model(spec), name, *WORDS)
    index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
    (copy / "model.safetensors").rename(copy / "model-00001-of-00001.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    tiny.refusal(ModelError, lambda: plan_model(spec), name, *WORDS)


def test_tensors_of_plain_classifiers_are_no_other_heads(folder):
    names = {"classifier.dense.weight", "classifier.out_proj.bias", "model.layers.3.mlp.gate.weight", "lm_head.weight"}
    names |= {"model.layers.0.mlp.gate_proj.weight", "model.layers.0.self_attn.v_proj.weight", "score.weight"}
    refuse_other_heads("a model", names | tensor_names(folder))
    assert "score.weight" in tensor_names(folder)
