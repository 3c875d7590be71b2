"""`arena-rm score`: from a file of pairs to one JSON line for each pair."""

import json
import math
from dataclasses import replace
from pathlib import Path

import click

from harness_plugin.cli.cache_options import cache_options, opened_cache
from harness_plugin.cli.data_options import limit_option, pair_options
from harness_plugin.cli.model_options import batch_size_option, model_options, order_option
from harness_plugin.cli.options import log_to_stderr
from harness_plugin.cli.several_options import abstain_options, abstaining, refuse_fitting, several_options
from harness_plugin.errors import UsageError
from harness_plugin.files.printable import counted, log_line
from harness_plugin.files.rounding import rounded

MOST_GROUPS = 20  # a mark with more values than that is no grouping, and its rows would bury the metrics


@click.command("score")
@click.argument("file", type=click.Path(allow_dash=True))
@model_options
@several_options
@pair_options
@order_option("ab: present each pair with A first only; both: present it in both orders and average them.")
@limit_option
@abstain_options
@batch_size_option
@cache_options(default=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the scores to this file; the same command then continues a run that was stopped. [default: stdout]",
)
def command(file, spec, read, order, limit, batch_size, cache_file, output, **abstention):
    """Score every pair of FILE (- for stdin) and write one JSON line for each, in input order.

    The most important fields: id, z_ab and z_ba (the logit of each order, positive for B; z_ba is null with --order
    ab), score, p_a, p_b, p_tie, confidence, and winner and category if FILE has them. If it has winners, metrics of the
    judge are printed to stderr.

    \b
    Example: arena-rm score pairs.jsonl -o scores.jsonl

    Exit codes: 0 done, 2 wrong usage, 3 bad data, or the judge could not be loaded.
    """
    from harness_plugin.engine.processes import accelerator
    from harness_plugin.judges.opening import refuse_served

    log_to_stderr()
    _check_output(output, file)
    several = accelerator(on_cpu=spec.device == "cpu")
    if several:
        refuse_served(spec)
        refuse_fitting(abstention)
        spec, cache_file = _of_several(several, file, spec, cache_file)
    pairs = read(file, limit=limit)
    fit = abstaining(read, pairs, **abstention)
    with opened_cache(cache_file) as store:
        judge, judgements = _judged(pairs, spec, order, batch_size, store, output, several, fit)
    if judgements is not None:
        summarize(pairs, judgements, judge.limit)


def _of_several(several, file, spec, cache_file):
    """(spec, cache file) of one of several processes: its own device, and the cache through which the first collects
    what the others score."""
    if file == "-":
        raise UsageError(
            "pairs from stdin in several processes",
            "only one process can read stdin",
            "save the pairs to a file and give its name",
        )
    from harness_plugin.scoring.store import default_file

    device = str(several.device) if spec.device is None else spec.device
    return replace(spec, device=device), cache_file or default_file()


def _judged(pairs, spec, order, batch_size, store, output, several, fit):
    """Judges the pairs and writes them; returns (the judge, a judgement per pair). Of several processes each scores its
    share into the store, and the first then finds all of them there; the others return None instead of judgements.
    `fit` gives for the judge a function that marks the judgements from which it abstains."""
    from harness_plugin.engine.processes import first_in_turn, own_share
    from harness_plugin.files.journal import Journal
    from harness_plugin.judges import open_judge
    from harness_plugin.judges.judge import judgements_in
    from harness_plugin.scoring.identity import parts

    with first_in_turn(several):
        judge = open_judge(spec, order=order, batch_size=batch_size, store=store)
    if several:
        for _ in _with_progress(judge, own_share(_missing(pairs, {}), several)):
            pass
        several.wait_for_everyone()
        if not several.is_main_process:
            return judge, None
    marked = fit(judge)
    if output is None:
        judgements = []
        rest = iter(pairs)
        for judgement in _with_progress(judge, pairs):
            pair = next(p for p in rest if p.key == judgement.key)  # one that could not be judged is passed over
            judgements.append(marked(judgement.of_pair(pair)))
            click.echo(json.dumps(judgements[-1].to_row(), ensure_ascii=False))
        return judge, judgements
    with Journal(output, parts(judge.identity)) as journal:
        finished = judgements_in(journal)
        if finished:
            click.echo(f"continuing: {counted(len(finished), 'pair')} scored before", err=True)
        for judgement in _with_progress(judge, _missing(pairs, finished)):
            finished[judgement.key] = judgement
            journal.add(judgement.to_row())
        judgements = [marked(finished[pair.key].of_pair(pair)) for pair in pairs]
        journal.finish(judgement.to_row() for judgement in judgements)
    return judge, judgements


def _with_progress(judge, pairs):
    """The judgements of the pairs, in their order, while a bar shows how many there are."""
    from tqdm import tqdm

    with tqdm(total=len(pairs), desc="Scoring pairs", unit="pair", disable=None) as bar:
        yield from judge.judge(pairs, bar.update)


def _check_output(output: Path | None, file: str) -> None:
    """Refuses, before anything is paid for, a place that could not take the scores."""
    from harness_plugin.files.compression import PACKED

    if output is None:
        return
    if output.exists() and Path(file).exists() and output.samefile(file):
        raise UsageError(f"-o {output} is the input", "the scores would replace it", "choose another place")
    if output.is_dir():
        raise UsageError(f"-o {output} is a folder", "the scores are one file", "name a file in it")
    if output.suffix in PACKED:
        raise UsageError(
            f"-o {output} has the suffix {output.suffix}",
            "scores are written as plain JSON lines, not compressed",
            "name the file without it",
        )


def _missing(pairs, judgements):
    """Each distinct pair that has no judgement yet."""
    return list({p.key: p for p in pairs if p.key not in judgements}.values())


def summarize(pairs, judgements, limit) -> None:
    """Truncation (to `Judge.limit`), and metrics where the winner is known or follows from p_b, to stderr."""
    cut = sum(j.truncated for j in judgements)
    click.echo(f"{counted(len(judgements), 'pair')}, {cut} cut to {limit}", err=True)
    if abstained := sum(j.abstained for j in judgements):
        click.echo(f"the judge abstained from {abstained} of them, which do not count below", err=True)
    judged = [(j, p) for j, p in zip(judgements, pairs, strict=True) if not j.abstained]
    labelled = [(j, p) for j, p in judged if p.verdict is not None]
    if not labelled:
        return
    click.echo(_metrics_table(labelled), err=True)
    whole = [(j, p) for j, p in labelled if not j.truncated]
    if cut and whole:
        click.echo(f"without the pairs that were cut ({len(whole)} left):", err=True)
        click.echo(_metrics_table(whole, brief=True), err=True)


def _metrics_table(labelled, brief: bool = False) -> str:
    from harness_plugin.pairs import MARKS
    from harness_plugin.scoring.judge_metrics import accuracies_by, judge_metrics
    from harness_plugin.stats import Estimate

    judgements, pairs = zip(*labelled, strict=True)
    winners = [pair.verdict.class_index for pair in pairs]
    groups: dict[str, Estimate] = {}
    for mark in () if brief else MARKS:
        found = accuracies_by([pair.mark(mark) for pair in pairs], judgements, winners)
        if len(found) <= MOST_GROUPS:
            groups |= {name if mark == "category" else f"{mark} {name}": e for name, e in found.items()}
    return table(judge_metrics(judgements, winners), groups, brief)


def table(metrics, groups, brief: bool = False) -> str:
    """Metrics, then the accuracy of each group, as aligned lines: value, 95% interval, n."""
    names = ("acc", "longer_wins", "surface_acc", "acc_length_balanced", "log_loss") if brief else list(metrics)
    rows = {name: metrics[name] for name in names if not name.startswith("n_")}
    rows |= {f"acc {log_line(name)}": e for name, e in groups.items()}
    width = max(22, *map(len, rows))
    return "\n".join(_line(name, e, width) for name, e in rows.items())


def _line(name, e, width) -> str:
    from harness_plugin.stats.preference_metrics import THREE_WAY

    if math.isnan(e.value):
        reason = " (some pairs have no probability of a tie: run with --tie-nu)" if name in THREE_WAY else ""
        return f"  {name:<{width}} -{reason}"
    value, low, high = (f"{rounded(x, 4):.4f}" for x in (e.value, e.low, e.high))
    return f"  {name:<{width}} {value:>7}  {'-' if math.isnan(e.low) else f'[{low}, {high}]'}  n={e.n}"
