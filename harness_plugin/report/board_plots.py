"""Pictures of a leaderboard: ratings with intervals, the win-rate matrix, length, position bias, reliability, attacks.

The same data as the charts of the page (`charts`), for slides and papers. Names of models are cut to one short line.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from harness_plugin.files.printable import one_line
from harness_plugin.report.chart_data import charts
from harness_plugin.report.drawing import BLUE, GREY, LONGEST, ROW, VERMILION, draw_dots, draw_shares, figure
from harness_plugin.report.numbers import number
from harness_plugin.scoring import Judgement

RATINGS, MATRIX, LENGTH, POSITION, RELIABILITY, RED_TEAM = FILES = (
    "ratings.png",
    "win_matrix.png",
    "length.png",
    "position_bias.png",
    "reliability.png",
    "red_team.png",
)


def pictures(board: dict, verdicts: Sequence[Judgement]) -> dict[str, Callable[[Path], None]]:
    """File name -> a function that draws it, for all that this leaderboard has something for."""
    rated = [m for m in board["models"] if m["rating"] is not None]
    data = charts(board, verdicts)
    drawings = {
        RATINGS: rated and partial(ratings, rated=rated, baseline=board["baseline"]),
        MATRIX: board["baseline"] is None and partial(matrix, board=board),
        LENGTH: data["length"] and partial(length, points=data["length"]),
        POSITION: data["position"] and partial(position, histogram=data["position"]),
        RELIABILITY: data["reliability"] and partial(reliability, bins=data["reliability"]),
        RED_TEAM: board["red_team"] and partial(attacks, red_team=board["red_team"]),
    }
    return {name: draw for name, draw in drawings.items() if draw}


def ratings(path: Path, rated: list[dict], baseline: str | None) -> None:
    """A PNG of the ratings with their 95% intervals, best on top."""
    with figure(path, 7.2, 1.3 + ROW * len(rated)) as drawn:
        axis = drawn.subplots()
        draw_dots(axis, [(m["model"], m["rating"], m["rating_low"], m["rating_high"]) for m in rated])
        axis.axvline(1000, color=GREY, linestyle="--", linewidth=1)
        what = "the baseline has 1000" if baseline is not None else "their mean is 1000"
        axis.set_xlabel(f"Bradley-Terry rating, 95% interval clustered by prompt ({what})")


def attacks(path: Path, red_team: dict) -> None:
    """A PNG of the attacked answers' win rates against the untouched ones."""
    rows = [(a["attack"], a["win_rate"], a["win_rate_low"], a["win_rate_high"]) for a in red_team["attacks"]]
    with figure(path, 7.2, 1.3 + ROW * len(rows)) as drawn:
        axis = drawn.subplots()
        draw_dots(axis, [row for row in rows if row[1] is not None])
        axis.axvline(0.5, color=GREY, linestyle="--", linewidth=1)
        axis.set(xlim=(-0.02, 1.02))
        axis.set_xlabel(f"win rate against {one_line(red_team['model'], LONGEST)}'s untouched answers, 95% interval")


def matrix(path: Path, board: dict) -> None:
    """A PNG of every model's win rate against every other, the better ranked first."""
    from matplotlib.colors import LinearSegmentedColormap

    names = [m["model"] for m in board["models"]]
    place, table = {name: k for k, name in enumerate(names)}, np.full((len(names), len(names)), np.nan)
    for h in board["head_to_head"]:
        a, b = place[h["model"]], place[h["other"]]
        table[a, b], table[b, a] = h["win_rate"], 1 - h["win_rate"]
    size = max(4.0, 1.8 + 0.42 * len(names))
    with figure(path, size + 1.2, size) as drawn:
        axis = drawn.subplots()
        colours = LinearSegmentedColormap.from_list("wins", [VERMILION, "white", BLUE])
        image = axis.imshow(table, cmap=colours, vmin=0, vmax=1)
        shown = [one_line(name, LONGEST) for name in names]
        axis.set_xticks(range(len(names)), shown, rotation=90)
        axis.set_yticks(range(len(names)), shown)
        axis.grid(visible=False)
        for a, b in zip(*np.nonzero(np.isfinite(table)), strict=True):
            if len(names) <= 25:
                axis.text(b, a, number(100 * table[a, b], 0), ha="center", va="center", fontsize=7)
        drawn.colorbar(image, ax=axis, shrink=0.7, label="win rate of the row against the column")


def length(path: Path, points: list[dict]) -> None:
    """A PNG of ratings against the mean length of the answers."""
    with figure(path, 7.2, 4.6) as drawn:
        axis = drawn.subplots()
        for point in points:
            if point["low"] is not None and point["high"] is not None:
                axis.vlines(point["x"], point["low"], point["high"], color=BLUE, linewidth=1.2, alpha=0.5)
            axis.plot(point["x"], point["y"], "o", color=BLUE, markersize=5)
            axis.annotate(
                one_line(point["name"], LONGEST),
                (point["x"], point["y"]),
                xytext=(6, 4),
                textcoords="offset points",
                fontsize=7,
            )
        axis.margins(x=0.15)
        axis.set_xlabel("mean length of the answers (characters)")
        axis.set_ylabel("rating")


def position(path: Path, histogram: dict) -> None:
    """A PNG of how many battles have which position bias."""
    counts = histogram["counts"]
    edges = np.linspace(histogram["low"], histogram["high"], len(counts) + 1)
    with figure(path, 5.6, 3.4) as drawn:
        axis = drawn.subplots()
        axis.bar(edges[:-1], counts, width=edges[1] - edges[0], align="edge", color=BLUE)
        axis.axvline(0, color=GREY, linestyle="--", linewidth=1)
        axis.axvline(histogram["mean"], color=VERMILION, linewidth=1.8, label="mean")
        axis.set_xlabel("position bias (logits in favour of the second answer)")
        axis.set_ylabel("battles")
        axis.legend(loc="best")


def reliability(path: Path, bins: list[dict]) -> None:
    """A PNG of predicted probabilities against the shares that people gave."""
    with figure(path, 4.6, 4.8) as drawn:
        axis = drawn.subplots()
        draw_shares(axis, [(b["predicted"], b["observed"], b["observed_low"], b["observed_high"]) for b in bins])
        axis.set_xlabel("predicted: P(B preferred), a tie counting one half")
        axis.set_ylabel("observed: share for B")
        axis.legend(loc="best")
