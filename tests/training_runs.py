"""Short training runs on tiny judges, for the tests of training: pairs that can be learned, recipes made short, and the
reference card's own way to score, to compare with."""

import json
import random

import numpy as np
import pytest
import tiny
import torch

from harness_plugin.engine import Engine
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.pairs import Pair, Winner
from harness_plugin.train import run
from harness_plugin.train.config import find_config, read_config

CARD = "Which response is better for the prompt: {}\n\nResponse A: {}\n\nResponse B: {}"
CARD_LORA = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.1,
    "target_modules": ["o_proj", "v_proj", "q_proj", "k_proj"],
    "modules_to_save": ["classifier", "score"],
}
SHORT = (
    "max_length=96",
    "epochs=1",
    "batch_size=8",
    "accumulation=1",
    "evaluations=2",
    "validation_share=0.25",
    "learning_rate=0.01",
    "head_learning_rate=0.01",
)
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
ENCODER = ("lora.target_modules=[query, value]", "lora.modules_to_save=[classifier]")
HEAD = "base_model.model.score.weight"


def lesson(n, seed=0):
    """Pairs that can be learned: the answer that says "rain" is right, whichever side it is on; some are open."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        right, wrong = (f"{tiny.words(rng.randint(1, 8), rng.random())} {word}" for word in ("rain", "sail"))
        pair = Pair(f"{tiny.words(3, i)} {i}", wrong, right, id=f"t{i}", winner=Winner.MODEL_B, p_b=0.95)
        pair = Pair(pair.prompt, wrong, right, id=f"t{i}", winner=Winner.TIE, p_b=0.5) if i % 10 == 9 else pair
        rows.append(pair if rng.random() < 0.5 else pair.swap())
    return rows


def in_order(value):
    return sorted(value) if isinstance(value, list) else value


def snippet(base, adapter):
    """The reference card's own way: a function of a pair to one logit."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)

    def logit(pair):
        text = CARD.format(pair.prompt, pair.response_a, pair.response_b)
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
        with torch.no_grad():
            return float(model(**inputs).logits)

    return logit


def last_of(*changes):
    """The changes of a recipe without those that a later one replaces, which `--set` would refuse."""
    return tuple({change.split("=")[0]: change for change in changes}.values())


def recipe(name, base, *more):
    return read_config(find_config(name), last_of(f"base={base}", *more))


def made(name, base, data, out, *more):
    """The manifest of a short run of the recipe."""
    return run.train(recipe(name, base, *SHORT, *more), run.Request([data], device="cpu"), out)


def settings(base, *more):
    """The same as options of the command."""
    changes = [word for change in last_of(f"base={base}", *SHORT, *more) for word in ("--set", change)]
    return [*changes, "--device", "cpu"]


def stored(out):
    return json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))


def targets(out):
    """The names, without their places, of the modules that have LoRA."""
    return {name.split(".")[-1] for name in stored(out)["target_modules"]}


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def losses(manifest, name="loss"):
    return [row[name] for row in manifest.training["log"] if name in row]


def judges(base, out):
    """The folder's judge and the card's snippet, unchanged, give the same logits, and those are no constant."""
    model = load_model(ModelSpec(peft=str(out), dtype="float32", device="cpu"))
    fresh = lesson(10, seed=5)
    ours = Engine(model).logits([model.renderer.render(p).ids for p in fresh])[:, 0]
    logit = snippet(base, out)
    assert ours == pytest.approx([logit(p) for p in fresh], abs=1e-4)
    assert np.ptp(ours) > 1e-2
