"""`--stop-when clear` of `arena-rm judge` and `arena-rm gate duel`, with a judge that needs no model."""

import json
import random
from pathlib import Path

import click
import numpy as np
import pytest
import stub_judge
import tournament_rows

from harness_plugin import tournament
from harness_plugin.cli import main
from harness_plugin.cli.stop_options import Looks
from harness_plugin.pairs import content_id
from harness_plugin.tournament.stopping import Stopped

PROMPTS = [f"Question {n}?" for n in range(60)]


@pytest.fixture
def judge(monkeypatch):
    stub = stub_judge.StubJudge()
    monkeypatch.setattr("harness_plugin.judges.open_judge", stub.opened)
    return stub


@pytest.fixture
def arena(capsys, judge, tmp_path):
    """arena(*args) -> (exit code, stdout, stderr)."""

    def run(*args):
        with pytest.raises(SystemExit) as stop:
            main([*map(str, args), "--no-cache"])
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return stop.value.code, out.out, out.err

    return run


def answers(folder, model, words, spread=3, same=0, seed=0):
    """A file of answers with about so many words; the first `same` of them are one text for all models."""
    rng = random.Random(f"{model} {seed}")
    given = {p: " ".join(["word"] * max(1, words + rng.randint(-spread, spread)) + [model]) for p in PROMPTS}
    given |= dict.fromkeys(PROMPTS[:same], "the same")
    return tournament_rows.alpaca(folder, model, given, f"{model}{seed}.json")


def board_in(folder):
    return json.loads((folder / "leaderboard.json").read_text("utf-8"), parse_constant=pytest.fail)


def test_a_clear_tournament_stops_early_and_the_same_command_judges_the_rest(arena, judge, tmp_path):
    files = [answers(tmp_path, "heron", 4), answers(tmp_path, "ibis", 12), answers(tmp_path, "stork", 20)]
    out = tmp_path / "out"
    command = ["judge", *files, "--no-plots", "-o", out]
    code, _, err = arena(*command, "--stop-when", "clear")
    assert code == 0, err
    board = board_in(out)
    stopping = board["stopping"]
    assert stopping["clear"] and stopping["looks"] == 5 and stopping["look"] < 5
    assert board["prompts"] == stopping["prompts"] < stopping["prompts_planned"] == 60
    assert stopping["battles_judged"] == len(judge.asked) and stopping["battles_saved"] == 180 - len(judge.asked) > 0
    assert f"{stopping['battles_saved']} of 180 battles saved" in err
    report = (out / "report.md").read_text("utf-8")
    assert "Judging stopped when the result was clear" in report and "Judging stopped" in (
        out / "report.html"
    ).read_text("utf-8")
    assert len((out / "verdicts.jsonl").read_text("utf-8").splitlines()) == stopping["battles_judged"]

    assert arena(*command)[0] == 0
    whole = board_in(out)
    assert whole["stopping"] is None and whole["prompts"] == 60
    assert len(judge.asked) == len(set(judge.asked)) == 180, "nothing is judged twice"
    ends = [m["win_rate_high"] - m["win_rate_low"] for found in (board, whole) for m in found["models"]]
    assert min(ends[:3]) > max(ends[3:])
    again = tmp_path / "again"
    assert arena(*command[:-1], again)[0] == 0
    assert (again / "leaderboard.json").read_bytes() == (out / "leaderboard.json").read_bytes()


@pytest.mark.parametrize("looks", ["4", "any-time"])
def test_models_that_are_alike_are_judged_to_the_end(arena, tmp_path, looks):
    files = [answers(tmp_path, "heron", 9), answers(tmp_path, "ibis", 9)]
    code, _, err = arena(
        "judge", *files, "--no-plots", "-o", tmp_path / "out", "--stop-when", "clear", "--looks", looks
    )
    assert code == 0 and "the result is not clear; 0 of" in err
    board = board_in(tmp_path / "out")
    assert not board["stopping"]["clear"] and board["prompts"] == 60
    assert "All 60 prompts were judged (" in (tmp_path / "out" / "report.md").read_text("utf-8")
    assert [m["rank_high"] for m in board["models"]] == [2, 2]


def test_against_a_baseline_the_win_rates_must_be_clear_and_not_every_pair(arena, tmp_path):
    files = [answers(tmp_path, name, words) for name, words in (("base", 10), ("heron", 25), ("ibis", 25))]
    command = ["judge", *files, "--baseline", "base", "--no-plots", "-o", tmp_path / "out", "--stop-when", "clear"]
    assert arena(*command, "--looks", "any-time")[0] == 0
    board = board_in(tmp_path / "out")
    assert board["stopping"]["clear"] and board["stopping"]["looks"] is None and board["prompts"] == 32
    compared = {c["model"]: c for c in board["stopping"]["comparisons"]}
    assert compared.keys() == {"heron", "ibis"} and all(
        c["low"] > 0 and c["other"] == "base" for c in compared.values()
    )
    rates = {m["model"]: m for m in board["models"]}
    assert rates["heron"]["win_rate_low"] == pytest.approx(compared["heron"]["low"] + 0.5, abs=1e-3)
    assert rates["base"]["rank_low"] == rates["base"]["rank_high"] == 3 and rates["heron"]["rank_high"] == 2


def test_a_duel_stops_when_it_fails_or_passes(arena, judge, tmp_path):
    old, worse, alike = (answers(tmp_path, n, w, seed=n) for n, w in (("old", 12), ("worse", 4), ("alike", 12)))
    out = tmp_path / "duel"
    code, said, _ = arena("gate", "duel", old, worse, "--stop-when", "clear", "-o", out)
    assert code == 1 and said.startswith("regression") and "Judging stopped when the result was clear" in said
    found = json.loads((out / "gate.json").read_text("utf-8"))
    assert found["stopping"]["battles_saved"] > 0 and len(judge.asked) == found["stopping"]["battles_judged"]
    metric = found["metrics"][0]
    assert metric["high"] < 0 and metric["p_holm"] <= 0.05 and metric["smallest_drop"] is None
    assert arena("gate", "duel", old, worse, "-o", out)[0] == 1
    assert json.loads((out / "gate.json").read_text("utf-8"))["stopping"] is None
    assert len(judge.asked) == len(set(judge.asked)) == 60
    code, said, _ = arena("gate", "duel", worse, old, "--stop-when", "clear", "--margin", "0.2", "--json")
    assert code == 0 and json.loads(said)["verdict"] == "pass" and json.loads(said)["stopping"]["look"] < 5
    code, said, _ = arena("gate", "duel", old, alike, "--stop-when", "clear")
    assert (
        code == 0
        and said.startswith("inconclusive")
        and "All 60 prompts were judged (look 5 of 5), and the result is not clear" in said
    )


def test_identical_answers_at_the_first_looks_do_not_end_a_duel(arena, judge, tmp_path):
    """All that was looked at is the same, and all that comes later got worse."""
    order = sorted(PROMPTS, key=content_id)
    given = dict.fromkeys(PROMPTS, "four words and more")
    old = tournament_rows.alpaca(tmp_path, "m", given, "old.json")
    new = tournament_rows.alpaca(tmp_path, "m", given | dict.fromkeys(order[30:], "few"), "new.json")
    code, said, _ = arena("gate", "duel", old, new, "--stop-when", "clear", "--json")
    assert code == 1 and json.loads(said)["stopping"]["look"] > 2


@pytest.mark.parametrize("stop", [["--stop-when", "clear"], []])
def test_a_duel_with_too_many_missing_answers_is_refused_before_it_is_judged(arena, judge, tmp_path, stop):
    old = answers(tmp_path, "m", 12)
    rows = json.loads(Path(answers(tmp_path, "m", 4, seed=1)).read_text("utf-8"))
    (tmp_path / "short.json").write_text(json.dumps(rows[:50]), "utf-8")
    code, said, _ = arena("gate", "duel", old, tmp_path / "short.json", "-o", tmp_path / "out", *stop)
    assert code == 3 and "not comparable: 10 of 60 items are missing now" in said and not judge.asked
    assert json.loads((tmp_path / "out" / "gate.json").read_text("utf-8"))["verdict"] == "not comparable"


def test_from_2_to_20_looks_can_be_planned():
    assert [Looks().convert(value, None, None) for value in ("2", "20", "any-time")] == [2, 20, "any-time"]
    for wrong in ("1", "21", "often"):
        with pytest.raises(click.BadParameter, match="neither any-time nor a number from 2 to 20"):
            Looks().convert(wrong, None, None)


@pytest.mark.parametrize("wrong", [["--looks", "3"], ["--stop-when", "clear", "--looks", "1"], ["--stop-when", "soon"]])
def test_options_that_mean_nothing_are_refused(arena, tmp_path, wrong):
    files = [answers(tmp_path, "heron", 4), answers(tmp_path, "ibis", 12)]
    code, _, err = arena("judge", *files, "-o", tmp_path / "out", *wrong)
    assert code == 2 and ("--stop-when" in err or "--looks" in err) and not (tmp_path / "out").exists()


def test_parts_are_the_first_prompts_of_the_whole(tmp_path):
    files = [answers(tmp_path, "heron", 4, same=10), answers(tmp_path, "ibis", 12, same=10)]
    gathered = tournament.gather(files)
    whole = tournament.battles(gathered)
    parts = tournament.parts_of(gathered, whole, 5)
    assert [part.prompts for part in parts] == [12, 24, 36, 48, 60] and parts[-1].battles is whole
    for part in parts:
        same = tournament.battles(gathered, None, part.prompts)
        assert part.battles.pairs == same.pairs and part.battles.identical == same.identical
    assert len(tournament.parts_of(gathered, tournament.battles(gathered, None, 20), 5, None, 20)) == 5


def test_every_interval_of_a_stopped_board_is_wider_and_within_its_limits():
    verdicts = tournament_rows.season(["heron", "ibis", "stork"], prompts=60, tie=0.1)
    board = tournament.leaderboard(verdicts)
    part = tournament.Part(
        tournament.Battles(["heron", "ibis", "stork"], {}, tournament.Meetings(), tournament.Meetings(), {}, {}, {}),
        _second_of_five(),
        60,
    )
    found = tournament.board_at(board, Stopped(part, part, 5, 2, False), verdicts)
    checked = 0
    for before, now in zip(_intervals(board), _intervals(found), strict=True):
        (name, low, high), (same, new_low, new_high) = before, now
        assert name == same and new_low <= low and new_high >= high and (new_low, new_high) != (low, high), name
        if "rate" in name or name in ("longer_preferred", "order_agreement"):
            assert new_low >= 0 and new_high <= 1
        checked += 1
    assert checked > 20
    assert all(t["p_holm"] >= old["p_holm"] for t, old in zip(found["tests"], board["tests"], strict=True))


def _second_of_five():
    from harness_plugin.stats.sequential import PlannedLook

    return PlannedLook(2, tuple(np.arange(1, 6) / 5))


def _intervals(value):
    """(name, low, high) of every number with an interval, but for the tests."""
    if isinstance(value, list):
        for item in value:
            yield from _intervals(item)
    elif isinstance(value, dict):
        for name in value:
            if value.get(f"{name}_low") is not None and not name.startswith("rank"):
                yield name, value[f"{name}_low"], value[f"{name}_high"]
            if name not in ("tests", "stopping"):
                yield from _intervals(value[name])
