"""`arena-rm gate power`: how many prompts are needed to detect a drop."""

import click

from harness_plugin.errors import UsageError
from harness_plugin.gate.rules import ALPHA, MARGIN, POWER


@click.command("power")
@click.argument("runs", nargs=-1, type=click.Path())
@click.option("--margin", type=float, default=MARGIN, show_default=True, metavar="X", help="The drop to detect.")
@click.option(
    "--alpha",
    type=float,
    default=ALPHA,
    show_default=True,
    metavar="P",
    help="The probability that a build without a change fails.",
)
@click.option(
    "--power",
    type=float,
    default=POWER,
    show_default=True,
    metavar="P",
    help="The probability with which the drop is detected.",
)
@click.option(
    "--sd",
    type=float,
    metavar="X",
    help="The standard deviation of the differences between two runs, prompt by prompt.",
)
@click.option("--model", metavar="NAME", help="The chatbot under test, if the run judged several.")
@click.option("--baseline-model", metavar="NAME", help="The chatbot's name in the first run, if it was different.")
@click.option("--task", metavar="NAME", help="The lm-eval task, if the results have several.")
def command(runs, margin, alpha, power, sd, model, baseline_model, task):
    """Compute how many prompts a gate needs to detect a drop, and which drop it detects with a given number of prompts.

    RUNS are two stored runs: the standard deviation of their differences is used. Without RUNS and --sd, the table has
    typical standard deviations.

    \b
    Example: arena-rm gate power --margin 0.03
    """
    from harness_plugin.gate import Rules
    from harness_plugin.gate.power import SIZES, TYPICAL, power_table

    if len(runs) not in (0, 2) or (runs and sd is not None):
        raise UsageError(
            f"{len(runs)} runs{' and --sd' * (sd is not None)}",
            "the standard deviation comes from two runs or from --sd",
            "name two runs, or give --sd, or neither",
        )
    if not margin > 0 or (sd is not None and not sd > 0):
        raise UsageError(
            f"--margin {margin} --sd {sd}", "a drop and a standard deviation are positive", "give numbers above 0"
        )
    rules = Rules(margin=margin, alpha=alpha, power=power)
    deviations = _of_runs(runs, rules, task, model, baseline_model) if runs else TYPICAL if sd is None else {"--sd": sd}
    click.echo(
        f"One-sided alpha {alpha:g}, power {power:g}. `prompts`: how many are needed to detect a drop of {margin:g}. "
        "The other columns: the smallest drop that so many prompts detect."
    )
    click.echo(f"{'':<42} {'sd':>6} {'prompts':>8} " + " ".join(f"{n:>7}" for n in SIZES))
    for row in power_table(deviations, margin, alpha, power):
        drops = " ".join(f"{drop:7.4f}" for drop in row.drops)
        needed = "-" if row.needed is None else str(row.needed)
        click.echo(f"{row.name[:42]:<42} {row.deviation:6.3f} {needed:>8} {drops}")


def _of_runs(runs, rules, task, model, baseline_model) -> dict[str, float]:
    """The standard deviation of the difference of each metric of two runs."""
    from harness_plugin.gate import read_run
    from harness_plugin.gate.compare import compare
    from harness_plugin.gate.decide import decide
    from harness_plugin.gate.power import deviations_of

    before, after = read_run(runs[0], task, baseline_model or model), read_run(runs[1], task, model)
    return deviations_of(decide(compare(before, after), rules))
