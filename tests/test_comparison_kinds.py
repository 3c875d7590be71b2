"""Judges of every kind on the bundled battles, in one table: a judge of pairs, a pointwise reward model, a language
model that lm-eval ran, and a judge behind a server. All are tiny and random, or made up."""

import json
import os
import subprocess
import sys

import pytest
import tiny_rewards
from comparison_rows import run
from lm_runs import TASKS
from served_server import KEY, Server, chat

BATTLES = f"{TASKS}/arena_pairs/battles.jsonl"
PAIRS = 12


@pytest.fixture(scope="module")
def language_model(tiny_base, tmp_path_factory):
    """The folder of the results of `lm_eval --model hf --tasks arena_pairs`."""
    folder = tmp_path_factory.mktemp("hf")
    args = f"pretrained={tiny_base('gemma')},dtype=float32"
    options = ["--model", "hf", "--model_args", args, "--device", "cpu", "--tasks", "arena_pairs"]
    options += ["--limit", str(2 * PAIRS), "--log_samples", "--output_path", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "harness_plugin", *options],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "out"


@pytest.mark.slow
def test_four_kinds_of_judges_are_compared_on_the_bundled_battles(
    language_model, tiny_adapter, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("ARENA_RM_API_KEY", KEY)
    reward = tiny_rewards.save_reward_model("qwen3", tmp_path / "reward")
    with Server(chat) as server:
        served = f"openai:{server.url}/v1#model-1"
        judges = [tiny_adapter("gemma3", manifest=True), f"pretrained={reward},kind=pointwise", language_model, served]
        options = ["--data", BATTLES, "--limit", PAIRS, "--dtype", "float32", "--device", "cpu", "-o", tmp_path / "out"]
        code, said, notes = run(capsys, "compare", *judges, *options, "--cache-file", tmp_path / "answers.sqlite")
        assert code == 0, notes
        asked = len(server.requests)
        assert run(capsys, "compare", *judges, *options, "--cache-file", tmp_path / "answers.sqlite")[1] == said
        assert len(server.requests) <= asked + 3, "nothing but the handshake is asked again"
    result = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    pair, pointwise, model, chatbot = result["judges"]
    assert result["pairs"]["judged_by_all"] == PAIRS and len(result["differences"]) == 6
    assert [row["orders"] for row in result["judges"]] == ["both"] * 4
    assert pointwise["identity"]["kind"] == "pointwise"
    assert pointwise["metrics"]["position_bias"]["value"] == 0, "each answer is read alone"
    assert model["source"].endswith(".jsonl") and model["cost"]["seconds"] is None
    assert chatbot["judge"] == served and KEY not in said + notes + json.dumps(result)
    assert all(row["metrics"]["acc"]["value"] is not None for row in (pair, pointwise, model, chatbot))
