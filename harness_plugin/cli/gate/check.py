"""`arena-rm gate check`, or `arena-rm gate BASELINE CURRENT`: compares two stored runs and decides."""

import click

from harness_plugin.cli.gate.options import (
    labels_options,
    max_missing_option,
    model_option,
    output_options,
    rule_options,
    task_option,
)


@click.command("check")
@click.argument("baseline", type=click.Path())
@click.argument("current", type=click.Path())
@rule_options
@model_option
@click.option("--baseline-model", metavar="NAME", help="The chatbot's name in BASELINE, if it was different.")
@task_option
@click.option(
    "--ignore",
    multiple=True,
    metavar="NAME",
    help="Compare the runs although this fingerprint differs. Can be given several times.",
)
@max_missing_option("The largest share of the items that may be in only one of the runs.")
@click.option(
    "--pairs", type=click.Path(), metavar="FILE", help="The file of pairs that was scored, to show texts from it."
)
@labels_options
@output_options
def command(
    baseline,
    current,
    rules,
    model,
    baseline_model,
    task,
    ignore,
    max_missing,
    pairs,
    labels,
    label_fields,
    label_words,
    output,
):
    """Decide whether CURRENT is worse than BASELINE: pass, regression, inconclusive or not comparable.

    Each of the two is a folder of `arena-rm judge`, lm-eval results with --log_samples, a file of `arena-rm score` with
    winners, or a baseline that `arena-rm gate bless` wrote.

    \b
    Example: arena-rm gate tests/baseline.jsonl results/judged --margin 0.03

    Exit codes: 0 pass, 1 regression, 2 wrong usage, 3 not comparable, 4 inconclusive with --on-inconclusive fail,
    or inconclusive and every prompt got worse.
    """
    from harness_plugin.gate import Reading, run_gate

    reading = Reading(task, model, baseline_model, pairs, ignore, max_missing, labels, label_fields, label_words)
    return run_gate(baseline, current, rules, reading)
