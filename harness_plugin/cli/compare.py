"""`arena-rm compare`: several judges on the same votes of people, in one table."""

from dataclasses import replace
from pathlib import Path

import click

from harness_plugin.cli.options import (
    batch_size_option,
    cache_options,
    log_to_stderr,
    model_options,
    opened_cache,
    pair_options,
)
from harness_plugin.errors import UsageError


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
    "--order",
    type=click.Choice(["ab", "both"]),
    default="both",
    show_default=True,
    help="For judges that are opened. ab: present each pair with A first only; both: in both orders.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N pairs.")
@batch_size_option
@cache_options(default=False)
@click.option(
    "--plots/--no-plots", default=True, show_default=True, help="Also draw a picture as a PNG file (needs matplotlib)."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="compared",
    show_default=True,
    metavar="DIR",
    help="The folder for the scores and the comparison; the same command continues a run that was stopped.",
)
def command(judges, data, spec, read, reference, order, limit, batch_size, cache_file, plots, output):
    """Compare judges on the same pairs, of which people said who won.

    A JUDGE is a judge as --judge takes it (embedded, a folder, a hub id, the address of a server); settings as for
    lm-eval (pretrained=DIR,dtype=float32); a file of scores that `arena-rm score` wrote; or lm-eval's results of
    arena_pairs with --log_samples, of any model (samples=DIR,task=NAME where there are several tasks). --peft A,B,C
    names several adapters on one base. Other options of judges are for all that are opened here.

    Only pairs that every judge has judged are compared. The result to look at is DIR/comparison.html.

    \b
    Example: arena-rm compare embedded my-judge results/my-model --data votes.jsonl

    Exit codes: 0 done, 2 wrong usage, 3 bad data, or a judge could not be loaded.
    """
    log_to_stderr()
    from harness_plugin.comparison.entries import labelled
    from harness_plugin.comparison.figures import compared, judged_by_all
    from harness_plugin.report.comparison_files import text, write_comparison

    if output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file", "a comparison leaves several", "name a folder")
    named = _named(judges, spec)
    pairs = labelled(read(data, limit=limit))
    entries = [_entry(judge, pairs, order, batch_size, cache_file, output) for judge in named]
    result = {"votes": str(data), **compared(judged_by_all(pairs, entries), entries, reference)}
    write_comparison(output, result, plots)
    click.echo(text(result))
    click.echo(f"the comparison is in {output}; look at {output}/comparison.html", err=True)


def _named(judges, spec):
    """The judges that the arguments and --peft name. Raises UsageError where they are none, or contradict options."""
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
    if not names:
        raise UsageError("no judge is named", "a comparison needs at least one", "name judges, or adapters with --peft")
    return named_judges(names, replace(spec, pretrained=None, peft=None, revision=None))


def _entry(named, pairs, order, batch_size, cache_file, output):
    """The judgements of one judge: read where they are stored, else judged into the folder `scores`."""
    from tqdm import tqdm

    from harness_plugin.comparison.entries import judged_entry, stored_entry
    from harness_plugin.judges import open_judge

    if named.spec is None:
        return stored_entry(named)
    with (
        opened_cache(cache_file) as store,
        open_judge(named.spec, order=order, batch_size=batch_size, store=store) as judge,
        tqdm(total=len({pair.key for pair in pairs}), desc=named.label, unit="pair", disable=None) as bar,
    ):
        return judged_entry(named.label, judge, pairs, output / "scores", bar.update)
