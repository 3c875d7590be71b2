"""Pictures of a judge: is its probability to be believed, and how did its training go. Numbers in, a PNG out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.printable import one_line
from harness_plugin.model.calibration import Calibration
from harness_plugin.report.drawing import BLUE, GREY, VERMILION, draw_shares, figure
from harness_plugin.scoring.fit_calibration import calibration_loss
from harness_plugin.scoring.probabilities import log_probabilities
from harness_plugin.stats import Estimate, reliability_bins


def reliability(path: Path, probability, outcome, title: str, clusters=None) -> None:
    """A PNG of predicted probabilities that B is preferred against the shares of B that were observed.

    probability: shape (n,), in [0, 1]; or a mapping of panel titles to such arrays, drawn side by side. outcome: shape
    (n,), 1 where B was preferred, 0 where A was, one half for a tie, or a soft label. Bins hold equal counts; each has
    its n and a 95 % Wilson interval, by `clusters` (the prompts' names) where given. Raises DataError for numbers that
    are not such, or a file that cannot be written, and UsageError without matplotlib.
    """
    observed = _shares("outcome", outcome)
    panels = probability if isinstance(probability, Mapping) else {"": probability}
    panels = {name: _shares("probability", p, len(observed)) for name, p in panels.items()}
    if clusters is not None and len(clusters) != len(observed):
        raise DataError(
            f"{len(clusters)} clusters for {len(observed)} outcomes",
            "each outcome has its cluster",
            "pass as many clusters as outcomes",
        )
    with figure(path, 4.4 * max(len(panels), 1) + 0.2, 5.9) as drawn:
        drawn.suptitle(one_line(title, 60 * max(len(panels), 1)), fontsize=11)
        axes = drawn.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=[4, 1])
        for (name, p), (top, bottom) in zip(panels.items(), axes.T, strict=True):
            _draw_bins(top, name, reliability_bins(p, observed, clusters))
            bottom.hist(p, bins=np.linspace(0, 1, 21), color=BLUE, alpha=0.75)
            bottom.set_xlabel("predicted: P(B preferred), a tie counting one half")
            bottom.yaxis.get_major_locator().set_params(integer=True, nbins=3)
        axes[0, 0].set_ylabel("observed: share for B")
        axes[1, 0].set_ylabel("pairs")
        drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def calibration(path: Path, s, target, fitted: Calibration, title: str, clusters=None) -> None:
    """`reliability` at temperature 1 and at the fitted one, side by side, each with its three-way log loss.

    s: debiased logits, shape (n,). target: probabilities of A, B, tie, shape (n, 3). Raises as `reliability` does.
    """
    half, panels = np.array([0.0, 1.0, 0.5]), {}
    for when, c in (("before", replace(fitted, temperature=1.0)), ("after", fitted)):
        name = f"{when}: temperature {c.temperature:.4g}, log loss {calibration_loss(s, target, c):.4f}"
        panels[name] = np.exp(log_probabilities(s, c)) @ half
    reliability(path, panels, np.asarray(target, dtype=np.float64) @ half, title, clusters)


def curves(path: Path, history: Sequence[Mapping]) -> None:
    """A PNG of the losses, and below it of the validation accuracy where there is one, against the step.

    history: rows with `step` and any of `loss`, `eval_loss` (nats) and `eval_accuracy` (0 to 1). Values that are no
    finite numbers are left out, and their count is said in the picture. Raises DataError where no loss is left or the
    file cannot be written, and UsageError without matplotlib.
    """
    lines = {name: _points(history, name) for name in ("loss", "eval_loss", "eval_accuracy")}
    if not lines["loss"][0] and not lines["eval_loss"][0]:
        raise DataError(f"no loss in {len(history)} rows of history", "there is no curve to draw", "train longer")
    steps, accuracy, lost = lines["eval_accuracy"]
    with figure(path, 7.2, 5.6 if steps else 3.8) as drawn:
        axes = drawn.subplots(2 if steps else 1, 1, sharex=True, squeeze=False)[:, 0]
        _draw_line(axes[0], lines["loss"], "training", VERMILION, "-")
        _draw_line(axes[0], lines["eval_loss"], "validation", BLUE, "o-")
        axes[0].set_ylabel("loss (nats)")
        axes[-1].set_xlabel("step")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        if steps:
            _draw_line(axes[1], (steps, accuracy, lost), "validation", BLUE, "o-")
            axes[1].axhline(0.5, color=GREY, linestyle="--", linewidth=1, label="chance")
            axes[1].set_ylabel("accuracy")
        if lines["eval_loss"][0]:
            _mark_best(axes, *lines["eval_loss"][:2])
        for axis in axes:
            axis.margins(y=0.12)
            axis.legend(loc="best")


def _draw_bins(axis, name: str, bins: list[tuple[float, Estimate]]) -> None:
    draw_shares(axis, [(x, e.value, e.low, e.high) for x, e in bins])
    counts = _counts([e.n for _, e in bins])
    axis.set_title("\n".join(part for part in (one_line(name, 60), counts) if part))


def _counts(counts: list[int]) -> str:
    """How many pairs each bin holds, left to right, in one line."""
    if len(set(counts)) == 1:
        return f"{len(counts)} bin{'s' * (len(counts) > 1)} of {counts[0]} pairs"
    listed = ", ".join(map(str, counts))
    return f"bins of {listed if len(listed) <= 48 else f'{min(counts)} to {max(counts)}'} pairs"


def _points(history: Sequence[Mapping], name: str) -> tuple[list, list[float], int]:
    """(steps, values, how many values are no finite numbers) of a column; of rows with one step the last counts."""
    found = {row["step"]: row[name] for row in history if name in row and _finite(row.get("step"))}
    good = {step: float(value) for step, value in sorted(found.items()) if _finite(value)}
    return list(good), list(good.values()), len(found) - len(good)


def _finite(value) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _draw_line(axis, points: tuple[list, list[float], int], label: str, color: str, style: str) -> None:
    steps, values, lost = points
    label += f" ({lost} not finite, left out)" if lost else ""
    axis.plot(steps, values, style if len(steps) > 1 else "o", color=color, markersize=4, linewidth=1.5, label=label)


def _mark_best(axes, steps: list, losses: list[float]) -> None:
    """A line through all axes at the lowest validation loss: the weights that are kept."""
    best = int(np.argmin(losses))
    for axis in axes:
        axis.axvline(steps[best], color=GREY, linestyle=":", linewidth=1.2)
    axes[0].set_title(f"lowest validation loss {losses[best]:.4f} at step {steps[best]:.10g} (dotted)", loc="left")


def _shares(name: str, values, n: int | None = None) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or len(x) != (n or len(x)):
        raise DataError(
            f"{name} of shape {x.shape}", f"the shape ({n or 'n'},) was expected", "pass one number for each pair"
        )
    wrong = ~((x >= -1e-9) & (x <= 1 + 1e-9))  # three probabilities that were added up may pass 1 by rounding
    if wrong.any():
        raise DataError(
            f"{int(wrong.sum())} of {len(x)} values of {name} are not between 0 and 1 (such as {x[wrong][0]})",
            "a plot of them would mean nothing",
            "pass probabilities",
        )
    return x.clip(0, 1)
