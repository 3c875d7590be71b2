"""`arena-rm calibrate`: fits a judge's temperature and tie mass to labelled pairs."""

from dataclasses import replace
from pathlib import Path

import click

from harness_plugin.cli.data_options import pair_options
from harness_plugin.cli.model_options import model_options, reword
from harness_plugin.cli.options import given, log_to_stderr
from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.opening import display
from harness_plugin.files.printable import counted
from harness_plugin.model.spec import OF_SERVED

PLOT = "reliability.png"
REFUSED = ("judge", "peft", "temperature", "tie_nu", "length_control", *OF_SERVED)  # the argument JUDGE says it


@click.command("calibrate")
@click.argument("adapter", metavar="JUDGE")
@click.argument("file", type=click.Path(allow_dash=True))
@model_options
@pair_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write arena_rm.json here instead. To use it, put it beside the weights. [default: the folder of the judge]",
)
@click.option(
    "--surface",
    is_flag=True,
    help="Also fit how much the length, the lists, the headings and the like of the responses tell beside the judge, "
    "and let them count in its verdicts. With length_control=true they do not count.",
)
@click.option(
    "--tie-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="State how often people tie, where the labels do not say it: the mean probability of a tie on these pairs. "
    "The temperature is then fitted to the decisive pairs. [default: as often as the labels say]",
)
@click.option(
    "--plot/--no-plot",
    default=None,
    help=f"Draw {PLOT} beside arena_rm.json. [default: --plot if matplotlib is installed]",
)
def command(adapter, file, spec, read, out, surface, tie_share, plot):
    """Fit the temperature and the tie mass of JUDGE to the labelled pairs of FILE (- for stdin) by maximum likelihood,
    and write both numbers to arena_rm.json in the judge's folder. They turn logits into probabilities of A, B and a
    tie. If the scores contradict the labels, nothing is written.

    JUDGE is the folder of an adapter or of a whole model, its id on the hub, or `embedded`. The pairs must not be among
    those that it was trained on.

    \b
    Example: arena-rm calibrate my-judge held-out.jsonl

    Exit codes: 0 done, 2 wrong usage, 3 bad data, or the judge could not be loaded.
    """
    log_to_stderr()
    _check(adapter, out)
    from harness_plugin.report import drawing, judge_plots

    if plot:
        drawing.require()
    pairs = [p for p in read(file) if p.target is not None]
    if len(pairs) < 2:
        raise DataError(
            f"{file} has {counted(len(pairs), 'labelled pair')}",
            "a calibration fits two numbers and needs two pairs",
            "give more pairs",
        )
    model, s = _scored(adapter, spec, pairs)
    fitted, s, entry = _fitted(s, pairs, surface, tie_share)
    folder = Path(out or adapter)
    _save(folder, model, entry)
    _say(entry)
    _say_use(folder, adapter)
    if plot is not False:
        title = f"{Path(adapter).resolve().name} on {Path(display(file)).name}: {counted(len(pairs), 'pair')}"
        shown = folder / PLOT, s, [p.target for p in pairs], fitted, title, [p.prompt_key for p in pairs]
        judge_plots.calibration(*shown) if plot else drawing.attempt(judge_plots.calibration, *shown)


reword(
    command,
    pretrained="The base model of an adapter: a folder, or its id on the hub. [default: as the adapter says]",
    **dict.fromkeys(REFUSED),
)


def _check(adapter, out) -> None:
    """Refuses what can be refused before anything is read."""
    from harness_plugin.model.naming import is_several, served_at

    if is_several(adapter) or served_at(adapter):
        raise UsageError(
            f"{adapter} is not one model on this machine",
            "a calibration is fitted to the logits of one, and written beside its weights",
            "name a folder, a hub id or embedded",
        )
    if out is None and not Path(adapter).is_dir():
        raise UsageError(
            f"{adapter} is not a folder on this machine",
            "the calibration is written to a file beside the weights",
            "name a folder for it with --out",
        )
    if refused := given(*REFUSED):
        raise UsageError(
            f"{refused[0]} cannot be used here",
            "the argument JUDGE names one model on this machine, and its calibration is what is fitted",
            "leave it out",
        )


def _scored(adapter, spec, pairs):
    """(the loaded model, its debiased logit of each pair), without a calibration."""
    from harness_plugin.judges.opening import open_local
    from harness_plugin.model.naming import EMBEDDED, is_adapter

    whole = spec.pretrained is None and adapter != EMBEDDED and not is_adapter(adapter)
    named = replace(spec, pretrained=adapter) if whole else replace(spec, peft=adapter)
    judge = open_local(replace(named, temperature=1.0, tie_nu=None, length_control=False))
    if judge.model.num_labels != 1:
        raise UsageError(
            f"{adapter} has {judge.model.num_labels} logits",
            "they already give the probabilities of A, B and a tie",
            "use the judge without a calibration",
        )
    return judge.model, [judgement.logit for judgement in judge.judge(pairs)]


def _fitted(logits, pairs, with_surface, tie_share):
    """(the calibration, the logits to which it applies, what the manifest says of it)."""
    import numpy as np

    from harness_plugin.model.calibration import Calibration
    from harness_plugin.scoring.fit_calibration import (
        calibration_loss,
        fit_calibration,
        fit_length_worth,
        fit_surface_worth,
    )
    from harness_plugin.scoring.surface import surface_logit

    target, worth, s = [p.target for p in pairs], 0.0, np.array(logits)
    if with_surface:
        surface = np.array([surface_logit(pair) for pair in pairs])
        worth = fit_surface_worth(s, target, surface)
        s = s + worth * surface
    fitted = replace(fit_calibration(s, target, tie_share), surface_worth=worth)
    before, after = (calibration_loss(s, target, c) for c in (Calibration(1.0, fitted.tie_nu), fitted))
    return (
        fitted,
        s,
        {
            "temperature": fitted.temperature,
            "tie_nu": fitted.tie_nu,
            "length_worth": fit_length_worth(logits, [p.soft_label for p in pairs], [p.lengths for p in pairs]),
            **({"surface_worth": worth} if with_surface else {}),
            **({"tie_share": tie_share} if tie_share is not None else {}),
            "n": len(pairs),
            "log_loss_at_temperature_1": round(before, 5),
            "log_loss": round(after, 5),
        },
    )


def _save(folder, model, entry) -> None:
    from harness_plugin.train.record import renew_card

    folder.mkdir(parents=True, exist_ok=True)
    reads = {name: getattr(model.renderer, name) for name in ("template", "max_length", "truncation")}
    manifest = replace(model.manifest, kind=model.kind, calibration=entry, found=True, **reads)
    manifest.save(folder)
    renew_card(folder, manifest)


def _say_use(folder, adapter) -> None:
    """What is to be copied into a folder without weights, so that the calibration is used."""
    from harness_plugin.model.embedded import ADAPTER
    from harness_plugin.model.naming import ADAPTER_CONFIG, EMBEDDED, MODEL_CONFIG, is_adapter

    if any((folder / name).is_file() for name in (ADAPTER_CONFIG, MODEL_CONFIG)):
        return
    files = "all files but arena_rm.json"
    option = "--peft" if adapter == EMBEDDED or is_adapter(adapter) else "--pretrained"
    if adapter == EMBEDDED:
        files, adapter = f"{ADAPTER_CONFIG} and adapter_model.safetensors", ADAPTER
    click.echo(
        f"to use the calibration, copy {files} from {adapter} into {folder}, and name that folder with {option}",
        err=True,
    )


def _say(entry) -> None:
    from harness_plugin.scoring.fit_calibration import ENOUGH_FOR_NO_TIES

    surface = f", surface_worth {entry['surface_worth']}" if "surface_worth" in entry else ""
    click.echo(
        f"temperature {entry['temperature']}, tie_nu {entry['tie_nu']}{surface} from {entry['n']} pairs: "
        f"log loss {entry['log_loss_at_temperature_1']:.4f} at temperature 1, {entry['log_loss']:.4f} now"
    )
    if entry["n"] < ENOUGH_FOR_NO_TIES:
        prior = "temperature 1" if "tie_share" in entry else "temperature 1, tie mass 0.5"
        click.echo(
            f"warning: {entry['n']} pairs fix a calibration only roughly, and a prior of four pairs ({prior}) counts "
            f"beside them; give {ENOUGH_FOR_NO_TIES} or more",
            err=True,
        )
