"""A judge's identity: whatever may change a score changes the hash and is named; names and places change nothing."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny
import tournament_rows
from safetensors.torch import load_file, save_file

from harness_plugin.cli import main
from harness_plugin.engine import Engine
from harness_plugin.errors import ModelError
from harness_plugin.model import ModelSpec, load, load_model, plan_model
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.model.part_hashes import settings
from harness_plugin.prompt import pair_text
from harness_plugin.scoring.identity import (
    MEANINGS,
    differences,
    identity_hash,
    judge_identity,
    parts,
    same_judge,
)

BASE, ADAPTER = "model.safetensors", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def large_base(tmp_path_factory):
    """A Gemma 2 whose embedding is far larger than what a fingerprint samples of it; read only."""
    return tiny.save_base("gemma2", tmp_path_factory.mktemp("large") / "base", vocab_size=20_000)


@pytest.fixture(scope="module")
def large_adapter(large_base, tmp_path_factory):
    return tiny.save_adapter(large_base, tmp_path_factory.mktemp("large") / "adapter")


class Judge:
    """Copies of a base and an adapter that a test may change, and the identity of the judge that they make."""

    def __init__(self, base, adapter, folder):
        self.base = shutil.copytree(base, folder / "base")
        self.adapter = shutil.copytree(adapter, folder / "adapter")
        self.spec = ModelSpec(
            pretrained=str(self.base),
            peft=str(self.adapter),
            dtype="float32",
            device="cpu",
            temperature=1.5,
            tie_nu=0.5,
            kind="pair",  # some tests change the adapter's settings to others than the card's
        )
        self.order = "both"

    def identity(self) -> dict:
        return judge_identity(plan_model(self.spec), self.order)


@pytest.fixture
def judge(large_base, large_adapter, tmp_path):
    return Judge(large_base, large_adapter, tmp_path)


def config_of(folder_name, file, **fields):
    return lambda judge, _: tiny.change_json(getattr(judge, folder_name) / file, **fields)


def base_config(**fields):
    return config_of("base", "config.json", **fields)


def adapter_config(**fields):
    return config_of("adapter", "adapter_config.json", **fields)


def spec(**fields):
    return lambda judge, _: setattr(judge, "spec", replace(judge.spec, **fields))


def constant(module, name, value):
    return lambda judge, monkeypatch: monkeypatch.setattr(module, name, value)


def byte(folder_name, file, share):
    """Changes one bit of a file, at a share of its length."""

    def change(judge, _):
        path = getattr(judge, folder_name) / file
        content = bytearray(path.read_bytes())
        content[int(share * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return change


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
def test_whatever_may_change_a_score_is_another_judge_and_the_part_is_named(judge, monkeypatch, change):
    before = judge.identity()
    apply, part = CHANGES[change]
    apply(judge, monkeypatch)
    after = judge.identity()
    assert differences(before, after) == differences(after, before) == [part]
    assert identity_hash(before) != identity_hash(after) and not same_judge(before, after)


def test_an_adapter_with_another_head_and_no_adapter_are_other_judges(judge, tmp_path):
    from transformers import AutoModelForSequenceClassification

    before = judge.identity()
    shutil.rmtree(judge.adapter)
    tiny.save_adapter(judge.base, judge.adapter, num_labels=3)
    assert {"num_labels", "adapter_sha256"} <= set(differences(before, judge.identity()))
    AutoModelForSequenceClassification.from_pretrained(judge.base, num_labels=1).save_pretrained(judge.base)
    judge.spec = replace(judge.spec, peft=None)
    assert {"base_sha256", "adapter_sha256", "adapter_config"} <= set(differences(before, judge.identity()))


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
def test_what_cannot_change_a_score_changes_nothing(judge, monkeypatch, change):
    before = judge.identity()
    SAME[change](judge, monkeypatch)
    after = judge.identity()
    assert differences(before, after) == [] and identity_hash(before) == identity_hash(after)


def test_the_order_of_files_does_not_matter_and_each_of_them_counts(judge):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(judge.base)
    (judge.base / BASE).unlink()
    model.save_pretrained(judge.base, max_shard_size="40KB")
    index = judge.base / f"{BASE}.index.json"
    before, content = judge.identity(), json.loads(index.read_text(encoding="utf-8"))
    names = sorted(set(content["weight_map"].values()))
    assert len(names) > 2
    content["weight_map"] = dict(reversed(content["weight_map"].items()))
    index.write_text(json.dumps(content), encoding="utf-8")
    assert same_judge(before, judge.identity())
    for name in names:
        whole = (judge.base / name).read_bytes()
        byte("base", name, 0.9)(judge, None)
        assert differences(before, judge.identity()) == ["base_sha256"], name
        (judge.base / name).write_bytes(whole)
    assert same_judge(before, judge.identity())
    (judge.base / names[0]).unlink()
    tiny.refusal(ModelError, judge.identity, names[0], "identified by its weights")


def test_the_fingerprint_of_a_manifest_does_not_see_what_the_identity_sees(judge):
    before, sampled = judge.identity(), fingerprint(str(judge.base))
    byte("base", BASE, 0.502)(judge, None)
    assert fingerprint(str(judge.base)) == sampled
    assert differences(before, judge.identity()) == ["base_sha256"]


def test_settings_that_stand_beside_the_weights_do_move_logits(judge, pairs):
    model = load_model(judge.spec)
    ids = [model.renderer.render(p).ids for p in pairs[:4]]
    before = Engine(model).logits(ids)
    for change in ("lora_alpha", "use_rslora", "sliding_window", "query_pre_attn_scalar"):
        files = {f: f.read_bytes() for f in (judge.base / "config.json", judge.adapter / "adapter_config.json")}
        CHANGES[change][0](judge, None)
        assert np.abs(Engine(load_model(judge.spec)).logits(ids) - before).max() > 1e-3, change
        for file, content in files.items():
            file.write_bytes(content)


def test_a_loaded_model_has_the_identity_that_was_planned(judge):
    model = load_model(judge.spec)
    assert judge_identity(model, "both") == judge.identity()
    assert json.loads(json.dumps(judge.identity())) == judge.identity()
    assert len(json.dumps(judge.identity())) < 2000, "it stands in every result"


def test_a_base_from_the_hub_is_identified_by_the_files_that_are_here(judge, monkeypatch, tmp_path):
    import huggingface_hub.constants

    tiny.change_json(judge.adapter / "adapter_config.json", base_model_name_or_path="somebody/model")
    before, commit, cache = judge.identity(), "0123456789" * 4, tmp_path / "hub" / "models--somebody--model"
    shutil.copytree(judge.base, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    judge.spec = replace(judge.spec, pretrained="somebody/model")
    after = judge.identity()
    assert after["base"] == "somebody/model" and same_judge(before, after)
    (cache / "snapshots" / commit / BASE).unlink()
    tiny.refusal(ModelError, judge.identity, "cannot be read", "get the folder again")


# -- comparing identities ----------------------------------------------------------------------------------------------


OLD = {  # as version 0.1 wrote them
    "base": "here",
    "revision": None,
    "base_fingerprint": "st-1",
    "adapter": "adapter",
    "adapter_sha256": "a",
    "dtype": "float32",
    "order": "both",
}


def test_names_do_not_count_where_weights_are_identified():
    assert same_judge(OLD, OLD | {"base": "there", "adapter": "elsewhere", "revision": "main", "hash": "abc"})
    assert identity_hash(OLD) == identity_hash(OLD | {"base": "there", "adapter": "elsewhere", "revision": "main"})
    nameless = OLD | {"base_fingerprint": None}
    assert differences(nameless, nameless | {"base": "there", "revision": "main"}) == ["base", "revision"]
    assert differences(OLD, OLD | {"adapter_sha256": "b", "dtype": "int8"}) == ["adapter_sha256", "dtype"]


def test_identities_of_an_earlier_version_are_compared_in_what_both_have(judge):
    new = judge.identity()
    old = OLD | {"adapter_sha256": new["adapter_sha256"]}
    assert same_judge(old, new) and same_judge(new, old)
    assert differences(old | {"dtype": "int8"}, new) == ["dtype"]


def test_settings_that_are_sets_have_no_order():
    from peft import LoraConfig

    one, other = (LoraConfig(target_modules=modules) for modules in (["a", "b", "c"], ["c", "b", "a"]))
    assert settings(one) == settings(other) and settings(one)["target_modules"] == ["a", "b", "c"]


# -- the command line --------------------------------------------------------------------------------------------------


def command(capsys, *arguments):
    """(exit code, stdout, stderr) of `arena-rm`"""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    out = capsys.readouterr()
    return stop.value.code or 0, out.out, out.err


def test_doctor_says_what_identifies_a_judge_part_by_part(judge, capsys):
    options = ["--pretrained", judge.base, "--peft", judge.adapter, "--dtype", "float32", "--device", "cpu"]
    options += ["--temperature", 1.5, "--tie-nu", 0.5]
    code, said, _ = command(capsys, "doctor", *options)
    identity = judge.identity()
    assert code == 0 and identity_hash(identity) in said
    for name in parts(identity):
        assert f"\n{name} " in said and MEANINGS[name] in said
    code, said, _ = command(capsys, "doctor", *options, "--json")
    assert code == 0 and json.loads(said) == {
        "hash": identity_hash(identity),
        "parts": parts(identity),
        "names": {name: identity[name] for name in ("base", "revision", "adapter")},
    }
    assert set(MEANINGS) == set(parts(identity))
    assert json.loads(command(capsys, "doctor", *options, "--json", "--order", "ab")[1])["parts"]["order"] == "ab"


def test_doctor_refuses_a_judge_that_cannot_be_identified(judge, capsys):
    (judge.base / BASE).unlink()
    code, _, said = command(capsys, "doctor", "--pretrained", judge.base, "--peft", judge.adapter)
    assert code == 3 and str(judge.base) in said and "identified by its weights" in said


def test_verdicts_of_a_judge_whose_configuration_was_changed_are_not_used_again(judge, capsys, tmp_path):
    (tmp_path / "answers").mkdir()
    files = tournament_rows.three_files(tmp_path / "answers")
    options = [
        "--pretrained",
        judge.base,
        "--peft",
        judge.adapter,
        "--dtype",
        "float32",
        "--device",
        "cpu",
        "--kind",
        "pair",
    ]
    again = ["judge", *files, "--baseline", "ibis", "--no-plots", "--no-cache", *options, "-o", tmp_path / "judged"]
    assert command(capsys, *again)[0] == 0
    assert "are used again" in command(capsys, *again)[2]
    CHANGES["lora_alpha"][0](judge, None)
    code, _, said = command(capsys, *again)
    assert code == 3 and "another judge" in said


def test_a_folder_with_a_base_and_an_adapter_is_no_base(judge):
    """transformers would load the adapter, and the base that its configuration names."""
    shutil.copy(judge.adapter / "adapter_config.json", judge.base)
    tiny.refusal(ModelError, judge.identity, str(judge.base), "an adapter", "peft=")


def test_saving_tensors_again_in_another_format_is_seen(judge):
    """A file is hashed whole: its header counts, which is stricter than need be and never too lax."""
    before = judge.identity()
    save_file(load_file(judge.base / BASE), judge.base / BASE, metadata={"format": "pt", "note": "again"})
    assert differences(before, judge.identity()) == ["base_sha256"]
