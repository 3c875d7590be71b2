"""Adapters and folders as people have them: each scores as PEFT and transformers do, or is refused with the reason."""

import shutil

import pytest
import tiny
import torch

from harness_plugin.engine import Engine
from harness_plugin.errors import ModelError, ScoreError
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.model.adapter import CONFIG, WEIGHTS
from harness_plugin.model.naming import is_adapter
from harness_plugin.pairs import Pair
from harness_plugin.prompt import card_text

ALONE = {"dtype": "float32", "device": "cpu", "kind": "pair"}


def scores(folder, **settings):
    return Engine(load_model(ModelSpec(peft=str(folder), **ALONE | settings))).logits([tiny.LORA_IDS])[0]


def save_gpt2(folder):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    ids = {"pad_token_id": tiny.PAD, "eos_token_id": tiny.EOS, "bos_token_id": tiny.BOS}
    config = GPT2Config(vocab_size=608, n_embd=32, n_layer=2, n_head=2, n_positions=512, initializer_range=0.2, **ids)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


# -- adapters that PEFT loads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [1, 3])
def test_the_logits_of_a_head_of_two_layers_are_those_of_the_last_one(tmp_path, num_labels):
    base = tiny.save_other("roberta", tmp_path / "base")
    settings = {"target_modules": ["query", "value"], "modules_to_save": None}
    expected = tiny.save_lora(base, tmp_path / "lora", num_labels=num_labels, **settings)
    assert len(expected) == num_labels
    engine = Engine(load_model(ModelSpec(peft=str(tmp_path / "lora"), **ALONE)))
    assert engine.logits([tiny.LORA_IDS])[0] == pytest.approx(expected, abs=1e-4)
    tiny.refusal(ScoreError, lambda: engine.logits([[5] * 520]), "520 tokens", "512 positions", "max_length")


def test_the_head_of_a_base_with_other_classes_is_replaced_by_the_adapters(tiny_base, tmp_path):
    from transformers import AutoModelForSequenceClassification

    base = tmp_path / "entailment"
    AutoModelForSequenceClassification.from_pretrained(tiny_base("gemma"), num_labels=3).save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    expected = tiny.save_lora(tiny_base("gemma"), tmp_path / "lora")
    assert scores(tmp_path / "lora", pretrained=str(base)) == pytest.approx(expected, abs=1e-4)
    tiny.change_json(base / "config.json", intermediate_size=48)
    spec = ModelSpec(peft=str(tmp_path / "lora"), pretrained=str(base), **ALONE)
    tiny.refused(spec, "mlp.", "by config.json", "do not belong together")


def test_the_transposed_layers_of_gpt2_merge(tmp_path):
    settings = {"target_modules": ["c_attn"], "fan_in_fan_out": True}
    expected = tiny.save_lora(save_gpt2(tmp_path / "base"), tmp_path / "lora", **settings)
    assert scores(tmp_path / "lora") == pytest.approx(expected, abs=1e-4)


def test_layers_that_share_a_weight_are_not_merged(tiny_base, tmp_path):
    expected = tiny.save_lora(tiny_base("llama"), tmp_path, layer_replication=[[0, 2], [1, 2]])
    tiny.refused(ModelSpec(peft=str(tmp_path), **ALONE), "layers.1.", "layers.2.", "one weight for both", "merge=false")
    assert scores(tmp_path, merge=False) == pytest.approx(expected, abs=1e-4)


def test_an_adapter_without_a_task_is_scored_with_the_head_that_it_saved(tiny_base, tmp_path):
    expected = tiny.save_lora(tiny_base("gemma"), tmp_path, task_type=None)
    assert scores(tmp_path) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "score"]])
def test_an_adapter_without_a_task_that_saved_no_head_is_refused(tiny_base, tmp_path, targets):
    tiny.save_lora(tiny_base("gemma"), tmp_path, task_type=None, modules_to_save=None, target_modules=targets)
    tiny.refused(ModelSpec(peft=str(tmp_path), **ALONE), "no trained head")


@pytest.mark.parametrize(
    "old, new",
    [
        ("base_model.model.", ""),
        ("score.weight", "score.modules_to_save.weight"),
        ("score.weight", "score.original_module.weight"),
        ("lora_A.weight", "lora_A.default.weight"),
    ],
)
def test_names_of_tensors_that_peft_does_not_write_are_refused(adapter_copy, tiny_spec, old, new):
    from safetensors.torch import load_file, save_file

    file = adapter_copy() / WEIGHTS
    save_file({name.replace(old, new): tensor for name, tensor in load_file(file).items()}, file)
    tiny.refused(tiny_spec(peft=str(file.parent)), "under which PEFT stores", new or "model.layers", "save_pretrained")


def test_two_logits_are_no_judge_and_no_manifest_is_quoted(tiny_base, tmp_path):
    tiny.save_lora(tiny_base("gemma"), tmp_path, num_labels=2)
    text = tiny.refused(ModelSpec(peft=str(tmp_path), **ALONE), "a head of 2 logits", "one logit")
    assert "arena_rm.json" not in text


# -- whole models -----------------------------------------------------------------------------------------------------


def save_whole(base, folder, change=lambda model: None):
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight, std=0.3)
    change(model)
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_a_bias_of_the_head_that_transformers_would_drop_is_refused(tiny_base, tmp_path):
    def with_bias(model):
        model.score = torch.nn.Linear(32, 1, bias=True)

    folder = save_whole(tiny_base("llama"), tmp_path, with_bias)
    tiny.refused(ModelSpec(pretrained=str(folder), **ALONE), "score.bias", "LlamaForSequenceClassification", "no place")


@pytest.mark.parametrize("padding", [tiny.PAD, tiny.EOS, None, -1])
def test_a_text_that_ends_with_the_padding_token_is_read_where_transformers_reads_it(tiny_base, tmp_path, padding):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = save_whole(tiny_base("llama"), tmp_path)
    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", tiny.BOS), ("<eos>", tiny.EOS)]
    )
    tokenizer.save_pretrained(folder)
    tiny.change_json(folder / "config.json", pad_token_id=padding)
    pair = Pair("Name a nut.", "Walnut", "A plum is none.")
    model = load_model(ModelSpec(pretrained=str(folder), **ALONE))
    ids = model.renderer.render(pair).ids
    assert (ids[-1] == tiny.EOS) == (padding != tiny.EOS)
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        expected = network(**AutoTokenizer.from_pretrained(folder)(card_text(pair), return_tensors="pt")).logits.item()
    assert Engine(model).logits([ids]).item() == pytest.approx(expected, abs=1e-4)
    object.__setattr__(model, "backbone", None)  # as for a network that looks for the last token itself
    assert Engine(model).logits([ids, ids + ids])[0].item() == pytest.approx(expected, abs=1e-4)


# -- folders and names ------------------------------------------------------------------------------------------------


def test_a_folder_of_checkpoints_names_them(tiny_adapter, tmp_path):
    for step in (5, 10):
        shutil.copytree(tiny_adapter("gemma"), tmp_path / f"checkpoint-{step}")
    words = f"{tmp_path}/checkpoint-5, {tmp_path}/checkpoint-10"
    for name in ("peft", "judge"):
        tiny.refused(ModelSpec(**{name: str(tmp_path)}, **ALONE), words)
    (tmp_path / "empty").mkdir()
    tiny.refusal(ModelError, lambda: is_adapter(str(tmp_path / "empty")), "neither an adapter nor a model")


@pytest.mark.parametrize("name", ["peft", "judge", "pretrained"])
def test_a_file_in_the_place_of_a_folder_is_not_looked_for_on_the_hub(tiny_adapter, name):
    folder = tiny_adapter("gemma")
    tiny.refused(ModelSpec(**{name: str(folder / WEIGHTS)}, **ALONE), "is a file", f"name {folder}")


@pytest.mark.parametrize("place", ["/home/alice/models/gemma-2b", "../gemma-2b", r"C:\models\gemma-2b"])
def test_a_base_of_another_machine_is_asked_for(adapter_copy, place):
    folder = adapter_copy()
    tiny.change_json(folder / CONFIG, base_model_name_or_path=place)
    tiny.refused(ModelSpec(peft=str(folder), **ALONE), f"names the base {place!r}", "say where it is with pretrained=")


def test_the_code_in_a_bases_folder_is_neither_run_nor_asked_about(tiny_spec, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *text: asked.append(text) or "y")
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n", encoding="utf-8")
    fields = '{"model_type": "own", "auto_map": {"AutoConfig": "code.Own"}}'
    (tmp_path / "config.json").write_text(fields, encoding="utf-8")
    tiny.refused(tiny_spec(pretrained=str(tmp_path)), "custom code")
    assert not asked and not (tmp_path / "ran").exists()


def test_files_that_cannot_be_loaded_are_not_said_to_be_missing(tiny_base, tiny_spec, tmp_path):
    base = shutil.copytree(tiny_base("gemma"), tmp_path / "base")
    weights = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    tiny.refused(tiny_spec(pretrained=str(base)), "the folder is here", "get its files again")
    (base / "model.safetensors").write_bytes(weights)
    tiny.change_json(base / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    tiny.refused(tiny_spec(pretrained=str(base)), "needs a library that is not installed")
