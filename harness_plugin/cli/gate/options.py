"""Options that several of the gate's commands share, and how each says its result."""

import functools
from pathlib import Path

import click

RULES = [
    click.option(
        "--metric",
        "metrics",
        multiple=True,
        metavar="NAME",
        help="Metric that decides; repeatable, with Holm's adjustment. [default: the run's first]",
    ),
    click.option("--margin", type=float, metavar="X", help="The smallest drop that matters. [default: 0.02]"),
    click.option("--alpha", type=float, default=0.05, show_default=True, help="How often an unchanged build may fail."),
    click.option(
        "--power",
        type=float,
        default=0.8,
        show_default=True,
        help="With which probability the smallest detectable drop is seen.",
    ),
    click.option(
        "--on-inconclusive",
        type=click.Choice(["pass", "warn", "fail"]),
        default="warn",
        show_default=True,
        help="fail: exit with 4; warn: a warning and 0; pass: 0.",
    ),
]
OUTPUT = [
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder for gate.json, comment.md and junit.xml.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON."),
]


def rule_options(command):
    """Adds the options of deciding; the command receives them as `rules`."""

    @functools.wraps(command)
    def run(metrics, margin, alpha, power, on_inconclusive, **given):
        from harness_plugin.gate import Rules

        return command(rules=Rules(metrics, margin, alpha, power, on_inconclusive), **given)

    for option in reversed(RULES):
        run = option(run)
    return run


def output_options(command):
    """Adds the options of saying a result. The command returns a GateResult: it is said, and becomes the exit code."""

    @functools.wraps(command)
    def run(output, as_json, **given):
        if output is not None and output.exists() and not output.is_dir():
            raise click.UsageError(f"-o {output} is a file; a gate leaves several; name a folder")
        say(command(output=output, **given), output, as_json)

    for option in reversed(OUTPUT):
        run = option(run)
    return run


def say(result, output: Path | None, as_json: bool) -> None:
    """Prints the result, writes its files, tells GitHub where it runs there, and exits with the result's code."""
    from harness_plugin.files.printable import readable
    from harness_plugin.report.gate import as_json as json_text
    from harness_plugin.report.gate import terminal
    from harness_plugin.report.gate_files import write_gate
    from harness_plugin.report.github import report_to_github

    click.echo(readable(json_text(result)), nl=False) if as_json else click.echo(readable(terminal(result)))
    if output is not None:
        write_gate(output, result)
        click.echo(f"gate.json, comment.md and junit.xml are in {output}", err=True)
    for line in report_to_github(result, output):
        click.echo(readable(line), err=True)  # the runner reads both streams, and stdout may hold JSON
    raise SystemExit(result.exit_code)
