"""report.html: one page with everything in it, to look at a run and through its battles."""

from collections.abc import Sequence
from heapq import nsmallest

from harness_plugin import __version__
from harness_plugin.pairs import Pair, Text, text_length
from harness_plugin.report import board_words as words
from harness_plugin.report.chart_data import charts
from harness_plugin.report.html_page import assembled
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import keys_of
from harness_plugin.stats.multiple import ALPHA
from harness_plugin.tournament import Judged

LONGEST_TEXT = 20_000  # characters of an answer or prompt, and of all of them: a page of some MB opens at once
MOST_TEXT = 8_000_000
MOST_BATTLES = 20_000
LONGEST_NAME = 200
STYLES = ("base.css", "page.css")
SCRIPTS = ("dom.js", "markdown.js", "charts.js", "board.js", "battles.js", "page.js")
TRUNCATED, IDENTICAL = 1, 2  # flags of a battle


def page(board: dict, judged: Judged, attacked: Judged | None = None) -> str:
    """The page as HTML text. `judged`, `attacked`: battles and verdicts as for `write_run`."""
    title = words.title(board, _short)
    data = {"title": title, "version": __version__, **_figures(board, judged), **_browser(board, judged, attacked)}
    return assembled("page.html", title, STYLES, SCRIPTS, data)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"


def _figures(board: dict, judged: Judged) -> dict:
    """The leaderboard, its sentences, the data of the charts, and the level of its tests."""
    said = {
        "summary": words.summary(board, _short),
        "basis": words.basis(board),
        "power": words.power(board),
        "differences": words.differences(board),
        "length": " ".join(filter(None, [words.length(board), words.style(board)])),
        "position": words.position(board),
        "calibration": words.calibration(board),
        "agreement": words.agreement(board),
        "people": words.people(board),
        "red_team": words.red_team(board, _short),
        "warnings": words.warnings(board, _short),
        "left_out": words.left_out(board, judged.battles, _short),
    }
    return {
        "board": {k: v for k, v in board.items() if k != "missing_prompts"},
        "words": said,
        "alpha": ALPHA,
        "charts": charts(board, judged.verdicts),
    }


def _browser(board: dict, judged: Judged, attacked: Judged | None) -> dict:
    """Battles as columns, with the texts that they refer to by number; as many and as long as the page can carry."""
    several = [judged, attacked] if attacked else [judged]
    total = sum(len(one.verdicts) for one in several)
    rows = [row for one, kept in zip(several, _kept(several, total), strict=True) for row in _rows(one, kept)]
    models = [row["model"] for row in board["models"]]
    attacks = attacked.battles.models[1:] if attacked else []
    numbered = {name: k for k, name in enumerate(models)} | {name: len(models) + k for k, name in enumerate(attacks)}
    categories = {name: k for k, name in enumerate(sorted({pair.category for pair, *_ in rows if pair.category}))}
    texts: dict[Text, int] = {}
    columns = [_columns(*row, numbered, categories, texts) for row in rows]
    shown, whole = _cut(list(texts))
    return {
        "models": models,
        "attacks": attacks,
        "categories": list(categories),
        "total": total,
        "texts": shown,
        "whole": whole,
        "battles": {name: [c[name] for c in columns] for name in columns[0]},
    }


def _kept(several: Sequence[Judged], total: int) -> list[Sequence[int]]:
    """Which verdicts of each the page has: of too many those that people judged, and a draw of the others, whose keys
    are hashes of the texts."""
    if total <= MOST_BATTLES:
        return [range(len(one.verdicts)) for one in several]
    every = (
        (label is None, key, which, k)
        for which, one in enumerate(several)
        for k, (label, key) in enumerate(zip(one.labels, keys_of(one.verdicts), strict=True))
    )
    kept: list[list[int]] = [[] for _ in several]
    for *_, which, k in nsmallest(MOST_BATTLES, every):
        kept[which].append(k)
    return [sorted(numbers) for numbers in kept]


def _rows(judged: Judged, kept: Sequence[int]) -> list[tuple[Pair, Judgement, float | None]]:
    verdicts = [judged.verdicts[k] for k in kept]
    wanted = {v.id for v in verdicts}
    pairs = {
        id: meetings[k]
        for meetings in (judged.battles.pairs, judged.battles.identical)
        for k, id in enumerate(meetings.ids())
        if id in wanted
    }
    return [(pairs[v.id], v, judged.labels[k]) for k, v in zip(kept, verdicts, strict=True)]


def _columns(pair: Pair, v: Judgement, label, models: dict, categories: dict, texts: dict[Text, int]) -> dict:
    def number(text: Text) -> int:
        return texts.setdefault(text, len(texts))

    return {
        "a": models[pair.model_a],
        "b": models[pair.model_b],
        "prompt": number(pair.prompt),
        "ra": number(pair.response_a),
        "rb": number(pair.response_b),
        "pa": round(v.p_a, 4),
        "pb": round(v.p_b, 4),
        "score": round(v.score, 3),
        "bias": None if v.position_bias is None else round(v.position_bias, 3),
        "category": categories.get(pair.category, -1),
        "label": label,
        "key": v.key,
        "flags": TRUNCATED * v.truncated + IDENTICAL * v.identical,
    }


def _cut(texts: list[Text]) -> tuple[list[str | list[str]], dict[int, int]]:
    """The texts, long ones cut so that all fit; and by their number the characters of those that were cut."""
    lengths = [text_length(text) for text in texts]
    limit = min(LONGEST_TEXT, _share(lengths, MOST_TEXT))
    shown: list[str | list[str]] = []
    for text in texts:
        turns, left = [], limit
        for turn in [text] if isinstance(text, str) else text:
            turns.append(turn[:left])
            left -= len(turns[-1])
        shown.append(turns[0] if isinstance(text, str) else turns)
    return shown, {k: length for k, length in enumerate(lengths) if length > limit}


def _share(lengths: list[int], budget: int) -> int:
    """The longest piece that each text may have so that all pieces fit; short texts leave theirs to the long."""
    for k, length in enumerate(sorted(lengths)):
        if length * (len(lengths) - k) > budget:
            return budget // (len(lengths) - k)
        budget -= length
    return max(lengths, default=0)
