"""Evaluations with tiny judges inside the real lm-eval: what the tests of `arena_rm` share.

A test module takes the fixtures that it uses by name: `judge, lm = lm_runs.judge, lm_runs.lm`.
"""

import logging
from pathlib import Path

import lm_eval
import pytest
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from harness_plugin.engine import Engine
from harness_plugin.harness.lm import ArenaRM
from harness_plugin.pairs import write_pairs

TASKS = str(Path(__file__).resolve().parents[1] / "tasks")


@pytest.fixture(scope="session")
def judge(tiny_base, tiny_adapter):
    """judge(kind, manifest=True, **more) -> model_args of a tiny judge in float32 on the CPU."""

    def args(kind="gemma", manifest=True, seed=1, **more):
        adapter = tiny_adapter(kind, manifest=manifest, seed=seed)
        return {"pretrained": str(tiny_base(kind)), "peft": str(adapter), "dtype": "float32", "device": "cpu", **more}

    return args


@pytest.fixture(scope="module")
def lm(judge):
    """One judge that tests share; nothing changes it."""
    return ArenaRM(**judge())


@pytest.fixture(scope="module")
def battles(tmp_path_factory, pairs):
    """The session's pairs as a file."""
    file = tmp_path_factory.mktemp("battles") / "battles.jsonl"
    write_pairs(file, pairs)
    return str(file)


@pytest.fixture
def scored(monkeypatch):
    """How many sequences each call of the engine was given."""
    counts = []
    real = Engine.logits

    def logits(self, sequences, done=None):
        counts.append(len(sequences))
        return real(self, sequences, done)

    monkeypatch.setattr(Engine, "logits", logits)
    return counts


@pytest.fixture
def heard(caplog):
    """What arena_rm warned of."""

    def messages():
        records = [r for r in caplog.records if r.name == "lm_eval.arena_rm" and r.levelno >= logging.WARNING]
        return [r.getMessage() for r in records]

    return messages


def evaluate(model, task="arena_pairs", include=TASKS, data=None, **options):
    """(everything that lm-eval returns, the task's values by metric name)."""
    metadata = {"arena_data": data} if data else {}
    manager = TaskManager(include_path=str(include), include_defaults=False, metadata=metadata)
    if isinstance(model, dict):
        options["model_args"], model = model, "arena_rm"
    found = lm_eval.simple_evaluate(model=model, tasks=[task], task_manager=manager, **options)
    return found, {name.removesuffix(",none"): value for name, value in found["results"][task].items()}


def lls(found, task="arena_pairs"):
    """{(pair id, swapped): (ln P(A), ln P(B), ln P(tie))} of logged samples."""
    samples = found["samples"][task]
    return {(s["doc"]["pair_id"], s["doc"]["swapped"]): tuple(ll for ll, _ in s["filtered_resps"]) for s in samples}


def requests_of(pair, choices=(" A", " B", " C"), task="a_task"):
    doc = pair if isinstance(pair, dict) else pair.to_dict()
    return [Instance("loglikelihood", doc, ("context", c), i, metadata=(task, 0, 1)) for i, c in enumerate(choices)]


def presentations(pairs):
    """How many different texts the pairs make in both orders: equal answers read the same from both sides."""
    return sum(1 if pair.response_a == pair.response_b else 2 for pair in pairs)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and 20 < len(text) < 400
    return text
