"""`arena-rm` as a user types it: files in, files out, one line and an exit code for each mistake."""

import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from commands import KILLED

from harness_plugin.cli import COMMANDS, main

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


def run(args, capsys):
    """(exit code, stdout, stderr) of arena-rm in this process."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in args])
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


@pytest.fixture
def judge(tiny_base, tiny_adapter):
    return ["--pretrained", tiny_base("gemma3"), "--peft", tiny_adapter("gemma3"), "--dtype", "float32"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in ROWS), encoding="utf-8")
    return path


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


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


# calibrate

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def adapter(adapter_copy):
    return adapter_copy("gemma3")


@pytest.fixture
def calibrate(adapter, tiny_base, capsys):
    """calibrate(file, *more) -> (exit code, stdout, stderr) for a copy of a tiny adapter in float32."""
    return lambda file, *more: run(
        ["calibrate", adapter, file, "--pretrained", tiny_base("gemma3"), "--dtype", "float32", *more], capsys
    )


def labelled(tmp_path, winners):
    """A file of one pair for each winner; the texts depend on the place alone."""
    rows = [
        {"prompt": f"Say {i}", "response_a": "one " * (i % 5 + 1), "response_b": f"two {i}", "winner": winner}
        for i, winner in enumerate(winners)
    ]
    file = tmp_path / "labelled.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def winners(judge, tmp_path, capsys):
    """winners(rule) -> 40 labels, each rule(place, whether the judge prefers B)."""
    scores = lines(run(["score", labelled(tmp_path, [None] * 40), *judge], capsys)[1])
    return lambda rule: [rule(i, row["score"] > 0) for i, row in enumerate(scores)]


def mostly_right(i, b):
    """Every fifth pair a tie, every fourth of the others lost by the side that the judge prefers."""
    return "tie" if i % 5 == 4 else "model_b" if b != (i % 4 == 3) else "model_a"


def test_calibrate_writes_both_numbers_and_a_picture_and_says_what_was_gained(calibrate, adapter, winners, tmp_path):
    pytest.importorskip("matplotlib")
    file = labelled(tmp_path, winners(mostly_right))
    code, out, err = calibrate(file)
    found = json.loads((adapter / "arena_rm.json").read_text(encoding="utf-8"))["calibration"]
    assert code == 0 and found["n"] == 40 and found["tie_nu"] > 0
    assert "40 pairs fix a calibration only roughly" in err and "give 100 or more" in err
    assert found["log_loss"] < found["log_loss_at_temperature_1"]
    assert out.startswith(f"temperature {found['temperature']}, tie_nu {found['tie_nu']} from 40 pairs: log loss ")
    said = [float(number) for number in out.replace(",", "").split() if number[-4:].isdigit() and "." in number][-2:]
    assert said == pytest.approx([found["log_loss_at_temperature_1"], found["log_loss"]], abs=6e-5)
    picture = (adapter / "reliability.png").read_bytes()
    assert picture[:8] == PNG
    assert calibrate(file, "--plot")[0] == 0 and (adapter / "reliability.png").read_bytes() == picture
    assert calibrate(file, "--out", tmp_path / "new" / "place", "--plot")[:2] == (0, out)
    assert sorted(f.name for f in (tmp_path / "new" / "place").iterdir()) == ["arena_rm.json", "reliability.png"]
    assert "to use the calibration" not in err, "it stands beside the weights"
    (adapter / "reliability.png").unlink()
    assert calibrate(file, "--no-plot")[:2] == (0, out) and not (adapter / "reliability.png").exists()


def test_a_calibration_beside_no_weights_says_how_it_is_used(calibrate, adapter, winners, tiny_base, tmp_path, capsys):
    file, place = labelled(tmp_path, winners(mostly_right)), tmp_path / "place"
    _, _, err = calibrate(file, "--out", place, "--no-plot")
    assert f"copy all files but arena_rm.json from {adapter} into {place}, and name that folder with --peft" in err
    shutil.copytree(adapter, place, dirs_exist_ok=True, ignore=lambda *_: ["arena_rm.json"])
    options = ["--pretrained", tiny_base("gemma3"), "--dtype", "float32"]
    (first, *_) = lines(run(["score", file, "--peft", place, *options], capsys)[1])
    known = json.loads((place / "arena_rm.json").read_text(encoding="utf-8"))["calibration"]
    assert first["tie_nu"] == known["tie_nu"]
    assert "to use the calibration" not in calibrate(file, "--out", place, "--no-plot")[2]


def test_calibrate_with_the_surface_fits_one_more_number_which_counts_in_verdicts(
    calibrate, adapter, winners, judge, tmp_path, capsys
):
    file = labelled(tmp_path, winners(mostly_right))
    code, out, _ = calibrate(file, "--surface", "--no-plot")
    found = json.loads((adapter / "arena_rm.json").read_text(encoding="utf-8"))["calibration"]
    assert code == 0 and found["surface_worth"] != 0 and f", surface_worth {found['surface_worth']} from 40" in out
    assert calibrate(file, "--surface", "--no-plot")[:2] == (0, out)  # fitted to the judge's own logits again
    again = ["--pretrained", judge[judge.index("--pretrained") + 1], "--dtype", "float32"]
    rows = lines(run(["score", file, "--peft", adapter, *again], capsys)[1])
    for row in rows:
        own = (row["z_ab"] - row["z_ba"]) / 2
        assert row["score"] == pytest.approx(own + found["surface_worth"] * row["surface"], abs=1e-6)
    assert calibrate(file, "--no-plot")[0] == 0
    found = json.loads((adapter / "arena_rm.json").read_text(encoding="utf-8"))["calibration"]
    assert "surface_worth" not in found


def test_calibrate_takes_a_stated_share_of_ties_for_labels_without_any(
    calibrate, adapter, winners, judge, tmp_path, capsys
):
    file = labelled(tmp_path, winners(mostly_right))
    assert calibrate(file, "--tie-share", "0.2", "--surface", "--no-plot")[0] == 0
    found = json.loads((adapter / "arena_rm.json").read_text(encoding="utf-8"))["calibration"]
    again = ["--pretrained", judge[judge.index("--pretrained") + 1], "--dtype", "float32"]
    rows = lines(run(["score", file, "--peft", adapter, *again], capsys)[1])
    assert found["tie_share"] == 0.2
    assert sum(row["p_tie"] for row in rows) / len(rows) == pytest.approx(0.2, abs=1e-4)
    code, _, err = calibrate(labelled(tmp_path, ["model_a", "model_b"]), "--tie-share", "0.2", "--no-plot")
    assert code == 0 and "a prior of four pairs (temperature 1) counts" in err
    code, _, err = calibrate(file, "--tie-share", "1", "--no-plot")
    assert code == 2 and "0<x<1" in err


def test_calibrate_renews_the_figures_of_the_model_card_and_nothing_else_there(calibrate, adapter, winners, tmp_path):
    card = "# A judge\n\n## Calibration\n\nTemperature 403.43, tie mass 0 (Davidson).\n\n## Limits\n\nSome.\n"
    (adapter / "README.md").write_text(card, encoding="utf-8")
    assert calibrate(labelled(tmp_path, winners(mostly_right)), "--no-plot")[0] == 0
    found = json.loads((adapter / "arena_rm.json").read_text(encoding="utf-8"))["calibration"]
    text = (adapter / "README.md").read_text(encoding="utf-8")
    assert "403.43" not in text and f"Temperature {found['temperature']:.3f}" in text and "40 held-out pairs" in text
    assert text.startswith("# A judge\n\n## Calibration\n") and text.endswith("\n\n## Limits\n\nSome.\n")


@pytest.mark.parametrize(
    "rule",
    [lambda i, b: "model_b" if b else "model_a", lambda i, b: "model_a" if b else "model_b", lambda i, b: "tie"],
    ids=["always right", "always wrong", "only ties"],
)
def test_calibrate_writes_moderate_numbers_where_few_pairs_all_say_the_same(
    calibrate, winners, adapter, tmp_path, rule
):
    assert calibrate(labelled(tmp_path, winners(rule)), "--no-plot")[0] == 0
    found = json.loads((adapter / "arena_rm.json").read_text(encoding="utf-8"))["calibration"]
    assert 0.02 < found["temperature"] < 50 and 0 < found["tie_nu"] < 300


@pytest.mark.slow
def test_calibrate_without_matplotlib_fits_all_the_same_unless_the_picture_was_asked_for(adapter, tiny_base, tmp_path):
    args = [
        "calibrate",
        adapter,
        labelled(tmp_path, ["model_a", "tie", "model_b"]),
        "--pretrained",
        tiny_base("gemma3"),
    ]
    command = [
        sys.executable,
        "-c",
        f"{tiny.NO_MATPLOTLIB}from harness_plugin.cli import main; main()",
        *map(str, args),
    ]
    words = "matplotlib is not installed; the plot needs it; pip install 'lm-eval-arena-rm[report]'"
    done = subprocess.run([*command, "--plot"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"arena-rm: {words}\n")
    assert not (adapter / "arena_rm.json").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "temperature" in done.stdout and "Traceback" not in done.stderr
    assert done.stderr.count("matplotlib") == 1 and f"reliability.png was not drawn: {words}\n" in done.stderr
    assert (adapter / "arena_rm.json").exists() and not (adapter / "reliability.png").exists()


def test_calibrate_refuses_what_it_cannot_fit(calibrate, adapter, tiny_base, tiny_adapter, tmp_path, capsys):
    code, _, err = calibrate(labelled(tmp_path, ["tie", None, None]))
    assert code == 3 and "has 1 labelled pair; a calibration fits two numbers and needs two pairs" in err
    code, _, err = calibrate(labelled(tmp_path, ["model_a", "tie", "model_b"]), "--temperature", "2")
    assert code == 2 and "--temperature" in err
    three = tiny_adapter("gemma3", num_labels=3)
    args = [
        "calibrate",
        three,
        labelled(tmp_path, ["model_a", "tie", "model_b"]),
        "--pretrained",
        tiny_base("gemma3"),
        "--out",
        tmp_path / "o",
    ]
    code, _, err = run(args, capsys)
    assert code == 2 and "has 3 logits" in err
    assert not (adapter / "arena_rm.json").exists() and not (tmp_path / "o").exists()
