"""Scoring speed for the shape of a model, with random weights and ids, so that no weights need to be downloaded.

    python benchmarks/shape.py [--shape gemma-2b] [--pairs 512] [--tokens 512] [--repeats 3] [-o FOLDER]

Compared are the forward pass of transformers on batches (without padding where all sequences have one length), the same
on batches of similar lengths, which is what the engine does with models that it cannot pack, and this engine, on a GPU
also with torch.compile. "of matmul peak" is the share of the speed that was measured for the matrix
products of the decoder alone.
"""

import json
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from measuring import matmul_tokens, take_turns
from transformers import AutoConfig, AutoModelForSequenceClassification

from harness_plugin.engine import Engine
from harness_plugin.model import Manifest, RewardModel
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.device import choose_device, choose_dtype
from harness_plugin.model.spec import PAIR

GEMMA = {"model_type": "gemma", "hidden_activation": "gelu_pytorch_tanh"}
SHAPES = {  # from the config.json of google/gemma-2b, gemma-7b, Qwen/Qwen3-0.6B and meta-llama/Llama-3.2-1B
    "gemma-2b": GEMMA
    | {
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_hidden_layers": 18,
        "head_dim": 256,
        "vocab_size": 256000,
    },
    "gemma-7b": GEMMA
    | {
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "head_dim": 256,
        "vocab_size": 256000,
    },
    "qwen3-0.6b": {
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "head_dim": 128,
        "vocab_size": 151936,
    },
    "llama-3.2-1b": {
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "head_dim": 64,
        "vocab_size": 128256,
    },
    "tiny": GEMMA  # for trying the script
    | {
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "head_dim": 64,
        "vocab_size": 1000,
    },
}


def random_model(shape: str, device: torch.device, dtype: torch.dtype) -> RewardModel:
    """A classifier of one of SHAPES with random weights, the same in each run."""
    config = AutoConfig.for_model(**SHAPES[shape], num_labels=1, pad_token_id=0)
    torch.manual_seed(0)
    with device:
        network = AutoModelForSequenceClassification.from_config(config, dtype=dtype).eval()
    head = network.score.weight.detach().float()
    return RewardModel(
        kind=PAIR,
        network=network,
        backbone=network.model,
        head=head,
        renderer=None,
        calibration=Calibration(),
        classes=[0],
        device=device,
        dtype=dtype,
        reduced=None,
        deterministic=False,
        manifest=Manifest(found=False),
        identity={},
    )


def sequences(count: int, most: int, natural: bool, vocabulary: int) -> list[tuple[int, ...]]:
    """Random ids. With `natural`, lengths are like those of chat pairs: log-normal, a third cut at `most`."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(5.8, 0.7, count), 40, most).astype(int) if natural else np.full(count, most)
    return [(2, *draw.integers(5, vocabulary, n - 1).tolist()) for n in lengths]


def padded(model: RewardModel, size: int):
    """The forward pass of transformers on batches of `size` sequences, in the order given."""

    @torch.inference_mode()
    def score(ids) -> np.ndarray:
        made = []
        for start in range(0, len(ids), size):
            batch = ids[start : start + size]
            width = max(map(len, batch))
            rows = torch.tensor([[*row] + [0] * (width - len(row)) for row in batch], device=model.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=model.device)
            made.append(model.network(input_ids=rows, attention_mask=mask).logits[:, 0].float())
        return torch.cat(made).double().cpu().numpy()

    return score


def ours(model: RewardModel, compiled: bool = False, packs: bool = True):
    """This engine: from ids to logits of shape (n,)."""
    engine = Engine(model)
    if compiled:
        engine.decoder.ops.compile()
    if not packs:
        engine.decoder = None
    return lambda ids: engine.logits(ids)[:, 0]


@click.command()
@click.option("--shape", type=click.Choice(list(SHAPES)), default="gemma-2b", show_default=True)
@click.option("--pairs", "count", default=512, show_default=True)
@click.option("--tokens", "most", default=512, show_default=True)
@click.option("--batch", default=32, show_default=True, help="Sequences in a batch of transformers.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--device")
@click.option("-o", "--output", default=".", type=click.Path(path_type=Path))
def main(shape, count, most, batch, repeats, device, output):
    device = choose_device(device)
    dtype = choose_dtype("auto", device).dtype
    model = random_model(shape, device, dtype)
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    scorers = {
        "transformers": padded(model, batch),
        "similar lengths, padded": ours(model, packs=False),
        "this engine": ours(model),
    }
    if device.type == "cuda":
        scorers["this engine, compiled"] = ours(model, compiled=True)
    peak, rows = matmul_tokens(model), []
    for name, natural in ((f"all of {most} tokens", False), ("natural lengths", True)):
        ids = sequences(count, most, natural, SHAPES[shape]["vocab_size"])
        for score in scorers.values():
            score(ids[: max(16, count // 4)])
        passes = take_turns(name, {k: partial(score, ids) for k, score in scorers.items()}, repeats, device)
        for contender, own in passes.items():
            assert np.isfinite(own.logits).all()
            figures = own.figures(len(ids), sum(map(len, ids)), peak)
            rows.append({"workload": name, "contender": contender, **figures})
    result = {
        "shape": shape,
        "hardware": hardware,
        "dtype": str(dtype),
        "matmul_tokens_per_s": peak,
        "rows": rows,
        "torch": torch.__version__,
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "shape.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{shape} on {hardware}, {dtype}, matrix products alone {peak:.0f} tokens/s")
    for r in rows:
        click.echo(
            f"{r['workload']:22} {r['contender']:24} {r['presentations_per_s']:9.1f} presentations/s "
            f"{r['tokens_per_s']:9.0f} tokens/s {r['matmul_share']:5.0%} of matmul peak, {r['extra_mib']:.0f} MiB"
        )


if __name__ == "__main__":
    main()
