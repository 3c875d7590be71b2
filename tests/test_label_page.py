"""The page that people vote on, in a browser: votes by keys, resume, saved files, several people, hostile answers."""

import json
import time
from dataclasses import replace

import pytest
from browser import SMALL

from harness_plugin.label import Candidate, draw
from harness_plugin.label.design_file import design_hash
from harness_plugin.label.merge import read_votes
from harness_plugin.pairs import Pair
from harness_plugin.report.label_page import label_page

pytestmark = pytest.mark.slow


def design_of(pairs, n=100):
    candidates = sorted((Candidate(pair, 0.3, "0123456789abcdef") for pair in pairs), key=lambda c: c.key)
    return draw(candidates, n, seed=4)


def pair(n, prompt=None, a=None, b=None):
    texts = {
        "prompt": prompt or f"Question {n}?",
        "response_a": a or f"heron says {n}",
        "response_b": b or f"ibis says {n}",
    }
    return Pair(id=f"q{n}", model_a="heron-model", model_b="ibis-model", category="birds", **texts)


@pytest.fixture
def opened(tmp_path, chromium):
    """opened(pairs, **size) -> (page, design); each test has a design, and so a memory, of its own."""
    pages = []

    def opened(pairs, **size):
        design = design_of(pairs)
        file = tmp_path / f"label{len(pages)}.html"
        file.write_text(label_page(design), "utf-8")
        pages.append(chromium.open(file, **size))
        return pages[-1], design

    yield opened
    for page in pages:
        page.js("localStorage.clear()")
        page.close()


def begin(page, who="Ann"):
    page.js(f"document.querySelector('#name').value = {json.dumps(who)}; document.querySelector('form button').click()")


def text(page, selector="main"):
    return page.js(f"document.querySelector({json.dumps(selector)}).innerText")


def shown(page):
    """The texts of the answers on the left and on the right."""
    return page.js("[...document.querySelectorAll('.side .text')].map((side) => side.innerText)")


def press(page, keys):
    for key in keys:
        page.key(key)


def saved(page, folder, click="Save votes"):
    """The rows of the file that the page saves."""
    page.saves_into(folder)
    before = set(folder.iterdir())
    page.js(f"[...document.querySelectorAll('button')].find((b) => b.innerText.startsWith('{click}')).click()")
    for _ in range(600):
        new = [f for f in set(folder.iterdir()) - before if f.suffix == ".jsonl"]
        if new:
            return new[0], [json.loads(line) for line in new[0].read_text("utf-8").splitlines()]
        time.sleep(0.1)
    raise AssertionError("nothing was saved")


def test_voting_by_keys_gives_a_file_that_every_command_reads(opened, tmp_path):
    page, design = opened([pair(n) for n in range(6)])
    assert "Your name" in text(page) and "Question" not in text(page)
    begin(page)
    assert "Your name" not in text(page) and "Question" in text(page)
    order, left = [place.pair for place in design.drawn], []
    for key in "abtns":
        left.append(shown(page)[0])
        page.key(key)
    assert "Battle 6 of 6, 5 done" in text(page, "#progress")
    (tmp_path / "saved").mkdir()
    file, rows = saved(page, tmp_path / "saved")
    assert file.name == f"votes-{design_hash(design)}-Ann.jsonl" and [r["id"] for r in rows] == [
        p.id for p in order[:5]
    ]
    for place, row, seen, key in zip(design.drawn, rows, left, "abtns", strict=False):
        first, second = ("a", "b") if place.first == "a" else ("b", "a")
        assert seen == row[f"response_{first}"] and row["first"] == first
        expected = {"a": f"model_{first}", "b": f"model_{second}", "t": "tie", "n": "tie", "s": None}[key]
        assert row["winner"] == expected and row["both_bad"] == (key == "n") and row["skipped"] == (key == "s")
        assert (row["annotator"], row["sampling_probability"], row["stratum"]) == ("Ann", place.probability, 1)
        assert (row["design"], row["design_seed"], row["design_kind"]) == (design_hash(design), 4, "uniform")
    votes = read_votes(str(file))
    assert [vote.pair.key for vote in votes] == [p.key for p in order[:5]] and votes[0].pair.model_a == "heron-model"
    assert not page.troubles()


def test_neither_models_nor_verdicts_are_shown(opened):
    page, _ = opened([pair(n) for n in range(2)])
    begin(page)
    for _ in range(3):
        words = page.js("document.documentElement.innerText + document.title")
        assert "-model" not in words and "birds" not in words and "0.3" not in words
        page.key("a")
    assert "0.3" not in page.js("document.querySelector('#data').textContent"), "the verdict is not even in the data"


def test_back_shows_the_vote_and_another_one_replaces_it(opened, tmp_path):
    page, _ = opened([pair(n) for n in range(3)])
    begin(page)
    press(page, ["a", "a", "u", "Backspace"])
    assert page.js("document.querySelector('#votes [aria-pressed=true]').innerText").startswith("A is better")
    assert page.js("document.querySelectorAll('.side.chosen').length") == 1
    page.key("t")
    assert "Battle 3 of 3" in text(page, "#progress"), "on to the first battle without a vote"
    _, rows = saved(page, tmp_path)
    assert rows[0]["winner"] == "tie" and len(rows) == 2


def test_a_reload_goes_on_where_it_was_and_each_person_has_their_own_votes(opened):
    page, _ = opened([pair(n) for n in range(4)])
    begin(page)
    press(page, "ab")
    page.reload()
    assert "Battle 3 of 4, 2 done" in text(page, "#progress") and "Ann" in text(page, "#tools")
    page.js("[...document.querySelectorAll('#tools button')].find((b) => b.innerText === 'Change').click()")
    press(page, "ab")
    begin(page, "Bob")
    assert "Battle 1 of 4, 0 done" in text(page, "#progress"), "keys that are typed into the name are no votes"
    page.key("n")
    page.js("[...document.querySelectorAll('#tools button')].find((b) => b.innerText === 'Change').click()")
    begin(page, "Ann")
    assert "Battle 3 of 4, 2 done" in text(page, "#progress")


def test_ids_that_are_names_of_every_object_are_ids_like_any_other(opened, tmp_path):
    names = ("constructor", "__proto__", "toString")
    page, _ = opened([replace(pair(n), id=name) for n, name in enumerate(names)])
    begin(page)
    assert "Battle 1 of 3, 0 done" in text(page, "#progress")
    press(page, "abt")
    assert "3 of 3 done" in text(page, "#progress") and not page.troubles()
    (tmp_path / "saved").mkdir()
    assert sorted(row["id"] for row in saved(page, tmp_path / "saved")[1]) == sorted(names)


def test_votes_of_another_tab_are_kept(opened, chromium):
    page, design = opened([pair(n) for n in range(3)])
    begin(page)
    page.key("a")
    other = json.dumps({design.drawn[1].pair.id: "bad"} | {design.drawn[0].pair.id: "left"})
    page.js(f"localStorage.setItem('arena-rm label {design_hash(design)} Ann', {json.dumps(other)})")
    page.js("document.querySelector('#votes .apart').click()")  # skips the second, which the other tab judged
    assert "2 done" in text(page, "#progress")
    page.reload()
    assert "Battle 3 of 3, 2 done" in text(page, "#progress")


def test_a_saved_file_is_read_again_and_other_files_are_refused(opened, tmp_path):
    pairs = [pair(n) for n in range(3)]
    page, _ = opened(pairs)
    begin(page)
    press(page, "ba")
    file, rows = saved(page, tmp_path)
    page.js("localStorage.clear()")
    page.reload()
    page.choose("#file", file)
    page.js("new Promise((done) => setTimeout(done, 200))")
    assert "Battle 3 of 3, 2 done" in text(page, "#progress") and "2 votes were read" in text(page, "#message")
    (tmp_path / "again").mkdir()
    _, again = saved(page, tmp_path / "again")
    assert again == rows
    bad = {
        "no JSON": ("{", "is not a file that this page saved"),
        "another design": (json.dumps(rows[0] | {"design": "x"}), "holds no votes on the battles of this page"),
        "another person": (json.dumps(rows[0] | {"annotator": "<img src=x onerror=alert(1)>"}), "and you are Ann"),
        "null": ("null", "holds no votes"),
    }
    for name, (content, said) in bad.items():
        (tmp_path / f"{name}.jsonl").write_text(content, "utf-8")
        page.choose("#file", tmp_path / f"{name}.jsonl")
        page.js("new Promise((done) => setTimeout(done, 200))")
        assert said in text(page, "#message"), name
    assert not page.troubles()


def test_the_end_counts_and_offers_the_skipped_ones(opened):
    page, _ = opened([pair(n) for n in range(3)])
    begin(page)
    press(page, "stn")
    assert (
        "That was the last one" in text(page) and "Skipped" in text(page) and "3 of 3 done" in text(page, "#progress")
    )
    page.js("[...document.querySelectorAll('#end button')].find((b) => b.innerText.startsWith('Look')).click()")
    page.key("a")
    assert "Skipped" not in text(page, "#end") and "Look at" not in text(page, "#end")
    press(page, "atb")
    assert "A or B is better" in text(page, "#end"), "keys do not vote at the end"


HOSTILE = """<script>window.hit = 1</script> <img src=x onerror="window.hit = 1"> [click](javascript:window.hit=1)
![pixel](https://evil.example/x.png) <style>body { display: none }</style> \u202eright to left\u202c and \u0007 bell
</script><script>window.hit = 1</script> <!-- {{data}} {{script}} <iframe src="https://evil.example"></iframe>

```html"><script>window.hit = 1</script>
<b>code</b>
```
| <img src=x onerror=alert(1)> | b |
|---|---|
| [x](https://evil.example "t") | <svg onload=alert(1)> |
"""


def test_a_hostile_answer_does_nothing(opened):
    page, _ = opened([pair(0, prompt=HOSTILE, a=HOSTILE, b="**kind**")])
    begin(page, "<script>window.hit = 1</script>")
    page.js("new Promise((done) => setTimeout(done, 300))")
    for _ in range(2):  # rendered, then as it is written
        assert page.js("window.hit === undefined && document.querySelectorAll('script').length === 2")
        inside = "img, iframe, svg, style, a, script, link, object, form"
        assert page.js(f"document.querySelectorAll('#battle :is({inside})').length") == 0
        assert "<script>window.hit = 1</script>" in text(page, "#battle") and "https://evil.example" in text(
            page, "#battle"
        )
        codes = page.js("[...document.querySelectorAll('#battle .control')].map((c) => c.dataset.code)")
        assert {"U+202E", "U+202C", "U+0007"} == set(codes), "what turns or hides text is named"
        page.key("m")
    assert not page.troubles(), "no request, no error, no dialog"


MARKDOWN = """# Title #
Some *soft* and **strong** and ***both***, `code * here` and 2 * 3 * 4, snake_case_name, ~~gone~~.
1. one
   - inner
   - more
2. two

> quoted
> **on**

```python
def f(x):
    return x ** 2
```

| a | b |
|:--|--:|
| 1 | x \\| y |

[text](https://example.org) and \\(a_1 + b_1\\) and \\*no*
---
5. five"""


def test_markdown_is_rendered_and_shown_as_written_on_request(opened):
    page, _ = opened([pair(0, prompt="p", a=MARKDOWN, b=MARKDOWN)])
    begin(page)
    queries = {"h": ".h1", "em": "em", "strong": "strong", "code": "p code", "pre": "pre", "inner": "ol > li > ul > li"}
    queries |= {"quote": "blockquote", "del": "del", "cells": "td", "link": ".link", "rules": "hr"}
    within = "[...document.querySelector('.side .markdown').querySelectorAll({})]"
    found = {k: page.js(f"{within.format(json.dumps(q))}.map((node) => node.innerText)") for k, q in queries.items()}
    starts = page.js(f"{within.format(json.dumps('ol'))}.map((list) => list.start)")
    font = page.js(f"getComputedStyle({within.format(json.dumps('pre code'))}[0]).fontFamily")
    assert found["h"] == ["Title"] and found["em"] == ["soft", "both"] and found["strong"] == ["strong", "both", "on"]
    assert (
        found["code"] == ["code * here"] and found["pre"] == ["def f(x):\n    return x ** 2"] and "mono" in font.lower()
    )
    assert found["inner"] == ["inner", "more"] and starts == [1, 5] and found["quote"] == ["quoted\non"]
    assert found["del"] == ["gone"] and found["cells"] == ["1", "x | y"] and len(found["rules"]) == 1
    assert found["link"] == ["text (https://example.org)"]
    words = text(page, ".side")
    assert "2 * 3 * 4, snake_case_name" in words and "\\(a_1 + b_1\\)" in words and "*no*" in words
    page.key("m")
    assert text(page, ".side .raw") == MARKDOWN and page.js("document.querySelector('.markdown')") is None


LONG = {  # of 60,000 characters, or longer and shown as it is written
    "stars": "*a " * 20_000,
    "closing stars": "*a" * 10_000 + "* b" * 10_000,
    "brackets": "[" * 30_000 + "](x" * 10_000,
    "quotes": "> " * 30_000,
    "ticks": "".join("`" * (k % 300 + 1) + " " for k in range(390)),
    "dashes": "a | b\n" + "-" * 59_000 + "x",
    "lists": "\n".join(" " * (k % 40) + "- x" for k in range(2_500)),
    "blank lines": "- x" + "\n" * 59_000 + "y",
    "table": "|" + "a|" * 39 + "\n|" + "-|" * 39 + "\n" + ("|" * 70 + "\n") * 800,
    "backslashes": "\\" * 59_000,
    "longer": "*a " * 500_000,
}


@pytest.mark.parametrize("kind", LONG)
def test_no_text_takes_long_to_render(opened, kind):
    page, _ = opened([pair(0, a=LONG[kind]), pair(1)])
    started = time.monotonic()
    begin(page)
    page.key("a")
    page.key("u")
    assert time.monotonic() - started < 10 and "Battle 1 of 2" in text(page, "#progress") and not page.troubles()


def test_a_conversation_is_shown_turn_by_turn(opened):
    turns = Pair(("First?", "Second?"), ("one", "two"), ("uno", "dos"), id="t")
    context = Pair(("Earlier.", "Asked?"), "yes", "no", id="c")
    page, design = opened([turns, context])
    begin(page)
    for place in design.drawn:
        rounds = page.js("[...document.querySelectorAll('.round')].map((r) => r.innerText)")
        if place.pair.id == "t":
            assert len(rounds) == 2 and "First?" in rounds[0] and "dos" in rounds[1] and "one" not in rounds[1]
        else:
            assert len(rounds) == 1 and "Earlier." in rounds[0] and "Asked?" in rounds[0] and "yes" in rounds[0]
        page.key("a")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [{}, SMALL], ids=["wide", "small"])
def test_nothing_is_wider_than_the_screen_and_text_can_be_read(opened, dark, size):
    page, _ = opened(
        [pair(0, a="word " * 300 + "x" * 400 + "\n```\n" + "y " * 300 + "\n```", b=MARKDOWN)], dark=dark, **size
    )
    begin(page)
    width = size.get("width", 1280)
    assert page.js("document.documentElement.scrollWidth") <= width
    sides = page.js("[...document.querySelectorAll('.side')].map((s) => s.getBoundingClientRect().left)")
    assert (sides[0] == sides[1]) == bool(size), "side by side, one above the other on a small screen"
    ink, paper = (
        page.js(f"getComputedStyle(document.querySelector('.side'))['{p}']") for p in ("color", "backgroundColor")
    )
    light = [sum(map(int, c[c.index("(") + 1 : -1].split(",")[:3])) for c in (ink, paper)]
    assert (light[0] > light[1]) == dark and abs(light[0] - light[1]) > 400
    bar = page.js(
        "(({top, bottom, width}) => [top, bottom, width])(document.querySelector('#votes').getBoundingClientRect())"
    )
    assert bar[1] <= 900 and bar[2] <= width
