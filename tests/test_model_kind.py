"""What kind of judge some weights are: the classes of three logits, one logit of a pair or of a single response, and
vocabularies, embeddings and configurations that do not agree."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from harness_plugin.engine import Engine
from harness_plugin.errors import ModelError, UsageError
from harness_plugin.model import MANIFEST_FILE, Manifest, ModelSpec, load_model, plan_model
from harness_plugin.model.adapter import CONFIG
from harness_plugin.model.kind import class_order
from harness_plugin.model.reading import chat_template

ALONE = {"dtype": "float32", "device": "cpu"}


def save_whole(base, folder, num_labels=1, id2label=None):
    """A base with a random head, saved as a whole model with its tokenizer."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=num_labels, dtype=torch.float32)
    with torch.no_grad():
        model.score.weight.normal_(std=0.3)
    if id2label:
        model.config.id2label = dict(enumerate(id2label))
        model.config.label2id = {name: i for i, name in enumerate(id2label)}
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


# -- three logits -----------------------------------------------------------------------------------------------------


def order(*names, manifest=False, adapter=None):
    config = SimpleNamespace(id2label=dict(enumerate(names)))
    return class_order("judge", 3, config, Manifest(found=manifest), adapter)


@pytest.mark.parametrize(
    "names, expected",
    [
        (("winner_model_a", "winner_model_b", "winner_tie"), [0, 1, 2]),
        (("winner_tie", "winner_model_a", "winner_model_b"), [1, 2, 0]),
        (("B", "tie", "A"), [2, 0, 1]),
        (("Response B is better", "Response A is better", "Tie"), [1, 0, 2]),
        (("assistant-a", "DRAW", "assistant-b"), [0, 2, 1]),
        (("LABEL_0", "LABEL_1", "LABEL_2"), [0, 1, 2]),
    ],
)
def test_the_names_of_the_classes_say_their_order(names, expected):
    assert order(*names) == expected


@pytest.mark.parametrize(
    "names",
    [
        ("contradiction", "neutral", "entailment"),
        ("negative", "neutral", "positive"),
        ("model_a", "model_a", "tie"),
        ("model_a_loses", "model_b_loses", "tie"),
        ("LABEL_2", "LABEL_1", "LABEL_0"),
        ("0", "1", "2"),
        ("model_a", "model_b", "both_bad"),
    ],
)
def test_other_names_are_refused(names):
    tiny.refusal(ModelError, lambda: order(*names), repr(names[0]), repr(names[2]), "id2label")


def test_an_adapter_has_the_order_of_its_manifest_and_else_the_names_of_its_base():
    nli = ("contradiction", "neutral", "entailment")
    assert order(*nli, manifest=True, adapter=object()) == [0, 1, 2]
    assert order("LABEL_0", "LABEL_1", adapter=object()) == [0, 1, 2]
    assert order("tie", "a", "b", adapter=object()) == [1, 2, 0]
    tiny.refusal(ModelError, lambda: order(*nli, adapter=object()), "entailment")


def test_logits_come_in_the_order_a_b_tie_and_other_classes_are_refused_before_the_weights(tiny_base, tmp_path):
    names = {"abt": ("model_a", "model_b", "tie"), "tab": ("tie", "model_a", "model_b"), "nli": ("no", "maybe", "yes")}
    spec = {
        name: ModelSpec(pretrained=str(save_whole(tiny_base("gemma"), tmp_path / name, 3, words)), **ALONE)
        for name, words in names.items()
    }
    ids = [[2, 20, 30, 40], [2, 50, 60]]
    one, other = (Engine(load_model(spec[name])).logits(ids) for name in ("abt", "tab"))
    assert other == pytest.approx(one[:, [1, 2, 0]]) and np.ptp(one) > 0.1
    tiny.refusal(ModelError, lambda: plan_model(spec["nli"]), "'no', 'maybe', 'yes'")
    padded = load_model(spec["tab"])
    object.__setattr__(padded, "backbone", None)  # as for a network that the packed engine does not run
    assert Engine(padded).logits(ids) == pytest.approx(other, abs=1e-5)


# -- one logit --------------------------------------------------------------------------------------------------------


def test_one_logit_without_a_manifest_is_a_judge_of_pairs_only_if_somebody_says_so(tiny_base, tiny_spec, tmp_path):
    whole = {"pretrained": str(save_whole(tiny_base("gemma"), tmp_path / "whole")), **ALONE}
    both = ("kind=pair", "--kind pair", "kind=pointwise", "--kind pointwise")
    words = ("one logit", "no arena_rm.json", "pointwise reward model", *both)
    tiny.refused(ModelSpec(**whole), str(tmp_path / "whole"), *words)
    assert load_model(ModelSpec(**whole, kind="pair")).num_labels == 1
    tiny.save_lora(tiny_base("gemma"), tmp_path / "lora")
    tiny.refused(tiny_spec(peft=str(tmp_path / "lora")), "r is 8 instead of 16", *words)
    assert load_model(tiny_spec(peft=str(tmp_path / "lora"), kind="pair")).num_labels == 1
    tiny.save_manifest(tiny_base("gemma"), tmp_path / "lora")
    assert load_model(tiny_spec(peft=str(tmp_path / "lora"))).manifest.found
    tiny.save_manifest(tiny_base("gemma"), tmp_path / "whole")
    assert load_model(ModelSpec(**whole)).manifest.found


def test_an_adapter_with_the_cards_settings_is_a_judge_of_pairs(tiny_spec, adapter_copy):
    folder = adapter_copy()
    assert plan_model(tiny_spec(peft=str(folder))).num_labels == 1
    tiny.change_json(folder / CONFIG, lora_dropout=0.05)
    tiny.refused(tiny_spec(peft=str(folder)), "lora_dropout is 0.05 instead of 0.1")
    tiny.change_json(folder / CONFIG, lora_dropout=0.1, target_modules="all-linear")
    tiny.refused(tiny_spec(peft=str(folder)), "target_modules is all-linear instead of")


def test_a_kind_that_is_none_is_a_wrong_use():
    tiny.refusal(UsageError, lambda: ModelSpec(kind="listwise"), "kind='listwise'", "pair", "pointwise")


# -- vocabulary and embedding -----------------------------------------------------------------------------------------


def test_ids_beyond_the_embedding_are_refused_before_the_weights(tiny_spec, adapter_copy):
    folder, grown = adapter_copy(), tiny.tokenizer()
    grown.add_tokens([f"<x{i}>" for i in range(21)])
    grown.save_pretrained(folder)
    words = (f"{len(grown)} tokens", "608 rows", "'<x20>'" if len(grown) == 609 else "'<x", str(folder))
    tiny.refusal(ModelError, lambda: plan_model(tiny_spec(peft=str(folder))), *words)


def test_a_special_token_beyond_the_embedding_does_no_harm(tiny_spec, adapter_copy):
    """Gemma 3 has such a one, for images. Its spelling in a text stays text."""
    from harness_plugin.pairs import Pair

    folder, grown = adapter_copy(), tiny.tokenizer()
    grown.add_tokens([f"<x{i}>" for i in range(608 - len(grown))])
    grown.add_special_tokens({"additional_special_tokens": ["<image>"]})
    grown.save_pretrained(folder)
    model = load_model(tiny_spec(peft=str(folder)))
    ids = model.renderer.render(Pair("<image>", "<x0><image>", "b")).ids
    assert max(ids) < 608 <= max(model.renderer.tokenizer.get_vocab().values())
    assert np.isfinite(Engine(model).logits([ids])).all()


@pytest.mark.parametrize(
    "rows, settings",
    [
        (620, {}),
        (620, {"modules_to_save": ["score", "embed_tokens"]}),
        (620, {"target_modules": ["q_proj", "embed_tokens"]}),
        (620, {"trainable_token_indices": [610, 611]}),
        (None, {"modules_to_save": ["score", "embed_tokens"]}),
        (604, {}),
    ],
)
@pytest.mark.parametrize("merge", [True, False])
def test_an_adapter_that_brings_its_embedding_scores_as_it_does_in_peft(
    tiny_spec, tiny_base, tmp_path, rows, settings, merge
):
    logits = tiny.save_lora(tiny_base("gemma"), tmp_path, rows, **settings)
    model = load_model(tiny_spec(peft=str(tmp_path), kind="pair", merge=merge))
    assert Engine(model).logits([tiny.LORA_IDS])[0] == pytest.approx(logits, abs=1e-4)


def test_the_log_says_that_the_embedding_is_resized(tiny_spec, tiny_base, tmp_path, caplog):
    caplog.set_level("INFO", "lm_eval.arena_rm")
    tiny.save_lora(tiny_base("gemma"), tmp_path, 620)
    plan_model(tiny_spec(peft=str(tmp_path), kind="pair"))
    assert "resized from 608 to 620 rows" in caplog.text


# -- configurations that contradict each other ------------------------------------------------------------------------


def test_a_rank_that_is_not_that_of_the_matrices_is_named(tiny_spec, adapter_copy):
    folder = adapter_copy(manifest=True)
    tiny.change_json(folder / CONFIG, r=8)
    tiny.refused(tiny_spec(peft=str(folder)), CONFIG, "r is 8", "have rank 16")


def test_a_scale_that_is_not_the_recipes_is_named(tiny_spec, tiny_base, adapter_copy):
    folder = adapter_copy()
    recipe = {"recipe": {"lora": {"r": 16, "lora_alpha": 32, "use_rslora": False}}}
    tiny.save_manifest(tiny_base("gemma"), folder, training=recipe)
    assert plan_model(tiny_spec(peft=str(folder))).num_labels == 1
    tiny.change_json(folder / CONFIG, lora_alpha=64)
    tiny.refused(tiny_spec(peft=str(folder)), "lora_alpha is 64", MANIFEST_FILE, "trained with 32")
    tiny.change_json(folder / CONFIG, lora_alpha=32, use_rslora=True)
    tiny.refused(tiny_spec(peft=str(folder)), "use_rslora is True", "trained with False")


def test_target_modules_that_are_not_those_of_the_weights_are_shown(tiny_spec, adapter_copy):
    folder = adapter_copy(manifest=True)
    tiny.change_json(folder / CONFIG, target_modules=["q_proj"])
    tiny.refused(tiny_spec(peft=str(folder)), "target_modules ['q_proj']", f"the {CONFIG} that was saved with it")


def test_two_names_of_the_base_are_both_said(tiny_spec, tiny_base, adapter_copy, tmp_path):
    folder, other = adapter_copy(manifest=True), tiny.save_base("gemma", tmp_path / "other", seed=9)
    tiny.change_json(folder / CONFIG, base_model_name_or_path=str(other))
    text = tiny.refused(tiny_spec(pretrained=str(other), peft=str(folder)), MANIFEST_FILE, str(other))
    assert f"trained on {str(tiny_base('gemma'))!r}" in text and f"use pretrained={tiny_base('gemma')}" in text
    assert "leave pretrained out" not in text, "without it the same base would be used"


def test_the_right_base_with_other_weights_is_not_advised_again(tiny_spec, tiny_base, adapter_copy, tmp_path):
    folder, base = adapter_copy(), shutil.copytree(tiny_base("gemma"), tmp_path / "base")
    tiny.save_manifest(base, folder)
    tiny.save_base("gemma", base, seed=9)
    text = tiny.refused(tiny_spec(pretrained=str(base), peft=str(folder)), "the weights of base", "instead of")
    assert "use pretrained" not in text


@pytest.mark.parametrize(
    "fields",
    [
        {"r": "x"},
        {"r": 0},
        {"r": True},
        {"base_model_name_or_path": 5},
        {"lora_alpha": "32"},
        {"target_modules": 7},
        {"peft_type": ["LORA"]},
        {"modules_to_save": "score"},
        {"modules_to_save": [5]},
        {"target_modules": ["q_proj", 5]},
        {"rank_pattern": "x"},
        {"alpha_pattern": {"q_proj": "x"}},
        {"layers_to_transform": "all"},
        {"lora_dropout": "much"},
        {"bias": 3},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_a_field_of_another_type_is_refused_in_words(tiny_spec, adapter_copy, fields):
    folder = adapter_copy(manifest=True)
    tiny.change_json(folder / CONFIG, **fields)
    tiny.refused(tiny_spec(peft=str(folder)))


def test_a_base_configuration_of_another_type_is_refused_in_words(tiny_spec, tiny_base, tmp_path):
    base = shutil.copytree(tiny_base("gemma"), tmp_path / "base")
    whole = (base / "config.json").read_text(encoding="utf-8")
    for fields in ({"num_hidden_layers": "two"}, {"model_type": 5}, {"hidden_size": None}, {"id2label": 3}):
        (base / "config.json").write_text(json.dumps(json.loads(whole) | fields), encoding="utf-8")
        tiny.refused(tiny_spec(pretrained=str(base)))


def test_a_chat_template_that_is_no_text_is_named(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"{{ messages }}\xff")
    with pytest.raises(ModelError, match=r"chat_template\.jinja cannot be read .*save it as UTF-8"):
        chat_template(None, "a judge", SimpleNamespace(folder=tmp_path))
