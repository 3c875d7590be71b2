"""A pointwise reward model in the place of a judge of pairs: every command, lm-eval and the pytest plug-in."""

import json
import shutil
from itertools import combinations
from pathlib import Path

import lm_runs
import pytest
import tiny
import tiny_rewards
from tournament_rows import alpaca, answers_of

from harness_plugin.cli import main
from harness_plugin.model import MANIFEST_FILE, Manifest
from harness_plugin.model.manifest import read_manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_rewards.save_reward_model("llama", tmp_path_factory.mktemp("reward") / "llama")


@pytest.fixture
def options(folder):
    return ["--pretrained", str(folder), "--kind", "pointwise", "--dtype", "float32", "--device", "cpu"]


@pytest.fixture
def run(capsys):
    """run(arguments...) -> (exit code, stdout, stderr)."""

    def ran(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        return (left.value.code or 0, *capsys.readouterr())

    return ran


@pytest.fixture
def votes(tmp_path):
    rows = [p.to_dict() for p in tiny.pairs()[:9]]
    file = tmp_path / "votes.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_score_writes_the_logits_of_both_answers(run, votes, options, tmp_path):
    code, _, err = run("score", votes, *options, "-o", tmp_path / "scores.jsonl")
    assert code == 0 and "scores one response at a time" in err and "acc" in err
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 9
    assert all(row["z_ab"] == row["r_b"] - row["r_a"] and row["position_bias"] == 0 for row in rows)
    assert run("gate", tmp_path / "scores.jsonl", tmp_path / "scores.jsonl")[0] == 0


def test_a_row_of_a_judge_of_pairs_has_neither(run, votes, tiny_base, tiny_adapter):
    named = ["--pretrained", tiny_base("gemma"), "--peft", tiny_adapter("gemma"), "--dtype", "float32"]
    code, out, _ = run("score", votes, *named)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and not any({"r_a", "r_b"} & set(row) for row in rows)


def test_show_shows_both_conversations(run, votes, options):
    code, out, _ = run("show", votes, *options)
    assert code == 0 and out.count("<|begin_of_text|>") == 2
    assert "-- response_a: " in out and "-- response_b: " in out and "-- response: " in out
    code, out, _ = run("show", votes, *options, "--json")
    shown = json.loads(out)
    assert code == 0 and set(shown) == {"id", "response_a", "response_b"}
    assert set(shown["response_b"]) == {"text", "kept", "ids"} and set(shown["response_b"]["kept"]) == {
        "prompt",
        "response",
    }
    assert shown["response_a"]["text"] in run("show", votes, *options, "--swap")[1]


def test_judge_ranks_chatbots_and_attacks_the_judge(run, options, tmp_path):
    files = [alpaca(tmp_path, name, answers_of(name), f"{name}.json") for name in ("heron", "ibis", "stork")]
    out = tmp_path / "judged"
    code, said, err = run("judge", *files, *options, "-o", out, "--no-plots", "--red-team", "--no-cache")
    assert code == 0 and "heron" in said, err
    board = json.loads((out / "leaderboard.json").read_text("utf-8"))
    assert "pointwise" in json.dumps(board)
    verdicts = [json.loads(line) for line in (out / "verdicts.jsonl").read_text("utf-8").splitlines()]
    assert all(v["r_a"] is not None for v in verdicts if not v.get("identical"))
    code, _, err = run("judge", *files, *options, "-o", out, "--no-plots", "--no-cache")
    assert code == 0 and "used again" in err


def test_duel(run, options, tmp_path):
    files = [alpaca(tmp_path, name, answers_of(name), f"{name}.json") for name in ("old", "new")]
    code, said, err = run("gate", "duel", *files, *options, "-o", tmp_path / "duel", "--no-cache")
    assert code in (0, 1) and "win_rate" in said, err


def test_calibrate_writes_the_kind_beside_the_model(run, votes, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    alone = ["--dtype", "float32", "--device", "cpu"]
    code, _, err = run("calibrate", copy, votes, "--kind", "pointwise", *alone, "--no-plot")
    assert code == 0, err
    manifest = read_manifest(copy)
    assert manifest.kind == "pointwise" and manifest.template == tiny_rewards.TEMPLATES["llama"]
    assert manifest.calibration["n"] == 9 and manifest.truncation == "budget"
    code, out, _ = run("score", votes, "--pretrained", copy, *alone)
    row = json.loads(out.splitlines()[0])
    assert code == 0 and "r_a" in row and row["temperature"] == manifest.calibration["temperature"]
    code, _, err = run("score", votes, "--pretrained", copy, *alone, "--kind", "pair")
    assert code == 3 and "kind=pair" in err and "says pointwise" in err


def test_a_manifest_may_say_the_kind_and_nothing_else(run, votes, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / MANIFEST_FILE).write_text('{"kind": "pointwise", "max_length": 77}', encoding="utf-8")
    code, out, err = run("show", votes, "--pretrained", copy)
    assert code == 0 and "of at most 77 tokens" in out, err
    for wrong, word in (
        ({"kind": "listwise"}, "kind 'listwise'"),
        ({"kind": "pointwise", "truncation": "card"}, "truncation 'card'"),
        ({"kind": "pointwise", "num_labels": 3}, "num_labels 3"),
        ({"kind": "pointwise", "max_length": "9"}, "max_length '9'"),
        ({"kind": "pointwise", "template": 3}, "template 3"),
    ):
        (copy / MANIFEST_FILE).write_text(json.dumps(wrong), encoding="utf-8")
        code, _, err = run("show", votes, "--pretrained", copy)
        assert code == 3 and word in err
    Manifest().save(copy)
    assert read_manifest(copy).kind == "pair"


def test_without_a_kind_the_error_names_both(run, votes, folder):
    code, _, err = run("score", votes, "--pretrained", folder)
    assert code == 3 and all(word in err for word in ("--kind pointwise", "--kind pair", "kind=pointwise", "kind=pair"))


def test_lm_eval_runs_the_battles(folder):
    args = {"pretrained": str(folder), "kind": "pointwise", "dtype": "float32", "device": "cpu"}
    found, metrics = lm_runs.evaluate(args, limit=40)
    assert metrics["order_agreement"] == 1 and metrics["position_bias"] == 0
    assert '"kind": "pointwise"' in json.dumps(found["config"], default=str)
    said = lm_runs.lls(found)
    for pair_id in {pair_id for pair_id, _ in said}:
        mirrored = [said[pair_id, True][n] for n in (1, 0, 2)]
        assert said[pair_id, False] == pytest.approx(mirrored, abs=1e-6)


def test_the_fixture_of_pytest_judges_with_it(folder):
    from harness_plugin.pytest_plugin import ArenaRM

    judge = ArenaRM({"pretrained": str(folder), "kind": "pointwise", "dtype": "float32", "device": "cpu"})
    said, turned = judge.judge("Ask?", "one answer", "another"), judge.judge("Ask?", "another", "one answer")
    assert said.score == pytest.approx(-turned.score, abs=1e-6) and said.r_a == pytest.approx(turned.r_b, abs=1e-6)


def test_a_round_robin_costs_one_pass_for_each_answer(folder, monkeypatch, tmp_path, run, options):
    from harness_plugin.engine import Engine

    asked = []
    real = Engine.logits
    monkeypatch.setattr(Engine, "logits", lambda self, s, done=None: asked.append(len(s)) or real(self, s, done))
    files = [alpaca(tmp_path, f"m{n}", answers_of(f"m{n}"), f"m{n}.json") for n in range(5)]
    assert run("judge", *files, *options, "-o", tmp_path / "judged", "--no-plots", "--no-cache")[0] == 0
    assert sum(asked) == 5 * 8 and len(list(combinations(files, 2))) * 8 == len(
        Path(tmp_path / "judged" / "verdicts.jsonl").read_text("utf-8").splitlines()
    )
