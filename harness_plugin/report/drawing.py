"""What all pictures share: colours and style, a figure that becomes a PNG, and the marks that several of them have.

matplotlib is optional and is imported only when something is drawn, through its object interface: nothing of pyplot's
global state is touched, and a user's own matplotlibrc changes nothing. The same numbers give the same bytes (with the
same matplotlib).
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness_plugin.errors import UsageError
from harness_plugin.files import atomic_write
from harness_plugin.files.printable import one_line

log = logging.getLogger("lm_eval.arena_rm")

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito (2008): apart for every kind of sight
DPI = 120
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar in a file's name is a dollar
}
LONGEST = 36  # characters of a name
ROW = 0.3  # inches of a line with a dot


def require() -> None:
    """Raises UsageError, with what to install, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401  found out by importing: it may be there and broken
    except ImportError as e:
        raise UsageError(
            "matplotlib is not installed", "the plot needs it", "pip install 'lm-eval-arena-rm[report]'"
        ) from e


def attempt(draw: Callable, path: Path, *args, **more) -> bool:
    """draw(path, ...) for a picture that nobody asked for by name; where it fails, one warning and False."""
    try:
        draw(path, *args, **more)
    except Exception as e:  # of any kind: what was trained or fitted must not be lost to its picture
        log.warning("arena_rm: %s was not drawn: %s", Path(path).name, one_line(e) or type(e).__name__)
        return False
    return True


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator:
    """An empty figure, `width` and `height` in inches, that is written to `path` when the block ends well."""
    require()
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE]):
        drawn = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        with atomic_write(path, binary=True) as out, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # of a title's script: the box that is drawn says enough
            drawn.savefig(out, format="png", dpi=DPI, metadata={"Software": None})


def draw_shares(axis, bins: Sequence[tuple]) -> None:
    """Bins as (mean prediction, observed share, low, high), beside the line of perfect calibration; no interval where
    its ends are None."""
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    # not errorbar: it refuses the -1e-17 that rounding leaves of an interval that ends at its value
    whole = [b for b in bins if b[2] is not None and b[3] is not None]
    axis.vlines(
        *zip(*((x, low, high) for x, _, low, high in whole), strict=True) if whole else ([], [], []),
        color=BLUE,
        linewidth=1.5,
        label="95% interval",
    )
    axis.plot([b[0] for b in bins], [b[1] for b in bins], "o", color=BLUE, markersize=5.5, label="bin of pairs")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def draw_dots(axis, rows: list[tuple[str, float | None, float | None, float | None]]) -> None:
    """One line for each (name, value, low, high), the first on top; a line without a value stays empty."""
    places = range(len(rows))[::-1]
    for y, (_, value, low, high) in zip(places, rows, strict=True):
        if value is None:
            continue
        known = low is not None and high is not None and low != high
        if known:
            axis.hlines(y, low, high, color=BLUE, linewidth=1.8)
        axis.plot(value, y, "o", color=BLUE, markersize=6, markerfacecolor=BLUE if known else "white")
    axis.set_yticks(list(places), [one_line(name, LONGEST) for name, *_ in rows])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.grid(axis="y", visible=False)
