"""The picture of a comparison of judges: three figures with their intervals, one judge a line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness_plugin.report.drawing import GREY, ROW, VERMILION, draw_dots, figure

PANELS = (  # figure, title, baselines as (name, label)
    ("acc", "accuracy (decisive pairs)", (("longer_wins", "longer wins"), ("surface_acc", "surface features"))),
    ("acc_length_balanced", "accuracy, balanced by length", ()),
    ("log_loss", "log loss (lower is better)", (("prior_log_loss", "shares of A, B, tie"),)),
)


def forest(path: Path, result: Mapping[str, Any]) -> None:
    """A PNG of accuracy, accuracy balanced by length, and log loss, with 95% intervals and baselines as lines."""
    judges = result["judges"]
    with figure(path, 11.0, 1.5 + ROW * len(judges)) as drawn:
        for axis, (name, title, baselines) in zip(drawn.subplots(1, 3, sharey=True), PANELS, strict=True):
            ends = [[j["metrics"][name][end] for end in ("value", "low", "high")] for j in judges]
            draw_dots(axis, [(j["judge"], *values) for j, values in zip(judges, ends, strict=True)])
            if name != "log_loss":
                axis.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
            for (baseline, label), color in zip(baselines, (GREY, VERMILION), strict=False):
                if result["baselines"][baseline]["value"] is not None:
                    axis.axvline(
                        result["baselines"][baseline]["value"], color=color, linestyle="--", linewidth=1, label=label
                    )
            axis.set_title(title)
            if baselines:
                axis.legend(loc="best", fontsize=7)
