"""Options of judges that are made of others, and of judges that abstain."""

import functools
from dataclasses import replace

import click

from harness_plugin.cli.options import Number, given
from harness_plugin.errors import UsageError
from harness_plugin.files.printable import counted

confidence_option = click.option(
    "--cascade-confidence",
    type=Number(0.5, 1),
    metavar="P",
    help="The small judge of --cascade decides the pairs of which it is at least this sure; from 0.5 to 1.",
)


def several_options(command):
    """Adds --panel and --cascade to a command that has `model_options`; they become the name of the judge in `spec`."""

    @functools.wraps(command)
    def run(spec, panel, cascade, cascade_confidence, **arguments):
        asked = [option for option, value in (("--panel", panel), ("--cascade", cascade)) if value is not None]
        if asked and (len(asked) > 1 or (spec.judge, spec.peft, spec.pretrained) != (None, None, None)):
            raise UsageError(
                f"{' and '.join(asked)} beside another judge", "a command has one judge", "leave the other one out"
            )
        if (cascade is None) != (cascade_confidence is None):
            raise UsageError(
                "--cascade without --cascade-confidence" if cascade else "--cascade-confidence without --cascade",
                "a cascade is two judges and the confidence from which the small one decides",
                "give both; `arena-rm compare` fits the confidence to a wanted agreement",
            )
        if panel is not None:
            spec = replace(spec, judge=f"panel:{panel.replace(',', '+')}")
        if cascade is not None:
            spec = replace(spec, judge=f"cascade:{cascade.replace(',', '+')}@{cascade_confidence}")
        return command(spec=spec, **arguments)

    options = [
        click.option(
            "--panel",
            metavar="JUDGE,JUDGE,...",
            help="Judge with a panel: the verdict is the mean of the probabilities of these judges, each named as for "
            "--judge.",
        ),
        click.option(
            "--cascade",
            metavar="SMALL,BIG",
            help="Judge with two judges: SMALL decides what it is sure of (--cascade-confidence) and hands the rest to "
            "BIG.",
        ),
        confidence_option,
    ]
    for option in reversed(options):
        run = option(run)
    return run


def abstain_options(command):
    """Adds the options of a judge that abstains; the command receives `abstain_data`, `abstain_error` and
    `abstain_level`."""

    @functools.wraps(command)
    def run(abstain_data, **arguments):
        if abstain_data is None and (idle := given("abstain_error", "abstain_level")):
            raise UsageError(
                f"{idle[0]} without --abstain-data",
                "an abstention is fitted to labelled pairs",
                "add --abstain-data FILE",
            )
        return command(abstain_data=abstain_data, **arguments)

    options = [
        click.option(
            "--abstain-data",
            type=click.Path(),
            metavar="FILE",
            help="Let the judge abstain where it is not sure enough, as fitted to the labelled pairs of this file. "
            "They must have other prompts than the pairs that are reported.",
        ),
        click.option(
            "--abstain-error",
            type=Number(0, 1, min_open=True, max_open=True),
            default=0.1,
            show_default=True,
            metavar="SHARE",
            help="The largest error that is allowed among the decisive pairs that are judged.",
        ),
        click.option(
            "--abstain-level",
            type=Number(0, 1, min_open=True, max_open=True),
            default=0.95,
            show_default=True,
            metavar="P",
            help="The probability with which the error is not larger, over files of labelled pairs like this one.",
        ),
    ]
    for option in reversed(options):
        run = option(run)
    return run


def abstaining(read, pairs, abstain_data, abstain_error, abstain_level):
    """A function of a judge that has it judge the labelled pairs of `abstain_data`, says from which confidence on it
    decides, and returns a function that marks the judgements from which it abstains; without a file, none is marked.
    Raises DataError where the file shares a prompt with the pairs, or has no winners."""
    if abstain_data is None:
        return lambda judge: lambda judgement: judgement
    from harness_plugin.pairs import labelled
    from harness_plugin.scoring.abstention import fit_abstention, refuse_shared

    fitted_on = labelled(read(abstain_data))
    refuse_shared(fitted_on, pairs, abstain_data)

    def fit(judge):
        by_key = {judgement.key: judgement for judgement in judge.judge(fitted_on)}
        known = [by_key[pair.key].of_pair(pair) for pair in fitted_on if pair.key in by_key]
        found = fit_abstention(known, abstain_error, abstain_level)
        said = "it abstains from every pair, since these pairs prove the bound for no confidence"
        if found.confidence is not None:
            said = f"it decides from a confidence of {found.confidence:.3f} on"
        click.echo(
            f"abstention for an error of at most {found.error:g}, with a probability of {found.level:g}: {said} "
            f"({counted(found.pairs, 'decisive pair')} of {counted(found.prompts, 'prompt')} in {abstain_data})",
            err=True,
        )
        return found.applied

    return fit


def refuse_fitting(abstention) -> None:
    """Raises UsageError for an abstention that is to be fitted in several processes."""
    if abstention["abstain_data"] is not None:
        raise UsageError(
            "--abstain-data in several processes", "one process fits the abstention", "score with one process"
        )
