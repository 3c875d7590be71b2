"""`arena-rm gate power`: how many prompts a margin needs."""

import click

from harness_plugin.errors import UsageError


@click.command("power")
@click.argument("runs", nargs=-1, type=click.Path())
@click.option("--margin", type=float, default=0.02, show_default=True, help="The drop that is to be seen.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="How often an unchanged build may fail.")
@click.option("--power", type=float, default=0.8, show_default=True, help="With which probability it is to be seen.")
@click.option("--sd", type=float, help="The standard deviation of the difference per prompt, if it is known.")
@click.option("--model", metavar="NAME", help="The chatbot under test, where a judging has several.")
@click.option("--baseline-model", metavar="NAME", help="Its name in the first run, if it was another.")
@click.option("--task", metavar="NAME", help="The lm-eval task, where the results have several.")
def command(runs, margin, alpha, power, sd, model, baseline_model, task):
    """Say how many prompts a gate needs to see a drop of the margin, and which drop it sees with a given number.

    RUNS: two runs that exist, whose differences vary as those of later ones will; without them, typical deviations.
    """
    from harness_plugin.gate import Rules
    from harness_plugin.gate.power import SIZES, TYPICAL, power_table

    if len(runs) not in (0, 2) or (runs and sd is not None):
        raise UsageError(
            f"{len(runs)} runs{' and --sd' * (sd is not None)}",
            "differences are between two runs",
            "name two runs, or give --sd, or neither",
        )
    if not margin > 0 or (sd is not None and not sd > 0):
        raise UsageError(f"--margin {margin} --sd {sd}", "both are sizes", "give numbers above 0")
    rules = Rules(margin=margin, alpha=alpha, power=power)
    deviations = _of_runs(runs, rules, task, model, baseline_model) if runs else TYPICAL if sd is None else {"--sd": sd}
    click.echo(
        f"One-sided {alpha:g}, power {power:g}. `prompts`: to see a drop of {margin:g}; then the smallest drop "
        "that so many prompts see."
    )
    click.echo(f"{'':<42} {'sd':>6} {'prompts':>8} " + " ".join(f"{n:>7}" for n in SIZES))
    for row in power_table(deviations, margin, alpha, power):
        drops = " ".join(f"{drop:7.4f}" for drop in row.drops)
        needed = "-" if row.needed is None else str(row.needed)
        click.echo(f"{row.name[:42]:<42} {row.deviation:6.3f} {needed:>8} {drops}")


def _of_runs(runs, rules, task, model, baseline_model) -> dict[str, float]:
    from harness_plugin.gate import compare, decide, read_run
    from harness_plugin.gate.power import deviations_of

    before, after = read_run(runs[0], task, baseline_model or model), read_run(runs[1], task, model)
    return deviations_of(decide(compare(before, after), rules))
