"""Options that several commands of the gate share, and the printing of a result."""

import functools
import sys
from pathlib import Path

import click

from harness_plugin.cli.data_options import named_columns, winner_map_option, winner_words
from harness_plugin.cli.options import Number
from harness_plugin.cli.streams import RunnerCommand
from harness_plugin.errors import UsageError
from harness_plugin.gate.rules import ALPHA, MARGIN, MAX_MISSING, ON_INCONCLUSIVE, POWER, PROMPTS, WARN, WEIGHTS

alpha_option = click.option(
    "--alpha",
    type=float,
    default=ALPHA,
    show_default=True,
    metavar="P",
    help="The probability that a build without a change fails.",
)
margin_option = click.option(
    "--margin", type=float, default=MARGIN, show_default=True, metavar="X", help="The smallest drop that matters."
)


def power_option(help: str):
    """--power, with what it is the probability of."""
    return click.option("--power", type=float, default=POWER, show_default=True, metavar="P", help=help)


model_option = click.option("--model", metavar="NAME", help="The chatbot under test, if the run judged several.")
task_option = click.option("--task", metavar="NAME", help="The lm-eval task, if the results have several.")
_LABELS = click.option(
    "--labels",
    type=click.Path(),
    metavar="FILE",
    help="A file of pairs that people judged. They then decide whether the new answers are worse; only answers that "
    "changed need labels.",
)
_LABEL_FIELDS = click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Read the field NAME of --labels, such as winner, from another column. Can be given several times.",
)


def labels_options(command):
    """Adds --labels and what its columns and words mean; the command receives `labels`, `label_fields` and
    `label_words`."""

    @functools.wraps(command)
    def run(fields, winner_maps, labels, **arguments):
        if labels is None and (fields or winner_maps):
            option = "--field" if fields else "--winner-map"
            raise UsageError(f"{option} without --labels", "it says how that file is read", "give --labels FILE")
        words = winner_words(winner_maps)
        return command(labels=labels, label_fields=named_columns(fields), label_words=words, **arguments)

    return _LABELS(_LABEL_FIELDS(winner_map_option(run)))


RULES = [
    click.option(
        "--metric",
        "metrics",
        multiple=True,
        metavar="NAME",
        help="A metric that decides. Can be given several times; the p values are then adjusted by Holm's method. "
        "[default: the first metric of the run]",
    ),
    click.option(
        "--margin",
        type=float,
        metavar="X",
        help=f"The smallest drop that matters. [default: {MARGIN} for metrics from 0 to 1]",
    ),
    alpha_option,
    power_option("The gate prints the smallest drop that it reports with this probability."),
    click.option(
        "--on-inconclusive",
        type=click.Choice(ON_INCONCLUSIVE),
        default=WARN,
        show_default=True,
        help="What an inconclusive result does. fail: exit code 4; warn: a warning and exit code 0; pass: exit code 0. "
        "If every prompt got worse and there are too few of them for a test, the exit code is always 4.",
    ),
    click.option(
        "--weigh",
        type=click.Choice(WEIGHTS),
        default=PROMPTS,
        show_default=True,
        help="What counts the same where prompts have different numbers of items: each prompt or each item.",
    ),
]


def max_missing_option(text: str):
    """The option --max-missing of a command, with what is missing there."""
    return click.option(
        "--max-missing", type=Number(0, 1), default=MAX_MISSING, show_default=True, metavar="SHARE", help=text
    )


OUTPUT = [
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Write gate.json, comment.md and junit.xml into this folder.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON."),
]


def rule_options(command):
    """Adds the options for the decision; the command receives them as one argument `rules`."""

    @functools.wraps(command)
    def run(metrics, margin, alpha, power, on_inconclusive, weigh, **arguments):
        from harness_plugin.gate import Rules

        return command(rules=Rules(metrics, margin, alpha, power, on_inconclusive, weigh), **arguments)

    for option in reversed(RULES):
        run = option(run)
    return run


def output_options(command):
    """Adds the options for printing a result. The command returns a GateResult, which is printed and gives the exit
    code."""

    @functools.wraps(command)
    def run(output, as_json, **arguments):
        if output is not None and output.exists() and not output.is_dir():
            raise UsageError(f"-o {output} is a file", "the gate writes several files", "name a folder with -o")
        print_result(command(output=output, **arguments), output, as_json)

    for option in reversed(OUTPUT):
        run = option(run)
    return run


def print_result(result, output: Path | None, as_json: bool) -> None:
    """Prints the result, writes its files, reports to GitHub Actions if it runs there, and exits with its exit code."""
    from harness_plugin.files.printable import readable
    from harness_plugin.report.gate_files import write_gate
    from harness_plugin.report.gate_text import as_json as json_text
    from harness_plugin.report.gate_text import terminal
    from harness_plugin.report.github import report_to_github

    click.echo(readable(json_text(result)), nl=False) if as_json else click.echo(readable(terminal(result)))
    if output is not None:
        write_gate(output, result)
        click.echo(f"gate.json, comment.md and junit.xml are in {output}", err=True)
    for line in report_to_github(result, output):
        # the runner reads both streams, and stdout may hold JSON
        sys.stderr.write(RunnerCommand(readable(line) + "\n"))
    raise click.exceptions.Exit(result.exit_code)
