"""`arena-rm compare`: several judges on the same votes of people, in one table."""

from dataclasses import replace
from pathlib import Path

import click

from harness_plugin.cli.cache_options import cache_options, opened_cache, refuse_no_cache
from harness_plugin.cli.data_options import limit_option, pair_options
from harness_plugin.cli.model_options import SPEC_FIELDS, batch_size_option, model_options, order_option, reword
from harness_plugin.cli.options import Number, given, log_to_stderr, plots_option
from harness_plugin.cli.several_options import abstain_options, confidence_option
from harness_plugin.errors import UsageError

OPENING = ("order", "limit", "batch_size", "cache_file")  # how judges are opened, and how many pairs are read


@click.command("compare")
@click.argument("judges", nargs=-1, metavar="JUDGE...")
@click.option(
    "--data", type=click.Path(allow_dash=True), required=True, metavar="VOTES", help="The file of pairs with winners."
)
@model_options
@pair_options
@click.option(
    "--reference",
    metavar="JUDGE",
    help="Compare the others with this judge, named as in the table. [default: the most accurate one]",
)
@click.option(
    "--panel",
    metavar="JUDGE,JUDGE,...",
    help="Also a panel of these judges, whose verdict is the mean of their probabilities.",
)
@click.option(
    "--cascade",
    metavar="SMALL,BIG",
    help="Also a cascade of these two: SMALL decides what it is sure of and hands the rest to BIG.",
)
@confidence_option
@click.option(
    "--cascade-data",
    type=click.Path(),
    metavar="FILE",
    help="Fit the confidence of --cascade to the pairs of this file, for --cascade-agreement. They must have other "
    "prompts than VOTES.",
)
@click.option(
    "--cascade-agreement",
    type=Number(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    metavar="SHARE",
    help="With --cascade-data: the share of all verdicts that must be the same as those of BIG, with a probability of "
    "95%.",
)
@abstain_options
@order_option("For judges that are opened. ab: present each pair with A first only; both: in both orders.")
@limit_option
@batch_size_option
@cache_options(default=False)
@plots_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="compared",
    show_default=True,
    metavar="DIR",
    help="The folder for the scores and the comparison; the same command continues a run that was stopped.",
)
def command(judges, data, spec, read, output, plots, **asked):
    """Compare judges on the same pairs, of which people said who won.

    A JUDGE is one of these: a judge by its name (embedded, a folder, a hub id, the address of a server, as --judge of
    other commands takes it); the settings of a judge as for lm-eval (pretrained=DIR,dtype=float32); a file of scores
    that `arena-rm score` wrote; or lm-eval's results of arena_pairs with --log_samples, of any model
    (samples=DIR,task=NAME where there are several tasks). --peft A,B,C names several adapters on one base. The other
    options of judges are for all judges that are loaded here.

    Only pairs that every judge has judged are compared. The result to look at is DIR/comparison.html.

    \b
    Example: arena-rm compare embedded my-judge results/my-model --data votes.jsonl

    Exit codes: 0 done, 2 wrong usage, 3 bad data, or a judge could not be loaded.
    """
    log_to_stderr()
    from harness_plugin.comparison.named import check_there
    from harness_plugin.comparison.plan import planned, result_of
    from harness_plugin.pairs import labelled
    from harness_plugin.report.comparison_files import text, write_comparison

    if output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file", "a comparison writes several files", "name a folder")
    if asked["cascade_data"] is None and given("cascade_agreement"):
        raise UsageError(
            "--cascade-agreement without --cascade-data", "an agreement is fitted to pairs", "add --cascade-data FILE"
        )
    options = {name: asked.pop(name) for name in OPENING}
    plan = planned(_named(judges, spec, options["batch_size"], asked), **asked)
    votes = labelled(read(data, limit=options.pop("limit")))
    fitted_on = {name: labelled(read(file)) for name, file in plan.files.items()}
    plan.check(votes, fitted_on)
    check_there(plan.judges)
    pairs = [*votes, *(pair for file in fitted_on.values() for pair in file)]
    entries = _entries(plan.judges, pairs, output / "scores", **options)
    result = {"votes": str(data), **result_of(plan, entries, votes, fitted_on)}
    click.echo(text(result))
    write_comparison(output, result, plots)
    click.echo(f"the comparison is in {output}; look at {output}/comparison.html", err=True)


reword(
    command,
    judge=None,
    pretrained="With --peft: the base of these adapters. [default: each adapter's own]",
    peft="One adapter more, or several with commas between them: folders, or ids on the hub.",
    revision="With --peft: the revision of the base on the hub.",
)


def _named(judges, spec, batch_size, asked):
    """The judges that the arguments, --peft, --panel and --cascade name. Raises UsageError where they are none, or
    contradict options."""
    from harness_plugin.comparison.named import named_judges

    adapters = spec.peft.split(",") if spec.peft else []
    if spec.judge is not None:
        raise UsageError("--judge", "the judges of a comparison are its arguments", f"write: compare {spec.judge} ...")
    if spec.pretrained is not None and not adapters:
        raise UsageError(
            f"--pretrained {spec.pretrained}",
            "the judges of a comparison are its arguments",
            f"write: compare {spec.pretrained} ..., or add --peft for adapters on this base",
        )
    on_base = "".join(f",{name}={value}" for name in ("pretrained", "revision") if (value := getattr(spec, name)))
    names = [*judges, *(f"peft={adapter}{on_base}" for adapter in adapters)]
    shared = replace(spec, pretrained=None, peft=None, revision=None)
    named = named_judges(names, shared)
    members = [name for option in ("panel", "cascade") for name in (asked[option] or "").split(",") if name]
    more = list(dict.fromkeys(name for name in members if not any(judge.is_called(name) for judge in named)))
    if not names and not more:
        raise UsageError("no judge is named", "a comparison needs at least one", "name judges, or adapters with --peft")
    named = named_judges([*names, *more], shared) if more else named
    _check_effect(named, shared, batch_size)
    return named


def _check_effect(named, shared, batch_size) -> None:
    """Raises UsageError for an option of judges that has no effect on any of those that are opened."""
    from harness_plugin.model.several import check_effect, members_of

    opened = [judge for each in named if each.spec is not None for judge in members_of(each.spec)]
    if any(judge.served for judge in opened):
        refuse_no_cache()
    if opened:
        check_effect(shared, opened, batch_size)
    elif idle := given(*SPEC_FIELDS, "order", "batch_size", "cache", "cache_file"):
        raise UsageError(
            f"{idle[0]} with stored judgements only", "no judge is opened, so it has no effect", "leave it out"
        )


def _entries(judges, pairs, folder, **options):
    """The judgements of each judge by its label. Raises UsageError for two that are the same judge, of those that are
    opened before they judge."""
    from harness_plugin.comparison.entries import stored_entry
    from harness_plugin.scoring.identity import Distinct

    found, distinct = {}, Distinct()
    for named in judges:
        if named.spec is None:
            found[named.label] = stored_entry(named)
            distinct.add(named.label, found[named.label].identity.get("hash"))
    for named in judges:
        if named.spec is not None:
            found[named.label] = _judged_entry(named, pairs, folder, distinct, **options)
    return {named.label: found[named.label] for named in judges}


def _judged_entry(named, pairs, folder, distinct, order, batch_size, cache_file):
    """The judgements of a judge that is opened, in the folder."""
    from tqdm import tqdm

    from harness_plugin.comparison.entries import judged_entry
    from harness_plugin.judges import open_judge
    from harness_plugin.model.several import computes_here

    batch_size = batch_size if computes_here(named.spec) else None
    with (
        opened_cache(cache_file) as store,
        open_judge(named.spec, order=order, batch_size=batch_size, store=store) as judge,
        tqdm(total=len({pair.key for pair in pairs}), desc=named.label, unit="pair", disable=None) as bar,
    ):
        distinct.add(named.label, judge.hash)
        return judged_entry(named.label, judge, pairs, folder, bar.update)
