"""`arena-rm gate duel`: judges the new answers of a chatbot directly against its old answers."""

from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from harness_plugin.cli.cache_options import cache_options
from harness_plugin.cli.data_options import prompts_option, questions_option
from harness_plugin.cli.gate.options import labels_options, max_missing_option, output_options, rule_options
from harness_plugin.cli.model_options import batch_size_option, model_options
from harness_plugin.cli.options import log_to_stderr
from harness_plugin.cli.several_options import several_options
from harness_plugin.cli.stop_options import judge_parts, stop_options
from harness_plugin.errors import UsageError
from harness_plugin.files.printable import counted


@click.command("duel")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@model_options
@several_options
@rule_options
@prompts_option
@questions_option
@max_missing_option("The largest share of the prompts that may be answered by only one side.")
@labels_options
@stop_options("it passes or fails")
@batch_size_option
@cache_options(default=True)
@output_options
def command(
    old,
    new,
    spec,
    rules,
    prompts,
    questions,
    max_missing,
    labels,
    label_fields,
    label_words,
    stopping,
    batch_size,
    cache_file,
    output,
):
    """Judge the answers in NEW against the answers in OLD, both of one chatbot, and decide whether they are worse.

    OLD and NEW are files of answers as for `arena-rm judge`, or folders of such files. A duel needs half the battles of
    two runs against a third chatbot, and usually detects smaller drops. With -o, the folder holds the verdicts too: the
    same command continues a run that was stopped, and `arena-rm label` draws battles from it for people, whose votes
    --labels reads.

    \b
    Example: arena-rm gate duel answers/v1.jsonl answers/v2.jsonl

    Exit codes: 0 pass, 1 regression, 2 wrong usage, 3 not comparable, 4 inconclusive with --on-inconclusive fail,
    or inconclusive and every prompt got worse.
    """
    log_to_stderr()
    if labels is not None and stopping is not None:
        why = "judging stops when the judge's verdicts are clear, and labels decide about people"
        raise UsageError("--labels with --stop-when", why, "use one")
    from harness_plugin import tournament
    from harness_plugin.cli.judge import judging
    from harness_plugin.gate import NotComparable, Reading, gate_runs
    from harness_plugin.gate.decide import check_metrics
    from harness_plugin.gate.duel import METRICS, check_answered, duel_answers
    from harness_plugin.gate.people import check_votes, read_votes
    from harness_plugin.gate.result import not_comparable

    check_metrics(rules.metrics, METRICS)
    votes = None if labels is None else read_votes(labels, rules, label_fields, label_words)
    answers = duel_answers(old, new, questions)
    battles = tournament.battles(answers, None, prompts)
    try:
        check_answered(battles, max_missing)
    except NotComparable as e:
        return not_comparable(e, rules, (old, new))
    if votes is not None:
        check_votes(votes, battles.pairs)
    identical = f"{len(battles.identical)} with identical answers count as ties"
    click.echo(f"{counted(len(battles.pairs), 'battle')} to judge; {identical}", err=True)
    with _folder(output) as folder, judging(spec, batch_size, cache_file, folder) as judge:
        parts = stopping and tournament.parts_of(answers, battles, stopping.looks, None, prompts)
        runs, stopped = _runs(judge, battles, parts, stopping, rules)
    reading, people = Reading(max_missing=max_missing), None if votes is None else lambda: votes
    return gate_runs(lambda: runs, rules, reading, (old, new), stopped, people)


@contextmanager
def _folder(output):
    """The folder `output`, made where it is not there; without one, a folder that goes when the duel is over."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        folder = output or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def _runs(judge, battles, parts, stopping, rules):
    """((the old run, the new one), where judging stopped, None for a whole duel): judged, and written."""
    from harness_plugin.gate.duel import duel_is_clear, duel_runs
    from harness_plugin.tournament import write_answers

    stopped = None
    if parts is None:
        verdicts = judge(battles, "Judging battles")
    else:
        stopped, verdicts = judge_parts(judge, parts, stopping.looks, partial(duel_is_clear, rules=rules))
        battles = stopped.part.battles
    write_answers(judge.folder, battles)
    return duel_runs(battles, verdicts), stopped
