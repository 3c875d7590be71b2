"""Whole training runs on tiny judges: what moves, what is learned, what is written, and what stops a run."""

import json
import logging
import math
import re
from pathlib import Path

import pytest
import torch
from training_runs import CARD_LORA, in_order, lesson, snippet
from transformers.utils import logging as transformers_logging

from harness_plugin.engine import Engine
from harness_plugin.errors import TrainError, UsageError
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.model.file_hashes import file_sha256
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.pairs import Winner, write_pairs
from harness_plugin.train import run, trainer
from harness_plugin.train.config import LoraFields, TrainConfig, find_config, read_config
from harness_plugin.train.split import split

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("lesson") / "lesson.jsonl"
    write_pairs(file, lesson(160))
    return str(file)


def config(base, **more):
    settings = {
        "base": str(base),
        "max_length": 96,
        "epochs": 3.0,
        "learning_rate": 1e-2,
        "batch_size": 8,
        "accumulation": 2,
        "warmup": 0.1,
        "precision": "float32",
        "evaluations": 3,
        "validation_share": 0.2,
    }
    return TrainConfig(**settings | more)


def asked(data):
    return run.Request([data], device="cpu")


@pytest.mark.parametrize(("kind", "precision"), [("gemma", "float32"), ("gemma3", "bfloat16")])
def test_a_run_learns_moves_only_what_it_may_and_writes_a_working_adapter(
    tiny_base, data, tmp_path, watched, kind, precision
):
    base, out = tiny_base(kind), tmp_path / "mine"
    recipe = config(base, precision=precision, truncation="card", max_length=512)
    manifest = run.train(recipe, asked(data), out)

    # what moved
    network, before = watched["network"], watched["before"]
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name in trained if ".lora_A." not in name and ".lora_B." not in name} == {
        "base_model.model.score.modules_to_save.default.weight"
    }
    layers = network.config.num_hidden_layers
    assert len(trained) == layers * 4 * 2 + 1
    for name, p in network.named_parameters():
        assert torch.equal(p.cpu(), before[name].cpu()) != (name in trained), name
        assert p.dtype == (torch.float32 if name in trained else getattr(torch, precision)), name

    # it learned
    untrained = manifest.training["log"][0]["loss"]  # of the first update, whose rate is 0
    losses = [row["eval_loss"] for row in manifest.training["log"] if "eval_loss" in row]
    assert len(losses) >= 3 and min(losses) < 0.6 * untrained
    shown = {}
    for name, epoch, label in watched["rows"]:
        shown.setdefault(name, {}).setdefault(epoch, set()).add(label)
    epochs = [sorted(by_epoch) for by_epoch in shown.values() if len(by_epoch) > 1]
    assert epochs and all(found == [0, 1, 2] for found in epochs), "the order is drawn anew in each epoch"
    assert any(len(set(map(tuple, by_epoch.values()))) > 1 for by_epoch in shown.values())

    # the folder
    stored = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
    assert {name: in_order(stored[name]) for name in CARD_LORA} == {k: in_order(v) for k, v in CARD_LORA.items()}
    assert (stored["task_type"], stored["base_model_name_or_path"]) == ("SEQ_CLS", str(base))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"], "no checkpoints are left"

    # the judge it makes: the card's snippet and ours agree, and both find the right answers
    model = load_model(ModelSpec(peft=str(out), dtype="float32", device="cpu"))
    assert (model.renderer.truncation, model.renderer.max_length) == ("card", 512)
    fresh = [p for p in lesson(40, seed=5) if p.winner is not Winner.TIE]
    logit = snippet(base, out)
    theirs = [logit(p) for p in fresh]
    ours = Engine(model).logits([model.renderer.render(p).ids for p in fresh])[:, 0]
    assert ours == pytest.approx(theirs, abs=1e-5)
    right = [(z > 0) == (p.winner is Winner.MODEL_B) for z, p in zip(theirs, fresh, strict=True)]
    assert sum(right) >= 0.8 * len(right)


def test_the_manifest_holds_what_was_done_and_what_was_measured(tiny_base, data, tmp_path):
    base, out = tiny_base("gemma"), tmp_path / "mine"
    recipe = config(base, truncation="budget", epochs=1.0)
    wanted = recipe.to_dict()
    manifest = run.train(recipe, asked(data), out)
    stored = json.loads((out / "arena_rm.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert (stored["base"], stored["base_fingerprint"]) == (str(base), fingerprint(str(base)))
    assert (stored["truncation"], stored["max_length"], stored["num_labels"]) == ("budget", 96, 1)
    assert stored["training"]["recipe"] == wanted == recipe.to_dict()
    assert stored["training"]["files"] == [{"name": "lesson.jsonl", "sha256": file_sha256(Path(data)), "pairs": 160}]
    assert set(stored["versions"]) == {"torch", "transformers", "peft", "accelerate"}
    train, valid = split(lesson(160), recipe.validation_share, recipe.seed, recipe.validation_pairs)
    assert (stored["training"]["pairs"], stored["training"]["validation_pairs"]) == (len(train), len(valid))

    model = load_model(ModelSpec(pretrained=str(base), peft=str(out), device="cpu"))
    z = Engine(model).logits([model.renderer.render(p).ids for q in valid for p in (q, q.swap())])[:, 0]
    s = (z[::2] - z[1::2]) / 2
    said = stored["metrics"]["validation"]
    decisive = [(x, p.winner) for x, p in zip(s, valid, strict=True) if p.winner != Winner.TIE]
    assert (said["n_pairs"]["value"], said["acc"]["n"]) == (len(valid), len(decisive))
    right = sum((x > 0) == (winner == Winner.MODEL_B) for x, winner in decisive)
    assert said["acc"]["value"] == pytest.approx(right / len(decisive), abs=1e-4)
    loss = [
        -y * math.log(1 / (1 + math.exp(-x))) - (1 - y) * math.log(1 / (1 + math.exp(x)))
        for x, y in zip(s, (p.p_b for p in valid), strict=True)
    ]
    assert said["soft_log_loss"] == pytest.approx(sum(loss) / len(loss), abs=1e-3)
    agree = sum(a * b < 0 for a, b in zip(z[::2], z[1::2], strict=True))
    assert said["order_agreement"]["value"] == pytest.approx(agree / len(valid), abs=1e-4)

    def three_way(temperature, nu):
        total = 0.0
        for x, p in zip(s, valid, strict=True):
            weights = [math.exp(-x / temperature / 2), math.exp(x / temperature / 2), nu]
            total -= math.log(weights[p.winner.class_index] / sum(weights))
        for x in (2.0, -2.0):  # the prior: two pairs each, as temperature 1 and tie mass 0.5 have them
            weights = [math.exp(-x / temperature / 2), math.exp(x / temperature / 2), nu]
            said = [math.exp(-x / 2), math.exp(x / 2), 0.5]
            total -= 2 * sum(p / sum(said) * math.log(w / sum(weights)) for p, w in zip(said, weights, strict=True))
        return total + math.log(temperature) / 4

    fitted = stored["calibration"]
    best = three_way(fitted["temperature"], fitted["tie_nu"])
    assert fitted["n"] == len(valid) and fitted["tie_nu"] > 0
    for factor in (0.9, 1.1):
        assert three_way(fitted["temperature"] * factor, fitted["tie_nu"]) > best
        assert three_way(fitted["temperature"], fitted["tie_nu"] * factor) > best
    assert model.calibration.tie_nu == manifest.calibration["tie_nu"]


def test_the_same_recipe_and_data_give_the_same_weights(tiny_base, data, tmp_path):
    recipe = config(tiny_base("gemma2"), epochs=1.0)
    torch.manual_seed(11)
    run.train(recipe, asked(data), tmp_path / "first")
    torch.manual_seed(12)  # what the process did before does not matter
    run.train(recipe, asked(data), tmp_path / "second")
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("first", "second")]
    assert files[0] == files[1]


def test_accumulated_steps_are_one_larger_batch(tiny_base, data, tmp_path):
    plain = {"group_by_length": False, "epochs": 0.5, "lora": LoraFields(lora_dropout=0.0)}
    logs = []
    for size, steps in ((8, 1), (2, 4)):
        recipe = config(tiny_base("gemma"), batch_size=size, accumulation=steps, **plain)
        logs.append(run.train(recipe, asked(data), tmp_path / str(size)).training["log"])
    losses = [[row["loss"] for row in log if "loss" in row] for log in logs]
    assert len(losses[0]) >= 5
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


def test_a_killed_run_continues_where_it_stopped(tiny_base, data, tmp_path, monkeypatch):
    recipe = config(tiny_base("gemma"), epochs=1.5)
    run.train(recipe, asked(data), tmp_path / "whole")
    real = trainer.PreferenceTrainer.training_step
    steps = []

    def step(self, *args, **kwargs):
        steps.append(self.state.global_step)
        if len(steps) == 18:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(trainer.PreferenceTrainer, "training_step", step)
    with pytest.raises(KeyboardInterrupt):
        run.train(recipe, asked(data), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    with pytest.raises(UsageError, match="another run, unfinished"):
        run.train(config(tiny_base("gemma"), seed=1), asked(data), tmp_path / "mine")
    del steps[:17]
    run.train(recipe, asked(data), tmp_path / "mine")
    assert steps[1] > 0, "it began anew"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "whole"]
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "mine")]
    assert files[0] == files[1]


def test_the_head_may_have_a_rate_of_its_own(tiny_base, data, tmp_path, watched):
    recipe = config(tiny_base("gemma"), epochs=0.5, head_learning_rate=1e-30)
    run.train(recipe, asked(data), tmp_path / "mine")
    moved = {
        name: float((p - watched["before"][name]).abs().max()) for name, p in watched["network"].named_parameters()
    }
    head = "base_model.model.score.modules_to_save.default.weight"
    assert moved.pop(head) < 1e-20 < 1e-4 < max(moved.values())


@pytest.mark.parametrize("verbosity", [logging.WARNING, logging.ERROR])
def test_a_run_whose_notes_go_to_a_file_writes_lines_of_measurements_there_and_no_bar(
    tiny_base, data, tmp_path, capsys, caplog, verbosity
):
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(verbosity)  # above WARNING, transformers prints the measurements itself
    caplog.set_level(logging.INFO, "lm_eval.arena_rm")
    try:
        run.train(config(tiny_base("gemma"), epochs=0.5), asked(data), tmp_path / "mine")
    finally:
        transformers_logging.set_verbosity(before)
    said = capsys.readouterr()
    assert said.out == "", "notes belong on stderr"
    assert "it/s" not in said.err
    assert any(re.match(r"arena_rm: step \d+ of \d+: \{'eval_loss'", line) for line in caplog.messages)


def test_an_existing_folder_is_never_written_to(tiny_base, data, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="mine exists"):
        run.train(config(tiny_base("gemma")), asked(data), tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())


def test_a_loss_that_is_no_number_stops_the_run_and_makes_no_adapter(tiny_base, data, tmp_path):
    with pytest.raises(TrainError, match=r"not a number|not finite"):
        run.train(config(tiny_base("gemma"), learning_rate=1e38), asked(data), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_the_cards_half_precision_on_a_cpu_is_refused_with_a_way_out_that_is_free(tiny_base, data, tmp_path):
    recipe = read_config(find_config("card"), (f"base={tiny_base('gemma')}",))
    with pytest.raises(UsageError, match=r"float16 on a CPU.*--set precision=bfloat16"):
        run.train(recipe, asked(data), tmp_path / "mine")
    assert not list(tmp_path.iterdir())


def test_too_few_validation_pairs_stop_the_run_before_it_costs_anything(tiny_base, data, tmp_path, watched):
    with pytest.raises(UsageError, match="validation_pairs"):
        config(tiny_base("gemma"), validation_pairs=1)
    with pytest.raises(TrainError, match="validation"):
        run.train(config(tiny_base("gemma"), validation_share=1e-9), asked(data), tmp_path / "mine")
    assert "network" not in watched
