"""The training run: transformers' Trainer, a PEFT adapter, an adapter folder that is ready to score with.

`python -m harness_plugin.train.loop` is not a command; `arena-rm train RECIPE` is.
"""

import json
import logging
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from harness_plugin.engine import Engine
from harness_plugin.errors import TrainError, UsageError
from harness_plugin.model import EMBEDDED, Manifest, ModelSpec, load_model
from harness_plugin.model.device import choose_device
from harness_plugin.model.embedded import BASE_NAME, embedded_base
from harness_plugin.model.fingerprint import file_sha256, fingerprint
from harness_plugin.model.load import load_base, load_tokenizer, quiet_transformers
from harness_plugin.outcome import combine, fit_calibration
from harness_plugin.pairs import Pair, atomic_write, read_pairs, text_length
from harness_plugin.prompt import Renderer
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.data import Examples, select, split
from harness_plugin.train.trainer import make_trainer

log = logging.getLogger("lm_eval.arena_rm")

LIBRARIES = ("torch", "transformers", "peft", "accelerate")


def train(config: TrainConfig, files: list[str], out: Path, device: str | None = None) -> Manifest:
    """Trains an adapter and writes it to `out`, which must not exist; returns its manifest.

    The folder appears only when it is whole. Checkpoints live beside it in `out`.part until then.
    """
    if out.exists():
        raise UsageError(f"{out} exists", "an adapter is never overwritten", "choose another -o or move it away")
    chosen = choose_device(device)
    if config.precision == "float16" and chosen.type == "cpu":
        raise UsageError("precision: float16 on a CPU", "it has no float16 training", "use --set precision=bfloat16")
    base = str(embedded_base()) if config.base == EMBEDDED else config.base
    renderer = Renderer(load_tokenizer(base, revision=config.revision), config.max_length, config.truncation)
    training, validation, used = prepare(config, files, renderer)
    facts = {
        "recipe": config.to_dict(), "files": used, "pairs": len(training), "validation_pairs": len(validation),
    }  # fmt: skip
    work = out.with_name(out.name + ".part")
    checkpoint = _begin(work, facts)
    network = build(config, base)
    sets = [Examples(part, renderer, config) for part in (training, validation)]
    log.info(
        "arena_rm: training on %d pairs, %d cut; validating on %d", len(training), sets[0].truncated, len(validation)
    )
    trainer = make_trainer(config, network, *sets, work, chosen)
    trainer.train(resume_from_checkpoint=checkpoint)
    _refuse_broken(network)
    final = work / "adapter"
    _save(network, config, final)
    manifest = Manifest(
        base=BASE_NAME if config.base == EMBEDDED else config.base, base_revision=config.revision,
        base_fingerprint=fingerprint(base), max_length=config.max_length, truncation=config.truncation,
        training={**facts, "log": _history(trainer)}, versions={name: version(name) for name in LIBRARIES},
    )  # fmt: skip
    manifest.save(final)
    manifest = measure(manifest, final, config, validation, device)
    manifest.save(final)
    shutil.move(str(final), str(out))
    shutil.rmtree(work)
    return manifest


def _begin(work: Path, facts: dict) -> str | None:
    """Makes the working folder, or finds the last checkpoint of the same run that was stopped there."""
    from transformers.trainer_utils import get_last_checkpoint

    note = work / "run.json"
    if note.exists():
        if json.loads(note.read_text(encoding="utf-8")) != facts:
            raise UsageError(
                f"{work} holds another run, unfinished", "its checkpoints do not belong to this recipe and data",
                "repeat that run's command, or delete the folder",
            )  # fmt: skip
        checkpoint = get_last_checkpoint(str(work))
        log.info("arena_rm: continuing from %s", checkpoint or "the start")
        return checkpoint
    work.mkdir(parents=True, exist_ok=True)
    with atomic_write(note) as f:
        f.write(json.dumps(facts))
    return None


def prepare(config: TrainConfig, files: list[str], renderer: Renderer) -> tuple[list[Pair], list[Pair], list[dict]]:
    """(training pairs, validation pairs, what each file was), read, split by prompt, then selected."""
    pairs, used = [], []
    for name in files:
        found = read_pairs(name).pairs
        used.append({"name": Path(name).name, "sha256": file_sha256(Path(name)), "pairs": len(found)})
        pairs += found
    training, validation = split(pairs, config)
    if len(validation) < 2:
        raise TrainError("1 validation pair", "a calibration is fitted on them", "give more data or another share")
    unlimited = replace_length(renderer, 10**9)

    def tokens(pair: Pair) -> int:
        return len(unlimited.render(pair).ids)

    return select(training, config.select, config.seed, tokens), validation, used


def replace_length(renderer: Renderer, max_length: int) -> Renderer:
    return Renderer(renderer.tokenizer, max_length, renderer.truncation)


def build(config: TrainConfig, base: str):
    """Base with a fresh head and LoRA; every trainable tensor in float32, the frozen ones in the run's precision.

    (A head left in half precision stops GradScaler with fp16, and with bf16 does not move at small learning rates.)
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(config.seed)
    frozen = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    if config.precision == "float16":
        frozen = torch.float16
    model, _ = load_base(base, 1, frozen, config.revision)
    lora = LoraConfig(task_type="SEQ_CLS", **asdict(config.lora))  # copies: PEFT adds to the lists
    with quiet_transformers():
        network = get_peft_model(model, lora)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    network.config.use_cache = False
    return network


def _refuse_broken(network) -> None:
    broken = [n for n, p in network.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if broken:
        raise TrainError(f"{broken[0]} is not finite after training", "no score could come of it", "lower the rate")


def _save(network, config: TrainConfig, folder: Path) -> None:
    for peft_config in network.peft_config.values():
        peft_config.base_model_name_or_path = BASE_NAME if config.base == EMBEDDED else config.base
        peft_config.revision = config.revision
        peft_config.modules_to_save = list(dict.fromkeys(peft_config.modules_to_save))  # PEFT adds the head's twice
    network.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)


def _history(trainer) -> list[dict]:
    keep = ("step", "epoch", "loss", "eval_loss")
    return [
        {k: round(row[k], 5) for k in keep if k in row}
        for row in trainer.state.log_history
        if {"loss", "eval_loss"} & set(row)
    ]


def measure(
    manifest: Manifest, folder: Path, config: TrainConfig, validation: list[Pair], device: str | None
) -> Manifest:
    """The saved adapter, loaded as a user would and scored in both orders on the validation pairs: metrics and
    calibration for the manifest. The log loss of the calibrated three-way outcome is on the pairs it was fitted on."""
    base = EMBEDDED if config.base == EMBEDDED else config.base
    model = load_model(ModelSpec(pretrained=base, peft=str(folder), revision=config.revision, device=device))
    rendered = [model.renderer.render_orders(p) for p in validation]
    z = Engine(model).logits([r.ids for both in rendered for r in both]).reshape(len(validation), 2, -1)
    outcomes = combine(z[:, 0], z[:, 1])
    labels = np.array([p.soft_label for p in validation])
    calibration = fit_calibration(outcomes.s, [p.target for p in validation])
    decisive = np.abs(labels - 0.5) > 0
    right = np.where(outcomes.s == 0, 0.5, (outcomes.s > 0) == (labels > 0.5))[decisive]
    longer = np.array([text_length(p.response_b) - text_length(p.response_a) for p in validation])
    by_length = np.where(longer == 0, 0.5, (longer > 0) == (labels > 0.5))[decisive]
    p_b = 1 / (1 + np.exp(-outcomes.s))
    return replace(
        manifest,
        calibration={"temperature": calibration.temperature, "tie_nu": calibration.tie_nu, "n": len(validation)},
        metrics={
            "validation": {
                "n": len(validation), "n_decisive": int(decisive.sum()), "acc": _rounded(right.mean()),
                "longer_wins": _rounded(by_length.mean()),
                "soft_log_loss": _rounded(-(labels * np.log(p_b) + (1 - labels) * np.log(1 - p_b)).mean()),
                "order_agreement": _rounded((np.sign(z[:, 0, 0]) == -np.sign(z[:, 1, 0])).mean()),
            }
        },
    )  # fmt: skip


def _rounded(x: float) -> float:
    return round(float(x), 4)


def describe(manifest: Manifest) -> str:
    return json.dumps({"metrics": manifest.metrics, "calibration": manifest.calibration}, indent=1)
