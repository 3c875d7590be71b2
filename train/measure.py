"""What a finished adapter is worth on the validation pairs, and its calibration; both go into the manifest."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.judges.opening import open_local
from harness_plugin.model import Manifest, ModelSpec
from harness_plugin.pairs import Pair
from harness_plugin.scoring.fit_calibration import fit_calibration, fit_length_worth, fit_temperature
from harness_plugin.scoring.judge_metrics import judge_metrics
from harness_plugin.scoring.judgement import judged
from harness_plugin.scoring.probabilities import NEUTRAL
from harness_plugin.train.split import label_of, target_of

log = logging.getLogger("lm_eval.arena_rm")


def measure(manifest: Manifest, folder: Path, validation: list[Pair], device: str | None) -> Manifest:
    """The manifest with `metrics` and `calibration` of the adapter in `folder`.

    It is loaded as a user would load it and scored in both orders. There is no calibration where its scores go against
    the labels. Calibrated metrics (log_loss, brier, ece) are on the pairs that the calibration was fitted on, and
    `soft_log_loss` is the training loss of the averaged logit.
    """
    with open_local(ModelSpec(peft=str(folder), device=device, temperature=1.0, tie_nu=0.0)) as judge:
        raw = list(judge.judge(validation))
        one = judge.model.num_labels == 1
    target = [target_of(p) for p in validation]
    s = np.array([j.score for j in raw])
    z_ab, z_ba = [j.z_ab or () for j in raw], [j.z_ba or () for j in raw]  # never None: both orders were judged
    calibration = None
    try:
        calibration = fit_calibration(s, target) if one else fit_temperature(z_ab, z_ba, target)
    except DataError as e:
        log.warning("arena_rm: the adapter has no calibration, `arena-rm calibrate` makes one: %s", e)
    calibrated = judged(validation, z_ab, z_ba, calibration or NEUTRAL, judge.hash)
    estimates = judge_metrics(calibrated, [p.verdict.class_index for p in validation if p.verdict is not None])
    labels = np.array([label_of(p) for p in validation])
    soft = np.logaddexp(0.0, s) - labels * s  # for three logits: between A and B, ties left out
    metrics = {name: _entry(e) for name, e in estimates.items()} | {"soft_log_loss": round(float(soft.mean()), 4)}
    entry = (
        None
        if calibration is None
        else {
            "temperature": calibration.temperature,
            "tie_nu": calibration.tie_nu,
            "length_worth": fit_length_worth(s, labels, [p.lengths for p in validation]),
            "n": len(validation),
        }
    )
    return replace(manifest, calibration=entry, metrics={"validation": metrics})


def _entry(e) -> dict:
    """An estimate for a JSON file: what is not known is null."""
    numbers = {"value": e.value, "low": e.low, "high": e.high}
    return {**{k: None if math.isnan(v) else round(v, 4) for k, v in numbers.items()}, "n": e.n}
