"""A served judge in the place of any other: lm-eval, tournaments, duels, the red team, the pytest fixture, and a run
that is killed."""

import json
import subprocess
import sys
import threading
import time

import pytest
from served_server import KEY, Reply, Server, chat, pair, quality

from harness_plugin.cli import main
from harness_plugin.errors import UsageError
from harness_plugin.judges import open_judge
from harness_plugin.judges.served.pace import Pace
from harness_plugin.pairs import write_pairs as store_pairs


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARENA_RM_API_KEY", KEY)
    monkeypatch.setattr(Pace, "sleep", lambda pace, seconds: None)


@pytest.fixture
def server():
    with Server(chat) as made:
        made.judge = f"openai:{made.url}/v1#model-1"
        yield made


def run(*arguments):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code or 0


def answers(path, model, qualities):
    rows = [
        {"instruction": f"question {n}", "output": f"{model} of quality {q}", "generator": model} for n, q in qualities
    ]
    path.write_text(json.dumps(rows))
    return path


def write_pairs(path, count):
    pairs = [pair(n, n % 5, n % 7) for n in range(count)]
    rows = [{"id": p.id, "prompt": p.prompt, "response_a": p.response_a, "response_b": p.response_b} for p in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_tournament_a_duel_and_the_red_team_take_a_served_judge(server, tmp_path, capsys):
    strong = answers(tmp_path / "strong.json", "strong", [(n, 5 + n % 3) for n in range(12)])
    weak = answers(tmp_path / "weak.json", "weak", [(n, n % 3) for n in range(12)])
    command = ["judge", strong, weak, "--judge", server.judge, "-o", tmp_path / "run", "--no-plots", "--red-team"]
    assert run(*command) == 0
    board = json.loads((tmp_path / "run" / "leaderboard.json").read_text())
    assert board["judge"]["served_model"] == "model-1" and board["judge"]["kind"] == "served chat model"
    before = server.asked
    assert run(*command) == 0 and server.asked - before == 3  # the handshake
    assert run("gate", "duel", strong, weak, "--judge", server.judge) == 1  # the new answers are worse
    assert KEY not in "".join(capsys.readouterr())


def test_lm_eval_takes_a_served_judge_and_files_its_results_under_the_model(server, tmp_path):
    from harness_plugin.harness.lm import ArenaRM

    args = {"judge": server.judge}
    model = ArenaRM.create_from_arg_obj(args, {"device": "cuda:0", "batch_size": 1})
    assert args["model"] == "model-1" and model.get_model_info()["arena_rm"]["served_model"] == "model-1"
    request = type("Request", (), {})()
    request.doc = {"prompt": "question", "response_a": "of quality 1", "response_b": "of quality 9", "id": "x"}
    request.args, request.task_name = ("context", " B"), "arena_pairs"
    ((ll, is_best),) = model.loglikelihood([request], disable_tqdm=True)
    assert is_best and ll > -0.3


def test_the_pytest_fixture_takes_a_served_judge(server):
    from harness_plugin.pytest_plugin import ArenaRM

    arena_rm = ArenaRM({"judge": server.judge})
    assert arena_rm.judge("question", "of quality 1", "of quality 4").preferred == "b"


def test_scores_on_stdout_leave_out_a_pair_without_a_verdict_and_shift_none(server, tmp_path, capsys):
    pairs = write_pairs(tmp_path / "pairs.jsonl", 12)
    server.trouble = lambda count, method, path, body: Reply({}, 400) if "question 4" in str(body) else None
    assert run("score", pairs, "--judge", server.judge) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == [f"p{n}" for n in range(12) if n != 4]
    for row in rows:
        n = int(row["id"][1:])
        assert (row["score"] > 0) == (n % 7 > n % 5) or n % 7 == n % 5


def test_doctor_prints_the_parts_of_a_served_judge(server, capsys):
    assert run("doctor", "--judge", server.judge) == 0
    said = capsys.readouterr().out
    for name in ("served_model", "judge_prompt", "parameters", "reads", "reading"):
        assert f"\n{name} " in said
    assert "127.0.0.1" not in said and KEY not in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--no-cache"], "--no-cache with a served judge"),
        (["--dtype", "float32"], "dtype=float32; it has no effect on a judge behind openai"),
        (["--max-length", "512"], "max_length=512; it has no effect"),
        (["--kind", "pair"], "kind=pair; it has no effect"),
        (["--device", "cpu"], "device=cpu; it has no effect on a judge behind openai; leave it out"),
        (["--batch-size", "8"], "batch_size=8; it has no effect on a judge behind openai"),
        (["--threads", "2"], "threads=2; it has no effect"),
        (["--no-merge"], "merge=False; it has no effect"),
        (["--deterministic"], "deterministic=True; it has no effect"),
        (["--peft", "embedded"], "this server reads texts and needs no tokenizer"),
    ],
)
def test_options_that_a_served_judge_cannot_have_are_refused(server, tmp_path, capsys, options, said):
    pairs = write_pairs(tmp_path / "pairs.jsonl", 2)
    assert run("score", pairs, "--judge", server.judge, *options) == 2
    assert said in capsys.readouterr().err


def test_options_of_served_judges_are_refused_for_a_judge_on_this_machine(tmp_path, capsys):
    assert run("score", write_pairs(tmp_path / "pairs.jsonl", 2), "--max-calls", "5") == 2
    assert "max_calls=5; it has no effect on a judge on this machine" in capsys.readouterr().err


def test_options_that_no_member_of_a_panel_takes_are_refused(server, tmp_path, capsys):
    pairs, adapters = write_pairs(tmp_path / "pairs.jsonl", 2), "embedded,other"
    for panel, options, said in (
        (
            f"{server.judge},{server.judge}2",
            ["--device", "cpu"],
            "device=cpu; it has no effect on a judge behind openai",
        ),
        (f"{server.judge},{server.judge}2", ["--batch-size", "8"], "batch_size=8; it has no effect"),
        (adapters, ["--concurrency", "2"], "concurrency=2; it has no effect on a judge on this machine"),
    ):
        assert run("score", pairs, "--panel", panel, *options) == 2
        assert said in capsys.readouterr().err
    assert not server.asked


def test_no_cache_is_refused_for_a_panel_with_a_served_member(server, tmp_path, capsys):
    pairs = write_pairs(tmp_path / "pairs.jsonl", 2)
    assert run("score", pairs, "--panel", f"embedded,{server.judge}", "--no-cache") == 2 and not server.asked
    assert "--no-cache with a served judge" in capsys.readouterr().err


def test_a_panel_gives_options_to_those_of_its_members_that_take_them(server, tiny_adapter, tmp_path, capsys):
    adapter = tiny_adapter("gemma3", manifest=True)
    options = ["--device", "cpu", "--dtype", "float32", "--batch-size", "2", "--concurrency", "2"]
    pairs = write_pairs(tmp_path / "pairs.jsonl", 4)
    assert run("score", pairs, "--panel", f"{adapter},{server.judge}", *options) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4 and all(len(row["votes"]) == 2 for row in rows)


def test_a_comparison_refuses_options_that_none_of_its_judges_takes(server, tiny_adapter, tmp_path, capsys):
    adapter, votes = tiny_adapter("gemma3", manifest=True), tmp_path / "votes.jsonl"
    pairs = [pair(n, n % 5, n % 7, winner="model_a") for n in range(6)]
    store_pairs(votes, pairs)
    out = ["--data", votes, "--no-plots", "-o", tmp_path / "out"]
    local = ["--device", "cpu", "--dtype", "float32", "--batch-size", "2"]
    assert run("compare", server.judge, *out, "--no-cache") == 2
    assert "--no-cache with a served judge" in capsys.readouterr().err
    for option in (local[:2], local[4:]):
        assert run("compare", server.judge, *out, *option) == 2
        assert "it has no effect on a judge behind openai" in capsys.readouterr().err
    assert run("compare", adapter, *out, "--max-calls", "9") == 2 and not server.asked
    assert "max_calls=9; it has no effect on a judge on this machine" in capsys.readouterr().err
    assert run("compare", adapter, server.judge, *out, *local, "--concurrency", "2") == 0
    (stored,) = (tmp_path / "out" / "scores").glob("openai*.jsonl")
    for option in (local[:2], local[4:], ["--order", "ab"], ["--no-cache"]):
        assert run("compare", stored, *out, *option) == 2
        assert f"{option[0].replace('no-', '')} with stored judgements only" in capsys.readouterr().err
    assert run("compare", stored, *out) == 0


def test_votes_and_stages_name_no_host_and_errors_no_password(server, tmp_path, capsys):
    pairs = write_pairs(tmp_path / "pairs.jsonl", 3)
    assert run("score", pairs, "--panel", f"{server.judge},{server.judge}2") == 0
    out, _ = capsys.readouterr()
    assert all(set(json.loads(line)["votes"]) == {"openai:model-1", "openai:model-12"} for line in out.splitlines())
    assert run("score", pairs, "--judge", f"cascade:{server.judge}+{server.judge}2@0.99") == 0
    out, _ = capsys.readouterr()
    assert {json.loads(line)["stage"] for line in out.splitlines()} <= {"openai:model-1", "openai:model-12"}
    secret = server.judge.replace("http://", "http://user:s3cret@")
    for name in (f"cascade:{secret}+embedded", f"panel:{secret}", f"panel:{secret}+embedded"):
        assert run("score", pairs, "--judge", name) == 2
        assert "s3cret" not in "".join(capsys.readouterr())


def test_of_what_lm_eval_asks_for_only_the_defaults_are_left_out_for_a_served_judge(server):
    from harness_plugin.harness.lm import ArenaRM

    for asked in ({"device": "cpu", "batch_size": 1}, {"device": "cuda:0", "batch_size": 8}):
        with pytest.raises(UsageError, match="it has no effect on a judge behind openai"):
            ArenaRM.create_from_arg_obj({"judge": server.judge}, asked)


def test_a_served_judge_is_no_worker_of_a_cluster_and_not_one_of_several_processes(server, tmp_path, monkeypatch):
    from harness_plugin.judges.opening import refuse_served
    from harness_plugin.model import ModelSpec
    from harness_plugin.tournament.ray_judge import on_ray

    spec = ModelSpec(judge=server.judge)
    with pytest.raises(UsageError, match="with --engine ray"), on_ray(spec, None, str(tmp_path)):
        pass
    with pytest.raises(UsageError, match="in several processes"):
        refuse_served(spec)


@pytest.mark.slow
def test_a_run_that_is_killed_pays_for_nothing_twice(server, tmp_path):
    pairs, out = write_pairs(tmp_path / "pairs.jsonl", 120), tmp_path / "scores.jsonl"

    command = [sys.executable, "-m", "harness_plugin.cli", "score", str(pairs), "--judge", server.judge, "-o", str(out)]
    for limit in (60, 140):
        reached, killed = threading.Event(), threading.Event()

        def wait_to_be_killed(count, *request, limit=limit, reached=reached, killed=killed):
            if count >= limit:
                reached.set()
                killed.wait()

        server.trouble = wait_to_be_killed
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not reached.wait(0.1):
            assert process.poll() is None
        process.kill()
        process.wait()
        killed.set()
        assert not out.exists()
    server.trouble = lambda *request: None
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"p{n}" for n in range(120)]
    asked = [json.dumps(body, sort_keys=True) for _, _, body in server.requests if "question" in str(body)]
    distinct = len(set(asked))
    # each kill may lose what was under way at that moment: `concurrency` questions, and those that were just answered
    assert distinct <= len(asked) <= distinct + 2 * 2 * 8


def test_ids_and_order_do_not_depend_on_when_answers_come(server):
    pairs = [pair(n, n % 5, n % 7) for n in range(40)]
    server.trouble = lambda count, method, path, body: time.sleep(count % 7 / 200)
    with open_judge(judge=server.judge, concurrency=8) as judge:
        found = [(j.id, j.z_ab) for j in judge.judge(pairs)]
    assert [name for name, _ in found] == [p.id for p in pairs]
    assert all(
        (z[1] > z[0]) == (quality(p.response_b) >= quality(p.response_a))
        for p, (_, z) in zip(pairs, found, strict=True)
    )
