"""The benchmarks run, and the FLOP of the calculated training step are those of the products that a step runs."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode
from training_runs import recipe

from harness_plugin.engine.packing import pack_of
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.train.attention import TrainedAttention
from harness_plugin.train.network import build
from harness_plugin.train.packed import pack

BENCHMARKS = str(Path(__file__).resolve().parents[1] / "benchmarks")


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import train_model

    yield train_model
    for name in ("train_model", "shape", "measuring"):
        sys.modules.pop(name, None)


def test_a_judge_is_compared_on_its_adapters_own_tokenizer(tiny_base, tiny_adapter, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import score

    adapter = tmp_path / "adapter"
    shutil.copytree(tiny_adapter("gemma3"), adapter)
    for file in Path(tiny_base("gemma3")).glob("tokenizer*"):
        shutil.copy(file, adapter)
    model = load_model(ModelSpec(pretrained=str(tiny_base("gemma3")), peft=str(adapter), device="cpu"))
    assert Path(score.tokenizer_of(model).name_or_path) == adapter
    for name in ("score", "measuring"):
        sys.modules.pop(name)


def test_the_benchmark_of_a_shape_measures_every_contender(model, tmp_path):
    import shape

    shape.main.callback("tiny", count=4, most=40, batch=2, repeats=1, device="cpu", output=tmp_path)
    rows = json.loads((tmp_path / "shape.json").read_text())["rows"]
    assert [row["contender"] for row in rows] == 2 * ["transformers", "similar lengths, padded", "this engine"]
    assert all(row["presentations_per_s"] > 0 and row["presentations"] == 4 for row in rows)


def added(total, one, two, **ignored):
    """The FLOP of total += one @ two, from their shapes; torch counts it only where it is not in place."""
    return 2 * one[0] * one[1] * two[1]


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_flop_of_a_calculated_step_are_those_that_run(tiny_base, monkeypatch, model, everywhere, dropout):
    monkeypatch.setattr(TrainedAttention, "__call__", lambda self, q, *_: q)
    targets = "all-linear" if everywhere else "[q_proj, k_proj, v_proj, o_proj]"
    change = f"lora.target_modules={targets}", f"lora.lora_dropout={dropout}", "precision=float32", "lora.r=16"
    base = str(tiny_base("gemma"))
    network = build(recipe("card", base, *change), base).train()
    pack(network)
    members, length = 32, 8  # on a CPU, rows and members are filled up to a multiple of 32
    whole = pack_of([[2, *range(100 + 8 * i, 107 + 8 * i)] for i in range(members)])
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: added}) as counter:
        network(input_ids=torch.from_numpy(whole.ids), pack=whole).logits.sum().backward()
    config = tiny.config("gemma").to_dict()
    *kinds, last = model.products(config, members * length, members)
    adapters = model.lora(config, members * length, members, everywhere, bool(dropout))
    head = 6 * members * config["hidden_size"]
    assert counter.get_total_flops() == sum(kind.flop for kind in (*kinds, last, adapters)) + head
