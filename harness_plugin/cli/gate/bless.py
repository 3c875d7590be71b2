"""`arena-rm gate bless`: saves a run as a baseline, and asks before it replaces one."""

import sys
from pathlib import Path

import click

from harness_plugin.cli.gate.options import model_option, task_option
from harness_plugin.errors import UsageError


@click.command("bless")
@click.argument("run", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The baseline file to write, such as tests/baselines/chatbot.jsonl.",
)
@model_option
@task_option
@click.option(
    "--texts/--no-texts",
    default=True,
    show_default=True,
    help="Keep the first 1,000 characters of each answer, to show them beside later answers.",
)
@click.option("--yes", is_flag=True, help="Replace an existing baseline without asking.")
def command(run, output, model, task, texts, yes):
    """Save RUN as the baseline FILE, which later runs are compared with. RUN is what `arena-rm gate` can compare: a
    folder of `arena-rm judge`, lm-eval results, or a file of `arena-rm score`.

    The file is small enough for git: one line for each item, and the settings that must stay the same. If FILE exists,
    the changes are shown before it is replaced.

    \b
    Example: arena-rm gate bless results/judged -o tests/baseline.jsonl
    """
    from harness_plugin.files import atomic_write
    from harness_plugin.files.printable import readable
    from harness_plugin.gate import baseline_text, read_run

    measured = read_run(run, task, model)
    text = readable(baseline_text(measured, texts))
    if output.is_dir():
        raise UsageError(f"-o {output} is a folder", "a baseline is one file", "name a file in that folder")
    if output.exists():
        _check_replaced(output)
        if output.read_bytes() == text.encode("utf-8"):
            click.echo(f"{output} is not changed: the run is the same")
            return
        click.echo(_changes(str(output), measured))
        if not yes and not _asked(output):
            return
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as out:
        out.write(text)
    size = len(text.encode("utf-8")) / 1024
    click.echo(f"wrote a baseline of {len(measured.items)} items to {output} ({size:.0f} KiB)")


def _check_replaced(output: Path) -> None:
    """Raises UsageError where something else than a baseline would be replaced. A baseline that is damaged or of
    another version may be."""
    from harness_plugin.gate.baseline import is_baseline

    if not output.is_file():
        raise UsageError(f"-o {output} is no file", "a baseline is one file", "name another path")
    if output.stat().st_size and not is_baseline(output):
        raise UsageError(f"{output} holds something else than a baseline", "it would be replaced", "choose another -o")


def _changes(earlier: str, measured) -> str:
    """How the run compares with the earlier baseline, or why the two cannot be compared."""
    from harness_plugin.files.printable import readable
    from harness_plugin.gate import Reading, Rules, gate_runs, read_run
    from harness_plugin.gate.rules import MARGIN
    from harness_plugin.report.gate_text import terminal

    try:
        result = gate_runs(
            lambda: (read_run(earlier), measured),
            Rules(margin=MARGIN),
            Reading(max_missing=1.0),
            (earlier, measured.place),
        )
    except UsageError as e:
        return str(e)
    return f"compared with the existing baseline: {readable(terminal(result, worst=10))}"


def _asked(output: Path) -> bool:
    """Asks whether to replace the file. Raises UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"{output} exists",
            "a baseline is replaced only after a confirmation, and there is no terminal to ask on",
            "add --yes to replace it",
        )
    return click.confirm(f"replace {output}?")
