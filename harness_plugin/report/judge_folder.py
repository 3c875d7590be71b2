"""Everything that a run of `arena-rm judge` leaves beside its verdicts: the leaderboard as JSON and CSV, the report as
Markdown, as one page to look at, and as pictures. Results in, files out."""

import csv
import io
import json
import logging
import re
from pathlib import Path

from harness_plugin.errors import UsageError
from harness_plugin.files import atomic_write
from harness_plugin.report import board_markdown, board_page, drawing
from harness_plugin.tournament import Judged
from harness_plugin.tournament.folder import BOARD_FILE, PAGE_FILE, REPORT_FILE, TABLE_FILE

log = logging.getLogger("lm_eval.arena_rm")

# A cell that a spreadsheet would compute: ' in front makes it text.
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")  # noqa: RUF001 - some read the wide signs as the narrow ones


def write_run(folder: Path, board: dict, judged: Judged, attacked: Judged | None = None, pictures: bool = True) -> None:
    """Writes the files into `folder`. `board` is that of `tournament.summary`; `attacked` holds the red team's battles.
    Pictures need matplotlib: where it is missing that is said, and the rest is written."""
    texts = {
        BOARD_FILE: json.dumps(board, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        TABLE_FILE: table_csv(board),
        REPORT_FILE: board_markdown.report(board, judged.battles),
        PAGE_FILE: board_page.page(board, judged, attacked),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as out:
            out.write(text)
    draw(folder, board, judged, pictures)


def draw(folder: Path, board: dict, judged: Judged, pictures: bool) -> None:
    """The pictures that this run has something for; those of an earlier run would mislead and go."""
    from harness_plugin.report import board_plots

    drawn = {}
    if pictures:
        try:
            drawing.require()
            drawn = board_plots.pictures(board, judged.verdicts)
        except UsageError as e:
            log.warning("arena_rm: no pictures: %s", e)
    for name in board_plots.FILES:
        if name not in drawn or not drawing.attempt(drawn[name], folder / name):
            (folder / name).unlink(missing_ok=True)


def table_csv(board: dict) -> str:
    """One line per model, best first, every number of leaderboard.json; a name that a spreadsheet would take for a
    formula has ' in front."""
    text = io.StringIO()
    rows = [row | {"model": _cell(row["model"])} for row in board["models"]]
    # Quoting all text: some versions of csv leave a bare carriage return without quotes.
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _cell(name: str) -> str:
    return f"'{name}" if FORMULA.match(name) else name
