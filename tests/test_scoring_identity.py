"""A judge's identity: whatever may change a score changes the hash and is named; names and places change nothing."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny
from judge_copies import ADAPTER, BASE, adapter_config, base_config, byte, config_of
from safetensors.torch import load_file, save_file

from harness_plugin.engine import Engine
from harness_plugin.errors import ModelError
from harness_plugin.model import load, load_model
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.prompt import pair_text
from harness_plugin.scoring.identity import (
    differences,
    identity_hash,
    judge_identity,
)


def spec(**fields):
    return lambda judge, _: setattr(judge, "spec", replace(judge.spec, **fields))


def constant(module, name, value):
    return lambda judge, monkeypatch: monkeypatch.setattr(module, name, value)


def tokenizer_json(change, folder_name="base"):
    """Changes the serialised tokenizer; the adapter's is a copy of the base's."""

    def changed(judge, _):
        if folder_name == "adapter":
            own_tokenizer(judge)
        path = getattr(judge, folder_name) / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return changed


def own_tokenizer(judge):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(judge.base / name, judge.adapter / name)


def another_vocabulary(content):
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def without_bos(content):
    content["post_processor"] = None


def another_added_token(content):
    content["added_tokens"][-1]["lstrip"] = True


def pickled(judge, _):
    import torch

    judge.spec = replace(judge.spec, allow_pickle=True)
    torch.save(load_file(judge.base / BASE), judge.base / "pytorch_model.bin")
    (judge.base / BASE).unlink()


def order(judge, _):
    judge.order = "ab"


CHANGES = {
    "lora_alpha": (adapter_config(lora_alpha=64), "adapter_config"),
    "use_rslora": (adapter_config(use_rslora=True), "adapter_config"),
    "alpha_pattern": (adapter_config(alpha_pattern={"q_proj": 64}), "adapter_config"),
    "rank_pattern": (adapter_config(rank_pattern={"q_proj": 8}), "adapter_config"),
    "use_dora": (adapter_config(use_dora=True), "adapter_config"),
    "fan_in_fan_out": (adapter_config(fan_in_fan_out=True), "adapter_config"),
    "target_modules": (adapter_config(target_modules=["q_proj"]), "adapter_config"),
    "layers_to_transform": (adapter_config(layers_to_transform=[0]), "adapter_config"),
    "sliding_window": (base_config(sliding_window=8), "base_config"),
    "query_pre_attn_scalar": (base_config(query_pre_attn_scalar=64), "base_config"),
    "attn_logit_softcapping": (base_config(attn_logit_softcapping=5.0), "base_config"),
    "rms_norm_eps": (base_config(rms_norm_eps=1e-3), "base_config"),
    "rope_parameters": (base_config(rope_parameters={"rope_theta": 500.0, "rope_type": "default"}), "base_config"),
    "layer_types": (base_config(layer_types=["full_attention"] * 3), "base_config"),
    "hidden_activation": (base_config(hidden_activation="relu"), "base_config"),
    "the vocabulary": (tokenizer_json(another_vocabulary), "tokenizer"),
    "the post-processor": (tokenizer_json(without_bos), "tokenizer"),
    "an added token": (tokenizer_json(another_added_token), "tokenizer"),
    "a special token": (config_of("base", "tokenizer_config.json", eos_token="<unk>"), "tokenizer"),
    "the adapter's own tokenizer": (tokenizer_json(another_vocabulary, "adapter"), "tokenizer"),
    "a bit in the middle of the base": (byte("base", BASE, 0.5), "base_sha256"),
    "a bit near the start of the base": (byte("base", BASE, 0.3), "base_sha256"),
    "the last bit of the base": (byte("base", BASE, 1), "base_sha256"),
    "a bit of the adapter": (byte("adapter", ADAPTER, 0.51), "adapter_sha256"),
    "the base as a pickle": (pickled, "base_sha256"),
    "the template": (constant(pair_text, "TEMPLATE", "{prompt} {a} {b}"), "template"),
    "the prompt version": (constant(load, "PROMPT_VERSION", 2), "prompt_version"),
    "max_length": (spec(max_length=256), "max_length"),
    "truncation": (spec(truncation="budget"), "truncation"),
    "bfloat16": (spec(dtype="bfloat16"), "dtype"),
    "float16": (spec(dtype="float16"), "dtype"),
    "int8": (spec(dtype="int8"), "dtype"),
    "not merged": (spec(merge=False), "merge"),
    "deterministic": (spec(deterministic=True), "deterministic"),
    "order": (order, "order"),
    "temperature": (spec(temperature=2.0), "temperature"),
    "tie_nu": (spec(tie_nu=0.0), "tie_nu"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_may_change_a_score_is_another_judge_and_the_part_is_named(judge_copy, monkeypatch, change):
    before = judge_copy.identity()
    apply, part = CHANGES[change]
    apply(judge_copy, monkeypatch)
    after = judge_copy.identity()
    assert differences(before, after) == differences(after, before) == [part]
    assert identity_hash(before) != identity_hash(after) and differences(before, after)


def test_an_adapter_with_another_head_and_no_adapter_are_other_judges(judge_copy, tmp_path):
    from transformers import AutoModelForSequenceClassification

    before = judge_copy.identity()
    shutil.rmtree(judge_copy.adapter)
    tiny.save_adapter(judge_copy.base, judge_copy.adapter, num_labels=3)
    assert {"num_labels", "adapter_sha256"} <= set(differences(before, judge_copy.identity()))
    AutoModelForSequenceClassification.from_pretrained(judge_copy.base, num_labels=1).save_pretrained(judge_copy.base)
    judge_copy.spec = replace(judge_copy.spec, peft=None)
    assert {"base_sha256", "adapter_sha256", "adapter_config"} <= set(differences(before, judge_copy.identity()))


def moved(judge, _):
    for name in ("base", "adapter"):
        setattr(judge, name, shutil.move(getattr(judge, name), str(getattr(judge, name)) + " elsewhere"))
    judge.spec = replace(judge.spec, pretrained=str(judge.base), peft=str(judge.adapter))


def touched(judge, _):
    for folder in (judge.base, judge.adapter):
        for file in folder.iterdir():
            os.utime(file, (1e9, 1e9))


def more_files(judge, _):
    for folder in (judge.base, judge.adapter):
        (folder / "README.md").write_text("# A model\n", encoding="utf-8")
        (folder / "training_args.bin").write_bytes(b"arguments")
        (folder / "optimizer.safetensors").write_bytes(b"state")
        (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")


def copied_tokenizer(judge, _):
    own_tokenizer(judge)


SAME = {
    "another folder": moved,
    "another time": touched,
    "files that nobody loads": more_files,
    "the base's name in the adapter": adapter_config(base_model_name_or_path="somebody/model", revision="main"),
    "the version of PEFT": adapter_config(peft_version="0.1", inference_mode=False),
    "a field at its default": adapter_config(use_qalora=False, eva_config=None),
    "the version of transformers": base_config(transformers_version="9", _name_or_path="somebody/model"),
    "the tokenizer's name": config_of("base", "tokenizer_config.json", name_or_path="x", chat_template="{{ x }}"),
    "a copy of the tokenizer beside the adapter": copied_tokenizer,
}


@pytest.mark.parametrize("change", SAME)
def test_what_cannot_change_a_score_changes_nothing(judge_copy, monkeypatch, change):
    before = judge_copy.identity()
    SAME[change](judge_copy, monkeypatch)
    after = judge_copy.identity()
    assert differences(before, after) == [] and identity_hash(before) == identity_hash(after)


def test_the_order_of_files_does_not_matter_and_each_of_them_counts(judge_copy):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(judge_copy.base)
    (judge_copy.base / BASE).unlink()
    model.save_pretrained(judge_copy.base, max_shard_size="40KB")
    index = judge_copy.base / f"{BASE}.index.json"
    before, content = judge_copy.identity(), json.loads(index.read_text(encoding="utf-8"))
    names = sorted(set(content["weight_map"].values()))
    assert len(names) > 2
    content["weight_map"] = dict(reversed(content["weight_map"].items()))
    index.write_text(json.dumps(content), encoding="utf-8")
    assert not differences(before, judge_copy.identity())
    for name in names:
        whole = (judge_copy.base / name).read_bytes()
        byte("base", name, 0.9)(judge_copy, None)
        assert differences(before, judge_copy.identity()) == ["base_sha256"], name
        (judge_copy.base / name).write_bytes(whole)
    assert not differences(before, judge_copy.identity())
    (judge_copy.base / names[0]).unlink()
    tiny.refusal(ModelError, judge_copy.identity, names[0], "identified by its weights")


def test_the_fingerprint_of_a_manifest_does_not_see_what_the_identity_sees(judge_copy):
    before, sampled = judge_copy.identity(), fingerprint(str(judge_copy.base))
    byte("base", BASE, 0.502)(judge_copy, None)
    assert fingerprint(str(judge_copy.base)) == sampled
    assert differences(before, judge_copy.identity()) == ["base_sha256"]


def test_settings_that_stand_beside_the_weights_do_move_logits(judge_copy, pairs):
    model = load_model(judge_copy.spec)
    ids = [model.renderer.render(p).ids for p in pairs[:4]]
    before = Engine(model).logits(ids)
    for change in ("lora_alpha", "use_rslora", "sliding_window", "query_pre_attn_scalar"):
        files = {
            f: f.read_bytes() for f in (judge_copy.base / "config.json", judge_copy.adapter / "adapter_config.json")
        }
        CHANGES[change][0](judge_copy, None)
        assert np.abs(Engine(load_model(judge_copy.spec)).logits(ids) - before).max() > 1e-3, change
        for file, content in files.items():
            file.write_bytes(content)


def test_a_loaded_model_has_the_identity_that_was_planned(judge_copy):
    model = load_model(judge_copy.spec)
    assert judge_identity(model, "both") == judge_copy.identity()
    assert json.loads(json.dumps(judge_copy.identity())) == judge_copy.identity()
    assert len(json.dumps(judge_copy.identity())) < 2000, "it stands in every result"


def test_a_base_from_the_hub_is_identified_by_the_files_that_are_here(judge_copy, monkeypatch, tmp_path):
    import huggingface_hub.constants

    tiny.change_json(judge_copy.adapter / "adapter_config.json", base_model_name_or_path="somebody/model")
    before, commit, cache = judge_copy.identity(), "0123456789" * 4, tmp_path / "hub" / "models--somebody--model"
    shutil.copytree(judge_copy.base, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    judge_copy.spec = replace(judge_copy.spec, pretrained="somebody/model")
    after = judge_copy.identity()
    assert after["base"] == "somebody/model" and not differences(before, after)
    (cache / "snapshots" / commit / BASE).unlink()
    tiny.refusal(ModelError, judge_copy.identity, "cannot be read", "get the folder again")


def test_a_folder_with_a_base_and_an_adapter_is_no_base(judge_copy):
    """transformers would load the adapter, and the base that its configuration names."""
    shutil.copy(judge_copy.adapter / "adapter_config.json", judge_copy.base)
    tiny.refusal(ModelError, judge_copy.identity, str(judge_copy.base), "an adapter", "peft=")


def test_saving_tensors_again_in_another_format_is_seen(judge_copy):
    """A file is hashed whole: its header counts, which is stricter than need be and never too lax."""
    before = judge_copy.identity()
    save_file(load_file(judge_copy.base / BASE), judge_copy.base / BASE, metadata={"format": "pt", "note": "again"})
    assert differences(before, judge_copy.identity()) == ["base_sha256"]
