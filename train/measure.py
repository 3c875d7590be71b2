"""What a finished adapter is worth on the validation pairs, and its calibration; both go into the manifest."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness_plugin.engine import Engine
from harness_plugin.model import Manifest, ModelSpec, load_model
from harness_plugin.pairs import Pair, text_length
from harness_plugin.scoring.calibration import at_bounds, fit_calibration, fit_temperature
from harness_plugin.scoring.outcome import combine
from harness_plugin.stats import preference_metrics

log = logging.getLogger("lm_eval.arena_rm")


def measure(manifest: Manifest, folder: Path, validation: list[Pair], device: str | None) -> Manifest:
    """The manifest with `metrics` and `calibration` of the adapter in `folder`.

    It is loaded as a user would load it and scored in both orders. Calibrated metrics (log_loss, brier, ece) are on
    the pairs that the calibration was fitted on, and `soft_log_loss` is the training loss of the averaged logit.
    """
    model = load_model(ModelSpec(peft=str(folder), device=device))
    rendered = [model.renderer.render_orders(p) for p in validation]
    z = Engine(model).logits([r.ids for both in rendered for r in both]).reshape(len(validation), 2, -1)
    raw = combine(z[:, 0], z[:, 1])
    target = [p.target for p in validation]
    one = model.num_labels == 1
    calibration = fit_calibration(raw.s, target) if one else fit_temperature(z[:, 0], z[:, 1], target)
    for name in at_bounds(calibration):
        log.warning(
            "arena_rm: %s %s is where the search ends: %d validation pairs do not fix it; calibrate with more",
            name,
            getattr(calibration, name),
            len(validation),
        )
    outcomes = combine(z[:, 0], z[:, 1], calibration)
    found = preference_metrics(
        raw.s,
        [p.verdict.class_index for p in validation],
        bias=raw.bias,
        probabilities=outcomes.p,
        lengths_a=[text_length(p.response_a) for p in validation],
        lengths_b=[text_length(p.response_b) for p in validation],
        clusters=[p.prompt_key for p in validation],
    )
    labels = np.array([p.soft_label for p in validation])
    soft = np.logaddexp(0.0, raw.s) - labels * raw.s  # for three logits: between A and B, ties left out
    metrics = {name: _entry(e) for name, e in found.items()} | {"soft_log_loss": round(float(soft.mean()), 4)}
    entry = {"temperature": calibration.temperature, "tie_nu": calibration.tie_nu, "n": len(validation)}
    return replace(manifest, calibration=entry, metrics={"validation": metrics})


def _entry(e) -> dict:
    """An estimate for a JSON file: what is not known is null."""
    numbers = {"value": e.value, "low": e.low, "high": e.high}
    return {**{k: None if math.isnan(v) else round(v, 4) for k, v in numbers.items()}, "n": e.n}
