"""Judges as other trainers write them: TRL, LLaMA-Factory, OpenRLHF, Axolotl and those that use them."""

import re
import shutil
from pathlib import Path

import pytest
import tiny
import tiny_rewards
import torch
from safetensors.torch import load_file, save_file

from harness_plugin.errors import ModelError
from harness_plugin.judges import open_judge
from harness_plugin.model import ModelSpec, plan_model
from harness_plugin.model.adapter import check_base, read_adapter
from harness_plugin.pairs import Pair

ALONE = {"dtype": "float32", "device": "cpu", "kind": "pointwise"}
PAIRS = [Pair(tiny.words(5, n), tiny.words(9, n + 10), tiny.words(30, n + 20), id=f"p{n}") for n in range(3)]


@pytest.mark.parametrize("merge", [True, False])
def test_trl_pads_with_the_token_of_the_adapters_tokenizer_and_reads_the_logit_before_it(tmp_path, merge):
    """TRL takes <|eot_id|>, with which Llama 3 ends each turn, where the tokenizer has no token for padding. It writes
    that into the base's configuration, which is not saved."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    base, adapter = tiny_rewards.save_reward_model("llama", tmp_path / "base", pad_token_id=None), tmp_path / "adapter"
    tiny.save_lora(base, adapter)
    tokenizer = tiny_rewards.tokenizer("llama").__class__.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(adapter)
    with open_judge(peft=str(adapter), merge=merge, **ALONE) as judge:
        judgements = list(judge.judge(PAIRS))
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    network = PeftModel.from_pretrained(network, adapter).eval()
    network.config.pad_token_id = tokenizer.pad_token_id
    for pair, judgement in zip(PAIRS, judgements, strict=True):
        said = [
            [{"role": "user", "content": pair.prompt}, {"role": "assistant", "content": answer}]
            for answer in (pair.response_a, pair.response_b)
        ]
        source = tokenizer.chat_template.replace("strftime_now('%d %b %Y') if strftime_now is defined else ", "")
        ids = tokenizer.apply_chat_template(
            said, chat_template=source, padding=True, padding_side="right", return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            assert [judgement.r_a, judgement.r_b] == pytest.approx(network(**ids).logits[:, 0].tolist(), abs=1e-4)


@pytest.mark.parametrize("older", [True, False])
def test_a_reward_model_with_the_settings_of_the_card_is_not_taken_for_a_judge_of_pairs(tiny_base, adapter_copy, older):
    """TRL saves the tokenizer with the adapter: its template stands in a file of its own, in older versions in the
    tokenizer's configuration."""
    adapter = adapter_copy("gemma")
    assert plan_model(ModelSpec(peft=str(adapter), pretrained=str(tiny_base("gemma")), device="cpu")).kind == "pair"
    tiny_rewards.tokenizer("gemma").save_pretrained(adapter)
    if older:
        template = (adapter / "chat_template.jinja").read_text(encoding="utf-8")
        (adapter / "chat_template.jinja").unlink()
        tiny.change_json(adapter / "tokenizer_config.json", chat_template=template)
    spec = ModelSpec(peft=str(adapter), pretrained=str(tiny_base("gemma")), device="cpu")
    tiny.refused(spec, "its tokenizer has a chat template", "kind=pointwise")


# -- language models with a value head --------------------------------------------------------------------------------

CONVERT = ("docs/judges.md", "Convert a value head")
VALUE_HEAD = {
    "v_head.summary.weight": torch.linspace(-1, 1, 32).reshape(1, 32),
    "v_head.summary.bias": torch.tensor([0.7]),
}


@pytest.fixture
def their_model(tmp_path):
    """A language model of the architecture of Llama with a chat template, without a head."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "their-model"
    AutoModelForCausalLM.from_config(tiny_rewards.config("llama", pad_token_id=None)).save_pretrained(folder)
    tiny_rewards.tokenizer("llama").save_pretrained(folder)
    return folder


def test_llama_factorys_value_head_is_named_with_the_way_to_convert_it(their_model):
    save_file(VALUE_HEAD, their_model / "value_head.safetensors")
    tiny.refused(ModelSpec(judge=str(their_model), **ALONE), "their-model", "value_head.safetensors", *CONVERT)
    (their_model / "value_head.safetensors").rename(their_model / "value_head.bin")
    tiny.refused(ModelSpec(judge=str(their_model), kind=None, device="cpu"), "value_head.bin", *CONVERT)


def test_the_value_heads_of_trl_and_openrlhf_are_named_with_the_way_to_convert_them(their_model):
    weights = their_model / "model.safetensors"
    save_file(load_file(weights) | VALUE_HEAD, weights, metadata={"format": "pt"})
    tiny.refused(ModelSpec(judge=str(their_model), **ALONE), "v_head.summary.weight", *CONVERT)
    tiny.change_json(their_model / "config.json", value_head_prefix="score")
    tiny.refused(ModelSpec(judge=str(their_model), **ALONE), "value_head_prefix is 'score'", *CONVERT)


def test_a_value_head_beside_an_adapter_is_named_with_the_way_to_convert_it(tmp_path):
    adapter = tmp_path / "adapter"
    tiny.save_lora(tiny_rewards.save_reward_model("llama", tmp_path / "base"), adapter)
    tiny.change_json(adapter / "adapter_config.json", task_type="CAUSAL_LM", modules_to_save=None)
    tiny.refused(ModelSpec(judge=str(adapter), **ALONE), "CAUSAL_LM", "use an adapter of a sequence classifier")
    save_file(VALUE_HEAD, adapter / "value_head.safetensors")
    tiny.refused(ModelSpec(judge=str(adapter), **ALONE), "CAUSAL_LM", "merge it into its base", *CONVERT)


def test_a_head_that_was_trained_under_the_task_of_a_language_model_can_be_used(tmp_path):
    """As Axolotl wrote it: the task is CAUSAL_LM, though the model is a classifier and its head is saved."""
    adapter = tmp_path / "adapter"
    tiny.save_lora(tiny_rewards.save_reward_model("llama", tmp_path / "base"), adapter)
    shutil.copyfile(tmp_path / "base" / "chat_template.jinja", adapter / "chat_template.jinja")
    tiny.change_json(adapter / "adapter_config.json", task_type="CAUSAL_LM")
    tiny.refused(ModelSpec(judge=str(adapter), **ALONE), "CAUSAL_LM", "write SEQ_CLS as the task_type")
    tiny.change_json(adapter / "adapter_config.json", task_type="SEQ_CLS")
    with open_judge(judge=str(adapter), **ALONE) as judge:
        assert len(list(judge.judge(PAIRS))) == len(PAIRS)


@pytest.mark.parametrize("prefix", [None, "score"])
def test_a_converted_value_head_gives_its_values(their_model, tmp_path, monkeypatch, prefix):
    from transformers import AutoModelForCausalLM

    if prefix:
        tiny.change_json(their_model / "config.json", value_head_prefix=prefix)
    save_file(VALUE_HEAD, their_model / "value_head.safetensors")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "judges.md").read_text(encoding="utf-8")
    exec(re.search(r"### Convert a value head.*?```python\n(.*?)```", page, re.S)[1], {})
    with open_judge(judge="my-reward-model", **ALONE) as judge:
        judgements = list(judge.judge(PAIRS))
        shown = [judge.model.renderer.render_answers(pair) for pair in PAIRS]
    network = AutoModelForCausalLM.from_pretrained(their_model, dtype=torch.float32).eval()
    for judgement, answers in zip(judgements, shown, strict=True):
        values = []
        for one in answers:
            with torch.no_grad():
                last = network(torch.tensor([one.ids]), output_hidden_states=True).hidden_states[-1][0, -1]
            values.append(float(VALUE_HEAD["v_head.summary.weight"] @ last + VALUE_HEAD["v_head.summary.bias"]))
        assert judgement.z_ab[0] == pytest.approx(values[1] - values[0], abs=1e-4)


# -- names that stand for something else ------------------------------------------------------------------------------


def test_an_adapter_in_the_place_of_a_whole_model_and_the_reverse_are_named(tmp_path):
    base, adapter = tiny_rewards.save_reward_model("llama", tmp_path / "base"), tmp_path / "adapter"
    tiny.save_lora(base, adapter)
    tiny.refused(ModelSpec(pretrained=str(adapter), **ALONE), "holds an adapter", "peft=")
    tiny.refused(ModelSpec(peft=str(base), **ALONE), "holds no adapter_config.json", "pretrained=")
    shutil.copytree(base, tmp_path / "run" / "checkpoint-6")
    tiny.refused(ModelSpec(judge=str(tmp_path / "run"), **ALONE), "name one of those in it", "checkpoint-6")


def test_a_copy_of_the_base_can_be_given_as_a_folder(tmp_path):
    """As for an adapter that was trained on a base in four bits, whose weights on the hub have another name."""
    base, adapter = tiny_rewards.save_reward_model("llama", tmp_path / "base"), tmp_path / "adapter"
    tiny.save_lora(base, adapter)
    tiny.change_json(adapter / "adapter_config.json", base_model_name_or_path="copies/llama-bnb-4bit")
    other = (ModelError, lambda: check_base(read_adapter(str(adapter)), "owners/llama", None))
    tiny.refusal(*other, "copies/llama-bnb-4bit", "if 'owners/llama' is a copy of that base, give its folder")
    with open_judge(peft=str(adapter), pretrained=str(base), **ALONE) as judge:
        assert len(list(judge.judge(PAIRS))) == len(PAIRS)
