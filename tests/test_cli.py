"""`arena-rm` as a user types it: files in, files out, one line and an exit code for each mistake."""

import gzip
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import commands
import pytest
from commands import KILLED, lines, run

from harness_plugin.cli import COMMANDS

judge = commands.judge

ROWS = [
    {
        "id": f"p{i}",
        "prompt": f"Say {i}.",
        "response_a": "one " * (i + 1),
        "response_b": "two",
        "winner": w,
        "category": "c",
    }
    for i, w in enumerate(["model_a", "model_b", "tie", "model_a", "model_b", None])
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in ROWS), encoding="utf-8")
    return path


def test_help_lists_every_command_and_each_has_help(capsys):
    code, out, _ = run(["--help"], capsys)
    assert code == 0 and all(name in out for name in COMMANDS) and re.search(r"^ +130 .*\n +141 ", out, re.MULTILINE)
    for name in set(COMMANDS) - {"lm-eval"}:
        assert run([name, "--help"], capsys)[0] == 0


@pytest.mark.parametrize(
    ("command", "refused", "taken"),
    [("compare", {"--judge"}, {"--peft", "--dtype"}), ("calibrate", {"--peft", "--max-calls"}, {"--pretrained"})],
)
def test_the_help_has_no_options_that_the_command_refuses(command, refused, taken, capsys):
    options = set(re.findall(r"^  (--[a-z-]+)", run([command, "--help"], capsys)[1], re.MULTILINE))
    assert taken <= options and not refused & options


@pytest.mark.parametrize("command", ["score", "judge", "compare"])
def test_the_help_says_where_no_cache_is_an_error(command, capsys):
    said = " ".join(run([command, "--help"], capsys)[1].split())
    assert "--no-cache is an error with a served judge." in said


def test_score_writes_one_line_per_pair_in_input_order_with_the_promised_fields(judge, file, capsys):
    code, out, err = run(["score", file, *judge], capsys)
    rows = lines(out)
    assert code == 0 and [r["id"] for r in rows] == [r["id"] for r in ROWS]
    wanted = {"id", "z_ab", "z_ba", "score", "p_a", "p_b", "p_tie", "tokens", "truncated"}
    assert all(wanted <= set(r) for r in rows) and rows[0]["winner"] == "model_a" and rows[0]["category"] == "c"
    assert "winner" not in rows[5]
    assert all(r["score"] == pytest.approx((r["z_ab"] - r["z_ba"]) / 2) for r in rows)
    assert all(r["p_a"] + r["p_b"] + r["p_tie"] == pytest.approx(1) for r in rows)
    assert "longer_wins" in err and "n=4" in err


def test_score_reports_the_accuracy_by_every_mark_of_the_pairs(judge, tmp_path, capsys):
    marks = [("math", "easy", "reasoning"), ("math", "hard", "instruction"), ("chat", "hard", "instruction")]
    names = ("category", "difficulty", "decides")
    rows = [{**ROWS[0], "id": str(i), **dict(zip(names, mark, strict=True))} for i, mark in enumerate(marks)]
    file = tmp_path / "marked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    _, _, err = run(["score", file, *judge], capsys)
    counts = {line.split("  ")[1].strip(): line[-3:] for line in err.splitlines() if line.startswith("  acc ")}
    assert {name.removeprefix("acc "): n for name, n in counts.items() if " " in name} == {
        "chat": "n=1",
        "math": "n=2",
        "difficulty easy": "n=1",
        "difficulty hard": "n=2",
        "decides instruction": "n=2",
        "decides reasoning": "n=1",
    }


def test_order_ab_leaves_the_other_order_null(judge, file, capsys):
    _, out, _ = run(["score", file, *judge, "--order", "ab"], capsys)
    assert all(r["z_ba"] is None and r["score"] == r["z_ab"] for r in lines(out))


def test_the_same_command_gives_the_same_file_and_stdout_the_same_lines(judge, file, tmp_path, capsys):
    for name in ("one", "two"):
        assert run(["score", file, *judge, "-o", tmp_path / name], capsys)[0] == 0
    _, out, _ = run(["score", file, *judge], capsys)
    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text() == out
    assert not list(tmp_path.glob("*.part"))


def test_exchanged_sides_give_the_exact_mirror_image(judge, file, tmp_path, capsys):
    turned = tmp_path / "turned.jsonl"
    swap = {"model_a": "model_b", "model_b": "model_a"}
    rows = [
        {
            **r,
            "response_a": r["response_b"],
            "response_b": r["response_a"],
            "winner": swap.get(r["winner"], r["winner"]),
        }
        for r in ROWS
    ]
    turned.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    one, two = (lines(run(["score", f, *judge, "--tie-nu", "0.5"], capsys)[1]) for f in (file, turned))
    for a, b in zip(one, two, strict=True):
        assert (a["score"], a["p_a"], a["p_b"], a["p_tie"]) == (-b["score"], b["p_b"], b["p_a"], b["p_tie"])


def test_stdin_and_gzip_and_own_columns_are_read(judge, file, tmp_path, capsys):
    packed = tmp_path / "own.jsonl.gz"
    own = [{"q": r["prompt"], "response_a": r["response_a"], "response_b": r["response_b"]} for r in ROWS]
    packed.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in own).encode()))
    code, out, err = run(["score", packed, *judge, "--format", "canonical", "--field", "prompt=q"], capsys)
    assert code == 0, err
    whole = lines(run(["score", file, *judge], capsys)[1])
    assert [r["score"] for r in lines(out)] == [r["score"] for r in whole]
    command = [sys.executable, "-c", "from harness_plugin.cli import main; main()", "score", "-", *map(str, judge)]
    done = subprocess.run(command, input=file.read_text(), capture_output=True, text=True)
    assert done.returncode == 0 and len(lines(done.stdout)) == len(ROWS), done.stderr


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_in_the_same_file(judge, tmp_path, capsys, monkeypatch):
    import harness_plugin.judges.presentations as scoring

    file = tmp_path / "many.jsonl"
    rows = [{"prompt": f"Say {i}", "response_a": "x " * (i % 7 + 1), "response_b": f"y{i}"} for i in range(40)]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    command = [sys.executable, "-c", KILLED, "score", str(file), *map(str, judge), "-o", str(tmp_path / "out")]
    killed = subprocess.run(command, capture_output=True)
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "out").exists(), killed.stderr
    assert (tmp_path / "out.part").read_bytes().count(b"\n") == 1 + 9
    monkeypatch.setattr(scoring, "CHUNK", 4)
    done, _, err = run(["score", file, *judge, "-o", tmp_path / "out"], capsys)
    assert done == 0 and "continuing" in err
    _, out, _ = run(["score", file, *judge], capsys)
    finished = lines((tmp_path / "out").read_text())
    assert [r["id"] for r in finished] == [r["id"] for r in lines(out)]
    assert [r["score"] for r in finished] == pytest.approx([r["score"] for r in lines(out)], abs=1e-5)


def test_other_settings_do_not_continue_a_part(judge, file, tmp_path, capsys):
    (tmp_path / "out.part").write_text(json.dumps({"header": {"base": "another"}}) + "\n", encoding="utf-8")
    code, _, err = run(["score", file, *judge, "-o", tmp_path / "out"], capsys)
    assert code == 3 and "other settings" in err and len(err.strip().splitlines()) <= 4


BAD = [
    (["score", "nowhere.jsonl"], 3, "nowhere.jsonl"),
    (["score"], 2, "Missing argument"),
    (["score", "FILE", "--dtype", "float8"], 2, "float8"),
    (["score", "FILE", "--max-length", "4"], 2, "max_length"),
    (["score", "FILE", "--peft", "no/such"], 3, "no/such"),
    (["score", "FILE", "--device", "cuda:9"], 3, "cuda:9"),
    (["score", "FILE", "--device", "abacus"], 2, "abacus"),
    (["score", "FILE", "--temperature", "0"], 2, "temperature"),
    (["score", "FILE", "--field", "prompt"], 2, "--field"),
    (["score", "FILE", "--format", "odd"], None, "odd"),
    (["show", "FILE", "--id", "nobody"], 2, "nobody"),
    (["train", "no-recipe", "--data", "FILE", "-o", "x"], 2, "no-recipe"),
    (["train", "card", "--data", "FILE", "-o", "x", "--set", "colour=red"], 2, "colour"),
    (["train", "card", "--data", "-", "-o", "x"], 2, "--data - is standard input"),
    (["train", "card", "--data", "nowhere.jsonl", "-o", "x"], 3, "nowhere.jsonl is no file on this machine"),
    (["train", "card", "--data", "FILE", "--teacher", "nowhere", "-o", "x"], 3, "nowhere is no file on this machine"),
    (["show", "FILE", "--concurrency", "3"], 2, "concurrency=3; it has no effect on a judge on this machine"),
    (["fly"], 2, "No such command 'fly'.\n"),
    (["scor", "FILE"], 2, "No such command 'scor'. Did you mean 'score'?"),
    (["gate", "blesss", "FILE"], 2, "No such command 'blesss'. Did you mean 'bless'?"),
    (["calibrate", "embedded", "FILE", "--out", "x", "--judge", "y"], 2, "--judge cannot be used here"),
    (["calibrate", "embedded", "FILE", "--out", "x", "--max-calls", "3"], 2, "--max-calls cannot be used here"),
]


@pytest.mark.parametrize(("args", "code", "says"), BAD, ids=[" ".join(a) for a, _, _ in BAD])
def test_a_mistake_is_one_line_without_traceback(args, code, says, judge, file, capsys):
    given = [str(file) if a == "FILE" else a for a in args]
    model = judge if args[0] in ("score", "show") and len(args) > 1 and "--peft" not in args else []
    found, out, err = run([given[0], *given[1:2], *model, *given[2:]], capsys)
    assert found in ((code,) if code else (2, 3)) and says in err and "Traceback" not in err and not out
    assert not Path("x").exists()


def test_a_bad_row_stops_the_run_with_its_number_and_nothing_is_written(judge, file, tmp_path, capsys):
    file.write_text(file.read_text() + '{"prompt": "p", "response_a": 3, "response_b": "b"}\n', encoding="utf-8")
    code, _, err = run(["score", file, *judge, "-o", tmp_path / "out"], capsys)
    assert code == 3 and "row 7" in err and "response_a" in err and not (tmp_path / "out").exists()
    code, _, err = run(["score", file, *judge, "-o", tmp_path / "out", "--skip-bad-rows"], capsys)
    assert code == 0 and "row 7" in err and len(lines((tmp_path / "out").read_text())) == 6


def test_only_the_first_pairs_are_scored_and_shown_and_the_rest_is_not_read(judge, file, capsys):
    file.write_text(file.read_text("utf-8") + "no JSON\n", encoding="utf-8")
    code, out, _ = run(["score", file, "--limit", 2, *judge], capsys)
    assert code == 0 and [row["id"] for row in lines(out)] == ["p0", "p1"]
    code, out, _ = run(["show", file, *judge], capsys)
    assert code == 0 and "-- pair p0:" in out
    code, out, _ = run(["show", file, "--id", "p5", *judge], capsys)
    assert code == 0 and "-- pair p5:" in out
    code, out, err = run(["show", file, "--id", "p9", *judge], capsys)
    assert code == 3 and not out and "row 7" in err, "only the whole file says that there is no such pair"
    assert run(["score", file, "--limit", 0, *judge], capsys)[0] == 2


def test_answers_of_one_model_are_sent_to_judge(file, capsys):
    file.write_text('{"prompt": "Hi", "response": "Hello."}\n', encoding="utf-8")
    for command in ("score", "show"):
        code, out, err = run([command, file], capsys)
        assert code == 3 and not out and "`arena-rm judge`" in err


def test_a_run_on_this_machine_writes_to_a_folder_here(file, capsys):
    code, _, err = run(["judge", file, file, "-o", "s3://bucket/judged"], capsys)
    assert code == 2 and "-o s3://bucket/judged is a URI" in err
    code, _, err = run(["judge", "nonsense://bucket/a.jsonl", file], capsys)
    assert code == 3 and "nonsense://bucket/a.jsonl cannot be read (Protocol not known" in err


def test_show_prints_text_counts_and_ids(judge, file, capsys):
    code, out, _ = run(["show", file, *judge, "--id", "p2"], capsys)
    assert code == 0 and "Say 2." in out and "-- ids:" in out
    code, out, _ = run(["show", file, *judge, "--json", "--max-length", "60"], capsys)
    shown = json.loads(out)
    assert len(shown["ids"]) <= 60 and shown["kept"]["prompt"][1] > 0


def test_doctor_names_versions_devices_and_what_is_missing(capsys):
    code, out, _ = run(["doctor", "--json"], capsys)
    facts = json.loads(out)
    assert facts["lm_eval"] and facts["default"] and code == (3 if facts["missing"] else 0)
