"""Settings that must not change what a run learns: fused layers (`compile`) and checkpointed gradients."""

import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file
from training_runs import ENCODER, losses, made, recipe

from harness_plugin.errors import UsageError
from harness_plugin.train.network import build, compile_layers

pytestmark = pytest.mark.slow


def test_checkpointed_gradients_change_no_loss(tiny_base, lesson_file, tmp_path, watched):
    logs = []
    for name in ("false", "true"):
        change = f"gradient_checkpointing={name}"
        manifest = made("default", tiny_base("gemma3"), lesson_file, tmp_path / name, "precision=float32", change)
        logs.append(losses(manifest) + losses(manifest, "eval_loss"))
        on = any(getattr(m, "gradient_checkpointing", False) for m in watched["network"].modules())
        assert str(on).lower() == name
    assert len(logs[0]) >= 5 and logs[0] == pytest.approx(logs[1], abs=1e-4)


def test_compile_without_a_compiler_is_one_line_before_the_first_step(tiny_base, lesson_file, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="finds no C"):
        made("card", tiny_base("gemma"), lesson_file, tmp_path / "never", "precision=float32", "compile=true")


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_fused_layers_learn_the_same_and_leave_no_trace_in_the_file(lesson_file, tmp_path):
    base = tiny.save_base("gemma", tmp_path / "base", num_hidden_layers=1)
    logs, names = [], []
    for value in ("false", "true"):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        change = f"compile={value}"
        manifest = made("three_way", base, lesson_file, tmp_path / value, "num_labels=1", "precision=float32", change)
        logs.append(losses(manifest) + losses(manifest, "eval_loss"))
        names.append(sorted(load_file(tmp_path / value / "adapter_model.safetensors")))
        assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0) == (value == "true")
    torch._dynamo.reset()
    assert len(logs[0]) >= 5 and logs[0] == pytest.approx(logs[1], abs=1e-2)
    assert names[0] == names[1] and not any("_orig_mod" in name for name in names[1])


def test_the_layers_to_fuse_are_found_in_an_encoder_too(tmp_path):
    base = tiny.save_other("bert", tmp_path / "bert")
    network = build(recipe("default", base, *ENCODER), str(base))
    compile_layers(network)  # compiles nothing until the first step
    fused = {name for name, m in network.named_modules() if m._compiled_call_impl is not None}
    assert {name.rsplit(".", 2)[-2:][0] for name in fused} == {"layer"} and len(fused) == 2
