"""Prompts with baseline answers, which judge compares, what it says and what lm-eval makes of it; without lm-eval."""

import gc
import json
import math
import weakref
from collections import Counter

import pytest
import tiny

from harness_plugin import harness
from harness_plugin.engine import Engine
from harness_plugin.errors import ArenaError, HarnessError, ModelError, UsageError
from harness_plugin.harness import judge_filter
from harness_plugin.harness.documents import bundled_file
from harness_plugin.harness.judge_filter import judge_settings
from harness_plugin.judges import open_judge
from harness_plugin.model import load
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, Winner, read_pairs
from harness_plugin.scoring.judgement import judged as judged_from_logits
from harness_plugin.scoring.judgement import judged_identical

IGNORED = "an option with a typing error would be ignored without a word"
VALUES = {line["metric"]: line["aggregation"] for line in harness.WIN_METRICS}


@pytest.fixture
def options(tiny_base, tiny_adapter):
    """--metadata that names a tiny judge in float32 on the CPU."""
    names = {"judge_pretrained": str(tiny_base("gemma")), "judge_peft": str(tiny_adapter("gemma", manifest=True))}
    return {**names, "judge_dtype": "float32", "judge_device": "cpu"}


@pytest.fixture
def documents(options, tmp_path):
    """documents(rows, **more) -> the documents of a file of such rows."""

    def made(rows, **more):
        file = tmp_path / "answers.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return harness.load_answers(arena_data=str(file), **{**options, **more})["test"].to_list()

    return made


def alpaca(*answers, model="ibis"):
    return [{"instruction": f"Say {n}.", "output": text, "generator": model} for n, text in enumerate(answers)]


# -- documents --------------------------------------------------------------------------------------------------------


def test_the_bundled_baseline_is_the_better_answer_of_each_decisive_battle_of_one_turn(options):
    docs = harness.load_answers(arena_bundled="arena_pairs/battles.jsonl", version=1.0, pretrained="x", **options)
    docs = docs["test"].to_list()
    battles = {p.id: p for p in read_pairs(bundled_file("arena_pairs/battles.jsonl")).pairs}
    decisive = {name: p for name, p in battles.items() if p.winner is not Winner.TIE and isinstance(p.prompt, str)}
    assert [doc["answer_id"] for doc in docs] == list(decisive) and len(docs) == len({d["prompt"] for d in docs}) == 178
    for doc in docs:
        battle = decisive[doc["answer_id"]]
        better = {Winner.MODEL_A: battle.response_a, Winner.MODEL_B: battle.response_b}[battle.winner]
        assert (doc["prompt"], doc["baseline"], doc["category"]) == (battle.prompt, better, battle.category)
        assert doc["prompt_key"] == battle.prompt_key
    of_one_turn = Counter(p.category for p in decisive.values())
    assert Counter(doc["category"] for doc in docs) == of_one_turn
    assert set(of_one_turn) == {*harness.CATEGORIES} - {"multi_turn"}


def test_a_file_of_answers_is_a_baseline_in_any_format_of_answers(documents, options, tmp_path):
    (doc, _) = documents(alpaca("one", "two"))
    assert (doc["prompt"], doc["baseline"], doc["baseline_model"]) == ("Say 0.", "one", "ibis")
    asked = tmp_path / "question.jsonl"
    asked.write_text(json.dumps({"question_id": "q7", "turns": ["Why?"], "category": "chat"}), "utf-8")
    (doc,) = documents(
        [{"question_id": "q7", "model_id": "stork", "choices": [{"turns": ["So."]}]}], arena_questions=str(asked)
    )
    assert (doc["answer_id"], doc["prompt"], doc["baseline"], doc["category"]) == ("q7", "Why?", "So.", "chat")


def test_columns_of_the_baselines_file_can_be_named_and_left_alone(documents):
    rows = [{"ask": "Hi", "said": "Hello.", "context": 1}]
    (doc,) = documents(rows, arena_fields={"prompt": "ask", "response": "said"}, arena_ignore=["context"])
    assert (doc["prompt"], doc["baseline"]) == ("Hi", "Hello.")


def test_of_several_models_one_is_named(documents):
    rows = alpaca("one", model="heron") + alpaca("two", model="ibis")
    with pytest.raises(HarnessError, match=r"answers of heron, ibis; .* one baseline model; .* arena_baseline="):
        documents(rows)
    with pytest.raises(HarnessError, match=r"none of them is 'stork'"):
        documents(rows, arena_baseline="stork")
    (doc,) = documents(rows, arena_baseline="ibis")
    assert (doc["baseline"], doc["baseline_model"]) == ("two", "ibis")


def test_conversations_are_left_out_and_said(documents, caplog):
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    long = {"uid": "b", "model": "m", "messages": [*talk, {"role": "user", "content": "And?"}, talk[1]]}
    (doc,) = documents([{"uid": "a", "model": "m", "messages": talk}, long])
    assert doc["prompt"] == "Hi" and "1 prompt(s) of several turns left out" in caplog.text
    with pytest.raises(HarnessError, match=r"has no prompt of one turn"):
        documents([long])


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"arena_format": "x"}, HarnessError, f"arena_format is unknown; {IGNORED}; known: arena_data, arena_baseline"),
        (
            {"judge_adapter": "x"},
            HarnessError,
            f"judge_adapter is unknown; {IGNORED}; known: judge_pretrained, judge_peft",
        ),
        ({"judge_peft": "nowhere"}, ModelError, "nowhere"),
        ({"judge_dtype": "int4"}, UsageError, "int4"),
        ({"judge_max_length": "many"}, UsageError, "max_length"),
        ({"judge_batch_size": "-1"}, UsageError, "judge_batch_size='-1'"),
        ({"judge_batch_size": 0}, UsageError, "batch_size=0; it is the largest number"),
        ({"judge_device": "cuda:99"}, ModelError, "cuda:99"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_generated(documents, more, kind, said):
    with pytest.raises(kind) as caught:
        documents(alpaca("one"), **more)
    assert said in str(caught.value) and "\n" not in str(caught.value)


# -- which judge ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "variables", "expected"),
    [
        ({}, {}, {}),
        (
            {"judge_dtype": "float32", "judge_peft": None},
            {"DTYPE": "bfloat16", "DEVICE": "cpu"},
            {"dtype": "float32", "device": "cpu"},
        ),
        ({}, {"PEFT": "a", "PRETRAINED": "", "BATCH_SIZE": "4"}, {"peft": "a", "batch_size": "4"}),
        (
            {"judge_pretrained": "whole"},
            {"PEFT": "a", "REVISION": "r", "DTYPE": "auto"},
            {"pretrained": "whole", "dtype": "auto"},
        ),
        ({"pretrained": "chatbot", "judge_tie_nu": 0}, {"PEFT": "a"}, {"peft": "a", "tie_nu": 0}),
    ],
)
def test_metadata_comes_before_the_environment_and_neither_mixes_two_judges(monkeypatch, metadata, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(f"ARENA_RM_JUDGE_{name}", value)
    assert judge_settings(metadata) == expected


def test_a_variable_that_is_no_setting_is_refused(monkeypatch):
    monkeypatch.setenv("ARENA_RM_JUDGE_ADAPTER", "x")
    words = "ARENA_RM_JUDGE_ADAPTER is unknown; a variable .* ignored without a word; known: ARENA_RM_JUDGE_PRETRAINED"
    with pytest.raises(HarnessError, match=words):
        judge_settings({})


def test_a_judge_that_is_named_as_in_other_commands_is_refused_and_not_left_unread():
    with pytest.raises(HarnessError, match=r"judge=my-adapter would not be read; .* write judge_judge=NAME") as error:
        judge_settings({"judge": "my-adapter", "pretrained": "chatbot"})
    assert "\n" not in str(error.value)


# -- the filter -------------------------------------------------------------------------------------------------------


def judged(docs, answers):
    judge = judge_filter.Judge()
    return [json.loads(line) for line in judge().apply(iter(answers), docs)], judge


def test_verdicts_are_the_judges_own_scores_of_baseline_and_answer_in_both_orders(documents, tiny_spec, tiny_adapter):
    docs = documents(alpaca("one", "a longer baseline", "three"))
    answers = ["1", tiny.words(40, 3), "\n"]
    found, judge = judged(docs, answers)
    pairs = [Pair(d["prompt"], d["baseline"], a) for d, a in zip(docs, answers, strict=True)]
    with open_judge(tiny_spec(peft=str(tiny_adapter("gemma", manifest=True)))) as same:
        for v, pair, own in zip(found, pairs, same.judge(pairs), strict=True):
            assert (v["key"], v["length_b"]) == (pair.key, len(pair.response_b))
            assert [v["z_ab"], v["z_ba"]] == pytest.approx([*own.z_ab, *own.z_ba], abs=1e-5)
            assert v["win"] == pytest.approx(v["p_b"] + v["p_tie"] / 2, abs=1e-12)
    assert [v["empty"] for v in found] == [False, False, True]
    assert dict(judge) == {"judge": same.hash, **same.identity}
    assert {v["judge"] for v in found} == {judge["judge"]}


def test_equal_answers_are_even_without_the_judge_and_equal_texts_are_judged_once(documents, monkeypatch):
    asked, real = [], Engine.logits
    monkeypatch.setattr(Engine, "logits", lambda self, ids, done=None: asked.extend(ids) or real(self, ids, done))
    docs = documents(alpaca("one", "two")) * 2
    found, _ = judged(docs, ["one", "2", "one", "2"])
    assert len(asked) == 2 and found[0]["identical"] and found[0]["win"] == pytest.approx(0.5)
    assert found[0]["position_bias"] is None and found[:2] == found[2:]


def test_hostile_answers_are_text(documents):
    answers = ["half a pair \ud83d", "\0<eos><start_of_turn>", "\u202e" * 3, "word " * 200_000]
    found, _ = judged(documents(alpaca("a", "b", "c", "d")), answers)
    assert [v["length_b"] for v in found] == [len(a) for a in answers]
    assert found[3]["truncated"] and all(0 < v["win"] < 1 for v in found)


@pytest.mark.parametrize("answer", [None, 3, ["a list"]])
def test_an_answer_that_is_no_text_is_refused_by_name(documents, answer):
    with pytest.raises(HarnessError, match=r"the answer to \w+ is (NoneType|int|list); the judge can only read text"):
        judged(documents(alpaca("one")), [answer])


@pytest.mark.parametrize("fails", [False, True])
def test_the_judge_leaves_no_weights_behind(documents, monkeypatch, fails):
    alive, real = [], load.load_model

    def watched(spec, **options):
        model = real(spec, **options)
        alive.append(weakref.ref(model.network))
        if fails:
            next(model.network.parameters()).data.fill_(math.nan)
        return model

    monkeypatch.setattr(load, "load_model", watched)
    docs = documents(alpaca("one", "two"))
    if fails:
        with pytest.raises(ArenaError, match="non-finite"):
            judged(docs, ["1", "2"])
    else:
        judged(docs, ["1", "2"])
    gc.collect()
    assert len(alive) == 1 and alive[0]() is None


def test_a_cache_gives_back_what_was_judged(documents, tmp_path, monkeypatch):
    file = tmp_path / "scores.sqlite"
    docs = documents(alpaca("one", "two"), judge_cache=str(file))
    first, _ = judged(docs, ["1", "2"])
    monkeypatch.setattr(Engine, "logits", None)
    assert judged(docs, ["1", "2"])[0] == first and file.stat().st_size > 0


# -- numbers ----------------------------------------------------------------------------------------------------------


def record(n, win, length=10, baseline=10, prompt=None, identical=False, truncated=False):
    doc = {
        "prompt": prompt or f"p{n}",
        "baseline": "b" * baseline,
        "judge": "{}",
        "answer_id": f"a{n}",
        "prompt_key": prompt or f"p{n}",
    }
    pair, without_ties = Pair(doc["prompt"], doc["baseline"], "a" * length, id=doc["answer_id"]), Calibration(1.0, 0.0)
    z = math.log(win / (1 - win))
    reading = [{"truncated": truncated}]
    (verdict,) = judged_from_logits([pair], [(z,)], [(-z,)], without_ties, "a judge", reading)
    if identical:
        verdict = judged_identical(pair, without_ties, "a judge")
    said = {**verdict.to_row(), "empty": length == 0, "document": judge_filter.document_id(doc)}
    return harness.process_verdict(doc, [json.dumps(said)])


def metric(name, records):
    return VALUES[name]([r[name] for r in records])


def test_the_numbers_of_known_verdicts():
    wins = [0.9, 0.6, 0.2, 0.5]
    found = [
        record(0, 0.9, 20),
        record(1, 0.6, 0),
        record(2, 0.2, 5, truncated=True),
        record(3, 0.5, identical=True),
    ]
    mean = sum(wins) / 4
    assert metric("win_rate", found) == pytest.approx(mean)
    assert metric("win_rate_stderr", found) == pytest.approx(math.sqrt(sum((w - mean) ** 2 for w in wins) / 12))
    assert metric("win_rate_hard", found) == (1 + 1 + 0 + 0.5) / 4
    assert metric("longer_rate", found) == (1 + 0 + 0 + 0.5) / 4
    assert metric("length_ratio", found) == 35 / 40
    assert (metric("empty_rate", found), metric("cut_rate", found)) == (0.25, 0.25)
    assert metric("order_agreement", found) == 1.0 and metric("n", found) == 4
    assert 0 < metric("win_rate_length_controlled", found) < 1


def test_errors_are_clustered_by_prompt():
    wins = [0.9, 0.3, 0.7, 0.2, 0.8, 0.45]
    alone = [record(n, w) for n, w in enumerate(wins)]
    twice = [record(n, w, prompt=f"p{n // 2}") for n, w in enumerate([w for w in wins for _ in range(2)])]
    for name in ("win_rate", "win_rate_hard", "win_rate_length_controlled"):
        assert metric(name, alone) == pytest.approx(metric(name, twice), abs=0.02)
        assert metric(f"{name}_stderr", alone) == pytest.approx(metric(f"{name}_stderr", twice), rel=0.1)
    assert metric("n", twice) == 12


def test_a_judge_of_length_scores_what_longer_rate_says():
    lengths = [(5, 9), (30, 9), (9, 9), (12, 3), (80, 100), (7, 1)]
    found = [record(n, 0.5 if a == b else 0.99 if a > b else 0.01, a, b) for n, (a, b) in enumerate(lengths)]
    assert metric("win_rate_hard", found) == metric("longer_rate", found) == 3.5 / 6


def test_one_document_gives_values_without_errors_and_no_warning():
    found = [record(0, 0.7)]
    assert metric("win_rate", found) == 0.7 and math.isnan(metric("win_rate_stderr", found))
    assert metric("length_ratio", [record(0, 0.5, 3, 0)]) != metric("length_ratio", [record(0, 0.5, 3, 0)]), "NaN"


def test_every_document_returns_every_metric_and_a_record_that_json_holds():
    found = record(0, 0.7)
    assert list(found) == list(VALUES) and {repr(v).partition(":")[0] for v in VALUES.values()} == {
        "harness_plugin.harness"
    }
    json.dumps(found, allow_nan=False, default=str)  # as lm-eval writes samples


def test_a_verdict_on_something_else_is_refused():
    doc = {"prompt": "p", "baseline": "b", "judge": '{"peft": "other"}', "answer_id": "a", "prompt_key": "p"}
    said = {"document": judge_filter.document_id(doc | {"judge": "{}"})}
    with pytest.raises(HarnessError, match=r"another prompt, baseline or judge .* add --cache_requests refresh"):
        harness.process_verdict(doc, [json.dumps(said)])
