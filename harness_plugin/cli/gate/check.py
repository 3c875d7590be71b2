"""`arena-rm gate BASELINE CURRENT`: two stored runs to a decision."""

import click

from harness_plugin.cli.gate.options import output_options, rule_options


@click.command("check")
@click.argument("baseline", type=click.Path())
@click.argument("current", type=click.Path())
@rule_options
@click.option("--model", metavar="NAME", help="The chatbot under test, where a judging has several.")
@click.option("--baseline-model", metavar="NAME", help="Its name in BASELINE, if it was another.")
@click.option("--task", metavar="NAME", help="The lm-eval task, where the results have several.")
@click.option("--ignore", multiple=True, metavar="NAME", help="Compare although this fingerprint differs; repeatable.")
@click.option(
    "--max-missing",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="Of the items, how many may be in one run only.",
)
@click.option("--pairs", type=click.Path(), metavar="FILE", help="The file that was scored, to show its texts.")
@output_options
def command(baseline, current, rules, model, baseline_model, task, ignore, max_missing, pairs, output):
    """Say whether CURRENT is worse than BASELINE: pass, regression, inconclusive or not comparable.

    Each is a folder of `arena-rm judge`, lm-eval results with --log_samples, a file of `arena-rm score` with winners,
    or a baseline that `arena-rm gate bless` wrote. Exit codes: 0 pass, 1 regression, 2 usage, 3 not comparable, 4
    inconclusive with --on-inconclusive fail.
    """
    from harness_plugin.gate import Reading, run_gate

    reading = Reading(task, model, baseline_model, pairs, ignore, max_missing)
    return run_gate(baseline, current, rules, reading)
