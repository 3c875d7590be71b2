"""`arena-rm label --plan`: how many labels an interval of a wanted width takes."""

from collections.abc import Callable
from pathlib import Path

import click

from harness_plugin.errors import UsageError
from harness_plugin.pairs import Pair


def print_plan(folder: str, half: float, labels: str | None, read_labels: Callable[..., list[Pair]]) -> None:
    """Prints, for each chatbot of a folder of `arena-rm judge`, how many labels its win rate for people takes to be
    known to ±half, from the pilot in the file `labels`, which `read_labels` reads. Raises UsageError without a pilot or
    for a file of pairs."""
    from harness_plugin.files.rows import read_object
    from harness_plugin.report.label_text import plan_text
    from harness_plugin.tournament import OF_VOTES, check_labels, labels_of, plan_for_people, votes_of
    from harness_plugin.tournament.folder import BOARD_FILE
    from harness_plugin.tournament.kept_answers import read_verdicts

    if labels is None:
        why = "how many labels are needed depends on how well judge and people agree"
        raise UsageError("--plan without --labels", why, "label about 50 battles first, and give them as --labels FILE")
    if not Path(folder).is_dir():
        raise UsageError(f"--plan with {folder}", "it is not the folder of a run", "name a folder of `arena-rm judge`")
    read, judged = read_verdicts(Path(folder)), read_labels(labels, beside=OF_VOTES)
    count = check_labels([pair for pair, _ in read], judged, labels)
    click.echo(f"{labels}: {count} of {len(judged)} judgements are of battles here", err=True)
    verdicts = [verdict for _, verdict in read]
    baseline = read_object(Path(folder) / BOARD_FILE).get("baseline")
    votes = labels_of(verdicts, votes_of(judged, labels))
    click.echo(plan_text(plan_for_people(verdicts, votes, baseline, half), half))
