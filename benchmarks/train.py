"""Training speed compared with what a user could use instead, with the same base, LoRA, pairs and number format.

    python benchmarks/train.py --data PAIRS [--pairs 96] [--both-orders] [--repeats 3] [-o FOLDER]
    python benchmarks/train.py --shape gemma-2b --batch 16 [--all-linear] [--dropout P] [--profile] [-o FOLDER]

Compared are the Trainer of transformers on padded batches in shuffled order; the same with the training step of TRL's
reward trainer (two texts for each pair, -log sigmoid of the difference of their logits; `trl` need not be installed);
and the trainer of this project, with its techniques added one at a time. They take turns.

With --both-orders each pair is shown in both orders, as the recipe `embedded` does; TRL's step, which has no orders, is
left out. With --shape, weights and ids are random, once with one length and once with natural lengths.

"useful tokens" are those that are not padding. TRL's step reads each prompt twice, so the ratio is one of pairs. The
first round, in which code is compiled, is reported separately and not counted. FLOP are 4 for each token and frozen
weight of the layers and 6 for each LoRA weight; attention scores are left out. Results are written to train.json in
FOLDER. With --profile, one more pass of each trainer runs under torch's profiler, whose table of kernels is written to
profile-NAME.txt there; `benchmarks/train_model.py` calculates what it should say.
"""

import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
import torch
from shape import SHAPES, random_model, sequences
from torch.nn.functional import logsigmoid
from transformers import Trainer, TrainingArguments

from harness_plugin.model.base import load_tokenizer
from harness_plugin.model.device import choose_device
from harness_plugin.model.embedded import embedded_base
from harness_plugin.pairs import read_pairs
from harness_plugin.prompt import Renderer, flat
from harness_plugin.train.config import TrainConfig, find_config, read_config
from harness_plugin.train.data import Examples
from harness_plugin.train.loss import preference_loss
from harness_plugin.train.network import build, compile_layers
from harness_plugin.train.trainer import make_trainer, use_packs


class Padded(Trainer):
    """The Trainer of transformers as people use it: padded batches with a mask, in shuffled order."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        return preference_loss(model(**inputs).logits, labels)


class Reward(Trainer):
    """The step of TRL: (prompt, A) and (prompt, B) in one padded batch, -log sigmoid of the difference."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        z = model(**inputs).logits[:, 0].float()
        a, b = z[0::2], z[1::2]
        return -(labels[:, 1] * logsigmoid(b - a) + labels[:, 0] * logsigmoid(a - b)).mean()


def pad(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Sequences of ids as a batch, padded on the right, with its mask: (sequences, longest) each."""
    width = max(map(len, rows))
    ids = torch.tensor([list(r) + [0] * (width - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
    return {"input_ids": ids, "attention_mask": mask}


def collate_plain(rows: list[dict]) -> dict[str, torch.Tensor]:
    """A padded batch of presentations; a pair in both orders has two."""
    views = [view for r in rows for view in ([r, r["turned"]] if "turned" in r else [r])]
    return {**pad([v["input_ids"] for v in views]), "labels": torch.tensor([v["labels"] for v in views])}


def collate_reward(rows: list[dict]) -> dict[str, torch.Tensor]:
    """A padded batch of the texts of `Singles`, two for each pair."""
    return {**pad([t for r in rows for t in r["texts"]]), "labels": torch.tensor([r["labels"] for r in rows])}


class Singles(Examples):
    """The pairs as TRL reads them: each answer after its prompt, cut at the same length."""

    def __getitem__(self, i: int) -> dict:
        pair, cut = self.pairs[i], {"truncation": True, "max_length": self.config.max_length}
        texts = [
            self.tokenizer(f"{flat(pair.prompt)}\n\n{flat(t)}", split_special_tokens=True, **cut)["input_ids"]
            for t in (pair.response_a, pair.response_b)
        ]
        return {"texts": texts, "labels": [1 - pair.soft_label, pair.soft_label]}

    def tokens(self) -> int:
        return sum(len(t) for i in range(len(self)) for t in self[i]["texts"])


def baseline(kind, collator, config: TrainConfig, base: str, examples, work: str, device: torch.device):
    """A trainer of the class `kind` as people would use it, with the recipe's base, LoRA and batches."""
    args = TrainingArguments(
        output_dir=work,
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        bf16=True,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        logging_strategy="no",
        disable_tqdm=True,
        seed=config.seed,
        dataloader_pin_memory=False,
    )
    args._n_gpu = min(1, args.n_gpu)  # as our trainer does: else each batch is spread over all GPUs
    return kind(model=build(config, base), args=args, train_dataset=examples, data_collator=collator)


def ours(config: TrainConfig, base: str, examples, work: str, device: torch.device, packs: bool = False):
    """The trainer of this project, without evaluations and checkpoints."""
    network = build(config, base)
    trainer = make_trainer(config, network, examples, examples, Path(work), device)
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end, trainer.args.disable_tqdm = False, True
    if packs:
        use_packs(trainer, config.compile)
    elif config.compile:
        compile_layers(network)
    return trainer


class RandomPairs:
    """Presentations of random ids with random labels, in the form of `Examples`."""

    def __init__(self, ids: list[tuple[int, ...]]):
        self.ids, self.epoch = [list(row) for row in ids], 0

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict:
        return {"input_ids": self.ids[i], "labels": [i % 2, 1 - i % 2], "offset": 0.0}

    def length(self, i: int) -> int:
        return len(self.ids[i])

    def tokens(self) -> int:
        return sum(map(len, self.ids))


def matmul_rate(config, device: torch.device) -> float:
    """The measured FLOP per second of matrix products with the model's shapes in bfloat16; a multiply-add is 2 FLOP."""
    rows = 4096
    h, m, q = config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim
    shapes = [(h, m), (m, h), (h, q), (q, h)]
    pairs = [
        (torch.randn(rows, a, device=device).bfloat16(), torch.randn(a, b, device=device).bfloat16()) for a, b in shapes
    ]
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
    """The FLOP for each token: forward and backward passes of the frozen linear layers, which have no weight gradients,
    and of LoRA. Attention scores are left out."""
    frozen = sum(
        p.numel() for n, p in network.named_parameters() if "layers" in n and p.ndim == 2 and not p.requires_grad
    )
    trained = sum(p.numel() for n, p in network.named_parameters() if "layers" in n and p.requires_grad)
    return 4.0 * frozen + 6.0 * trained


REWARD = "reward training as TRL's"


def contenders(config: TrainConfig, place: str, plain, single, work: str, device: torch.device) -> dict:
    """The trainers by name."""
    made = {"transformers.Trainer, padded": baseline(Padded, collate_plain, config, place, plain, work, device)}
    if single is not None:
        made[REWARD] = baseline(Reward, collate_reward, config, place, single, work, device)
    if isinstance(plain, Examples):
        made["ours, padded, similar lengths"] = ours(config, place, plain, work, device)
    made["ours, packed"] = ours(config, place, plain, work, device, packs=True)
    made["ours, packed, compiled"] = ours(replace(config, compile=True), place, plain, work, device, packs=True)
    return made


def measure(found: dict, repeats: int) -> dict[str, list[float]]:
    """The seconds of each pass, as the Trainer measures them, without its set-up. The first pass warms up and compiles.
    The trainers take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for repeat in range(repeats + 1):
        for name, trainer in found.items():
            seconds[name].append(trainer.train().metrics["train_runtime"])
            click.echo(f"round {repeat} {name}: {seconds[name][-1]:.1f} s", err=True)
    return seconds


def write_profiles(found: dict, device: torch.device, folder: Path) -> None:
    """Writes, for each trainer, the kernels of one pass over its last workload, the slowest first."""
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    for name, trainer in found.items():
        with torch.profiler.profile() as profiler:
            trainer.train()
        table = profiler.key_averages().table(sort_by=order, row_limit=60, max_name_column_width=90)
        (folder / f"profile-{name.replace(' ', '-').replace(',', '')}.txt").write_text(table, encoding="utf-8")


def save_shape(shape: str, folder: str, device: torch.device) -> str:
    """Saves a model of the shape with random weights as a base; returns its folder."""
    model = random_model(shape, device, torch.bfloat16)
    model.network.save_pretrained(folder)
    return folder


def lots(data, shape, count: int, config: TrainConfig, place: str) -> dict:
    """The workloads by name: (presentations, the same pairs as TRL reads them or None)."""
    if shape:
        vocabulary, most = SHAPES[shape]["vocab_size"], config.max_length
        kinds = {f"all of {most} tokens": False, "natural lengths": True}
        return {name: (RandomPairs(sequences(count, most, n, vocabulary)), None) for name, n in kinds.items()}
    pairs = read_pairs(data).pairs
    chosen = pairs[:: max(1, len(pairs) // count)][:count]
    renderer = Renderer(load_tokenizer(place), config.max_length, "budget")
    single = Singles(chosen, renderer, config)
    single.tokenizer = renderer.tokenizer
    if config.both_orders:
        return {f"{len(chosen)} pairs, both orders": (Examples(chosen, renderer, config), None)}
    return {f"{len(chosen)} pairs": (Examples(chosen, renderer, config), single)}


@click.command()
@click.option("--data", type=click.Path(exists=True), help="A file of labelled pairs.")
@click.option("--shape", type=click.Choice(list(SHAPES)), help="Use random weights of this shape instead.")
@click.option("--base", default="embedded", show_default=True)
@click.option("--pairs", "count", default=96, show_default=True)
@click.option("--batch", default=8, show_default=True, help="Pairs in a step; two steps are an update.")
@click.option("--max-length", default=512, show_default=True)
@click.option("--both-orders", is_flag=True, help="Show every pair in both orders, in one batch.")
@click.option("--all-linear", is_flag=True, help="LoRA on every linear layer, not on those of the attention alone.")
@click.option("--dropout", default=0.0, show_default=True, help="Dropout of LoRA.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--profile", is_flag=True, help="Also write a table of the kernels of each trainer.")
@click.option("-o", "--output", default=".", type=click.Path(path_type=Path))
def main(data, shape, base, count, batch, max_length, both_orders, all_linear, dropout, repeats, profile, output):
    if bool(data) == bool(shape) or (shape and both_orders):
        raise click.UsageError("give --data or --shape, and --both-orders with --data only")
    device, rows = choose_device(None), []
    with tempfile.TemporaryDirectory() as work:
        place = save_shape(shape, f"{work}/base", device) if shape else base
        place = str(embedded_base()) if place == "embedded" else place
        config = configured(place, batch, max_length, both_orders, all_linear, dropout)
        works = lots(data, shape, count, config, place)
        found = contenders(config, place, *next(iter(works.values())), work, device)
        network = next(iter(found.values())).model
        peak, flops = matmul_rate(network.config.get_text_config(), device), flops_per_token(network)
        for lot, (plain, single) in works.items():
            for name, trainer in found.items():
                trainer.train_dataset = single if name == REWARD else plain
            seconds = measure(found, repeats)
            for name, trainer in found.items():
                row = figures(len(plain), trainer.train_dataset.tokens(), seconds[name], flops, peak)
                rows.append({"workload": lot, "contender": name, **row})
        output.mkdir(parents=True, exist_ok=True)
        if profile:
            write_profiles(found, device, output)
    result = {
        "pairs": len(plain),
        "both_orders": both_orders,
        "all_linear": all_linear,
        "dropout": dropout,
        "batch": batch,
        "max_length": max_length,
        "matmul_tflop_per_s": peak / 1e12,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": str(device),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        "rows": rows,
    }
    (output / "train.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(rows)


def configured(
    base: str, batch: int, max_length: int, both_orders: bool, all_linear: bool, dropout: float
) -> TrainConfig:
    """The card's recipe with what is measured."""
    config = read_config(find_config("card"))
    targets = "all-linear" if all_linear else config.lora.target_modules
    return replace(
        config,
        base=base,
        precision="bfloat16",
        max_length=max_length,
        truncation="budget",
        epochs=1.0,
        batch_size=batch,
        accumulation=2,
        orders="ab",
        both_orders=float(both_orders),
        lora=replace(config.lora, lora_dropout=dropout, target_modules=targets),
    )


def figures(pairs: int, tokens: int, seconds: list[float], flops: float, peak: float) -> dict:
    """What the seconds of each round mean for so many pairs and tokens; `flops`: of a token, `peak`: in a second. The
    first round is not counted."""
    first, *others = seconds
    middle = statistics.median(others)
    rate = tokens / middle
    return {
        "pairs_per_s": round(pairs / middle, 3),
        "tokens": tokens,
        "tokens_per_s": round(rate, 1),
        "first_round_s": round(first, 1),
        "seconds": [round(s, 2) for s in others],
        "tflop_per_s": round(rate * flops / 1e12, 3),
        "matmul_share": round(rate * flops / peak, 3),
    }


def show(rows: list[dict]) -> None:
    """Prints the rows as Markdown. "ratio" compares pairs per second with the first contender of the workload."""
    columns = ("workload", "contender", "pairs/s", "ratio", "tokens/s", "TFLOP/s", "of matmul peak", "first round")
    click.echo(f"| {' | '.join(columns)} |\n|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        ratio = row["pairs_per_s"] / next(r["pairs_per_s"] for r in rows if r["workload"] == row["workload"])
        click.echo(
            f"| {row['workload']} | {row['contender']} | {row['pairs_per_s']:.2f} | {ratio:.2f} | "
            f"{row['tokens_per_s']:.0f} | {row['tflop_per_s']:.2f} | {row['matmul_share']:.0%} | "
            f"{row['first_round_s']:.0f} s |"
        )


if __name__ == "__main__":
    main()
