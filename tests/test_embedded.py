"""The real thing: the embedded base with the embedded adapter, as `arena-rm score` with no model options uses them."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness_plugin.engine import Engine
from harness_plugin.judges.local import LocalJudge
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.model.adapter import read_adapter
from harness_plugin.model.embedded import ADAPTER, BASE_NAME, GGUF_SHA256
from harness_plugin.pairs import Pair
from harness_plugin.scoring.surface import surface_logit

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
BATTLES = ROOT / "tasks" / "arena_pairs" / "battles.jsonl"

# The obviously right and the obviously empty answer, both ways round: a swapped label anywhere would turn the signs.
PLAIN = [
    Pair("What is the capital of France?", "The capital of France is Paris.", "I don't know.", id="good-first"),
    Pair("What is the capital of France?", "I don't know.", "The capital of France is Paris.", id="good-second"),
]

GOLDEN = [-0.800673, 0.633474]  # their logits in float32 as they stand, by the transformers of constraints.txt


@pytest.fixture
def judge(real_home):
    return load_model(ModelSpec(dtype="float32"))


def test_the_adapter_in_the_package_is_whole_small_and_says_what_it_is():
    adapter = read_adapter(str(ADAPTER))
    assert adapter.base_name == BASE_NAME and adapter.num_labels == 1 and adapter.manifest.found
    assert adapter.manifest.base_fingerprint == "gguf-" + GGUF_SHA256[:32]
    assert adapter.manifest.calibrated().tie_nu > 0
    assert (ADAPTER / "adapter_model.safetensors").stat().st_size <= 8_000_000
    card = (ADAPTER / "README.md").read_text(encoding="utf-8")
    for word in ("CC BY-NC", "Gemma", "PandaLM", "longer"):
        assert word in card


def test_an_answer_beats_no_answer_in_both_orders(judge):
    found = list(LocalJudge(judge, Engine(judge)).judge(PLAIN))
    s = [(j.z_ab[0] - j.z_ba[0]) / 2 for j in found]
    assert s[0] < 0 < s[1] and s[0] == -s[1]
    worth = judge.manifest.calibrated().surface_worth
    assert worth > 0 and [j.score for j in found] == [
        pytest.approx(one + worth * surface_logit(pair)) for one, pair in zip(s, PLAIN, strict=True)
    ]


def test_the_golden_logits_come_out_on_any_machine(judge):
    z = Engine(judge).logits([judge.renderer.render(p).ids for p in PLAIN])[:, 0]
    assert z == pytest.approx(GOLDEN, abs=1e-3)


def test_bfloat16_stays_near_float32(judge, real_home):
    rows = [json.loads(line) for line in BATTLES.read_text(encoding="utf-8").splitlines()[::16]]
    pairs = [Pair(r["prompt"], r["response_a"], r["response_b"]) for r in rows]
    small = load_model(ModelSpec(dtype="bfloat16"))
    ids = [judge.renderer.render(p).ids for p in pairs]
    assert np.abs(Engine(judge).logits(ids) - Engine(small).logits(ids)).max() < 0.25
