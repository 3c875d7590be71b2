"""The Trainer of transformers with our loss, a separate learning rate for the head, and batches of similar length.

This module knows the recipe and tensors; it does not know files, pairs or manifests.
"""

import logging
import math
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from harness_plugin.errors import TrainError
from harness_plugin.model.adapter import HEAD_NAMES
from harness_plugin.model.network import is_decoder_classifier
from harness_plugin.model.spec import POINTWISE
from harness_plugin.train.checkpoints import KeepWhole
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.loss import collate, collate_packed, inconsistency, of_pairs, preference_loss
from harness_plugin.train.packed import pack

log = logging.getLogger("lm_eval.arena_rm")

SORTED_TOGETHER = 32  # so many batches' worth of examples are sorted by length, and then cut into batches


class LengthBatches(Sampler):
    """An order of the examples in which each batch has examples of similar length, to save padding.

    The examples are shuffled, sorted by length within groups of SORTED_TOGETHER batches and cut into batches; then the
    batches are shuffled, so that one update has several lengths. The order depends on the seed and `examples.epoch`.
    """

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
        short = [b for b in batches if len(b) < self.batch]  # at most one, from the last group; it must stay last
        batches = [b for b in batches if len(b) == self.batch]
        rng.shuffle(batches)
        return iter([i for b in batches + short for i in b])


class PreferenceTrainer(Trainer):
    """A Trainer with the loss `preference_loss` and the recipe's additional terms; evaluation uses the plain loss."""

    model: torch.nn.Module

    def __init__(self, config: TrainConfig, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.config = config
        # Our loss has to be divided by the accumulation steps, which the Trainer would not do by itself, because the
        # forward of PEFT's wrapper takes **kwargs.
        self.model_accepts_loss_kwargs = False

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The batches of the next update, and how many pairs they have on average. With this number in the place of its
        own, a batch at the end of an epoch, which may not be full, weighs as much as its pairs do."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, sum(batch["weights"].sum() for batch in batches) / len(batches) if batches else None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of a batch from `collate` (n presentations) or `collate_packed`, and with `return_outputs` the
        logits (n, num_labels) in the order of the labels. `num_items_in_batch`: as from `get_batch_samples`, the number
        of pairs by which the sum over the batch is divided; None: that of the batch. Raises TrainError if the loss is
        not finite."""
        inputs = dict(inputs)
        labels, offsets, twins, weights = (inputs.pop(name) for name in ("labels", "offsets", "twins", "weights"))
        if "pack" in inputs:
            pack = inputs["pack"]
            places = torch.tensor(pack.members, device=labels.device)  # (S,) where the members are in the batch
            logits = model(**inputs).logits[places.argsort()]  # (S, num_labels) in the order of the batch
        else:
            if is_decoder_classifier(self.accelerator.unwrap_model(model)):
                # No token attends to the padding on its right, and without a mask faster kernels can be used.
                inputs.pop("attention_mask")
            logits = model(**inputs).logits  # (S, num_labels)
        config = self.config
        if config.kind == POINTWISE:
            logits = of_pairs(logits)  # (n, 1)
        if model.training:
            loss = preference_loss(logits, labels, weights, config.length_debias * offsets)
            if config.consistency:
                loss = loss + config.consistency * inconsistency(logits, twins) / weights.sum()
            if num_items_in_batch is not None:
                loss = loss * weights.sum() / num_items_in_batch
        else:
            loss = preference_loss(logits, labels, weights)
        if not torch.isfinite(loss):
            raise TrainError(
                "the loss is not a number",
                "the arithmetic overflowed, so the weights cannot be updated",
                "lower learning_rate, or use --set precision=bfloat16",
            )
        return (loss, {"logits": logits.detach()}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        return loss, outputs["logits"].float(), inputs["labels"]

    def get_decay_parameter_names(self, model) -> list[str]:
        """The names of the trained parameters that `weight_decay` draws towards zero: matrices outside of the head."""
        names = set(super().get_decay_parameter_names(model))
        trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad and name in names)
        return [name for name, p in trained if p.dim() > 1 and not _is_of_head(name)]

    def create_optimizer(self, *args, **kwargs):
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.config.head_learning_rate is not None:
            head = [p for name, p in self.model.named_parameters() if p.requires_grad and _is_of_head(name)]
            ids = {id(p) for p in head}
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in ids]
            optimizer.add_param_group({"params": head, "lr": self.config.head_learning_rate, "weight_decay": 0.0})
        return optimizer

    def _get_train_sampler(self, train_dataset=None):
        examples = self.train_dataset if train_dataset is None else train_dataset
        return LengthBatches(examples, self.args.train_batch_size, self.config.group_by_length, self.config.seed)


def _is_of_head(name: str) -> bool:
    """Whether a trained parameter is one of the head's, not of another module that is saved whole."""
    return any(f".{head}.modules_to_save." in name for head in HEAD_NAMES)


def accuracy(prediction) -> dict[str, float]:
    """The share of the decisive presentations in which the preferred side has the larger probability; equal
    probabilities count one half. A decisive presentation has a label that prefers one side."""
    logits, labels = np.asarray(prediction.predictions, dtype=np.float64), np.asarray(prediction.label_ids)
    margin = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]  # (n,), positive for B
    preferred = labels[:, 1] - labels[:, 0]  # (n,), positive where B is preferred
    right = (np.sign(margin) * np.sign(preferred) + 1) / 2
    decisive = preferred != 0
    return {"accuracy": float(right[decisive].mean()) if decisive.any() else float("nan")}


class TellEpoch(TrainerCallback):
    """Sets the epoch of the examples. (After a resume on several devices, accelerate's `set_epoch` does not reach the
    sampler.)"""

    def __init__(self, examples):
        self.examples = examples

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.examples.epoch = int(state.epoch or 0)


class OwnNoise(TrainerCallback):
    """Gives each of several processes random numbers of its own for dropout. The Trainer starts them all with one seed,
    so that each would drop what the others drop. (A resumed run restores the numbers of each process.)"""

    def on_train_begin(self, args, state, control, **kwargs):
        if args.world_size > 1:
            torch.manual_seed(args.seed + args.process_index)


class Measurements(TrainerCallback):
    """Writes each measurement to the log; the callbacks of transformers print it on stdout."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero:
            log.info("arena_rm: step %d of %d: %s", state.global_step, state.max_steps, logs)


class Progress(ProgressCallback):
    """The progress bar alone."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Nothing: `Measurements` writes them."""


def make_trainer(
    config: TrainConfig, network, training, validation, work: Path, device: torch.device, report_to: str = "none"
) -> PreferenceTrainer:
    """A Trainer for the recipe. It saves checkpoints in `work` and keeps the weights of the lowest validation loss."""
    args = _arguments(config, len(training), work, device, report_to)
    if args.parallel_mode.value == "not_distributed":
        args._n_gpu = min(1, args.n_gpu)  # else it spreads each batch over all GPUs, which makes larger batches
    trainer = PreferenceTrainer(
        config,
        model=network,
        args=args,
        train_dataset=training,
        eval_dataset=validation,
        data_collator=partial(collate, padding=network.config.get_text_config().pad_token_id),
        compute_metrics=accuracy,
        callbacks=[TellEpoch(training), OwnNoise(), KeepWhole(), Measurements()],
    )
    for callback in (ProgressCallback, PrinterCallback):  # which of them it has depends on TRANSFORMERS_VERBOSITY
        trainer.remove_callback(callback)
    if sys.stderr.isatty():  # a file would get one endless line of all states of the bar
        trainer.add_callback(Progress)
    return trainer


def use_packs(trainer: PreferenceTrainer, compiled: bool) -> None:
    """From here on the batches of the trainer are packs. `can_pack` must be true of its network."""
    trainer.data_collator = collate_packed
    pack(trainer.model, compiled, trainer.config.gradient_checkpointing)


def train_from(last: str | None, trainer: Trainer) -> None:
    """Trains to the end, from the checkpoint `last` if there is one, and leaves the best weights in the network."""
    if last is not None:
        state = TrainerState.load_from_json(str(Path(last) / "trainer_state.json"))
        if state.global_step >= state.max_steps:  # all is done, but with part of an epoch the Trainer would go on
            trainer.args.num_train_epochs = int(trainer.args.num_train_epochs)
    trainer.train(resume_from_checkpoint=last)


def updates(config: TrainConfig, pairs: int, devices: int = 1) -> int:
    """The number of optimizer steps of a run over `pairs` pairs, as the Trainer counts them: the last update of an
    epoch may have fewer batches, and its last batch fewer pairs."""
    batches = math.ceil(pairs / (config.batch_size * devices))
    return math.ceil(math.ceil(batches / config.accumulation) * config.epochs)


def _arguments(config: TrainConfig, pairs: int, work: Path, device: torch.device, report_to: str) -> TrainingArguments:
    """The settings of the Trainer that the recipe means."""
    from accelerate import PartialState

    steps = updates(config, pairs, PartialState(cpu=device.type == "cpu").num_processes)
    every = max(1, steps // config.evaluations)
    checkpointing: dict[str, Any] = {"gradient_checkpointing": True} if config.gradient_checkpointing else {}
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
        **checkpointing,
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
        # The filter would make the CPU wait for the GPU after each backward pass; `compute_loss` has raised by then.
        logging_nan_inf_filter=False,
        report_to=report_to,
        seed=config.seed,
        data_seed=config.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
        ddp_find_unused_parameters=False,
    )
