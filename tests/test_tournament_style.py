"""Style of answers in a leaderboard: what is counted in their texts, and what stands in the files."""

import csv
import io

import pytest
import tournament_rows

from harness_plugin import tournament
from harness_plugin.report.board_markdown import report
from harness_plugin.report.judge_folder import table_csv
from harness_plugin.tournament.style import style_counts

MARKDOWN = "# Title\n\nSome **bold** and **more**.\n\n- one\n- two\n1. three\n\n## End\n"


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (MARKDOWN, (2, 3, 2)),
        ("plain text", (0, 0, 0)),
        ("", (0, 0, 0)),
        ((MARKDOWN, "## more"), (3, 3, 2)),
        (f"```python\n# no heading\n- no list\n**kwargs**\n```\n{MARKDOWN}", (2, 3, 2)),
        (f"{MARKDOWN}\n~~~\n# no heading\n", (2, 3, 2)),
        ("```\n# a\n```\n# yes\n```\n# b\n```\n", (1, 0, 0)),
        ("#hashtag and 3.14 and 2 * 3 * 4", (0, 0, 0)),
    ],
)
def test_marks_are_counted_outside_code(text, counts):
    assert style_counts(text) == counts


@pytest.fixture
def judged(tmp_path):
    """Three models' answers to 60 prompts, of which one likes headings; the judge likes length alone."""

    def answers(name, marked):
        given = tournament_rows.answers_of(name, [f"Question {n}?" for n in range(60)])
        if marked:
            given = {p: f"## Answer\n\n- **{a}**" if n % marked else a for n, (p, a) in enumerate(given.items())}
        return tournament_rows.alpaca(tmp_path, name, given, f"{name}.json")

    files = [answers("heron", 2), answers("ibis", 3), answers("stork", 0)]
    return tournament_rows.judged_by_length(tournament.battles(tournament.gather(files)))


def board_of(judged, baseline=None):
    found = judged.battles
    board = tournament.leaderboard(
        judged.verdicts, baseline, found.models, found.counts, tournament.styles(judged.battles)
    )
    return tournament.summary(board, found, {"hash": "0123456789abcdef", "order": "both"})


@pytest.mark.parametrize("baseline", [None, "stork"])
def test_a_leaderboard_has_numbers_at_equal_style_and_the_worth_of_each_feature(judged, baseline):
    battles = judged.battles
    if baseline:
        kept = [v for v in judged.verdicts if baseline in (v.model_a, v.model_b)]
        judged = tournament.Judged(battles, kept, [None] * len(kept))
    board = board_of(judged, baseline)
    what = "win_rate" if baseline else "rating"
    rows = {m["model"]: m for m in board["models"]}
    assert rows["heron"][f"{what}_style_controlled"] != rows["heron"][f"{what}_length_controlled"]
    assert rows["stork"]["mean_headings"] == 0 < rows["heron"]["mean_headings"] == rows["heron"]["mean_bold"] <= 1
    assert [s["feature"] for s in board["style_slopes"]] == ["length", "headings", "lists", "bold"]
    length = board["style_slopes"][0]
    assert length["value_low"] < length["value"] < length["value_high"] and length["value"] > 1
    text = report(board, battles)
    assert "at equal style" in text and "What the judge gives for style" in text and "headings -" in text
    header = next(csv.reader(io.StringIO(table_csv(board))))
    assert {f"{what}_style_controlled", f"{what}_style_controlled_low", "mean_lists"} <= set(header)


def test_marks_that_always_go_together_have_no_worth_of_their_own(judged):
    """Here every answer with a heading has one list item and one piece of bold type as well."""
    slopes = {s["feature"]: s["value"] for s in board_of(judged)["style_slopes"]}
    assert slopes["headings"] is slopes["lists"] is slopes["bold"] is None and slopes["length"] is not None


def test_without_marks_style_is_length(tmp_path):
    files = tournament_rows.three_files(tmp_path)
    board = board_of(tournament_rows.judged_by_length(tournament.battles(tournament.gather(files))))
    assert board["style_slopes"] == [] and "mean_bold" not in board["models"][0]


def test_without_texts_there_is_nothing_at_equal_style():
    board = tournament.leaderboard(tournament_rows.season(["a", "b", "c"]))
    assert board["style_slopes"] == [] and "rating_style_controlled" not in board["models"][0]
