"""report.html in a browser: what stands first, what people and judge disagree about, answers as Markdown, widths."""

import json
from dataclasses import replace

import pytest
from browser import SMALL
from tournament_rows import alpaca, attacked, labelled, run_of, three_files

from harness_plugin.report import board_page
from harness_plugin.tournament import Labels, for_people

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(tmp_path, chromium):
    """opened(board, judged, attacked=None, dark=False, **size) -> the page in a tab."""
    pages = []

    def opened(board, judged, attacked=None, anchor="", **options):
        file = tmp_path / f"report{len(pages)}.html"
        file.write_text(board_page.page(board, judged, attacked), "utf-8")
        pages.append(chromium.open(file, anchor, **options))
        return pages[-1]

    yield opened
    for tab in pages:
        tab.close()


@pytest.fixture
def everything(tmp_path):
    """A run with labels and a red team, as `page` takes it."""
    files = three_files(tmp_path)
    board, judged = labelled(files)
    red, found = attacked(files)
    return board | {"red_team": red["red_team"]}, judged, found


def text(tab, selector):
    return tab.js(f"document.querySelector({json.dumps(selector)}).innerText")


def texts(tab, selector):
    return tab.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.textContent)")


def test_a_short_summary_stands_first(opened, everything):
    tab = opened(*everything)
    heads = tab.js("[...document.querySelectorAll('#summary dt')].map((node) => node.innerText)")
    assert heads == ["Who wins", "How sure that is", "What the judge is worth"]
    said = text(tab, "#summary")
    assert "is first with a rating of" in said and "pairs of models differ by more than chance on 8 prompts" in said
    assert "the judge agrees with them in 0.75" in said
    bottom = tab.js("document.querySelector('#summary').getBoundingClientRect().bottom")
    assert bottom < 450, "it is on the first screen"
    assert not tab.troubles()


def test_with_labels_the_table_has_what_people_prefer_too(opened, everything):
    board, judged, _ = everything
    people = for_people(board, judged.verdicts, Labels(judged.labels, [0.0] * 24, None, 0), None)
    tab = opened(people, judged)
    assert texts(tab, "#summary dt")[-1] == "What people prefer"
    assert texts(tab, "#ratings .choices button")[-2:] == ["Rating for people", "Win rate for people"]
    tab.js("[...document.querySelectorAll('#ratings .choices button')].at(-2).click()")
    assert texts(tab, "#ratings thead th")[3].startswith("Rating for people") and not tab.troubles()
    ranks = [sorted({m["rank_people_low"], m["rank_people_high"]}) for m in people["models"]]
    assert texts(tab, "#ratings tbody td:first-child") == ["\u2013".join(map(str, ends)) for ends in ranks]


def test_the_battles_where_people_disagree_come_next_the_surest_first_and_open(opened, everything):
    tab = opened(*everything)
    sections = tab.js("[...document.querySelectorAll('main section')].map((node) => node.id)")
    assert sections[:2] == ["ratings", "disagreements"]
    sure = [int(t.split("%")[0]) for t in texts(tab, "#disagreements tbody td:nth-child(2) .ends")]
    assert len(sure) == 6 and sure == sorted(sure, reverse=True) and "6 of 24 battles" in text(tab, "#disagreements")
    row = text(tab, "#disagreements tbody tr").split("\n")
    tab.js("document.querySelector('#disagreements a').click()")
    assert row[0].split("\t")[0] in text(tab, "#battles article .prompt")
    assert "people: " in text(tab, "#battles .tags .loud")


def test_without_votes_there_are_no_disagreements_and_the_summary_says_what_is_unknown(opened, tmp_path):
    tab = opened(*run_of(three_files(tmp_path)))
    assert "all of this is the judge's opinion" in text(tab, "#summary")
    assert tab.js("document.querySelector('#disagreements')") is None and "People disagree" not in text(tab, "nav")


def test_rating_and_rating_at_equal_length_stand_side_by_side(opened, everything):
    board = everything[0]
    tab = opened(*everything)
    heads = tab.js("[...document.querySelectorAll('#ratings thead th')].map((node) => node.innerText)")
    assert heads[3:5] == ["Rating\n95% interval", "Rating at equal length\n95% interval"]
    cells = tab.js("[...document.querySelectorAll('#ratings tbody tr:first-child td')].map((node) => node.innerText)")
    first = board["models"][0]
    assert cells[2].startswith(f"{first['rating']:.0f}") and cells[3].startswith(
        f"{first['rating_length_controlled']:.0f}"
    )
    assert tab.js("document.querySelectorAll('#ratings .beside').length") == 3
    tab.js("document.querySelectorAll('#ratings .choices button')[1].click()")
    assert tab.js("document.querySelectorAll('#ratings thead th')[3].innerText").startswith("Rating at equal length")


def test_every_axis_has_a_label(opened, everything):
    tab = opened(*everything)
    labels = texts(tab, ".axis p")
    assert labels[0] == "RatingRating at equal length" and all(labels)
    assert "Win rate against the untouched answer" in labels
    wanted = {
        "length": ("mean length of the answers (characters)", "rating"),
        "confidence": ("predicted: P(B preferred)",),
    }
    wanted |= {"position": ("position bias (logits in favour of the second answer)", "battles")}
    for chart, axes in wanted.items():
        assert set(axes) <= set(texts(tab, f"#{chart} svg text")), chart
    assert "Win rate of the model in the row" in text(tab, "#pairs")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [{}, SMALL], ids=["wide", "small"])
def test_nothing_overflows_and_small_screens_keep_the_intervals(opened, everything, size, dark):
    tab = opened(*everything, dark=dark, **size)
    width = size.get("width", 1280)
    assert tab.js("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.panel')].filter((n) => n.scrollWidth > n.clientWidth)"
    assert tab.js(f"{wide}.map((n) => n.closest('section').id)") == []
    for section in ("#ratings", "#red-team"):
        shown = tab.js(f"[...document.querySelectorAll('{section} tbody .ends')].map((n) => n.offsetWidth)")
        intervals = [w for t, w in zip(texts(tab, f"{section} tbody .ends"), shown, strict=True) if t.startswith("[")]
        assert intervals and min(intervals) > 20, section
    assert not tab.troubles()


def test_answers_are_rendered_and_shown_as_written_on_request_and_stay_harmless(opened, tmp_path):
    said = {"Say {n}.": "# Title\n\n```js\nlet x = 1;\n```\n<img src=x onerror=window.hit=1> **bold** \u202egnitset"}
    files = [alpaca(tmp_path, name, {p: f"{a} {name}" for p, a in said.items()}) for name in ("heron", "ibis")]
    tab = opened(*run_of(files))
    side = "#battles .side .text"
    assert tab.js(f"document.querySelector('{side} .h1').innerText") == "Title"
    assert "mono" in tab.js(f"getComputedStyle(document.querySelector('{side} pre code')).fontFamily").lower()
    assert tab.js("document.querySelectorAll('img').length") == 0 and "<img src=x" in text(tab, side)
    assert tab.js(f"document.querySelector('{side} .control').dataset.code") == "U+202E"
    tab.js("document.querySelector('#battles .tags button').click()")
    assert "**bold**" in text(tab, f"{side} .raw") and tab.js("window.hit === undefined") and not tab.troubles()


def test_a_link_to_a_battle_opens_it(opened, everything):
    board, judged, red = everything
    verdict = judged.verdicts[7]
    pair = next(p for p in judged.battles.pairs if p.id == verdict.id)
    tab = opened(board, judged, red, anchor=f"#battle-{verdict.key}")
    assert pair.response_a in text(tab, "#battles article") and pair.prompt in text(tab, "#battles article .prompt")


def test_of_more_battles_than_fit_those_that_people_judged_stay(everything, monkeypatch):
    board, judged, _ = everything
    monkeypatch.setattr(board_page, "MOST_BATTLES", 5)
    few = replace(judged, labels=[1.0 if n in (3, 20) else None for n in range(24)])
    kept = board_page._browser(board, few, None)["battles"]
    assert sum(label is not None for label in kept["label"]) == 2 and len(kept["label"]) == 5
