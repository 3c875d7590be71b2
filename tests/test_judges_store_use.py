"""Scoring with a cache: the second run asks the engine nothing, and nobody is given another judge's scores."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import tiny
import torch

import harness_plugin.judges.presentations as scoring
import harness_plugin.scoring.store as cache_room
from harness_plugin.cli import main
from harness_plugin.engine import Engine
from harness_plugin.errors import ScoreError
from harness_plugin.judges.local import LocalJudge
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import logit_identity
from harness_plugin.scoring.store import ScoreCache

# each presentation alone, so that scores are the same bits whatever else the cache left to score
ALONE = {"dtype": "float32", "device": "cpu", "deterministic": True}


@pytest.fixture(scope="module")
def model(tiny_base, tiny_adapter):
    names = {"pretrained": str(tiny_base("gemma2")), "peft": str(tiny_adapter("gemma2", manifest=True))}
    return load_model(ModelSpec(**names, **ALONE))


@pytest.fixture
def judged(tmp_path):
    """judged(model, pairs, order="both") -> (judgements, what the engine was asked, the closed store)."""

    def run(model, pairs, order="both"):
        engine = tiny.counted(model)
        with ScoreCache(tmp_path / "cache" / "c") as cache:
            records = list(LocalJudge(model, engine, order, cache).judge(pairs))
        return records, engine.asked, cache

    return run


def test_a_second_run_asks_the_engine_nothing_and_gives_the_same_bits(model, judged, pairs):
    plain = list(LocalJudge(model, Engine(model)).judge(pairs))
    first, asked, cache = judged(model, pairs)
    assert first == plain and cache.hits == 0 and cache.misses == sum(map(len, asked))
    second, asked, cache = judged(model, pairs)
    assert asked == [] and second == first and (cache.misses, cache.damaged) == (0, 0)
    assert all(type(z) is float for record in second for z in (*record.z_ab, *record.z_ba))
    assert json.dumps(second[0].to_row()) == json.dumps(first[0].to_row())


def test_only_presentations_that_are_not_there_are_scored(model, judged, pairs):
    judged(model, pairs, "ab")
    both, asked, cache = judged(model, pairs)
    assert cache.hits >= len(pairs) and cache.misses == sum(map(len, asked)) < len(pairs)
    _, asked, _ = judged(model, [p.swap() for p in reversed(pairs)])
    assert asked == [], "exchanged sides are the same two presentations"
    extra = [replace(p, prompt="Another prompt", id=f"x{i}") for i, p in enumerate(pairs)]
    mixed = [p for two in zip(pairs, extra, strict=True) for p in two]
    records, asked, _ = judged(model, mixed)
    assert [r.id for r in records] == [p.id for p in mixed] and records[::2] == both
    assert {ids for part in asked for ids in part} == {
        v.ids for p in extra for v in model.renderer.render_orders(p)
    } - {v.ids for p in pairs for v in model.renderer.render_orders(p)}


def test_ids_labels_models_and_calibration_do_not_matter(model, judged, pairs, tiny_spec, tiny_adapter):
    first, _, _ = judged(model, pairs)
    renamed = [replace(p, id=f"other{i}", winner=None, model_a=None, category="new") for i, p in enumerate(pairs)]
    records, asked, _ = judged(model, renamed)
    assert asked == [] and [r.z_ab for r in records] == [r.z_ab for r in first]
    peft = str(tiny_adapter("gemma2", manifest=True))
    other = load_model(tiny_spec("gemma2", peft=peft, temperature=9.0, tie_nu=0.1, deterministic=True))
    assert other.calibration != model.calibration
    assert judged(other, pairs)[1] == []


def test_the_same_weights_elsewhere_are_the_same_judge(model, judged, pairs, tiny_base, tiny_adapter, tmp_path):
    first, _, _ = judged(model, pairs)
    base = shutil.copytree(tiny_base("gemma2"), tmp_path / "moved_base")
    adapter = shutil.copytree(tiny_adapter("gemma2", manifest=True), tmp_path / "moved_adapter")
    tiny.change_json(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    tiny.change_json(adapter / "arena_rm.json", base=str(base))
    records, asked, _ = judged(load_model(ModelSpec(peft=str(adapter), **ALONE)), pairs)
    assert asked == [] and records == first


OTHERS = {
    "adapter": lambda base, adapter: {"peft": adapter("gemma2", manifest=True, seed=5)},
    "base": lambda base, adapter: {"pretrained": base("gemma3"), "peft": adapter("gemma3", manifest=True)},
    "dtype": lambda base, adapter: {"dtype": "bfloat16"},
    "not merged": lambda base, adapter: {"merge": False},
    "three logits": lambda base, adapter: {"peft": adapter("gemma2", manifest=True, num_labels=3)},
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_judge_finds_nothing(model, judged, pairs, tiny_spec, tiny_base, tiny_adapter, other):
    judged(model, pairs)
    changes = OTHERS[other](tiny_base, tiny_adapter)
    changes = {k: v if isinstance(v, (bool, str)) else str(v) for k, v in changes.items()}
    spec = tiny_spec("gemma2", **{"peft": str(tiny_adapter("gemma2", manifest=True))} | changes)
    _, asked, cache = judged(load_model(spec), pairs)
    assert cache.hits == 0 and sum(map(len, asked)) == cache.misses
    assert judged(model, pairs)[1] == [], "and the first judge's scores are still there"


def test_a_setting_of_the_adapter_that_changes_no_weight_is_another_judge(model, judged, pairs, adapter_copy):
    """lora_alpha stands in adapter_config.json only."""
    judged(model, pairs)
    adapter = adapter_copy("gemma2", manifest=True)
    tiny.change_json(adapter / "adapter_config.json", lora_alpha=64)
    other = load_model(ModelSpec(peft=str(adapter), **ALONE))
    assert other.identity["adapter_sha256"] == model.identity["adapter_sha256"]
    records, _, cache = judged(other, pairs)
    assert cache.hits == 0 and records[0].z_ab != judged(model, pairs)[0][0].z_ab


def test_another_cut_finds_only_what_it_did_not_cut(model, judged, pairs, tiny_spec, tiny_adapter):
    judged(model, pairs)
    peft = str(tiny_adapter("gemma2", manifest=True))
    known = {v.ids for p in pairs for v in model.renderer.render_orders(p)}
    for change in ({"truncation": "card"}, {"max_length": 64}):
        other = load_model(tiny_spec("gemma2", peft=peft, deterministic=True, **change))
        views = {v.ids for p in pairs for v in other.renderer.render_orders(p)}
        assert views - known and views & known
        _, asked, _ = judged(other, pairs)
        assert {ids for part in asked for ids in part} == views - known
        known |= views


def test_the_identity_is_the_same_on_each_load(tiny_spec):
    made = []
    for seed in (1, 2):
        for spec in (tiny_spec("gemma2"), tiny_spec("gemma", merge=False)):
            torch.manual_seed(seed)
            made.append(logit_identity(load_model(spec)))
    assert made[:2] == made[2:] and made[0] != made[1]


def test_the_identity_sees_weights_settings_and_the_engines_own_arithmetic(tiny_spec):
    model = load_model(tiny_spec("gemma2"))
    before = logit_identity(model)
    assert before == logit_identity(model) and json.loads(json.dumps(before)) == before
    assert not any(str(value) in json.dumps(before) for value in (model.identity["base"], model.identity["adapter"]))
    for name in ("base_sha256", "base_config", "adapter_sha256", "adapter_config", "dtype", "merge", "num_labels"):
        assert logit_identity(replace(model, identity=model.identity | {name: "other"})) != before, name
    engine = Engine(model)
    packed = logit_identity(model, engine)
    engine.identity = {"format": "packed-int8"}
    assert logit_identity(model, engine) != packed != before == logit_identity(model)
    assert logit_identity(replace(model, device=torch.device("cuda"))) != before


def test_the_copy_of_the_head_that_peft_draws_at_random_on_each_load_is_not_part_of_the_identity(tiny_spec):
    one, other = (load_model(tiny_spec("gemma2", merge=False)) for _ in range(2))
    assert "score.original_module.weight" in one.network.state_dict()
    assert logit_identity(one) == logit_identity(other)


def test_a_base_is_known_by_its_weights_whatever_its_name(tiny_spec):
    model = load_model(tiny_spec("gemma2"))
    named = [
        replace(model, identity=model.identity | {"base": base, "revision": revision})
        for base, revision in (("somebody/model", None), ("somebody/model", "main"), ("another/name", "0123abc"))
    ]
    assert [logit_identity(m) for m in named] == [logit_identity(model)] * 3


def test_the_engine_gets_full_batches_where_most_is_known(model, judged, monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK", 4)
    many = [Pair(f"ask {i}", f"one {i}", f"two {i}", id=f"m{i}") for i in range(100)]
    judged(model, [p for i, p in enumerate(many) if i % 4])
    records, asked, cache = judged(model, many)
    assert [r.id for r in records] == [p.id for p in many]
    assert cache.hits == 150 and [len(part) for part in asked] == [8] * 6 + [2]
    few = [*many[:60], Pair("new", "one", "two"), *many[60:]]
    assert [len(part) for part in judged(model, few)[1]] == [2]


def test_what_was_scored_before_a_run_was_stopped_is_kept(model, judged, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK", 4)
    engine = Engine(model)
    with ScoreCache(tmp_path / "cache" / "c") as cache:
        records = LocalJudge(model, engine, store=cache).judge(pairs)
        begun = [next(records) for _ in range(5)]
    whole, _, cache = judged(model, pairs)
    assert whole[:5] == begun and cache.hits >= 14


def test_logits_that_are_not_numbers_are_not_stored(tiny_spec, judged, tmp_path):
    model = load_model(tiny_spec("gemma2", truncation="budget"))
    fox = model.renderer.tokenizer("🦊", add_special_tokens=False).input_ids[0]
    with torch.no_grad():
        model.network.get_input_embeddings().weight[fox] = torch.nan
    for _ in range(2):
        with pytest.raises(ScoreError, match="pairs bad; the weights"):
            judged(model, [Pair("ask", "one", "two", id="good"), Pair("ask 🦊", "one", "two", id="bad")])


def test_when_the_disk_fills_up_the_scores_are_those_without_a_cache(
    model, judged, pairs, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(scoring, "CHUNK", 4)
    plain = list(LocalJudge(model, Engine(model)).judge(pairs))
    (tmp_path / "cache").mkdir()
    with ScoreCache(tmp_path / "cache" / "c").bind({}, 1) as cache:
        cache.put({bytes([i]): (0.0,) for i in range(45)})  # most of the first page
        pages = cache._db.execute("PRAGMA page_count").fetchone()[0]
        cache._db.execute(f"PRAGMA max_page_count = {pages}")
        assert list(LocalJudge(model, Engine(model), store=cache).judge(pairs)) == plain
    said = [r.getMessage() for r in caplog.records if "score cache" in r.getMessage()]
    assert len(said) == 1 and "full" in said[0]
    records, _, cache = judged(model, pairs)
    assert records == plain and cache.hits >= 8 and cache.misses >= 8


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def score(tiny_base, tiny_adapter, pairs, tmp_path, capsys):
    """score(*more) -> (exit code, stdout, stderr) of `arena-rm score` on three pairs."""
    file = tmp_path / "pairs.jsonl"
    rows = [{"id": p.id, "prompt": p.prompt, "response_a": p.response_a, "response_b": p.response_b} for p in pairs[:3]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judge = ["--pretrained", tiny_base("gemma"), "--peft", tiny_adapter("gemma"), "--dtype", "float32"]

    def run(*more):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in (*run.arguments, *more)])
        out = capsys.readouterr()
        return stop.value.code, out.out, out.err

    run.arguments = ["score", file, *judge]
    return run


def test_score_uses_a_cache_where_it_is_asked_to_and_says_how_much_came_from_it(score, tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    default = tmp_path / "home" / cache_room.FILE_NAME
    code, plain, err = score()
    assert code == 0 and "came from the cache" not in err and not default.exists()
    for count in (0, 6):
        code, out, err = score("--cache")
        assert code == 0 and out == plain and f"{count} of 6 presentations came from the cache {default}" in err
    assert score("--no-cache")[1] == plain
    for count in (0, 6):
        out = tmp_path / f"out{count}"
        code, _, err = score("--cache-file", tmp_path / "own", "-o", out)
        assert code == 0 and f"{count} of 6 presentations came from the cache {tmp_path / 'own'}" in err
        assert out.read_text(encoding="utf-8") == plain
    code, _, err = score("--no-cache", "--cache-file", tmp_path / "own")
    assert code == 2 and "--no-cache" in err


@pytest.mark.slow
def test_another_process_finds_them(score, tmp_path):
    _, plain, _ = score("--cache-file", tmp_path / "own")
    code = "from harness_plugin.cli import main; main()"
    command = [sys.executable, "-c", code, *score.arguments, "--cache-file", tmp_path / "own"]
    env = os.environ | {"PYTHONHASHSEED": "7"}  # another order of every set
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stdout == plain and "6 of 6 presentations came" in done.stderr, done.stderr


def test_a_file_that_is_no_cache_is_one_line_before_anything_is_loaded(score, tmp_path):
    (tmp_path / "notes").write_text("a shopping list\n", encoding="utf-8")
    code, out, err = score("--cache-file", tmp_path / "notes", "--peft", "no/such/adapter")
    read, refused = err.splitlines()
    assert code == 3 and not out and "3 pairs, read as canonical" in read and "is not a score cache" in refused
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "a shopping list\n"


def test_doctor_says_where_the_cache_is(capsys, monkeypatch, tmp_path):
    from harness_plugin.cli.doctor import examine

    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path))
    assert examine()[0]["score cache"] == f"{tmp_path / cache_room.FILE_NAME} (none yet)"
