"""`arena-rm gate power`: how many prompts are needed to detect a drop."""

import math

import click

from harness_plugin.cli.gate.options import alpha_option, margin_option, model_option, power_option, task_option
from harness_plugin.cli.options import Number, given
from harness_plugin.errors import UsageError
from harness_plugin.files.printable import counted


@click.command("power")
@click.argument("runs", nargs=-1, type=click.Path())
@margin_option
@alpha_option
@power_option("The probability with which the drop is detected.")
@click.option(
    "--sd",
    type=Number(0, 1000, min_open=True),
    metavar="X",
    help="The standard deviation of the differences between two runs, prompt by prompt.",
)
@model_option
@click.option("--baseline-model", metavar="NAME", help="The chatbot's name in the first run, if it was different.")
@task_option
def command(runs, margin, alpha, power, sd, model, baseline_model, task):
    """Compute how many prompts a gate needs to detect a drop, and which drop it detects with a given number of prompts.

    RUNS are two stored runs: the standard deviation of their differences is used. Without RUNS and --sd, the table has
    typical standard deviations. The numbers hold for metrics from 0 to 1.

    \b
    Example: arena-rm gate power --margin 0.03
    """
    from harness_plugin.gate import Reading, Rules
    from harness_plugin.gate.power import SIZES, TYPICAL, Noise, power_table

    if len(runs) not in (0, 2) or (runs and sd is not None):
        raise UsageError(
            f"{counted(len(runs), 'run')}{' and --sd' * (sd is not None)}",
            "the standard deviation comes from two runs or from --sd",
            "name two runs, or give --sd, or neither",
        )
    if not runs and (idle := given("model", "baseline_model", "task")):
        raise UsageError(f"{idle[0]} without runs", "it has an effect on stored runs only", "name two runs")
    if not margin > 0 or (sd is not None and not sd > 0):
        raise UsageError(
            f"--margin {margin} --sd {sd}", "a drop and a standard deviation are positive", "give numbers above 0"
        )
    rules = Rules(margin=margin, alpha=alpha, power=power)
    noises = TYPICAL if sd is None else [Noise("--sd", sd)]
    noises = _of_runs(runs, rules, Reading(task, model, baseline_model)) if runs else noises
    click.echo(
        f"One-sided alpha {alpha:g}, power {power:g}. `detect`: how many prompts are needed to report a drop of "
        f"{margin:g}; `pass`: how many are needed to pass a run without a change. The other columns: the smallest drop "
        "that is reported with that many prompts."
    )
    click.echo(f"{'':<42} {'sd':>6} {'detect':>7} {'pass':>7} " + " ".join(f"{n:>7}" for n in SIZES))
    for row in power_table(noises, margin, alpha, power):
        drops = " ".join(f"{'-':>7}" if math.isnan(drop) else f"{drop:7.4f}" for drop in row.drops)
        detect, clear = ("-" if n is None else str(n) for n in (row.detect, row.clear))
        click.echo(f"{row.noise.name[:42]:<42} {row.noise.deviation:6.3f} {detect:>7} {clear:>7} {drops}")


def _of_runs(runs, rules, reading):
    """The noise of each metric of two runs."""
    from harness_plugin.gate.compare import compare
    from harness_plugin.gate.decide import decide
    from harness_plugin.gate.power import noise_of
    from harness_plugin.gate.readers.any_run import read_two

    return noise_of(decide(compare(*read_two(runs[0], runs[1], reading)), rules))
