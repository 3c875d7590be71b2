"""`arena-rm gate duel`: one chatbot's new answers against its old ones."""

from pathlib import Path

import click

from harness_plugin.cli.gate.options import output_options, rule_options
from harness_plugin.cli.options import cache_options, log_to_stderr, model_options


@click.command("duel")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@model_options
@rule_options
@click.option("--prompts", type=click.IntRange(min=1), metavar="N", help="Only N prompts, drawn by their content.")
@click.option("--questions", type=click.Path(), help="Arena-Hard's question.jsonl, where answers come without prompts.")
@click.option(
    "--max-missing",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="Of the prompts, how many may be answered by one side only.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Most sequences in a batch [default: a token budget].")
@cache_options(default=True)
@output_options
def command(old, new, spec, rules, prompts, questions, max_missing, batch_size, cache_file, output):
    """Judge the answers in NEW against those in OLD, both of one chatbot, and say whether they are worse.

    OLD and NEW: files of answers as for `arena-rm judge`, or folders of them. Half the battles of two judgings against
    a third chatbot, and usually more power. With -o the verdicts are there too, and a killed run continues.
    """
    log_to_stderr()
    import tempfile

    from harness_plugin.cli.judge import judging
    from harness_plugin.gate import Reading, gate_runs
    from harness_plugin.gate.duel import duel_battles, duel_runs

    found = duel_battles(old, new, questions, prompts)
    click.echo(f"{len(found.pairs)} battles to judge, {len(found.identical)} of identical answers", err=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = output or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with judging(spec, batch_size, cache_file, folder) as judge:
            verdicts = judge(found, "Judging battles")
    before, after = duel_runs(found, verdicts)
    return gate_runs(lambda: before, lambda: after, rules, Reading(max_missing=max_missing), (old, new))
