"""What a training run refuses before it downloads a base or reads data, and what it starts with."""

import json
import logging
import shutil
import sys
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import tiny_rewards
from tiny import refusal
from training_runs import lesson

from harness_plugin.errors import ModelError, TrainError, UsageError
from harness_plugin.model import ModelSpec, load, load_renderer
from harness_plugin.model.base import load_tokenizer
from harness_plugin.pairs import write_pairs
from harness_plugin.train import hub, libraries, run
from harness_plugin.train.checkpoints import only_one
from harness_plugin.train.config import LoraFields, Selection, TrainConfig
from harness_plugin.train.data import select
from harness_plugin.train.init import read_init
from harness_plugin.train.prepare import Data, Request, check_request
from harness_plugin.train.render import renderer_for


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "votes.jsonl"
    write_pairs(file, lesson(48))
    return str(file)


def config(base, **more):
    settings = {
        "base": str(base),
        "max_length": 96,
        "epochs": 1.0,
        "learning_rate": 0.01,
        "batch_size": 8,
        "accumulation": 1,
        "precision": "float32",
        "evaluations": 1,
        "validation_share": 0.2,
        "lora": LoraFields(lora_dropout=0.0),
    }
    return TrainConfig(**settings | more)


# What is refused before the base is looked for


@pytest.mark.parametrize(
    ("settings", "request_", "words"),
    [
        ({"teacher_share": 0.7}, {}, ("teacher_share: 0.7 without --teacher", "--set teacher_share=1")),
        (
            {"num_labels": 3, "select": Selection(min_margin=0.1)},
            {},
            ("num_labels: 3 with select.min_margin", "--set num_labels=1"),
        ),
        ({"quantization": "4bit"}, {}, ("quantization: 4bit", "pip install 'lm-eval-arena-rm[qlora]'")),
        ({"compile": True}, {}, ("compile: true", "no C++ compiler")),
        ({}, {"report_to": "pigeon"}, ("--report-to pigeon", "pigeon is not supported")),
    ],
)
def test_what_is_missing_is_said_before_the_base_is_looked_for(data, tmp_path, monkeypatch, settings, request_, words):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(libraries.shutil, "which", lambda name: None)
    asked = Request([data], device="cpu", **request_)
    refusal(UsageError, lambda: run.train(config("no/base", **settings), asked, tmp_path / "mine"), *words)


def test_three_logits_learn_from_a_teachers_ties_on_pairs_with_a_winner(data):
    asked = Request([data], teacher=data)
    check_request(asked, config("no/base", num_labels=3, select=Selection(min_margin=0.1)))


def test_a_tracker_without_its_package_is_refused_in_one_line(monkeypatch):
    import transformers.integrations

    def callback():
        raise RuntimeError("PigeonCallback requires pigeon to be installed.\nRun `pip install pigeon`.")

    monkeypatch.setattr(transformers.integrations, "get_reporting_integration_callbacks", lambda name: [callback])
    asked = "--report-to pigeon", "Run `pip install pigeon`"
    refusal(UsageError, lambda: libraries.check_libraries(TrainConfig(), "pigeon", "cpu"), *asked)
    libraries.check_libraries(TrainConfig(), "none", "cpu")


def test_a_folder_that_another_run_writes_to_is_refused_before_the_base_is_looked_for(data, tmp_path):
    asked = Request([data], device="cpu")
    with only_one(tmp_path / "mine.part"):
        refusal(UsageError, lambda: run.train(config("no/base"), asked, tmp_path / "mine"), "mine.part is in use")
    refusal(ModelError, lambda: run.train(config("no/base"), asked, tmp_path / "mine"), "no/base")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["votes.jsonl"]


def test_a_device_that_is_not_here_is_refused_before_the_base_is_made(monkeypatch):
    monkeypatch.setattr(load, "base_of", lambda *_: pytest.fail("the base was looked for"))
    refusal(ModelError, lambda: load.plan_model(ModelSpec(device="cuda:99")), "cuda:99")


@pytest.mark.parametrize(
    ("name", "token", "words"),
    [
        ("two words", "key", ("--push-to-hub two words", "OWNER/NAME")),
        ("me/mine", None, ("nobody is logged in", "hf auth login")),
    ],
)
def test_an_upload_that_must_fail_is_refused_before_the_run(monkeypatch, name, token, words):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    refusal(UsageError, lambda: hub.check(name), *words)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "key")
    hub.check("me/mine")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refusal(UsageError, lambda: hub.check("me/mine"), "HF_HUB_OFFLINE=1")


def test_sources_that_no_pair_has_are_named(caplog):
    caplog.set_level(logging.WARNING, "lm_eval.arena_rm")
    pairs = lesson(20)
    rule = Selection(sources={"arena": 10, "none of it": 0})
    words = "select.sources names arena, and the pairs are from no named source", "--set select.sources=null"
    refusal(TrainError, lambda: select(pairs, rule, 0, len), *words)
    for pair in pairs:
        pair.meta["source"] = "mine"
    refusal(TrainError, lambda: select(pairs, rule, 0, len), "the pairs are from mine")
    assert len(select(pairs, Selection(sources={"arena": 10, "mine": 5}), 0, len)) == 5
    assert "no pair is from arena" in caplog.text


def test_a_tokenizer_with_tokens_beyond_the_embedding_is_refused_before_the_data_is_read(data, tmp_path):
    base = tiny.save_base("gemma", tmp_path / "base", vocab_size=200)
    asked = Request([data], device="cpu")
    refusal(ModelError, lambda: run.train(config(base), asked, tmp_path / "mine"), "no row for")


# What tells a run from another one


def test_other_labels_of_the_same_pairs_are_other_data():
    pairs = lesson(10)
    same = Data(pairs[:8], pairs[8:], {}), Data(list(pairs[:8]), list(pairs[8:]), {"duplicates": 3})
    assert same[0].digest == same[1].digest
    relabelled = [*pairs[:7], replace(pairs[7], p_b=0.5)]
    others = [Data(relabelled, pairs[8:], {}), Data(pairs[:7], pairs[7:], {}), Data(pairs[7::-1], pairs[8:], {})]
    assert len({d.digest for d in (same[0], *others)}) == 4


def test_curves_for_tensorboard_do_not_lie_in_the_folder_that_is_deleted(tiny_base, data, tmp_path, monkeypatch):
    environment, during = {}, []
    monkeypatch.setattr(run, "os", SimpleNamespace(environ=environment))
    monkeypatch.setattr(run, "check_libraries", lambda *_: None)

    def stop(*_):
        during.append(dict(environment))
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_fit", stop)
    asked = Request([data], device="cpu", report_to="tensorboard")
    with pytest.raises(KeyboardInterrupt):
        run.train(config(tiny_base("gemma")), asked, tmp_path / "mine")
    assert during == [{"TENSORBOARD_LOGGING_DIR": str(tmp_path / "mine.runs")}]
    assert environment == {}  # so that the next run in this process has a folder of its own


# The texts of the adapter from which a run starts


@pytest.fixture
def pointwise(tmp_path):
    """(base, adapter, template): a pointwise adapter with another chat template than its base's tokenizer."""
    base = tiny_rewards.save_reward_model("gemma3", tmp_path / "base")
    tiny.save_lora(base, tmp_path / "adapter", r=16, lora_alpha=32)
    other = tiny_rewards.TEMPLATES["gemma3"].replace("<end_of_turn>", "<end_of_turn>!")
    tiny.save_manifest(base, tmp_path / "adapter", kind="pointwise", template=other, max_length=64)
    return base, tmp_path / "adapter", other


def test_a_pointwise_run_reads_the_chat_template_of_its_first_adapter(pointwise):
    base, folder, other = pointwise
    lora = LoraFields(target_modules=["q_proj", "v_proj"])
    asked = {"kind": "pointwise", "truncation": "budget", "init": str(folder), "lora": lora}
    recipe_ = config(base, **asked)
    adapter = read_init(recipe_, str(base))
    tokenizer = load_tokenizer(str(base), adapter)
    assert renderer_for(recipe_, tokenizer, None, adapter).template == other
    assert renderer_for(config(base, **asked, chat_template=other), tokenizer, None, adapter).template == other
    with_own = config(base, **asked, chat_template=tiny_rewards.TEMPLATES["gemma3"])
    refusal(UsageError, lambda: read_init(with_own, str(base)), "another chat_template", "set it to null")


@pytest.mark.slow
def test_an_adapter_with_its_own_tokenizer_hands_it_on_and_the_first_base_is_freed_before_the_second(
    tiny_base, tiny_adapter, data, tmp_path, monkeypatch
):
    from tokenizers.processors import TemplateProcessing

    base, init = tiny_base("gemma"), tmp_path / "init"
    shutil.copytree(tiny_adapter("gemma"), init)
    own = tiny.tokenizer()
    end = TemplateProcessing(single="<bos> $A <eos>", special_tokens=[("<bos>", tiny.BOS), ("<eos>", tiny.EOS)])
    own.backend_tokenizer.post_processor = end
    own.save_pretrained(init)
    build, measure, made = run.build, run.measure, []

    def watched_build(*args):
        network = build(*args)
        made.append(weakref.ref(network))
        return network

    def watched_measure(*args):
        assert made[0]() is None, "two bases are in memory at once"
        return measure(*args)

    monkeypatch.setattr(run, "build", watched_build)
    monkeypatch.setattr(run, "measure", watched_measure)
    run.train(config(base, init=str(init)), Request([data], device="cpu"), tmp_path / "mine")
    pair = lesson(1)[0]
    ids = load_renderer(ModelSpec(peft=str(tmp_path / "mine"), device="cpu")).render(pair).ids
    assert ids == renderer_for(config(base), own).render(pair).ids and ids[-1] == tiny.EOS
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert "AutoTokenizer.from_pretrained(adapter)" in card
    record = json.loads((tmp_path / "mine" / "training.json").read_text(encoding="utf-8"))
    assert record["data"]["init"]["name"] == "init"
