"""transformers' Trainer with our loss, a rate of its own for the head, and batches of similar length.

Knows the recipe and tensors; nothing of files, pairs or manifests.
"""

import logging
import random
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from harness_plugin.errors import TrainError
from harness_plugin.model.network import is_decoder_classifier
from harness_plugin.train.checkpoints import KeepWhole
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.loss import collate, collate_packed, inconsistency, preference_loss
from harness_plugin.train.packed import pack

log = logging.getLogger("lm_eval.arena_rm")

SORTED_TOGETHER = 32  # batches whose examples are sorted by length before they are cut into batches


class LengthBatches(Sampler):
    """Examples in an order whose runs of `batch` have similar lengths: shuffled, sorted within groups of batches, and
    the batches shuffled again, so that an update sees several lengths. `examples.epoch` is the epoch."""

    def __init__(self, examples, batch: int, grouped: bool, seed: int):
        self.examples, self.batch, self.grouped, self.seed = examples, batch, grouped, seed

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self):
        rng = random.Random(f"{self.seed} {self.examples.epoch}")
        order = list(range(len(self.examples)))
        rng.shuffle(order)
        if not self.grouped:
            return iter(order)
        group = self.batch * SORTED_TOGETHER
        batches = []
        for start in range(0, len(order), group):
            part = sorted(order[start : start + group], key=self.examples.length)
            batches += [part[i : i + self.batch] for i in range(0, len(part), self.batch)]
        short = [b for b in batches if len(b) < self.batch]  # only the last group can have one; it must stay last
        batches = [b for b in batches if len(b) == self.batch]
        rng.shuffle(batches)
        return iter([i for b in batches + short for i in b])


class PreferenceTrainer(Trainer):
    """Trainer whose loss is `preference_loss` with the recipe's terms; evaluation is the plain loss."""

    def __init__(self, config: TrainConfig, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.config = config
        # Our loss is a mean over the batch: it must be divided by the accumulation steps, which the Trainer leaves to
        # models whose forward takes **kwargs, as PEFT's wrapper does.
        self.model_accepts_loss_kwargs = False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        labels, offsets, twins, weights = (inputs.pop(name) for name in ("labels", "offsets", "twins", "weights"))
        if "pack" in inputs:
            pack = inputs["pack"]
            places = torch.tensor(pack.members, device=labels.device)
            logits = model(**inputs).logits[places.argsort()]
        else:
            if is_decoder_classifier(self.accelerator.unwrap_model(model)):
                inputs.pop("attention_mask")  # padding is on the right and never attended to: faster kernels without it
            logits = model(**inputs).logits
        config = self.config
        if model.training:
            loss = preference_loss(logits, labels, weights, config.length_debias * offsets)
            if config.consistency:
                loss = loss + config.consistency * inconsistency(logits, twins) / weights.sum()
        else:
            loss = preference_loss(logits, labels, weights)
        if not torch.isfinite(loss):
            raise TrainError("the loss is not a number", "the arithmetic overflowed", "lower the rate or use bfloat16")
        return (loss, {"logits": logits.detach()}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        return loss, outputs["logits"].float(), inputs["labels"]

    def create_optimizer(self, *args, **kwargs):
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.config.head_learning_rate is not None:
            named = self.model.named_parameters()
            head = [p for name, p in named if p.requires_grad and "modules_to_save" in name]
            ids = {id(p) for p in head}
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in ids]
            optimizer.add_param_group({"params": head, "lr": self.config.head_learning_rate, "weight_decay": 0.0})
        return optimizer

    def _get_train_sampler(self, train_dataset=None):
        examples = self.train_dataset if train_dataset is None else train_dataset
        return LengthBatches(examples, self.args.train_batch_size, self.config.group_by_length, self.config.seed)


def accuracy(prediction) -> dict[str, float]:
    """Share of the decisive presentations whose preferred side has the larger probability; a tie is half a point."""
    logits, labels = np.asarray(prediction.predictions, dtype=np.float64), np.asarray(prediction.label_ids)
    margin = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
    wanted = labels[:, 1] - labels[:, 0]
    right = (np.sign(margin) * np.sign(wanted) + 1) / 2
    decisive = wanted != 0
    return {"accuracy": float(right[decisive].mean()) if decisive.any() else float("nan")}


class TellEpoch(TrainerCallback):
    """Sets the examples' epoch. (On several devices accelerate's own `set_epoch` reaches no sampler after a resume.)"""

    def __init__(self, examples):
        self.examples = examples

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.examples.epoch = int(state.epoch or 0)


class Progress(ProgressCallback):
    """The bar alone: transformers' own also prints each measurement on stdout."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero:
            log.info("arena_rm: step %d: %s", state.global_step, logs)


def make_trainer(
    config: TrainConfig, network, training, validation, work: Path, device: torch.device, report_to: str = "none"
) -> PreferenceTrainer:
    """The recipe as a Trainer that checkpoints into `work` and keeps the weights of the lowest validation loss."""
    args = _arguments(config, len(training), work, device, report_to)
    if args.parallel_mode.value == "not_distributed":
        args._n_gpu = min(1, args.n_gpu)  # else the Trainer spreads batches over all GPUs: another recipe
    trainer = PreferenceTrainer(
        config,
        model=network,
        args=args,
        train_dataset=training,
        eval_dataset=validation,
        data_collator=collate,
        compute_metrics=accuracy,
        callbacks=[TellEpoch(training), KeepWhole()],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Progress)
    return trainer


def use_packs(trainer: PreferenceTrainer, compiled: bool) -> None:
    """From here on the trainer's batches are packs; the network must be one that `can_pack` lets through."""
    trainer.data_collator = collate_packed
    pack(trainer.model, compiled, trainer.config.gradient_checkpointing)


def train_from(last: str | None, trainer: Trainer) -> None:
    """Trains to the end, from the checkpoint `last` if there is one, and leaves the best weights in the network."""
    if last is not None:
        state = TrainerState.load_from_json(str(Path(last) / "trainer_state.json"))
        if state.global_step >= state.max_steps:  # nothing is left to do, but the Trainer would go on in a broken epoch
            trainer.args.num_train_epochs = int(trainer.args.num_train_epochs)
    trainer.train(resume_from_checkpoint=last)


def updates(config: TrainConfig, pairs: int, devices: int = 1) -> int:
    """Optimizer steps of a run over so many pairs."""
    return max(1, int(pairs / (config.batch_size * config.accumulation * devices) * config.epochs))


def _arguments(config: TrainConfig, pairs: int, work: Path, device: torch.device, report_to: str) -> TrainingArguments:
    from accelerate import PartialState

    steps = updates(config, pairs, PartialState(cpu=device.type == "cpu").num_processes)
    every = max(1, steps // config.evaluations)
    return TrainingArguments(
        output_dir=str(work.absolute()),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.scheduler,
        warmup_steps=int(config.warmup * steps),
        weight_decay=config.weight_decay,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=max(8, config.batch_size),
        gradient_accumulation_steps=config.accumulation,
        max_grad_norm=config.max_grad_norm,
        **({"gradient_checkpointing": True} if config.gradient_checkpointing else {}),
        bf16=config.precision == "bfloat16",
        fp16=config.precision == "float16",
        use_cpu=device.type == "cpu",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        label_names=["labels"],
        logging_steps=max(1, every // 5),
        report_to=report_to,
        seed=config.seed,
        data_seed=config.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
        ddp_find_unused_parameters=False,
    )
