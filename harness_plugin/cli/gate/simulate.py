"""`arena-rm gate simulate`: how often the gate and simpler rules decide wrongly."""

import click

from harness_plugin.cli.gate.options import alpha_option, margin_option
from harness_plugin.cli.options import Number

# Two builds of one chatbot: vicuna-13b's two versions on AlpacaEval correlate by 0.65, with a deviation of 0.2 in their
# difference; different chatbots by about 0.4, with one of 0.245.
CORRELATION = 0.65


@click.command("simulate")
@click.option(
    "--builds",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    metavar="N",
    help="Simulate N builds for each row.",
)
@alpha_option
@margin_option
@click.option(
    "--correlation",
    type=Number(0, 1, max_open=True),
    default=CORRELATION,
    show_default=True,
    metavar="R",
    help="The correlation between the preferences of two builds: about 0.65 for builds of one chatbot, 0.4 for "
    "different chatbots.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="The seed of the simulation."
)
def command(builds, alpha, margin, correlation, seed):
    """Simulate builds of a chatbot with a known change of quality, and print the share of builds that each rule fails.

    Rows with a drop of 0 are builds without a change: there, each failure is a false alarm. The simulated preferences
    are probabilities, as those of a judge, and both builds answer the same prompts.

    \b
    Example: arena-rm gate simulate --builds 500
    """
    from harness_plugin.gate import Rules
    from harness_plugin.gate.simulate import RULES, simulate

    rules = Rules(margin=margin, alpha=alpha)
    click.echo(
        f"{builds} builds per row, alpha {rules.alpha:g}, margin {rules.margin:g}, correlation {correlation:g}, "
        f"seed {seed}. The columns give the share of builds that each rule fails, and that the gate passes."
    )
    click.echo(f"{'prompts':>7} {'drop':>5} {'sd':>6}  " + "  ".join(RULES) + "  gate passes")
    for row in simulate(builds, rules.alpha, margin, correlation, seed):
        shares = "  ".join(f"{row.failed[name]:>{len(name)}.3f}" for name in RULES)
        click.echo(f"{row.n:>7} {row.drop:5.2f} {row.deviation:6.3f}  {shares}  {row.passed:>11.3f}")
