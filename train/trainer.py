"""transformers' Trainer with our loss, a rate of its own for the head, and a new draw of orders in each epoch.

Knows the recipe and tensors; nothing of files, pairs or manifests.
"""

import logging
from pathlib import Path

import torch
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from harness_plugin.errors import TrainError
from harness_plugin.model.load import is_decoder_classifier
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.loss import collate, preference_loss

log = logging.getLogger("lm_eval.arena_rm")


class PreferenceTrainer(Trainer):
    """Trainer whose loss is `preference_loss`; `head_learning_rate` (None: as the rest) is the score head's rate."""

    def __init__(self, *args, head_learning_rate: float | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.head_learning_rate = head_learning_rate
        # Our loss is a mean over the batch: it must be divided by the accumulation steps, which the Trainer leaves to
        # models whose forward takes **kwargs, as PEFT's wrapper does.
        self.model_accepts_loss_kwargs = False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        if is_decoder_classifier(self.accelerator.unwrap_model(model)):
            inputs.pop("attention_mask")  # padding is on the right and never attended to: faster kernels without it
        outputs = model(**inputs)
        loss = preference_loss(outputs.logits, labels)
        if not torch.isfinite(loss):
            raise TrainError("the loss is not a number", "the arithmetic overflowed", "lower the rate or use bfloat16")
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def create_optimizer(self, *args, **kwargs):
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.head_learning_rate is not None:
            named = self.model.named_parameters()
            head = [p for name, p in named if p.requires_grad and "modules_to_save" in name]
            ids = {id(p) for p in head}
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in ids]
            optimizer.add_param_group({"params": head, "lr": self.head_learning_rate, "weight_decay": 0.0})
        return optimizer


class Progress(ProgressCallback):
    """The bar alone: transformers' own also prints each measurement on stdout."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        log.info("arena_rm: step %d: %s", state.global_step, logs)


class NewOrders(TrainerCallback):
    """Tells the examples which epoch it is: each draws its order from it."""

    def __init__(self, examples):
        self.examples = examples

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.examples.epoch = int(state.epoch or 0)


def make_trainer(
    config: TrainConfig, network, training, validation, work: Path, device: torch.device
) -> PreferenceTrainer:
    """The recipe as a Trainer that checkpoints into `work` and keeps the weights of the lowest validation loss."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
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
    if args.parallel_mode.value == "not_distributed":
        args._n_gpu = min(1, args.n_gpu)  # else the Trainer spreads batches over all GPUs: another recipe
    trainer = PreferenceTrainer(
        model=network, args=args, train_dataset=training, eval_dataset=validation, data_collator=collate,
        callbacks=[NewOrders(training)], head_learning_rate=config.head_learning_rate,
    )  # fmt: skip
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Progress)
    return trainer
