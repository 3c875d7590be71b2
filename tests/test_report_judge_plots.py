"""Pictures: the right numbers in the right places, the same bytes every time, and a clear word without matplotlib."""

import logging
import math
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tiny

from harness_plugin.errors import DataError
from harness_plugin.model.calibration import Calibration
from harness_plugin.report import drawing, judge_plots
from harness_plugin.scoring.fit_calibration import calibration_loss
from harness_plugin.scoring.probabilities import log_probabilities
from harness_plugin.stats import wilson

pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[1]
BLUE, VERMILION = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
HISTORY = [
    {"step": 10, "epoch": 0.5, "loss": 0.9, "learning_rate": 2e-4},
    {"step": 10, "epoch": 0.5, "eval_loss": 0.7, "eval_accuracy": 0.6},
    {"step": 20, "epoch": 1.0, "loss": 0.5},
    {"step": 20, "epoch": 1.0, "eval_loss": 0.6, "eval_accuracy": 0.75},
    {"step": 30, "epoch": 1.5, "loss": 0.2},
    {"step": 30, "epoch": 1.5, "eval_loss": 0.65, "eval_accuracy": 0.7},
]


def chunks(file):
    """(name, content) of every chunk of a PNG, its checksums checked."""
    data = file.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, []
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + content)
        found.append((name.decode(), content))
        at += 12 + size
    assert at == len(data) and found[-1][0] == "IEND"
    return found


def colours(file):
    """How often each colour stands in the picture."""
    from PIL import Image

    picture = Image.open(file).convert("RGB")
    return {colour: count for count, colour in picture.getcolors(picture.width * picture.height)}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written, as matplotlib holds them."""
    from matplotlib.figure import Figure

    figures, real = [], Figure.savefig

    def savefig(self, *args, **more):
        figures.append(self)
        return real(self, *args, **more)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def judged(n=200, seed=0):
    """Probabilities, outcomes that happen as often as they say, and prompts of two pairs each."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p, (rng.random(n) < p).astype(float), [f"prompt {i // 2}" for i in range(n)]


def line(axis, label):
    (found,) = [one for one in axis.lines if one.get_label().startswith(label)]
    return list(found.get_xdata()), list(found.get_ydata())


# Reliability


def test_a_reliability_diagram_is_a_png_with_something_in_it_and_nothing_that_changes_with_the_day(tmp_path):
    p, y, clusters = judged()
    judge_plots.reliability(tmp_path / "r.png", p, y, "A judge", clusters)
    found = chunks(tmp_path / "r.png")
    assert struct.unpack(">II", found[0][1][:8]) == (552, 708)
    assert {name for name, _ in found} == {"IHDR", "pHYs", "IDAT", "IEND"}, "no text and no time in the file"
    seen = colours(tmp_path / "r.png")
    assert seen[BLUE] > 500 and seen[255, 255, 255] > 100_000 and len(seen) > 20
    judge_plots.reliability(tmp_path / "two.png", {"before": p, "after": p**2}, y, "A judge", clusters)
    assert struct.unpack(">II", chunks(tmp_path / "two.png")[0][1][:8]) == (1080, 708)


def test_the_points_are_the_means_of_equal_counts_with_wilson_intervals(tmp_path, drawn):
    p = np.repeat([0.1, 0.35, 0.8], 10)
    y = np.concatenate([[1] * 2 + [0] * 8, [0.5] * 10, [1] * 9 + [0]])
    order = np.random.default_rng(1).permutation(30)
    judge_plots.reliability(tmp_path / "r.png", p[order], y[order], "t")
    top, bottom = drawn[0].axes
    x, shares = line(top, "bin of pairs")
    assert x == pytest.approx([0.1, 0.35, 0.8]) and shares == pytest.approx([0.2, 0.5, 0.9])
    assert line(top, "perfectly calibrated") == ([0, 1], [0, 1])
    (intervals,) = [c for c in top.collections if c.get_label() == "95% interval"]
    bars = [segment.tolist() for segment in intervals.get_segments()]
    assert [bar[0][0] for bar in bars] == pytest.approx([0.1, 0.35, 0.8])
    # Wilson's formula on the size that ten values are worth: (z / t with 9 degrees)^2 of p (1 - p) / SE^2 = 9
    size = 9 * (1.959964 / 2.262157) ** 2
    low, high = wilson(0.2 * size, size)
    assert (bars[0][0][1], bars[0][1][1]) == pytest.approx((low, high), abs=1e-5)
    assert top.get_title() == "3 bins of 10 pairs"
    counts = [patch.get_height() for patch in bottom.patches]
    assert sum(counts) == 30 and [n for n in counts if n] == [10, 10, 10]


def test_pairs_of_one_prompt_make_wider_intervals_and_one_prompt_alone_makes_none(tmp_path, drawn):
    p, y = np.full(40, 0.5), np.repeat([1.0, 0.0, 1.0, 1.0], 10)
    for clusters in (None, np.repeat(["a", "b", "c", "d"], 10), ["same"] * 40):
        judge_plots.reliability(tmp_path / "r.png", p, y, "t", clusters)
    ends = [[y for segment in f.axes[0].collections[0].get_segments() for _, y in segment] for f in drawn]
    assert np.diff(ends[1]) > 1.5 * np.diff(ends[0])
    assert not np.isfinite(ends[2]).any()
    assert line(drawn[2].axes[0], "bin of pairs")[1] == [0.75]


@pytest.mark.parametrize(
    ("n", "title"),
    [(1, "1 bin of 1 pairs"), (19, "1 bin of 19 pairs"), (25, "bins of 12, 13 pairs"), (1000, "10 bins of 100 pairs")],
)
def test_fewer_pairs_make_fewer_bins_and_each_says_its_n(tmp_path, drawn, n, title):
    p, y, _ = judged(n)
    judge_plots.reliability(tmp_path / "r.png", p, y, "t")
    assert drawn[0].axes[0].get_title() == title


def test_a_calibration_is_shown_before_and_after_with_ties_as_halves(tmp_path, drawn):
    rng = np.random.default_rng(2)
    s = rng.normal(0, 3, 60)
    target = np.eye(3)[np.where(rng.random(60) < 0.3, 2, s > 0)]
    fitted = Calibration(2.5, 0.7)
    judge_plots.calibration(tmp_path / "c.png", s, target, fitted, "mine on pairs.jsonl", [f"{i}" for i in range(60)])
    before, after = drawn[0].axes[:2]
    assert drawn[0].get_suptitle() == "mine on pairs.jsonl"
    for axis, c, start in ((before, Calibration(1.0, 0.7), "before: temperature 1,"), (after, fitted, "after: temp")):
        p = np.exp(log_probabilities(s, c))
        x, shares = line(axis, "bin of pairs")
        assert np.mean(x) == pytest.approx((p[:, 1] + p[:, 2] / 2).mean())
        assert np.mean(shares) == pytest.approx((target[:, 1] + target[:, 2] / 2).mean())
        assert axis.get_title().startswith(start)
        assert f"log loss {calibration_loss(s, target, c):.4f}\n" in axis.get_title()
    assert max(line(before, "bin")[0]) > max(line(after, "bin")[0]), "a temperature above 1 makes a judge less sure"


GOOD = [0.2, 0.4], [1.0, 0.0]


@pytest.mark.parametrize(
    ("probability", "outcome", "clusters", "said"),
    [
        ([0.2, math.nan], GOOD[1], None, "1 of 2 values of probability are not between 0 and 1 (such as nan)"),
        ([0.2, 1.01], GOOD[1], None, "such as 1.01"),
        (GOOD[0], [0.5, -1], None, "values of outcome"),
        (GOOD[0], [1.0], None, "probability of shape (2,); the shape (1,) was expected"),
        ([], [], None, "outcome of shape (0,)"),
        ({"a": GOOD[0], "b": [0.1]}, GOOD[1], None, "probability of shape (1,)"),
        ([GOOD[0]], [GOOD[1]], None, "outcome of shape (1, 2)"),
        (*GOOD, ["a"], "1 clusters for 2 outcomes"),
    ],
)
def test_numbers_that_are_none_make_no_picture(tmp_path, probability, outcome, clusters, said):
    with pytest.raises(DataError) as error:
        judge_plots.reliability(tmp_path / "r.png", probability, outcome, "t", clusters)
    assert said in str(error.value) and "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_rounding_does_not_make_a_probability_wrong_or_leave_it_out(tmp_path, drawn):
    judge_plots.reliability(tmp_path / "r.png", [1 + 2e-16, -2e-16], GOOD[1], "t")
    assert sum(patch.get_height() for patch in drawn[0].axes[1].patches) == 2


@pytest.mark.parametrize(
    "title",
    ["costs $5 and $x_", r"half a formula $\nothing{ $", "a\nb\x00c", "wide " * 90, "判断 الحكم", "", r"\frac{1}{2}"],
)
def test_any_title_is_drawn_as_it_stands_on_one_line(tmp_path, drawn, title):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge_plots.reliability(tmp_path / "r.png", {title: GOOD[0]}, GOOD[1], title)
    shown = drawn[0].get_suptitle()
    assert "\n" not in shown and len(shown) <= 60 and shown[:10] == title.replace("\n", " ").replace("\x00", " ")[:10]


# Curves


def test_curves_hold_every_point_of_the_history_and_mark_the_weights_that_are_kept(tmp_path, drawn):
    judge_plots.curves(tmp_path / "c.png", [{**row, "step": float(row["step"])} for row in HISTORY[::-1]])
    losses, accuracy = drawn[0].axes
    assert line(losses, "training") == ([10, 20, 30], [0.9, 0.5, 0.2])
    assert line(losses, "validation") == ([10, 20, 30], [0.7, 0.6, 0.65])
    assert line(accuracy, "validation") == ([10, 20, 30], [0.6, 0.75, 0.7])
    assert line(accuracy, "chance")[1] == [0.5, 0.5]
    for axis in (losses, accuracy):
        assert [20, 20] in [list(one.get_xdata()) for one in axis.lines]
    assert "0.6000 at step 20 (dotted)" in losses.get_title(loc="left")
    assert chunks(tmp_path / "c.png")[0][1][:8] == struct.pack(">II", 864, 672)
    seen = colours(tmp_path / "c.png")
    assert seen[BLUE] > 300 and seen[VERMILION] > 100


def test_values_that_are_not_finite_are_left_out_and_counted(tmp_path, drawn):
    history = [*HISTORY, {"step": 40, "loss": math.nan, "eval_loss": None, "eval_accuracy": math.inf}]
    judge_plots.curves(tmp_path / "c.png", history)
    for axis, label in zip(drawn[0].axes * 2, ("training", "validation", "validation"), strict=False):
        assert line(axis, f"{label} (1 not finite, left out)")[0] == [10, 20, 30]


def test_what_was_not_measured_has_no_axis(tmp_path, drawn):
    judge_plots.curves(tmp_path / "c.png", [{"step": 1, "loss": 2.7}])
    judge_plots.curves(tmp_path / "c.png", [{"step": 1, "eval_loss": 0.7}])
    assert [len(figure.axes) for figure in drawn] == [1, 1]
    assert line(drawn[0].axes[0], "training") == ([1], [2.7])


@pytest.mark.parametrize("history", [[], [{"step": 1, "learning_rate": 0.1}], [{"step": 1, "loss": math.nan}]])
def test_a_history_without_a_loss_is_no_curve(tmp_path, history):
    with pytest.raises(DataError, match="no loss in"):
        judge_plots.curves(tmp_path / "c.png", history)
    assert not list(tmp_path.iterdir())


# Files


def test_the_same_numbers_give_the_same_bytes_and_others_do_not(tmp_path):
    p, y, clusters = judged()
    for name, start in (("one", 0), ("two", 0), ("other", 1)):
        judge_plots.reliability(tmp_path / f"r-{name}", np.maximum(p, start * 0.3), y, "t", clusters)
        judge_plots.curves(tmp_path / f"c-{name}", HISTORY[start:])
    for kind in "rc":
        one, two, other = ((tmp_path / f"{kind}-{name}").read_bytes() for name in ("one", "two", "other"))
        assert one == two != other


def run_python(code, **env):
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return done


def test_a_users_own_settings_change_nothing_and_are_not_changed(tmp_path):
    judge_plots.curves(tmp_path / "here.png", HISTORY)
    (tmp_path / "matplotlibrc").write_text("font.size: 25\nsavefig.dpi: 30\ntext.usetex: True\naxes.facecolor: red\n")
    code = f"""
import matplotlib
from harness_plugin.report import judge_plots
before = matplotlib.rcParams.copy()
assert before["font.size"] == 25
judge_plots.curves({str(tmp_path / "there.png")!r}, {HISTORY!r})
assert matplotlib.rcParams.copy() == before
assert not {{"matplotlib.pyplot", "torch", "transformers", "pandas"}} & set(sys.modules)
"""
    run_python(code, MPLCONFIGDIR=str(tmp_path), HOME=str(tmp_path), PATH="")
    assert (tmp_path / "there.png").read_bytes() == (tmp_path / "here.png").read_bytes()


def test_a_picture_that_fails_leaves_the_old_one_and_no_rubbish(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def half(self, out, **more):
        out.write(b"\x89PNG half")
        raise RuntimeError("the lights went out")

    file = tmp_path / "c.png"
    judge_plots.curves(file, HISTORY)
    old = file.read_bytes()
    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(RuntimeError):
        judge_plots.curves(file, HISTORY)
    assert file.read_bytes() == old and list(tmp_path.iterdir()) == [file]


def test_an_attempt_says_in_one_line_what_went_wrong_and_goes_on(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="lm_eval.arena_rm"):
        logging.getLogger("lm_eval.arena_rm").addHandler(caplog.handler)
        try:
            assert drawing.attempt(judge_plots.curves, tmp_path / "good.png", HISTORY) and not caplog.records
            assert not drawing.attempt(judge_plots.curves, tmp_path / "no" / "c.png", HISTORY)
            assert not drawing.attempt(judge_plots.curves, tmp_path / "bad.png", [{"step": 1, "loss": math.nan}])
        finally:
            logging.getLogger("lm_eval.arena_rm").removeHandler(caplog.handler)
    said = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert len(said) == 2 and "c.png was not drawn: cannot make" in said[0] and "bad.png was not drawn" in said[1]
    assert [file.name for file in tmp_path.iterdir()] == ["good.png"]


def test_without_matplotlib_a_plot_says_what_to_install(tmp_path):
    code = f"""{tiny.NO_MATPLOTLIB}
from harness_plugin.errors import UsageError
from harness_plugin.report import drawing, judge_plots
for draw in (drawing.require, lambda: judge_plots.curves({str(tmp_path / "c.png")!r}, {HISTORY!r})):
    try:
        draw()
    except UsageError as e:
        print(e, e.exit_code)
assert not drawing.attempt(judge_plots.curves, {str(tmp_path / "c.png")!r}, {HISTORY!r})
"""
    done = run_python(code)
    words = "matplotlib is not installed; the plot needs it; pip install 'lm-eval-arena-rm[report]'"
    assert done.stdout.splitlines() == [f"{words} 2"] * 2
    assert done.stderr.splitlines() == [f"arena_rm: c.png was not drawn: {words}"]
    assert not list(tmp_path.iterdir())
