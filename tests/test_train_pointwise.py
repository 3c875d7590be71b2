"""Recipes of kind pointwise: the loss is on r(B) - r(A), both answers in one pack; the adapter says what it is."""

import json

import pytest
import tiny
import tiny_rewards
import torch
from training_runs import lesson

from harness_plugin.errors import ModelError, UsageError
from harness_plugin.judges import open_judge
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.pairs import write_pairs
from harness_plugin.train import run, trainer
from harness_plugin.train.config import TrainConfig, find_config, read_config
from harness_plugin.train.data import Examples
from harness_plugin.train.loss import collate, collate_packed, of_pairs, preference_loss
from harness_plugin.train.network import build
from harness_plugin.train.packed import can_pack, pack
from harness_plugin.train.prepare import Request
from harness_plugin.train.render import renderer_for


def config(base, **more):
    settings = {
        "kind": "pointwise",
        "base": str(base),
        "max_length": 96,
        "truncation": "budget",
        "epochs": 3.0,
        "learning_rate": 1e-2,
        "batch_size": 8,
        "accumulation": 2,
        "precision": "float32",
        "evaluations": 2,
        "validation_share": 0.2,
    }
    return TrainConfig(**settings | more)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """base(kind) -> a random model of the family, with a chat template; its head is not used."""
    root = tmp_path_factory.mktemp("bases")
    return lambda kind: root / kind if (root / kind).exists() else tiny_rewards.save_reward_model(kind, root / kind)


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"truncation": "card"}, "truncation"),
        ({"num_labels": 3}, "num_labels"),
        ({"both_orders": 0.5}, "both_orders"),
        ({"kind": "listwise"}, "kind"),
        ({"kind": "pair", "chat_template": "{{ messages }}"}, "chat_template"),
    ],
)
def test_fields_that_mean_nothing_together_are_refused(fields, word):
    tiny.refusal(UsageError, lambda: config("base", **fields), word)


def test_the_shipped_recipe_has_a_template_that_can_be_rendered():
    recipe = read_config(find_config("pointwise"))
    renderer = renderer_for(recipe, tiny.tokenizer())
    text = renderer.tokenizer.decode(renderer.render_answer(("System: Be brief.", "Ask?"), "Yes.").ids)
    turns = "<start_of_turn>user\nBe brief.\n\nAsk?<end_of_turn>\n<start_of_turn>model\nYes.<end_of_turn>\n"
    assert text == f"<bos>{turns}"
    tiny.refusal(
        ModelError, lambda: renderer_for(config("some/base"), tiny.tokenizer()), "some/base", "no chat template"
    )


def test_the_loss_is_of_the_difference_and_the_same_on_packed_and_on_padded_batches(base):
    recipe = config(base("gemma3"))
    examples = Examples(lesson(6), renderer_for(recipe, tiny_rewards.tokenizer("gemma3")), recipe, plain=True)
    rows = [examples[i] for i in range(6)]
    padded, packed = collate(rows, padding=0), collate_packed(rows)
    assert padded["input_ids"].shape[0] == 12 and len(padded["labels"]) == 6 and packed["pack"].members != []
    assert len(packed["input_ids"]) < sum(len(row["input_ids"]) + len(row["against"]) for row in rows), (
        "prompts are shared"
    )
    network = build(recipe, str(base("gemma3"))).eval()
    with torch.no_grad():
        network.base_model.model.score.modules_to_save["default"].weight.normal_(std=0.3)
        one = of_pairs(network(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).logits)
        assert can_pack(network, torch.device("cpu"))
        pack(network)
        places = torch.tensor(packed["pack"].members)
        other = of_pairs(network(pack=packed["pack"]).logits[places.argsort()])
    assert torch.allclose(one, other, atol=1e-4) and one.shape == (6, 1)
    assert preference_loss(one, padded["labels"]) == pytest.approx(
        float(preference_loss(other, packed["labels"])), abs=1e-4
    )
    assert examples.tokens() == sum(len(row["input_ids"]) + len(row["against"]) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gemma3", "qwen3"])
def test_a_run_makes_a_pointwise_adapter_that_is_used_as_it_was_trained(base, kind, tmp_path):
    data = tmp_path / "lesson.jsonl"
    write_pairs(data, lesson(120))
    out = tmp_path / "adapter"
    manifest = run.train(config(base(kind)), Request([str(data)], device="cpu"), out)
    stored = json.loads((out / "arena_rm.json").read_text("utf-8"))
    assert stored["kind"] == "pointwise" and stored["template"] == tiny_rewards.TEMPLATES[kind]
    assert manifest.metrics["validation"]["acc"]["value"] > 0.9
    assert manifest.metrics["validation"]["position_bias"]["value"] == 0
    card = (out / "README.md").read_text("utf-8")
    assert "pointwise reward model" in card and "apply_chat_template" in card and "order_agreement`), so" not in card
    spec = ModelSpec(peft=str(out), device="cpu", dtype="float32")
    with open_judge(spec) as judge:
        assert judge.identity["kind"] == "pointwise" and judge.calibration == manifest.calibrated()
        right = [
            j.score * (1 if j.winner.value == "model_b" else -1) for j in judge.judge(lesson(40, 7)) if j.p_b != 0.5
        ]
    assert sum(score > 0 for score in right) >= 0.8 * len(right)
    tiny.refused(ModelSpec(peft=str(out), kind="pair", device="cpu"), "kind=pair", "says pointwise")
    again = config(base(kind), init=str(out), kind="pair", truncation="card")
    tiny.refusal(
        UsageError, lambda: run.train(again, Request([str(data)], device="cpu"), tmp_path / "x"), "of kind pointwise"
    )
    assert load_model(spec).renderer.max_length == 96


@pytest.mark.slow
def test_a_killed_run_continues_where_it_stopped(base, tmp_path, monkeypatch):
    data = tmp_path / "lesson.jsonl"
    write_pairs(data, lesson(96))
    recipe, asked = config(base("gemma3"), epochs=1.5), Request([str(data)], device="cpu")
    run.train(recipe, asked, tmp_path / "whole")
    real, steps = trainer.PreferenceTrainer.training_step, []

    def step(self, *args, **kwargs):
        steps.append(self.state.global_step)
        if len(steps) == 12:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(trainer.PreferenceTrainer, "training_step", step)
    with pytest.raises(KeyboardInterrupt):
        run.train(recipe, asked, tmp_path / "mine")
    other = config(base("gemma3"), epochs=1.5, chat_template="{% for m in messages %}{{ m.content }}\n{% endfor %}")
    with pytest.raises(UsageError, match="another run, unfinished"):
        run.train(other, asked, tmp_path / "mine")
    del steps[:11]
    run.train(recipe, asked, tmp_path / "mine")
    assert steps[1] > 0, "it began anew"
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "mine")]
    assert files[0] == files[1]
