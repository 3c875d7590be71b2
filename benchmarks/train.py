"""Training speed beside what a user would pick instead, in one run: same base, LoRA, pairs and arithmetic, interleaved.

    python benchmarks/train.py --data PAIRS [--pairs 96] [--repeats 3] [-o FOLDER]

Contenders: transformers' Trainer on batches padded in file order; the same with TRL's reward training (two texts a
pair, -log sigmoid of the difference of their logits; `trl` itself if it is installed is not needed: its step is this
one); this project's trainer with its techniques one at a time. Useful tokens: those that are not padding. A round that
compiles is reported apart and not counted. Writes train.json into FOLDER.
"""

import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
import torch
from torch.nn.functional import logsigmoid
from transformers import Trainer, TrainingArguments

from harness_plugin.model.device import choose_device
from harness_plugin.model.embedded import embedded_base
from harness_plugin.model.load import load_tokenizer
from harness_plugin.pairs import read_pairs
from harness_plugin.prompt import Renderer
from harness_plugin.train.config import TrainConfig, find_config, read_config
from harness_plugin.train.data import Examples
from harness_plugin.train.loss import preference_loss
from harness_plugin.train.network import build, compile_layers
from harness_plugin.train.trainer import make_trainer


class Padded(Trainer):
    """transformers' Trainer as people use it: padded batches with a mask, in the order of a shuffle."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        return preference_loss(model(**inputs).logits, labels)


class Reward(Trainer):
    """TRL's step: (prompt, A) and (prompt, B) in one padded batch, -log sigmoid of the difference."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        z = model(**inputs).logits[:, 0].float()
        a, b = z[0::2], z[1::2]
        return -(labels[:, 1] * logsigmoid(b - a) + labels[:, 0] * logsigmoid(a - b)).mean()


def pad(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([list(r) + [0] * (width - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
    return {"input_ids": ids, "attention_mask": mask}


def collate_plain(rows: list[dict]) -> dict[str, torch.Tensor]:
    return {**pad([r["input_ids"] for r in rows]), "labels": torch.tensor([r["labels"] for r in rows])}


def collate_reward(rows: list[dict]) -> dict[str, torch.Tensor]:
    return {**pad([t for r in rows for t in r["texts"]]), "labels": torch.tensor([r["labels"] for r in rows])}


class Singles(Examples):
    """The pairs as TRL sees them: each answer after its prompt, cut at the same length."""

    def __getitem__(self, i: int) -> dict:
        pair, tokenizer = self.pairs[i], self.tokenizer
        texts = [tokenizer(f"{pair.prompt}\n\n{t}", truncation=True, max_length=self.config.max_length)["input_ids"]
                 for t in (pair.response_a, pair.response_b)]  # fmt: skip
        return {"texts": texts, "labels": [1 - pair.soft_label, pair.soft_label]}

    def tokens(self) -> int:
        return sum(len(t) for i in range(len(self)) for t in self[i]["texts"])


def baseline(kind, collator, config: TrainConfig, base: str, examples, work: str, device: torch.device):
    args = TrainingArguments(
        output_dir=work, num_train_epochs=1, per_device_train_batch_size=config.batch_size, bf16=True,
        gradient_accumulation_steps=config.accumulation, learning_rate=config.learning_rate, save_strategy="no",
        report_to="none", remove_unused_columns=False, use_cpu=device.type == "cpu", logging_strategy="no",
        disable_tqdm=True, seed=config.seed, dataloader_pin_memory=False,
    )  # fmt: skip
    return kind(model=build(config, base), args=args, train_dataset=examples, data_collator=collator)


def ours(config: TrainConfig, base: str, examples, work: str, device: torch.device):
    network = build(config, base)
    trainer = make_trainer(config, network, examples, examples, Path(work), device)
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end, trainer.args.disable_tqdm = False, True
    if config.compile:
        compile_layers(network)
    return trainer


def matmul_rate(config, device: torch.device, rows: int = 4096) -> float:
    """Measured multiply-adds (as 2 FLOP) per second on the model's own matrix shapes, in bfloat16."""
    h, m, q = config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim
    shapes = [(h, m), (m, h), (h, q), (q, h)]
    pairs = [(torch.randn(rows, a, device=device).bfloat16(), torch.randn(a, b, device=device).bfloat16())
             for a, b in shapes]  # fmt: skip
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        for x, w in pairs:
            x @ w
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, sum(2 * rows * a * b for a, b in shapes) / (time.perf_counter() - start))
    return best


def flops_per_token(network) -> float:
    """Forward and backward of the frozen linear layers (no weight gradients) plus LoRA; attention scores left out."""
    frozen = sum(
        p.numel() for n, p in network.named_parameters() if "layers" in n and p.ndim == 2 and not p.requires_grad
    )
    trained = sum(p.numel() for n, p in network.named_parameters() if "layers" in n and p.requires_grad)
    return 4.0 * frozen + 6.0 * trained


def contenders(config: TrainConfig, place: str, chosen, work: str, device: torch.device) -> dict:
    """Name -> (trainer, useful tokens of one pass)."""
    renderer = Renderer(load_tokenizer(place), config.max_length, "budget")
    plain, single = Examples(chosen, renderer, config), Singles(chosen, renderer, config)
    single.tokenizer = renderer.tokenizer
    unsorted, eager, fused = (
        replace(config, compile=c, group_by_length=g) for c, g in ((False, False), (False, True), (True, True))
    )
    many, two = plain.tokens(), single.tokens()
    return {
        "transformers.Trainer, padded": (baseline(Padded, collate_plain, config, place, plain, work, device), many),
        "reward training as TRL's": (baseline(Reward, collate_reward, config, place, single, work, device), two),
        "ours, no technique": (ours(unsorted, place, plain, work, device), many),
        "ours, similar lengths": (ours(eager, place, plain, work, device), many),
        "ours, similar lengths, compiled": (ours(fused, place, plain, work, device), many),
    }


def measure(found: dict, repeats: int) -> dict[str, list[float]]:
    """Seconds of each pass, the first of which warms up and compiles; the contenders take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for repeat in range(repeats + 1):
        for name, (trainer, _) in found.items():
            start = time.perf_counter()
            trainer.train()
            seconds[name].append(time.perf_counter() - start)
            click.echo(f"round {repeat} {name}: {seconds[name][-1]:.1f} s", err=True)
    return seconds


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True), help="A file of labelled pairs.")
@click.option("--base", default="embedded", show_default=True)
@click.option("--pairs", "count", default=96, show_default=True)
@click.option("--max-length", default=512, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("-o", "--output", default=".", type=click.Path(path_type=Path))
def main(data, base, count, max_length, repeats, output):
    device = choose_device(None)
    place = str(embedded_base()) if base == "embedded" else base
    config = replace(read_config(find_config("card")), base=base, precision="bfloat16", max_length=max_length,
                     truncation="budget", epochs=1.0, batch_size=8, accumulation=2, orders="ab")  # fmt: skip
    config = replace(config, lora=replace(config.lora, lora_dropout=0.0))
    pairs = read_pairs(data).pairs
    with tempfile.TemporaryDirectory() as work:
        found = contenders(config, place, pairs[:: max(1, len(pairs) // count)][:count], work, device)
        seconds = measure(found, repeats)
        network = found["ours, no technique"][0].model
        peak, flops = matmul_rate(network.config.get_text_config(), device), flops_per_token(network)
    rows = []
    for name, (_, tokens) in found.items():
        rate = tokens / statistics.median(seconds[name][1:])
        rows.append({"contender": name, "tokens": tokens, "tokens_per_s": round(rate, 1),
                     "first_round_s": round(seconds[name][0], 1), "seconds": [round(s, 2) for s in seconds[name][1:]],
                     "matmul_share": round(rate * flops / peak, 3)})  # fmt: skip
    result = {"pairs": count, "max_length": max_length, "peak_flops": peak, "torch": torch.__version__,
              "threads": torch.get_num_threads(), "device": str(device), "rows": rows}  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    (output / "train.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(rows)


def show(rows: list[dict]) -> None:
    click.echo(f"{'contender':34} {'tokens/s':>9} {'ratio':>6} {'of matmul peak':>15} {'first round':>12}")
    for row in rows:
        ratio = row["tokens_per_s"] / rows[0]["tokens_per_s"]
        click.echo(f"{row['contender']:34} {row['tokens_per_s']:9.0f} {ratio:6.2f} {row['matmul_share']:15.0%} "
                   f"{row['first_round_s']:11.0f}s")  # fmt: skip


if __name__ == "__main__":
    main()
