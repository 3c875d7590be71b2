"""report.html as a file: everything is in it, nothing in it can become code, and it stays of a size that opens.
`test_report_browser` looks at it in a browser."""

import base64
import hashlib
import json
import random
import re
from pathlib import Path

import pytest
from tournament_rows import HOSTILE, alpaca, answers_of, run_of, three_files

from harness_plugin.report import board_page, html_page, label_page
from harness_plugin.report.judge_folder import write_run

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "harness_plugin" / "report" / "assets"
SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)


def data_in(text):
    return json.loads(SCRIPT.findall(text)[0])


@pytest.fixture
def files(tmp_path):
    return three_files(tmp_path)


def test_the_page_is_whole_and_its_policy_lets_nothing_run_but_its_own_script(files):
    text = board_page.page(*run_of(files))
    data, script = SCRIPT.findall(text)
    assert "{{" not in text.replace(data, "") and text.count("<script") == 2 and text.count("<style>") == 1
    assert set(re.findall(r"https?://[^\s\"'`]+", text)) == {"http://www.w3.org/2000/svg"}, "a name, not an address"
    assert not re.search(r"\bsrc=|@import|url\(|<link|<iframe|<object", text.replace(data, ""))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    for kind, part in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy


def test_the_page_holds_the_leaderboard_and_every_battle_with_its_texts(files):
    board, judged = run_of(files)
    data = data_in(board_page.page(board, judged))
    assert data["board"] == {k: v for k, v in board.items() if k != "missing_prompts"} and data["total"] == 24
    columns = data["battles"]
    assert {len(column) for column in columns.values()} == {24} and data["models"] == [
        m["model"] for m in board["models"]
    ]
    pairs = {p.id: p for p in judged.battles.pairs}
    for k, v in enumerate(judged.verdicts):
        p = pairs[v.id]
        assert [data["texts"][columns[c][k]] for c in ("prompt", "ra", "rb")] == [p.prompt, p.response_a, p.response_b]
        assert [data["models"][columns[c][k]] for c in "ab"] == [p.model_a, p.model_b]
        assert columns["pb"][k] == pytest.approx(v.p_b, abs=1e-4) and columns["key"][k] == v.key
    assert len(data["texts"]) == 8 + 3 * 8, "an answer that meets two others is there once"


def test_the_same_run_gives_the_same_page(tmp_path, files):
    assert board_page.page(*run_of(files)) == board_page.page(*run_of(files[::-1]))


@pytest.mark.parametrize("seed", range(5))
def test_embedded_json_is_the_same_value_and_has_no_character_of_html(seed):
    rng = random.Random(seed)
    odd = [
        "<",
        ">",
        "&",
        "</script>",
        "<!--",
        "]]>",
        "\u2028",
        "\u2029",
        "\0",
        "\ud800",
        "\udfff",
        "\ufeff",
        "\u202e",
        "é",
        "😀",
        "\\u003c",
        "\x7f",
        "\x85",
        "\uffff",
        '"',
        "\\",
        "\n",
        "\r",
        "{{data}}",
        "'",
    ]
    texts = ["".join(rng.choices(odd, k=rng.randint(0, 30))) for _ in range(200)]
    value = {"texts": texts, texts[0]: [1.5, None, True]}
    text = html_page.embedded(value)
    assert json.loads(text) == json.loads(json.dumps(value)) and not set(text) & set("<>&\u2028\u2029\ufeff\u202e")
    assert text.encode("utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        html_page.embedded([float("nan")])


def test_answers_that_look_like_the_pages_own_places_or_scripts_stay_data(tmp_path):
    said = {"{{data}}": "</script><script>alert(1)</script>", "p": "{{script}} {{nothing}} <!-- <script>"}
    files = [alpaca(tmp_path, name, {p: f"{a} {name[:9]}" for p, a in said.items()}, dataset=name) for name in HOSTILE]
    text = board_page.page(*run_of(files))
    assert text.count("<script") == 2 == text.count("</script>")
    data = data_in(text)
    assert set(data["models"]) == set(HOSTILE) and "{{data}}" in data["texts"]
    assert "</script><script>alert(1)</script> a|b" in data["texts"]
    title = re.search(r"<title>(.*?)</title>", text)[1]
    assert title == "Leaderboard: 22 models, round robin"
    named = board_page.page(*run_of(files, "<script>alert(1)</script>"))
    assert "<title>Leaderboard: 22 models, against &lt;script&gt;alert(1)&lt;/script&gt;</title>" in named


def test_long_texts_are_cut_with_a_note_of_their_length_and_the_page_stays_small(tmp_path):
    files = [
        alpaca(tmp_path, name, {f"p{n}": f"{name} {n} " + "long " * 200_000 for n in range(3)})
        for name in ("heron", "ibis")
    ]
    text = board_page.page(*run_of(files))
    data = data_in(text)
    assert len(text) < 400_000 and set(data["whole"].values()) == {8 + 10**6, 7 + 10**6} and len(data["whole"]) == 6
    for k, text in enumerate(data["texts"]):
        assert len(text) == board_page.LONGEST_TEXT if str(k) in data["whole"] else text.startswith("p")


def test_many_texts_share_the_room_and_short_ones_stay_whole(files, monkeypatch):
    monkeypatch.setattr(board_page, "MOST_TEXT", 900)
    data = data_in(board_page.page(*run_of(files)))
    lengths = [len(text) for text in data["texts"]]
    assert 800 < sum(lengths) <= 900 and data["whole"]
    cut = {len(data["texts"][int(k)]) for k in data["whole"]}
    assert len(cut) == 1 and max(lengths) == cut.pop()


def test_room_is_shared_as_water_fills_a_vessel():
    rng = random.Random(7)
    for _ in range(300):
        lengths = [rng.randint(0, 40) for _ in range(rng.randint(1, 12))]
        room = rng.randint(0, 300)
        limit = board_page._share(lengths, room)
        assert sum(min(n, limit) for n in lengths) <= room or sum(lengths) <= room
        assert limit >= max(lengths) or sum(min(n, limit + 1) for n in lengths) > room, "and one more would not fit"
    assert board_page._share([], 10) == 0


def test_a_conversation_is_cut_across_its_turns(monkeypatch):
    monkeypatch.setattr(board_page, "LONGEST_TEXT", 10)
    shown, whole = board_page._cut([("seven..", "seven..", "seven.."), "short", "exactly 10"])
    assert shown == [["seven..", "sev", ""], "short", "exactly 10"] and whole == {0: 21}


def test_of_more_battles_than_a_page_carries_a_draw_is_shown_and_the_total_said(files, monkeypatch):
    monkeypatch.setattr(board_page, "MOST_BATTLES", 10)
    board, judged = run_of(files)
    data = data_in(board_page.page(board, judged))
    keys = sorted(v.key for v in judged.verdicts)[:10]
    assert sorted(data["battles"]["key"]) == keys and data["total"] == 24
    position, confidence = (data["charts"][name] for name in ("position", "confidence"))
    assert sum(position["counts"]) == 24 == sum(confidence["counts"]), "the charts are of all battles"


def test_one_battle_of_equal_answers_makes_a_page(tmp_path):
    files = [alpaca(tmp_path, name, {"p": "same"}) for name in ("heron", "ibis")]
    data = data_in(board_page.page(*run_of(files)))
    assert data["battles"]["flags"] == [board_page.IDENTICAL] and data["battles"]["bias"] == [None]
    assert data["charts"]["position"] is None


@pytest.mark.parametrize("file", sorted(ASSETS.glob("*.js")), ids=lambda f: f.name)
def test_no_script_parses_markup_or_text_as_code(file):
    text = file.read_text("utf-8")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "DOMParser",
        "createContextualFragment",
        "srcdoc",
        "fetch(",
        "XMLHttpRequest",
        "import(",
        'setAttribute("on',
    ):
        assert word not in text, word


def test_every_asset_is_part_of_the_page_and_of_the_package():
    named = {html_page.DOCUMENT, "page.html", "label.html"}.union(
        *(p.STYLES + p.SCRIPTS for p in (board_page, label_page))
    )
    assert {f.name for f in ASSETS.iterdir()} == named
    assert "report/assets/*" in (ROOT / "setup.cfg").read_text("utf-8")


def test_a_name_of_any_length_leaves_a_title_of_one_line(tmp_path):
    files = [alpaca(tmp_path, name, answers_of(name)) for name in ("w" * 3000, "ibis")]
    board, judged = run_of(files, "w" * 3000)
    (tmp_path / "out").mkdir()
    write_run(tmp_path / "out", board, judged, pictures=False)
    title = re.search(r"<title>(.*?)</title>", (tmp_path / "out" / "report.html").read_text("utf-8"))[1]
    assert len(title) < 250 and title.endswith("…")
