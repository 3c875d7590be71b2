"""What `arena-rm judge` leaves beside its verdicts: the same numbers in every file, names that are exact in JSON and no
more than text in the others, and pictures of what there is. No model runs here."""

import csv
import io
import json
import logging
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from tournament_rows import (
    HOSTILE,
    WIDE,
    alpaca,
    answers_of,
    attacked,
    board_of,
    labelled,
    run_of,
    season,
    three_files,
    verdict,
)

from harness_plugin.pairs import content_id
from harness_plugin.report import board_plots, board_words, markdown_syntax
from harness_plugin.report.board_markdown import table_markdown
from harness_plugin.report.judge_folder import write_run
from harness_plugin.report.numbers import number
from harness_plugin.tournament import (
    Battles,
    Judged,
    Labels,
    Meetings,
    for_people,
)
from harness_plugin.tournament.folder import BOARD_FILE, PAGE_FILE, REPORT_FILE, TABLE_FILE

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {BOARD_FILE, TABLE_FILE, REPORT_FILE, PAGE_FILE}


@pytest.fixture
def files(tmp_path):
    return three_files(tmp_path)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def written(out):
    """written(files, baseline=None) -> (leaderboard.json, rows of leaderboard.csv, report.md) of a made-up judge."""

    def write(files, baseline=None):
        write_run(out, *run_of(files, baseline), pictures=False)
        text = (out / TABLE_FILE).read_bytes().decode()
        table = list(csv.DictReader(io.StringIO(text, newline="")))
        return json.loads((out / BOARD_FILE).read_text("utf-8")), table, (out / REPORT_FILE).read_text("utf-8")

    return write


def names_in(folder):
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("baseline", [None, "ibis"])
def test_the_three_files_say_the_same(written, files, baseline):
    board, table, report = written(files, baseline)
    assert board["schema"] == 1 and {"model", "win_rate", "rating"} <= set(board["models"][0])
    assert board["judge"] == {"hash": "0123456789abcdef", "order": "both"} and len(board["models"]) == 3
    assert [row["model"] for row in table] == [row["model"] for row in board["models"]]
    for line, row in zip(table, board["models"], strict=True):
        assert list(line) == list(row)
        assert all(line[k] == ("" if v is None else str(v)) for k, v in row.items())
        assert f"| {row['model']} | {row['win_rate']:.3f}" in report
    assert report.startswith(f"# Leaderboard: 3 models, {'against ibis' if baseline else 'round robin'}\n")
    columns = "win rate | rating | at equal length" if baseline is None else "win rate | at equal length | rating"
    assert columns in report and "`0123456789abcdef`" in report
    assert "Note: fewer than 30 prompts" in report and "## Left out" not in report


def test_what_was_left_out_is_listed_in_the_report_and_in_full_in_the_json(written, tmp_path):
    prompts = [f"Prompt | number {n}" for n in range(15)]
    heron, ibis = answers_of("heron", prompts), answers_of("ibis", prompts)
    ibis = {p: a for n, (p, a) in enumerate(ibis.items()) if n >= 12}
    heron[prompts[12]], heron[prompts[13]], ibis[prompts[13]] = ibis[prompts[12]], "", "Sorry, no."
    files = [alpaca(tmp_path, "heron", heron, dataset="letters"), alpaca(tmp_path, "ibis", ibis, dataset="letters")]
    board, _, report = written(files)
    assert board["missing_prompts"] == {"ibis": sorted(map(content_id, prompts[:12]))} and board["identical"] == 1
    counted = {row["model"]: row for row in board["models"]}
    assert counted["ibis"]["missing"] == 12 and counted["heron"]["empty"] == 1
    assert "- ibis did not answer 12 prompts, no battle there: " in report and " and 2 more" in report
    assert report.count("Prompt &#124; number") == 10
    assert "- 1 battle of identical answers: a tie, and not judged" in report and "- empty answers, judged" in report
    assert "refusal, judged as they are: ibis 1" in report and "## Win rate by category" in report


def test_hostile_names_are_exact_in_json_and_text_in_csv_and_markdown(written, tmp_path):
    files = [alpaca(tmp_path, name, answers_of(name), dataset=f"{name[:9]}|\n") for name in HOSTILE]
    board, table, report = written(files)
    assert {row["model"] for row in board["models"]} == set(HOSTILE)
    for line, row in zip(table, board["models"], strict=True):
        name = row["model"]
        computed = name.lstrip()[:1] in {*"=+-@", WIDE} or name[0] in "\t\r\n"
        assert line["model"] == ("'" + name if computed else name) and computed == (line["model"] != name)
    assert sum(line["model"].startswith("'") for line in table) == 8
    lines = [line for line in report.split("\n") if line.startswith("|")]
    assert {line.count("|") for line in lines[: len(HOSTILE) + 2]} == {7}, "six columns, whatever a name holds"
    plain = re.sub(r"&#\d+;|`0123456789abcdef`|\[-?[\d.]+, -?[\d.]+\]", "", report)
    assert not set(plain) & set("<>*~$`\\[]&")
    assert "\u202e" not in report and "(blank)" in report and "naïve_model_7b" in report and "&#95;it&#95;" in report
    assert "x" * 61 not in report and "500 characters" in report and "\r" not in report


def test_a_written_run_is_the_same_bytes_again(written, files, out):
    def bytes_of(order):
        written(order)
        return {name: (out / name).read_bytes() for name in names_in(out)}

    first = bytes_of(files)
    assert set(first) == TEXTS and bytes_of(files[::-1]) == first


def test_a_number_that_is_not_finite_is_not_written(out, files):
    board, judged = run_of(files)
    board["models"][0]["rating"] = math.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_run(out, board, judged)
    assert not names_in(out)


def test_what_stands_first_is_said_with_its_doubts():
    nobody = Meetings()

    def lead(verdicts, baseline=None):
        found = Battles(
            sorted({v.model_a for v in verdicts} | {v.model_b for v in verdicts}), {}, nobody, nobody, {}, {}, {}
        )
        board = board_of(Judged(found, verdicts, []), baseline)
        return board_words.lead(board, str), board_words.warnings(board, str)

    clear, quiet = lead(season(["a", "b"], 200))
    assert re.fullmatch(r"a is first with a rating of \d+ \[\d+, \d+\]\. It is better than b: difference .*\.", clear)
    assert quiet == []
    close, _ = lead(season(["a", "b"], 5, seed=4), "a")
    assert re.match(r"[ab] is first with a win rate of .* It is not clearly better than [ab]: difference", close)
    easy = [verdict("base", "a", f"e{n}", 0.9 + n / 1000) for n in range(60)]
    both = (("a", 0.45), ("b", 0.6))
    hard = [verdict("base", m, f"h{n}", p + n * (m == "b") / 500) for n in range(30) for m, p in both]
    other, _ = lead([*easy, *hard], "base")
    assert "a is first" in other and "It is worse than b on the prompts that both answered: difference -0." in other
    lone, warned = lead([verdict("a", "b", "p", 0.7)])
    assert lone.endswith("There are too few prompts to say whether it is better than a.") and len(warned) == 2
    assert warned[0] == "fewer than 30 prompts, so intervals are rough."
    assert warned[1].endswith("it has no number at equal length: a, b."), "a sentence about models names them"


@pytest.mark.parametrize(
    ("agreement", "said"),
    [
        (None, "all of this is the judge's opinion"),
        ({"battles": 0}, "None of the labels is of a battle of this run"),
        ((None, None, None, None), "preferred neither answer in any"),
        ((0.6, None, None, 0.5), "too few votes to say whether the judge is better than chance"),
        ((0.38, 0.3, 0.46, 0.46), "prefers what people do not: do not rely on this ranking"),
        ((0.55, 0.45, 0.65, 0.46), "not clearly better than chance: do not rely on this ranking alone"),
        ((0.7, 0.6, 0.8, 0.75), "better than chance, but not better than taking the longer answer"),
        (
            (0.7, 0.6, 0.8, 0.65),
            "(40 battles), the judge agrees with them in 0.70 [0.60, 0.80]; chance would agree in 0.50",
        ),
        ((0.7, 0.6, 0.8, None), "0.50. It is better than chance."),
    ],
)
def test_what_the_judge_is_worth_is_said_beside_chance_and_length(agreement, said):
    if isinstance(agreement, tuple):
        names = ("acc", "acc_low", "acc_high", "longer_wins")
        agreement = dict(zip(names, agreement, strict=True)) | {"battles": 50, "acc_n": 40}
    assert said in board_words.worth({"agreement": agreement})


def test_how_sure_the_ranking_is_says_what_may_have_been_missed():
    board = {"tests": [{"p_holm": 0.01}, {"p_holm": 0.2}], "prompts": 40, "stopping": None, "differences_of": "rating"}
    said = board_words.certainty(board | {"smallest_difference": 58.4})
    assert said.startswith("1 of 2 pairs of models differ by more than chance on 40 prompts. ")
    assert said.endswith("Differences below 58 points of rating may have been missed.")
    one = board | {"tests": board["tests"][1:], "smallest_difference": None}
    assert board_words.certainty(one).startswith(
        "The two models do not differ by more than chance on 40 prompts. These are too few"
    )


# -- the red team and people's labels ---------------------------------------------------------------------------------


def test_the_red_team_has_its_own_table_and_touches_no_other_number(out, files):
    board, red = attacked(files)
    plain, judged = run_of(files)
    assert board | {"red_team": None} == plain
    write_run(out, board, judged, red, pictures=False)
    report = (out / REPORT_FILE).read_text("utf-8")
    (row,) = [line for line in report.splitlines() if line.startswith("| injection |")]
    assert "| 0.900 [0.566, 0.937] | rewarded | -0.40 |" in row, (
        "one value throughout is not certain, and has an interval"
    )
    assert "Answers of ibis, changed without making them better" in report and report.count("red team") == 0
    assert json.loads((out / BOARD_FILE).read_text("utf-8"))["red_team"]["model"] == "ibis"
    write_run(out, plain, judged, pictures=False)
    assert "How easily the judge" not in (out / REPORT_FILE).read_text("utf-8")


def test_what_people_said_is_in_the_report(out, files):
    board, judged = labelled(files)
    write_run(out, board, judged, pictures=False)
    found = json.loads((out / BOARD_FILE).read_text("utf-8"))["agreement"]
    assert found["battles"] == 24 == found["acc_n"] and found["acc"] == 0.75
    assert sum(b["n"] for b in found["reliability"]) == 24
    assert "People judged 24 battles of these. Where they decided, the judge agrees in 0.75" in (
        out / REPORT_FILE
    ).read_text("utf-8")


def test_what_people_prefer_is_in_every_file(out, files):
    plain, judged = run_of(files)
    votes = Labels([1.0 if k % 3 else 0.0 for k in range(24)], [0.0] * 24, None, 2)
    assert "people" not in table_markdown(plain)
    board = for_people(plain, judged.verdicts, votes, None)
    write_run(out, board, judged, pictures=False)
    report = (out / REPORT_FILE).read_text("utf-8")
    assert "## What people prefer\n\nPeople judged 24 battles of 24, on 8 prompts, by 2 annotators. " in report
    assert "each with the same probability (the labels have no column sampling_probability)." in report
    assert "| win rate for people | rating for people |" in table_markdown(board).splitlines()[0]
    head = (out / TABLE_FILE).read_text("utf-8").splitlines()[0]
    assert '"win_rate_people","win_rate_people_low","win_rate_people_high"' in head
    assert json.loads((out / BOARD_FILE).read_text("utf-8"))["people"]["labels"] == 24
    assert "People judged 24 battles of 24" in (out / PAGE_FILE).read_text("utf-8")
    first = max(board["models"], key=lambda m: m["rating_people"])
    assert board_words.summary(board, str)["What people prefer"].startswith(
        f"For people, {first['model']} is first with a rating of"
    )
    assert "What people prefer" not in board_words.summary(plain, str)
    none = board | {"models": [m | {"rating_people": None} for m in board["models"]]}
    assert board_words.preferred(none, str).startswith("The labels are too few to rank the models")


def test_what_the_labels_are_worth_is_said_in_words():
    found = {"labels": 100, "battles": 999, "prompts": 80, "annotators": None, "probabilities": "given"}
    found |= {"labels_worth": 137.4, "correlation": 0.412, "judge_weight": 0.7, "judge_adds": True}
    said = board_words.people({"people": found})
    assert "worth 137 labels without a judge" in said and "is 0.41, and its verdicts count with the weight 0.70" in said
    assert said.endswith("with the probabilities in the column sampling_probability.")
    weak = {**found, "judge_adds": False, "correlation": 0.05}
    assert "The judge adds nothing to so many labels" in board_words.people({"people": weak})
    assert "rest on the labels alone" in board_words.people({"people": weak})
    assert "The judge contradicts people" in board_words.people({"people": {**weak, "correlation": -0.3}})
    assert "adds nothing" in board_words.people({"people": {**weak, "correlation": -0.05}}), "that may be chance"
    assert "too few labels to say" in board_words.people(
        {"people": {**found, "correlation": None, "labels_worth": None}}
    )
    assert board_words.people({"people": None}) == ""


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_there_is_a_picture_of_all_that_a_run_has_and_none_of_what_it_has_not(out, files):
    pytest.importorskip("matplotlib")
    board, red = attacked(files)
    agreed, judged = labelled(files)
    write_run(out, board | {"agreement": agreed["agreement"]}, judged, red)
    assert names_in(out) == TEXTS | set(board_plots.FILES)
    assert all((out / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for name in board_plots.FILES)
    first = {name: (out / name).read_bytes() for name in board_plots.FILES}
    write_run(out, board | {"agreement": agreed["agreement"]}, judged, red)
    assert {name: (out / name).read_bytes() for name in board_plots.FILES} == first
    write_run(out, *run_of(files, "ibis"))
    gone = {board_plots.MATRIX, board_plots.RELIABILITY, board_plots.RED_TEAM}
    assert names_in(out) == TEXTS | set(board_plots.FILES) - gone, "pictures of an earlier run would mislead"
    write_run(out, *run_of(files), pictures=False)
    assert names_in(out) == TEXTS


def test_the_pictures_hold_the_numbers(out, files, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn, real = {}, Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, file, **more: (drawn.update({len(drawn): self}), real(self, file, **more))
    )
    board, judged = run_of(files)
    for name in (board_plots.RATINGS, board_plots.MATRIX, board_plots.POSITION):
        board_plots.pictures(board, judged.verdicts)[name](out / name)
    ratings, matrix, position = (figure.axes[0] for figure in drawn.values())
    values = [line.get_xdata()[0] for line in ratings.lines[: len(board["models"])]]
    assert values == [m["rating"] for m in board["models"]]
    assert [t.get_text() for t in ratings.get_yticklabels()] == [m["model"] for m in board["models"]]
    shown = matrix.images[0].get_array()
    best, other = (board["models"][k]["model"] for k in (0, 1))
    (h,) = [h for h in board["head_to_head"] if (h["model"], h["other"]) == (best, other)]
    assert shown[0, 1] == pytest.approx(h["win_rate"]) and shown[1, 0] == pytest.approx(1 - h["win_rate"])
    assert sum(patch.get_height() for patch in position.patches) == len(judged.verdicts)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("see https://x.y and www.z.com", "see https&#58;//x.y and www&#46;z.com"),
        ("# title", "&#35; title"),
        ("1. one", "1&#46; one"),
        ("- item", "&#45; item"),
        ("===", "&#61;=="),
        ("@everyone", "@&#8203;everyone"),
        ("-0.03 of v1.5 at 12:30", "-0.03 of v1.5 at 12:30"),
    ],
)
def test_text_in_markdown_makes_no_link_heading_list_or_mention(text, safe):
    assert markdown_syntax.safe(text) == safe


def test_hostile_names_can_be_drawn(tmp_path, out):
    pytest.importorskip("matplotlib")
    write_run(out, *run_of([alpaca(tmp_path, name, answers_of(name)) for name in HOSTILE]))
    assert {board_plots.RATINGS, board_plots.MATRIX, board_plots.LENGTH, board_plots.POSITION} < names_in(out)


def test_without_matplotlib_all_but_the_pictures_is_written_and_one_line_says_so(out, files):
    code = (
        tiny.NO_MATPLOTLIB
        + f"""
import logging
logging.basicConfig(level=logging.WARNING, format="%(message)s")
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from tournament_rows import run_of
from harness_plugin.report.judge_folder import write_run
write_run(Path({str(out)!r}), *run_of({files!r}))
"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert names_in(out) == TEXTS
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert "no pictures: matplotlib is not installed" in line and "lm-eval-arena-rm[report]" in line


def test_a_picture_that_fails_costs_no_other_file(out, files, monkeypatch, caplog):
    pytest.importorskip("matplotlib")

    def broken(*args, **more):
        raise RuntimeError("no ink")

    monkeypatch.setattr(board_plots, "ratings", broken)
    with caplog.at_level(logging.WARNING, logger="lm_eval.arena_rm"):
        write_run(out, *run_of(files))
    assert "ratings.png was not drawn: no ink" in caplog.text
    assert names_in(out) >= TEXTS | {board_plots.MATRIX} and board_plots.RATINGS not in names_in(out)


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (1012.5, 0, "1013"),
        (0.5625, 3, "0.563"),
        (-2.5, 0, "-3"),
        (1.005, 2, "1.00"),
        (-4e-4, 3, "0.000"),
        (2e15, 0, "2" + "0" * 15),
    ],
)
def test_numbers_are_rounded_as_the_page_rounds_them(value, digits, shown):
    """JavaScript: (1012.5).toFixed(0) is "1013", where Python's format would say 1012."""
    assert number(value, digits) == shown
