"""`arena-rm label --plan`: how many labels a wanted width takes, from a judged folder and a pilot."""

import json
import random

import pytest
from tournament_rows import alpaca, judged_by_length

from harness_plugin.cli import main
from harness_plugin.tournament import battles, gather, leaderboard, summary, write_answers

PROMPTS = [f"Question {n}?" for n in range(150)]


@pytest.fixture
def judged(tmp_path):
    """(the folder of a judged run of three models, its battles)."""
    folder = tmp_path / "judged"
    folder.mkdir()
    files = []
    for name in ("heron", "ibis", "stork"):
        rng = random.Random(name)
        files.append(alpaca(tmp_path, name, {p: "word " * rng.randint(3, 40) for p in PROMPTS}, f"{name}.json"))
    found = battles(gather(files))
    verdicts = judged_by_length(found).verdicts
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(v.to_row()) + "\n" for v in verdicts), "utf-8")
    board = summary(leaderboard(verdicts, None, found.models), found, {"hash": "0123456789abcdef"})
    (folder / "leaderboard.json").write_text(json.dumps(board), "utf-8")
    write_answers(folder, found)
    return folder, found


def pilot(path, found, count):
    rng = random.Random(1)
    rows = []
    for pair in rng.sample(found.pairs, count):
        longer = len(pair.response_b) > len(pair.response_a)
        winner = "model_b" if longer == (rng.random() < 0.7) else "model_a"
        row = {"prompt": pair.prompt, "response_a": pair.response_a, "response_b": pair.response_b, "winner": winner}
        row |= {"sampling_probability": 0.1, "annotator": "ann", "both_bad": False}
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return str(path)


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["label", *map(str, arguments)])
    return stop.value.code or 0


def test_the_plan_says_labels_range_and_what_all_would_give(judged, tmp_path, capsys):
    folder, found = judged
    labels = pilot(tmp_path / "pilot.jsonl", found, 60)
    assert run(folder, "--plan", "0.09", "--labels", labels) == 0
    said, err = capsys.readouterr()
    assert "60 of 60 judgements are of battles here" in err and "both_bad; columns not used: none" in err
    assert "| model | labels | now | labels for ±0.09 | range | all labelled |" in said
    assert said.count("| ±0.") == 6 and "times as many battles as now" in said
    assert run(folder, "--plan", "0.01", "--labels", labels) == 0
    said = capsys.readouterr().out
    assert "±0.01 is not reachable with these prompts for heron, ibis, stork; labelling all gives ±0.0" in said
    assert run(folder, "--plan", "0.4", "--labels", labels) == 0
    assert "Every win rate has ±0.4 or less already." in capsys.readouterr().out
    assert run(folder, "--plan", "0.1", "--labels", pilot(tmp_path / "few.jsonl", found, 5)) == 0
    assert "too few labels for a plan" in capsys.readouterr().out


def test_a_plan_needs_a_pilot_and_a_folder(judged, tmp_path, capsys):
    folder, found = judged
    labels = pilot(tmp_path / "pilot.jsonl", found, 20)
    for arguments, said in (
        ((folder, "--plan", "0.1"), "--plan without --labels"),
        ((labels, "--plan", "0.1", "--labels", labels), "it is not the folder of a run"),
        ((folder, "--labels", labels), "--labels without --plan"),
        ((folder, "--plan", "0.1", "--merge"), "--plan with --merge"),
        ((folder, "--plan", "0.7"), "0.7"),
        ((folder, "--plan", "0.1", "--labels", labels, "--n", "100"), "--n with --plan; it has no effect there"),
        ((folder, "--plan", "0.1", "--labels", labels, "-o", "x.html"), "-o with --plan"),
    ):
        assert run(*arguments) == 2 and said in capsys.readouterr().err


def test_the_pilot_may_have_other_columns_and_words(judged, tmp_path, capsys):
    folder, found = judged
    labels = pilot(tmp_path / "pilot.jsonl", found, 20)
    assert run(folder, "--plan", "0.1", "--labels", labels) == 0
    said = capsys.readouterr().out
    text = (tmp_path / "pilot.jsonl").read_text("utf-8").replace('"model_', '"').replace('"winner"', '"vote"')
    (tmp_path / "pilot.jsonl").write_text(text, "utf-8")
    own = ("--field", "winner=vote", "--winner-map", "a=model_a,b=model_b")
    assert run(folder, "--plan", "0.1", "--labels", labels, *own) == 0
    assert capsys.readouterr().out == said
