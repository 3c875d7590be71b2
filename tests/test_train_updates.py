"""What an update is: how the pairs of its batches count, which weights decay, and at which rates they are learned."""

import pytest
import tiny
import torch
from training_runs import HEAD, lesson, recipe

from harness_plugin.prompt import Renderer
from harness_plugin.train import trainer
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.data import Examples
from harness_plugin.train.loss import collate
from harness_plugin.train.network import _layers, build
from harness_plugin.train.packed import can_pack

PLAIN = ("precision=float32", "lora.lora_dropout=0", "max_length=96")


def trainer_of(base, tmp_path, count, *changes):
    """A trainer of the recipe `card` with the changes, on so many pairs."""
    config = recipe("card", base, *PLAIN, *changes)
    examples = Examples(lesson(count), Renderer(tiny.tokenizer(), 96, "budget"), config)
    return trainer.make_trainer(config, build(config, str(base)), examples, examples, tmp_path, torch.device("cpu"))


@torch.no_grad()
def test_every_pair_of_an_update_counts_alike_where_the_last_batch_is_not_full(tiny_base, tmp_path):
    made = trainer_of(tiny_base("gemma"), tmp_path, 9, "both_orders=0.5", "consistency=1.0", "accumulation=3")
    rows = [made.train_dataset[i] for i in range(9)]
    assert 0 < sum("turned" in row for row in rows) < 9
    made.model.train()
    whole = made.compute_loss(made.model, collate(rows, padding=0))
    batches = [collate(rows[start : start + 4], padding=0) for start in (0, 4, 8)]
    batches, pairs = made.get_batch_samples(iter(batches), 3, torch.device("cpu"))
    parts = [made.compute_loss(made.model, batch, num_items_in_batch=pairs) for batch in batches]
    assert float(sum(parts)) / 3 == pytest.approx(float(whole), abs=1e-6)
    apart = [float(made.compute_loss(made.model, batch)) for batch in batches]
    assert abs(sum(apart) / 3 - float(whole)) > 1e-3, "the mean of the batches' means is something else"
    assert made.get_batch_samples(iter([]), 3, torch.device("cpu")) == ([], None)


@pytest.mark.parametrize(
    ("pairs", "settings", "expected"),
    [
        (51, {"batch_size": 4, "accumulation": 2, "epochs": 2.0}, 14),
        (9, {"batch_size": 4, "accumulation": 3, "epochs": 1.5}, 2),
        (1, {"batch_size": 4, "accumulation": 4, "epochs": 0.1}, 1),
        (64, {"batch_size": 4, "accumulation": 4, "epochs": 1.0}, 4),
    ],
)
def test_the_updates_of_a_run_are_counted_as_the_trainer_makes_them(pairs, settings, expected):
    assert trainer.updates(TrainConfig(**settings), pairs) == expected


def test_only_the_matrices_of_lora_decay_and_only_the_head_has_the_heads_rate(tiny_base, tmp_path):
    changes = "lora.use_dora=true", "lora.modules_to_save=[embed_tokens, score]", "weight_decay=0.1"
    made = trainer_of(tiny_base("gemma"), tmp_path, 9, *changes, "head_learning_rate=1e-5", "learning_rate=1e-3")
    made.create_optimizer()
    names = {id(p): name for name, p in made.model.named_parameters()}
    groups = {}
    for group in made.optimizer.param_groups:
        for parameter in group["params"]:
            groups[names.pop(id(parameter))] = group["weight_decay"], group["lr"]
    assert not any(p.requires_grad for name, p in made.model.named_parameters() if name not in groups)
    head = HEAD.replace("score.", "score.modules_to_save.default.")
    embedding = next(name for name in groups if "embed_tokens" in name)
    assert groups.pop(head) == (0.0, 1e-5) and groups.pop(embedding) == (0.1, 1e-3)
    assert len(groups) == 2 * 4 * 3
    for name, found in groups.items():
        assert found == ((0.0 if "lora_magnitude_vector" in name else 0.1), 1e-3), name


def test_the_head_does_not_decay_without_a_rate_of_its_own(tiny_base, tmp_path):
    made = trainer_of(tiny_base("gemma"), tmp_path, 9, "weight_decay=0.1")
    decaying = made.get_decay_parameter_names(made.model)
    assert decaying and not any("score" in name for name in decaying)


def test_of_a_base_that_reads_pictures_too_only_the_language_model_is_trained(tmp_path):
    base = tiny.save_with_pictures(tmp_path / "base")
    network = build(recipe("card", base, *PLAIN, "lora.target_modules=all-linear"), str(base))
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert len(trained) == 3 * 7 * 2 + 1 and sum(".language_model.layers." in name for name in trained) == 3 * 7 * 2
    assert [type(layer).__name__ for layer in _layers(network)] == ["Gemma3DecoderLayer"] * 3
    assert not network.config.get_text_config().use_cache and can_pack(network, torch.device("cpu"))
