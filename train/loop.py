"""The training run: transformers' Trainer, a PEFT adapter, an adapter folder that is ready to score with.

`python -m harness_plugin.train.loop` is not a command; `arena-rm train RECIPE` is.
"""

import json
import logging
import shutil
from dataclasses import replace
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
from harness_plugin.model.load import is_decoder_classifier, load_base, load_tokenizer
from harness_plugin.outcome import combine, fit_calibration
from harness_plugin.pairs import Pair, Winner, read_pairs
from harness_plugin.prompt import Renderer
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.data import Examples, select, soft_label, split
from harness_plugin.train.loss import collate, preference_loss

log = logging.getLogger("lm_eval.arena_rm")

LIBRARIES = ("torch", "transformers", "peft", "accelerate")


def train(config: TrainConfig, files: list[str], out: Path, device: str | None = None) -> Manifest:
    """Trains an adapter and writes it to `out`, which must not exist; returns its manifest.

    The folder appears only when it is whole. Checkpoints live beside it in `out`.part until then.
    """
    if out.exists():
        raise UsageError(f"{out} exists", "an adapter is never overwritten", "choose another -o or move it away")
    base = str(embedded_base()) if config.base == EMBEDDED else config.base
    renderer = Renderer(load_tokenizer(base, revision=config.revision), config.max_length, config.truncation)
    training, validation, used = prepare(config, files, renderer)
    network = build(config, base)
    work = out.with_name(out.name + ".part")
    trainer = _trainer(config, network, Examples(training, renderer, config), Examples(validation, renderer, config), work,
                       choose_device(device))  # fmt: skip
    log.info("arena_rm: training on %d pairs, %d cut; validating on %d", len(training),
             trainer.train_dataset.truncated, len(validation))  # fmt: skip
    trainer.train()
    _refuse_broken(network)
    final = work / "adapter"
    _save(network, config, final)
    manifest = Manifest(
        base=BASE_NAME if config.base == EMBEDDED else config.base, base_revision=config.revision,
        base_fingerprint=fingerprint(base), max_length=config.max_length, truncation=config.truncation,
        training={"recipe": config.to_dict(), "files": used, "pairs": len(training), "validation_pairs": len(validation),
                  "log": _history(trainer)},
        versions={name: version(name) for name in LIBRARIES},
    )  # fmt: skip
    manifest.save(final)
    manifest = measure(manifest, final, config, validation, device)
    manifest.save(final)
    shutil.move(str(final), str(out))
    shutil.rmtree(work)
    return manifest


def prepare(config: TrainConfig, files: list[str], renderer: Renderer) -> tuple[list[Pair], list[Pair], list[dict]]:
    """(training pairs, validation pairs, what each file was), read, split by prompt, then selected."""
    pairs, used = [], []
    for name in files:
        found = read_pairs(name).pairs
        used.append({"name": Path(name).name, "sha256": file_sha256(Path(name)), "pairs": len(found)})
        pairs += found
    training, validation = split(pairs, config)
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
    lora = LoraConfig(task_type="SEQ_CLS", **vars(config.lora))
    network = get_peft_model(model, lora)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    network.config.use_cache = False
    return network


def _trainer(config: TrainConfig, network, training, validation, work: Path, device: torch.device):
    from transformers import Trainer, TrainerCallback, TrainingArguments

    if config.precision == "float16" and device.type == "cpu":
        raise UsageError("precision: float16 on a CPU", "it has no float16 training", "use --set precision=bfloat16")

    class PreferenceTrainer(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            if is_decoder_classifier(model):  # padding is on the right and never attended to: no mask, faster kernels
                inputs.pop("attention_mask")
            outputs = model(**inputs)
            loss = preference_loss(outputs.logits, labels)
            if not torch.isfinite(loss):
                raise TrainError("the loss is not a number", "the arithmetic overflowed", "lower the rate or use bfloat16")
            return (loss, {"logits": outputs.logits}) if return_outputs else loss

        def create_optimizer(self, *args, **kwargs):
            optimizer = super().create_optimizer(*args, **kwargs)
            if config.head_learning_rate is not None:
                head = [p for n, p in network.named_parameters() if p.requires_grad and "modules_to_save" in n]
                ids = {id(p) for p in head}
                for group in optimizer.param_groups:
                    group["params"] = [p for p in group["params"] if id(p) not in ids]
                optimizer.add_param_group({"params": head, "lr": config.head_learning_rate, "weight_decay": 0.0})
            return optimizer

    class Epoch(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            training.epoch = int(state.epoch or 0)

    updates = max(1, int(len(training) / (config.batch_size * config.accumulation) * config.epochs))
    every = max(1, updates // config.evaluations)
    args = TrainingArguments(
        output_dir=str(work), num_train_epochs=config.epochs, learning_rate=config.learning_rate,
        lr_scheduler_type=config.scheduler, warmup_steps=int(config.warmup * updates), weight_decay=config.weight_decay,
        per_device_train_batch_size=config.batch_size, per_device_eval_batch_size=max(8, config.batch_size),
        gradient_accumulation_steps=config.accumulation, max_grad_norm=config.max_grad_norm,
        bf16=config.precision == "bfloat16", fp16=config.precision == "float16", use_cpu=device.type == "cpu",
        train_sampling_strategy="group_by_length" if config.group_by_length else "random",
        eval_strategy="steps", eval_steps=every, save_strategy="steps", save_steps=every, save_total_limit=2,
        load_best_model_at_end=True, metric_for_best_model="eval_loss", greater_is_better=False, label_names=["labels"],
        logging_steps=max(1, every // 5), report_to="none", seed=config.seed, data_seed=config.seed,
        remove_unused_columns=False, dataloader_pin_memory=device.type != "cpu",
    )  # fmt: skip
    return PreferenceTrainer(
        model=network, args=args, train_dataset=training, eval_dataset=validation, data_collator=collate,
        callbacks=[Epoch()],
    )  # fmt: skip


def _refuse_broken(network) -> None:
    broken = [n for n, p in network.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if broken:
        raise TrainError(f"{broken[0]} is not finite after training", "no score could come of it", "lower the rate")


def _save(network, config: TrainConfig, folder: Path) -> None:
    for peft_config in network.peft_config.values():
        peft_config.base_model_name_or_path = BASE_NAME if config.base == EMBEDDED else config.base
        peft_config.revision = config.revision
    network.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)


def _history(trainer) -> list[dict]:
    keep = ("step", "epoch", "loss", "eval_loss")
    return [{k: round(row[k], 5) for k in keep if k in row} for row in trainer.state.log_history if {"loss", "eval_loss"} & set(row)]


def measure(manifest: Manifest, folder: Path, config: TrainConfig, validation: list[Pair], device: str | None) -> Manifest:
    """The saved adapter, loaded as a user would and scored in both orders on the validation pairs: metrics and
    calibration for the manifest. The log loss of the calibrated three-way outcome is on the pairs it was fitted on."""
    base = EMBEDDED if config.base == EMBEDDED else config.base
    model = load_model(ModelSpec(pretrained=base, peft=str(folder), revision=config.revision, device=device))
    rendered = [model.renderer.render_orders(p) for p in validation]
    z = Engine(model).logits([r.ids for both in rendered for r in both]).reshape(len(validation), 2, -1)
    outcomes = combine(z[:, 0], z[:, 1])
    labels = np.array([soft_label(p) for p in validation])
    calibration = fit_calibration(outcomes.s, _three_way(validation))
    decisive = np.abs(labels - 0.5) > 0
    right = np.where(outcomes.s == 0, 0.5, (outcomes.s > 0) == (labels > 0.5))[decisive]
    longer = np.array([len(str(p.response_b)) - len(str(p.response_a)) for p in validation])
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


def _three_way(pairs: list[Pair]) -> np.ndarray:
    """One-hot winners where known, else the soft label shared between A and B."""
    rows = {Winner.MODEL_A: (1, 0, 0), Winner.MODEL_B: (0, 1, 0), Winner.TIE: (0, 0, 1)}
    return np.array([rows.get(p.winner) or (1 - soft_label(p), soft_label(p), 0) for p in pairs], dtype=float)


def _rounded(x: float) -> float:
    return round(float(x), 4)


def describe(manifest: Manifest) -> str:
    return json.dumps({"metrics": manifest.metrics, "calibration": manifest.calibration}, indent=1)
