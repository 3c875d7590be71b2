"""The record of a training run beside the weights: training.json, its curves as a picture, and the model card.

This module knows the manifest and the numbers that the loop counted; it does not know torch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path

from harness_plugin.files import atomic_write
from harness_plugin.model.manifest import Manifest
from harness_plugin.report.drawing import attempt
from harness_plugin.report.judge_plots import curves
from harness_plugin.train.model_card import model_card, with_calibration

RECORD_FILE, CURVES_FILE, CARD_FILE = "training.json", "training.png", "README.md"
SCHEMA = 1


def write_record(
    folder: Path, manifest: Manifest, history: Sequence[Mapping], run: Mapping, terms: str | None = None
) -> None:
    """Writes training.json, training.png and README.md into `folder`.

    history: rows with `step` and any of `epoch`, `loss`, `eval_loss`, `eval_accuracy`, `learning_rate`, `grad_norm`.
    run: `device` (its name), `devices`, `seconds`, `tokens` and `pairs` trained on, `truncation` (a dict of counts);
    what is missing becomes null. terms: one sentence on the terms of the data, for the model card. Without matplotlib
    the picture is left out with a warning. Raises DataError if a file cannot be written.
    """
    folder = Path(folder)
    with atomic_write(folder / RECORD_FILE) as out:
        text = json.dumps(record(manifest, history, run), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        out.write(text + "\n")
    with atomic_write(folder / CARD_FILE) as out:
        out.write(model_card(manifest, run, terms))
    attempt(curves, folder / CURVES_FILE, history)


def renew_card(folder: Path, manifest: Manifest) -> None:
    """Puts the manifest's calibration into the model card of the folder, if there is one with a section for it. Raises
    DataError if it cannot be written."""
    card = Path(folder) / CARD_FILE
    if not card.is_file():
        return
    try:
        text = card.read_text("utf-8")
    except UnicodeDecodeError:  # the cards that this package writes are in UTF-8: somebody else wrote this one
        return
    renewed = with_calibration(text, manifest)
    if renewed != text:
        with atomic_write(card) as out:
            out.write(renewed)


def record(manifest: Manifest, history: Sequence[Mapping], run: Mapping) -> dict:
    """The content of training.json: only types that JSON has, null for numbers that are not finite, rows by step."""
    training = dict(manifest.training)
    recipe = training.pop("recipe", None)
    training.pop("log", None)
    tokens, seconds = _plain(run.get("tokens")), _plain(run.get("seconds"))
    speed = round(tokens / seconds, 1) if tokens is not None and seconds else None
    return {
        "schema": SCHEMA,
        "recipe": _plain(recipe),
        "data": _plain(training),
        "history": sorted((_plain(row) for row in history), key=lambda row: row.get("step") or 0),
        "metrics": _plain(manifest.metrics),
        "calibration": _plain(manifest.calibration),
        "versions": _plain(manifest.versions),
        "device": _plain(run.get("device")),
        "devices": _plain(run.get("devices")),
        "pairs": _plain(run.get("pairs")),
        "seconds": seconds,
        "tokens": {"trained": tokens, "per_second": speed},
        "truncation": _plain(run.get("truncation")),
    }


def _plain(value):
    """The value in types that JSON has; numbers of numpy become Python's. Raises TypeError for other types."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value  # a number of numpy or a tensor
    if isinstance(value, int):
        return value
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else None
    raise TypeError(f"{type(value).__name__} has no form in JSON")
