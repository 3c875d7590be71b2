"""Base and adapter become a judge that scores as the reference card's own snippet does, or are refused."""

import json
import re
import shutil

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from harness_plugin.engine import Engine
from harness_plugin.errors import ModelError, ScoreError
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.model.adapter import CONFIG, PICKLE, WEIGHTS, check_base, read_adapter
from harness_plugin.model.file_hashes import file_sha256
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.prompt import card_text


def card_logits(base, peft, texts) -> list[float]:
    """The reference card's own snippet, with nothing of this project in it."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base_model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    model = PeftModel.from_pretrained(base_model, peft)
    tokenizer = AutoTokenizer.from_pretrained(base)
    out = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
        with torch.no_grad():
            out.append(model(**inputs).logits.item())
    return out


# -- the card -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_scores_are_those_of_the_cards_snippet(tiny_spec, tiny_base, tiny_adapter, pairs, kind):
    ordinary = [p for p in pairs if tiny.HOSTILE not in card_text(p)]
    expected = np.array(card_logits(tiny_base(kind), tiny_adapter(kind), map(card_text, ordinary)))
    assert expected.std() > 0.3, "a judge that says the same of all pairs would prove nothing"
    for merge, close in ((False, 1e-5), (True, 1e-4)):
        model = load_model(tiny_spec(kind, merge=merge))
        assert (model.renderer.truncation, model.renderer.max_length) == ("card", 512)
        rendered = [model.renderer.render(p) for p in ordinary]
        assert any(r.truncated for r in rendered) and not all(r.truncated for r in rendered)
        found = Engine(model).logits([r.ids for r in rendered])[:, 0]
        assert np.abs(found - expected).max() < close
        assert any("lora_" in name for name, _ in model.network.named_parameters()) != merge


def test_the_adapter_changes_the_score_and_so_does_its_seed(tiny_spec, tiny_adapter, pairs):
    ids = [load_model(tiny_spec()).renderer.render(p).ids for p in pairs[:3]]
    one, other = (
        Engine(load_model(tiny_spec(peft=str(tiny_adapter("gemma", seed=seed))))).logits(ids) for seed in (1, 2)
    )
    assert np.abs(one - other).min() > 1e-3


def test_an_adapter_alone_brings_its_base(tiny_base, tiny_adapter, tiny_spec, pairs):
    alone = load_model(ModelSpec(peft=str(tiny_adapter("gemma2")), dtype="float32", device="cpu"))
    assert alone.identity["base"] == str(tiny_base("gemma2"))
    ids = [alone.renderer.render(p).ids for p in pairs]
    assert Engine(alone).logits(ids) == pytest.approx(Engine(load_model(tiny_spec("gemma2"))).logits(ids), abs=1e-5)


def test_a_whole_model_with_its_head_needs_no_adapter(tiny_base, tiny_adapter, tiny_spec, pairs, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(tiny_base("gemma3"), num_labels=1)
    PeftModel.from_pretrained(base, tiny_adapter("gemma3")).merge_and_unload().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    whole = load_model(ModelSpec(pretrained=str(tmp_path), dtype="float32", device="cpu", kind="pair"))
    assert whole.identity["adapter"] is None and not whole.manifest.found
    ids = [whole.renderer.render(p).ids for p in pairs]
    assert np.abs(Engine(whole).logits(ids) - Engine(load_model(tiny_spec("gemma3"))).logits(ids)).max() < 1e-4


def test_a_head_of_three_logits_loads_as_three(tiny_spec, tiny_adapter, pairs):
    model = load_model(tiny_spec(peft=str(tiny_adapter("gemma", num_labels=3))))
    assert model.num_labels == 3
    assert Engine(model).logits([model.renderer.render(p).ids for p in pairs]).shape == (len(pairs), 3)


def test_the_identity_says_what_decides_a_score(tiny_spec, tiny_adapter):
    model = load_model(tiny_spec())
    assert model.identity["adapter_sha256"] == file_sha256(tiny_adapter("gemma") / WEIGHTS)
    assert json.loads(json.dumps(model.identity)) == model.identity
    changes = [
        {"dtype": "bfloat16"},
        {"dtype": "int8"},
        {"merge": False},
        {"max_length": 256},
        {"truncation": "budget"},
    ]
    changes += [{"peft": str(tiny_adapter("gemma", seed=2))}]
    seen = [json.dumps(load_model(tiny_spec(**change)).identity, sort_keys=True) for change in [{}, *changes]]
    assert len(set(seen)) == len(seen)


def test_a_model_is_ready_to_score(tiny_spec):
    model = load_model(tiny_spec(dtype="bfloat16"))
    assert not model.network.training and model.head.dtype == torch.float32
    assert next(model.backbone.parameters()).dtype == model.dtype == torch.bfloat16


# -- adapters that cannot be used --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda n, t: None if "score" in n else t, ("no trained head",)),
        (lambda n, t: t * 0 if "lora_B" in n else t, ("lora_B is zero", "never trained")),
        (lambda n, t: t * 0 if "score" in n else t, ("head is all zeros",)),
        (lambda n, t: t / 0 if "layers.1.self_attn.q_proj.lora_A" in n else t, ("NaN or infinity in", "q_proj.lora_A")),
        (lambda n, t: t * torch.nan if "score" in n else t, ("NaN or infinity in", "score")),
        (lambda n, t: t.repeat(2, 1) if "score" in n else t, ("a head of 2 logits",)),
        (lambda n, t: None if "layers.1." in n else t, ("differ between the adapter and the base",)),
    ],
    ids=["no head", "lora_B zero", "head zero", "infinity", "NaN head", "two logits", "a layer short"],
)
def test_damaged_or_untrained_weights_are_refused_with_the_reason(adapter_copy, tiny_spec, change, words):
    folder = adapter_copy()
    tiny.change_tensors(folder, change)
    tiny.refused(tiny_spec(peft=str(folder)), *words)


def test_one_zero_lora_b_among_trained_ones_is_no_reason_to_refuse(adapter_copy, tiny_spec):
    folder = adapter_copy()
    tiny.change_tensors(folder, lambda n, t: t * 0 if "layers.0" in n and "lora_B" in n else t)
    assert load_model(tiny_spec(peft=str(folder))).num_labels == 1


@pytest.mark.parametrize("name, words", [(CONFIG, "not a PEFT adapter"), (WEIGHTS, f"holds no {WEIGHTS}")])
def test_a_missing_file_is_named(adapter_copy, tiny_spec, name, words):
    folder = adapter_copy()
    (folder / name).unlink()
    tiny.refused(tiny_spec(peft=str(folder)), name, words)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"task_type": "SEQ_CLS"}'])
def test_a_broken_adapter_config_is_refused(adapter_copy, tiny_spec, text):
    folder = adapter_copy()
    (folder / CONFIG).write_text(text, encoding="utf-8")
    tiny.refused(tiny_spec(peft=str(folder)), CONFIG, "restore it")


def test_an_adapter_for_another_task_is_refused(adapter_copy, tiny_spec):
    folder = adapter_copy()
    tiny.change_json(folder / CONFIG, task_type="CAUSAL_LM")
    tiny.refused(tiny_spec(peft=str(folder)), "CAUSAL_LM", "SEQ_CLS")


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_damaged_weights_are_refused(adapter_copy, tiny_spec, content):
    folder = adapter_copy()
    (folder / WEIGHTS).write_bytes(content)
    tiny.refused(tiny_spec(peft=str(folder)), "cannot be read", "damaged")


def test_a_pickle_is_refused_unless_asked_for_by_name(adapter_copy, tiny_spec, pairs):
    folder = adapter_copy()
    torch.save(load_file(folder / WEIGHTS), folder / PICKLE)
    (folder / WEIGHTS).unlink()
    tiny.refused(tiny_spec(peft=str(folder)), "pickle", "allow_pickle=true")
    model = load_model(tiny_spec(peft=str(folder), allow_pickle=True))
    ids = [model.renderer.render(p).ids for p in pairs]
    # not bit for bit: where the allocator puts the weights may decide the order of a sum
    assert Engine(model).logits(ids) == pytest.approx(Engine(load_model(tiny_spec())).logits(ids), abs=1e-5)


class Trap:
    """Unpickling this with anything but weights_only would create the file."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


def test_a_pickle_that_runs_code_is_refused_even_when_pickles_are_allowed(adapter_copy, tiny_spec, tmp_path):
    folder = adapter_copy()
    torch.save({"base_model.model.score.weight": Trap(tmp_path / "sprung")}, folder / PICKLE)
    (folder / WEIGHTS).unlink()
    tiny.refused(tiny_spec(peft=str(folder), allow_pickle=True), "more than weights", "not read")
    assert not (tmp_path / "sprung").exists()


# -- bases that do not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gemma", "qwen2"])
def test_a_base_without_a_tokenizer_is_refused(tiny_base, tiny_adapter, tiny_spec, tmp_path, kind):
    base = tmp_path / "base"
    shutil.copytree(tiny_base(kind), base)
    for file in base.glob("*token*"):
        file.unlink()
    spec = tiny_spec(kind, pretrained=str(base))
    tiny.refused(spec, f"{base} has no vocabulary of a tokenizer", "tokenizer.json")
    adapter = tmp_path / "adapter"  # whose own tokenizer has lost its vocabulary
    shutil.copytree(tiny_adapter(kind), adapter)
    shutil.copy(tiny_base(kind) / "tokenizer_config.json", adapter)
    tiny.refused(tiny_spec(kind, peft=str(adapter)), f"{adapter} has no vocabulary of a tokenizer")


def test_a_base_of_other_shapes_is_refused(tiny_base, tiny_spec, tmp_path):
    wide = tiny.save_base("gemma", tmp_path / "wide", hidden_size=48)
    tiny.refused(tiny_spec(pretrained=str(wide)), "does not fit", "trained on another base")
    deep = tiny.save_base("gemma", tmp_path / "deep", num_hidden_layers=3)
    tiny.refused(tiny_spec(pretrained=str(deep)), "differ between the adapter and the base")
    tiny.refused(tiny_spec(pretrained=str(tiny_base("gemma2"))))


def test_a_base_with_another_fingerprint_is_refused(tiny_spec, tiny_base, tiny_adapter, tmp_path):
    peft = str(tiny_adapter("gemma", manifest=True))
    other = tiny.save_base("gemma", tmp_path / "other", seed=9)
    tiny.refused(tiny_spec(pretrained=str(other), peft=peft), "trained on", str(tiny_base("gemma")))
    moved = shutil.copytree(tiny_base("gemma"), tmp_path / "moved")
    assert load_model(tiny_spec(pretrained=str(moved), peft=peft)).num_labels == 1


def test_a_base_of_another_name_on_the_hub_is_refused(adapter_copy, tiny_base):
    folder = adapter_copy()
    tiny.change_json(folder / CONFIG, base_model_name_or_path="google/gemma-2b")
    read = read_adapter(str(folder))
    check_base(read, "google/gemma-2b", None)
    check_base(read, "Google/Gemma-2b", None)
    check_base(read, str(tiny_base("gemma")), fingerprint(str(tiny_base("gemma"))))
    with pytest.raises(ModelError, match=re.escape("use pretrained=google/gemma-2b")):
        check_base(read, "google/gemma-7b", None)


def test_an_adapter_trained_from_a_folder_that_is_elsewhere_takes_a_base_from_the_hub(adapter_copy):
    folder = adapter_copy()
    for path in ("/kaggle/input/gemma/transformers/2b/2", "./models/gemma-2b", "C:\\models\\gemma-2b"):
        tiny.change_json(folder / CONFIG, base_model_name_or_path=path)
        check_base(read_adapter(str(folder)), "google/gemma-2b", None)


def test_the_fingerprint_tells_weights_apart_and_not_places(tiny_base, tmp_path):
    copy = shutil.copytree(tiny_base("gemma"), tmp_path / "copy")
    assert fingerprint(str(copy)) == fingerprint(str(tiny_base("gemma")))
    file = copy / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert fingerprint(str(copy)) != fingerprint(str(tiny_base("gemma")))
    assert fingerprint("google/gemma-2b") is None and fingerprint(str(tmp_path)) is None


def test_a_base_without_a_trained_head_is_no_judge(tiny_base):
    tiny.refused(
        ModelSpec(pretrained=str(tiny_base("gemma")), device="cpu"), "no trained head", "GemmaForCausalLM", "peft="
    )


def test_a_whole_model_with_another_number_of_labels_is_refused(tiny_base, tmp_path):
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(tiny_base("gemma"), num_labels=2).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    tiny.refused(ModelSpec(pretrained=str(tmp_path), device="cpu"), "head")


def test_nothing_is_fetched_and_a_name_that_is_not_here_is_named(tiny_base, tiny_adapter, tmp_path):
    base, peft, gone, empty = str(tiny_base("gemma")), str(tiny_adapter("gemma")), tmp_path / "gone", tmp_path / "empty"
    empty.mkdir()
    tiny.refused(ModelSpec(pretrained=base, peft="nobody/nothing"), "no adapter folder 'nobody/nothing'")
    tiny.refused(ModelSpec(pretrained=base, peft=str(gone)), "no adapter folder", str(gone))
    tiny.refused(ModelSpec(pretrained=base, peft=str(empty)), "not a PEFT adapter", str(empty))
    for name in ("nobody/nothing", str(gone), str(empty)):
        tiny.refused(ModelSpec(pretrained=name, peft=peft, device="cpu"), f"cannot load {name!r}")


def test_a_base_that_is_a_pickle_is_refused_unless_asked_for(tiny_base, tiny_spec, tmp_path):
    base = shutil.copytree(tiny_base("gemma"), tmp_path / "base")
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    tiny.refused(tiny_spec(pretrained=str(base)), "not a safetensors model")
    assert load_model(tiny_spec(pretrained=str(base), allow_pickle=True)).num_labels == 1


def test_a_base_with_nan_weights_gives_no_score(tiny_base, tiny_spec, pairs, tmp_path):
    base = shutil.copytree(tiny_base("gemma"), tmp_path / "base")
    change = {n: t * torch.nan if "layers.0.mlp" in n else t for n, t in load_file(base / "model.safetensors").items()}
    save_file(change, base / "model.safetensors", metadata={"format": "pt"})
    model = load_model(tiny_spec(pretrained=str(base)))
    with pytest.raises(ScoreError, match=r"layers\.0\.mlp"):
        Engine(model).logits([model.renderer.render(pairs[0]).ids])
