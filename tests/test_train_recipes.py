"""The shipped recipes `card`, `default` and `embedded`, run for real on a tiny base, and bases of other families."""

import pytest
import tiny
import torch
from safetensors.torch import load_file
from training_runs import CARD_LORA, ENCODER, HEAD, LINEAR, in_order, judges, losses, made, recipe, stored, targets

from harness_plugin.errors import ModelError, UsageError
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.train import run
from harness_plugin.train.network import build

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("change", ["head_learning_rate=-0.1", "weight_decay=-1", "max_grad_norm=-1"])
def test_a_setting_that_would_stop_or_turn_the_run_is_refused_with_the_recipe(change):
    with pytest.raises(UsageError, match=f"{change.split('=')[0]}: .*it must be .*0"):
        recipe("default", "any", change)


def test_default_trains_every_linear_layer_and_takes_rank_stabilised_and_decomposed_lora(
    tiny_base, lesson_file, tmp_path
):
    base, out = tiny_base("gemma2"), tmp_path / "mine"
    made("default", base, lesson_file, out, "lora.use_rslora=true", "lora.use_dora=true", "lora.r=4")
    fields = stored(out)
    assert targets(out) == LINEAR
    wanted = {"use_rslora": True, "use_dora": True, "r": 4, "lora_alpha": 32, "lora_dropout": 0.05}
    assert {name: fields[name] for name in wanted} == wanted
    assert fields["target_modules"] == sorted(fields["target_modules"]), "the same file from every process"
    tensors = load_file(out / "adapter_model.safetensors")
    assert sum("lora_magnitude_vector" in name for name in tensors) == 3 * len(LINEAR)
    judges(base, out)


def test_embedded_trains_the_layers_it_names_and_saves_them_in_half_the_bytes(tiny_base, lesson_file, tmp_path):
    base, out = tiny_base("gemma3"), tmp_path / "mine"
    manifest = made(
        "embedded", base, lesson_file, out, "lora.layers_to_transform=[1, 2]", "select.sources=null", "compile=false"
    )
    fields = stored(out)
    wanted = {"layers_to_transform": [1, 2], "r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "use_dora": False}
    assert {name: fields[name] for name in wanted} == wanted and targets(out) == LINEAR
    tensors = load_file(out / "adapter_model.safetensors")
    assert {name.split(".layers.")[1].split(".")[0] for name in tensors if ".lora_" in name} == {"1", "2"}
    assert len(tensors) == 2 * len(LINEAR) * 2 + 1 and {t.dtype for t in tensors.values()} == {torch.bfloat16}
    in_float32 = 4 * sum(t.numel() for t in tensors.values())
    with open(out / "adapter_model.safetensors", "rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    assert (out / "adapter_model.safetensors").stat().st_size - header == in_float32 / 2
    assert manifest.training["recipe"]["save_precision"] == "bfloat16"
    judges(base, out)


def test_card_makes_the_cards_own_adapter_which_its_snippet_loads_unchanged(tiny_base, lesson_file, tmp_path):
    """Beside the run in test_train_runs: here the shipped file, of which only the precision cannot be had on a CPU."""
    base, out = tiny_base("gemma"), tmp_path / "mine"
    config = recipe("card", base, "precision=float32", "epochs=1")
    run.train(config, run.Request([lesson_file], device="cpu"), out)
    fields = stored(out)
    assert {name: in_order(fields[name]) for name in CARD_LORA} == {k: in_order(v) for k, v in CARD_LORA.items()}
    plain = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "layers_to_transform": None,
        "fan_in_fan_out": False,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    assert {name: fields[name] for name in plain} == plain
    assert {t.dtype for t in load_file(out / "adapter_model.safetensors").values()} == {torch.float32}
    judges(base, out)


@pytest.mark.parametrize(("kind", "more"), [("llama", ()), ("bert", ENCODER)])
def test_another_familys_model_is_trained_and_judges(lesson_file, tmp_path, kind, more):
    save = tiny.save_base if kind in tiny.DECODERS else tiny.save_other
    base, out = save(kind, tmp_path / kind), tmp_path / "mine"
    manifest = made("default", base, lesson_file, out, "epochs=3", *more)
    assert losses(manifest, "eval_loss")[-1] < losses(manifest)[0]
    assert targets(out) == ({"query", "value"} if more else LINEAR)
    judges(base, out)


def test_weights_that_are_neither_in_the_base_nor_trained_are_refused(lesson_file, tmp_path):
    """An encoder without its pooler: transformers would draw one anew for each loading."""
    bare, whole = (tiny.save_other(kind, tmp_path / kind) for kind in ("bert-mlm", "bert"))
    with pytest.raises(UsageError, match=r"the base has no bert\.pooler\.dense\.bias.*lora\.modules_to_save"):
        made("default", bare, lesson_file, tmp_path / "mine", *ENCODER)
    made("default", bare, lesson_file, tmp_path / "saved", ENCODER[0], "lora.modules_to_save=[classifier, pooler]")
    judges(bare, tmp_path / "saved")

    made("default", whole, lesson_file, tmp_path / "other", *ENCODER)
    (tmp_path / "other" / "arena_rm.json").unlink()  # which would tell the two bases apart
    with pytest.raises(ModelError, match=r"neither .* nor the adapter has bert\.pooler\.dense\.bias"):
        load_model(ModelSpec(pretrained=str(bare), peft=str(tmp_path / "other"), device="cpu", kind="pair"))


def test_a_head_of_two_layers_is_trained_and_judges_but_has_no_spread_of_its_own(lesson_file, tmp_path):
    base = tiny.save_other("roberta", tmp_path / "roberta")
    made("default", base, lesson_file, tmp_path / "mine", *ENCODER, "head_std=null")
    judges(base, tmp_path / "mine")
    with pytest.raises(UsageError, match="head_std with RobertaForSequenceClassification"):
        build(recipe("card", base, *ENCODER, "head_std=0.1"), str(base))


@pytest.mark.parametrize("change", ["lora.use_dora=false", "lora.use_dora=true"], ids=["packed", "padded"])
def test_a_base_that_reads_pictures_too_makes_a_judge_of_texts(lesson_file, tmp_path, change):
    base, out = tiny.save_with_pictures(tmp_path / "base"), tmp_path / "mine"
    made("card", base, lesson_file, out, "precision=float32", change)
    assert all(".language_model." in name or name == HEAD for name in load_file(out / "adapter_model.safetensors"))
    judges(base, out)
