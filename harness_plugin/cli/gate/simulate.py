"""`arena-rm gate simulate`: how often a gate is wrong."""

import click

from harness_plugin.errors import UsageError


@click.command("simulate")
@click.option("--builds", type=click.IntRange(min=1), default=2000, show_default=True, help="Builds per row.")
@click.option("--alpha", type=float, default=0.05, show_default=True)
@click.option("--margin", type=float, default=0.02, show_default=True)
@click.option(
    "--correlation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.65,
    show_default=True,
    help="Between two builds' preferences; 0.65 for one chatbot's, 0.4 for different ones.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def command(builds, alpha, margin, correlation, seed):
    """Simulate builds of a chatbot whose true quality is known, and print the share that each rule fails.

    A drop of 0 is a build without a change: whatever fails there is a false alarm. The preferences are soft, as a
    judge's are, and paired by prompt.
    """
    from harness_plugin.gate import Rules
    from harness_plugin.gate.simulate import RULES, simulate

    rules = Rules(margin=margin, alpha=alpha)
    if builds < 1:
        raise UsageError(f"--builds {builds}", "a share needs some", "give 1 or more")
    click.echo(
        f"{builds} builds per row, alpha {rules.alpha:g}, margin {rules.margin:g}, correlation {correlation:g}, "
        f"seed {seed}; share of builds failed by each rule, and passed by the gate"
    )
    click.echo(f"{'prompts':>7} {'drop':>5} {'sd':>6}  " + "  ".join(RULES) + "  gate passes")
    for row in simulate(builds, rules.alpha, rules.margin, correlation, seed):
        shares = "  ".join(f"{row.failed[name]:>{len(name)}.3f}" for name in RULES)
        click.echo(f"{row.n:>7} {row.drop:5.2f} {row.deviation:6.3f}  {shares}  {row.passed:>11.3f}")
