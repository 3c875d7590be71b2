"""`arena-rm calibrate`: the numbers that it fits, its picture, and what it refuses."""

import json
import shutil
import subprocess
import sys

import commands
import pytest
import tiny
from commands import lines, run

judge = commands.judge
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
