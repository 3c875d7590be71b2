"""`arena-rm gate bless`: a run becomes the baseline; only ever when somebody says so."""

import sys
from pathlib import Path

import click

from harness_plugin.errors import UsageError


@click.command("bless")
@click.argument("run", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The baseline to write, such as tests/baselines/chatbot.jsonl.",
)
@click.option("--model", metavar="NAME", help="The chatbot under test, where a judging has several.")
@click.option("--task", metavar="NAME", help="The lm-eval task, where the results have several.")
@click.option(
    "--texts/--no-texts",
    default=True,
    show_default=True,
    help="Keep the first 1,000 characters of each answer, to be read beside later ones.",
)
@click.option("--yes", is_flag=True, help="Replace an earlier baseline without asking.")
def command(run, output, model, task, texts, yes):
    """Write RUN as a baseline: a line per item, and what it rests on. Where FILE is an earlier baseline, what changes
    is shown first. Nothing else ever writes one."""
    from harness_plugin.files import atomic_write
    from harness_plugin.files.printable import readable
    from harness_plugin.gate import baseline_text, read_run

    found = read_run(run, task, model)
    text = readable(baseline_text(found, texts))
    if output.is_dir():
        raise UsageError(f"-o {output} is a folder", "a baseline is one file", "name a file in it")
    if output.exists():
        if output.read_bytes() == text.encode("utf-8"):
            click.echo(f"{output} stays as it is: nothing changes")
            return
        click.echo(_changes(str(output), found))
        if not yes and not _asked(output):
            return
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as out:
        out.write(text)
    click.echo(f"blessed {len(found.items)} items into {output} ({len(text.encode('utf-8')) / 1024:.0f} KiB)")


def _changes(earlier: str, found) -> str:
    """How the run compares with the earlier baseline, or why it does not."""
    from harness_plugin.files.printable import readable
    from harness_plugin.gate import Reading, Rules, gate_runs, read_run
    from harness_plugin.report.gate import terminal

    try:
        result = gate_runs(
            lambda: read_run(earlier),
            lambda: found,
            Rules(margin=0.02),
            Reading(max_missing=1.0),
            (earlier, found.place),
        )
    except UsageError as e:
        return str(e)
    return f"against the baseline that stands there: {readable(terminal(result, worst=10))}"


def _asked(output: Path) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"{output} is a baseline already", "it is replaced only when somebody says so", "say --yes")
    return click.confirm(f"replace {output}?")
