"""Scoring speed compared with what a user could use instead, with the same pairs, weights and number format.

    python benchmarks/score.py --data PAIRS --outputs FOLDER [--pairs 256] [--prompts 30] [--repeats 3] [-o FOLDER]

ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 in front measures a machine as if it had AVX2 and nothing newer: the
first holds for oneDNN, the second for PyTorch and for our own kernels. With --cpu-seconds the time is that of the CPU
for all threads together, for a machine with other load; give it with OMP_NUM_THREADS=1.

Compared are the code on the reference model card (one presentation at a time, the adapter not merged); padded batches
of 8 in file order, as RewardBench scores; CrossEncoder.predict of sentence_transformers, if it is installed; and this
engine, also with one technique left out at a time. They take turns.

Workloads: pairs of PAIRS cut at 512 and at 2,048 tokens; the bundled battles in both orders; a tournament between the
answers of 8 chatbots in FOLDER (AlpacaEval files) to the same prompts, in both orders.

Errors are differences from this engine in float32, which tests compare with transformers in float32. "useful tokens"
are those that are not padding; a shared prefix counts for each presentation that has it. "extra MiB" is the peak of
memory beyond all weights. Results are written to score.json and score.png in the output folder.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations
from pathlib import Path

import click
import numpy as np
import torch
from measuring import matmul_tokens, take_turns
from transformers import AutoTokenizer

from harness_plugin.engine import Engine
from harness_plugin.engine.decoder import PackedDecoder
from harness_plugin.engine.ops import TorchOps
from harness_plugin.judges.presentations import score_pairs
from harness_plugin.kernels import instructions
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.model.embedded import base_folder
from harness_plugin.model.embedded_tokenizer import BareTokenizer
from harness_plugin.pairs import Pair, read_pairs
from harness_plugin.prompt import Renderer, card_text

BATCH = 8
SHARING = "  no shared prefixes"  # this technique is left out on every workload
BATTLES = Path(__file__).resolve().parents[1] / "tasks" / "arena_pairs" / "battles.jsonl"


@dataclass(frozen=True)
class Workload:
    """Pairs to present in one order ("ab") or in both ("both"), cut at max_length as on the reference model card."""

    name: str
    pairs: list[Pair]
    order: str
    max_length: int
    techniques: bool = False  # whether all techniques are left out, one at a time

    def texts(self) -> list[str]:
        """The text of each presentation, as on the reference model card."""
        both = (True,) if self.order == "ab" else (True, False)
        return [card_text(p if forward else p.swap()) for p in self.pairs for forward in both]


def one_text(pair: Pair) -> bool:
    """Whether a pair has one turn, as the card's template wants it."""
    return all(isinstance(text, str) for text in (pair.prompt, pair.response_a, pair.response_b))


def tournament(folder: Path, chatbots: int, prompts: int) -> list[Pair]:
    """The pairs of each two of the first chatbots at each of the first prompts, prompt by prompt."""
    files = sorted(folder.glob("*.json"))[:chatbots]
    answers = [{r["instruction"]: r["output"] for r in json.loads(f.read_text(encoding="utf-8"))} for f in files]
    asked = [prompt for prompt in answers[0] if all(prompt in a for a in answers)][:prompts]
    return [Pair(prompt, a[prompt], b[prompt]) for prompt in asked for a, b in combinations(answers, 2)]


def workloads(data: str, outputs: Path | None, pairs: int, prompts: int) -> list[Workload]:
    """All workloads: `pairs` of the file `data`, spread over it, the bundled battles, and with `outputs` a tournament
    on so many prompts."""
    known = [p for p in read_pairs(data).pairs if one_text(p)]
    chosen = known[:: max(1, len(known) // pairs)][:pairs]
    made = [Workload(f"{len(chosen)} pairs, {n} tokens", chosen, "ab", n, n == 512) for n in (512, 2048)]
    battles = [p for p in read_pairs(BATTLES).pairs if one_text(p)]
    made.append(Workload("arena_pairs, both orders", battles, "both", 512))
    if outputs:
        games = tournament(outputs, 8, prompts)
        made.append(Workload(f"tournament, 8 x {prompts}", games, "both", 512))
    return made


# -- contenders -------------------------------------------------------------------------------------------------------

Score = Callable[[Workload], np.ndarray]


def tokenizer_of(model):
    """The judge's tokenizer as one of transformers, which the renderer of the embedded base does without."""
    own = model.renderer.tokenizer
    return embedded_tokenizer() if isinstance(own, BareTokenizer) else own


@cache
def embedded_tokenizer():
    """The embedded base's, for all contenders: it takes long to load. They must leave it as it is."""
    return AutoTokenizer.from_pretrained(base_folder())


def snippet(model) -> Score:
    """The code on the reference model card: tokenizer and model, one text at a time."""
    tokenizer, network = tokenizer_of(model), model.network

    @torch.inference_mode()
    def score(work: Workload) -> np.ndarray:
        made = []
        for text in work.texts():
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=work.max_length)
            made.append(network(**inputs.to(model.device)).logits[0, 0].item())
        return np.array(made)

    return score


def padded(model) -> Score:
    """Batches in file order, padded to their longest sequence, with an attention mask."""
    tokenizer, network = tokenizer_of(model), model.network

    @torch.inference_mode()
    def score(work: Workload) -> np.ndarray:
        texts, made = work.texts(), []
        for start in range(0, len(texts), BATCH):
            inputs = tokenizer(
                texts[start : start + BATCH],
                return_tensors="pt",
                truncation=True,
                max_length=work.max_length,
                padding=True,
                padding_side="right",
            )
            made += network(**inputs.to(model.device)).logits[:, 0].tolist()
        return np.array(made)

    return score


def cross_encoder(model, folder: str) -> Score | None:
    """CrossEncoder.predict with the model saved in `folder`; None where sentence_transformers is not installed."""
    try:
        from sentence_transformers import CrossEncoder
        from tokenizers.processors import TemplateProcessing
    except ImportError:
        click.echo("sentence_transformers is not installed: left out", err=True)
        return None
    model.network.save_pretrained(folder)
    tokenizer_of(model).save_pretrained(folder)
    encoder = CrossEncoder(folder, device=str(model.device), model_kwargs={"dtype": model.dtype})
    bos = encoder.tokenizer.bos_token  # put in front once, so that the ids are the same as in the other cases
    encoder.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, encoder.tokenizer.bos_token_id)]
    )

    def score(work: Workload) -> np.ndarray:
        options = {"text": {"max_length": work.max_length, "truncation": True}}
        texts = [(text, "") for text in work.texts()]  # CrossEncoder takes only pairs
        logits = encoder.predict(
            texts,
            batch_size=BATCH,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
            processing_kwargs=options,
        )
        return np.asarray(logits, dtype=float).reshape(-1)

    return score


def ours(model, change: Callable[[Engine], None] = lambda engine: None) -> Score:
    """This engine, changed by `change`, such as to leave a technique out."""
    engine = Engine(model)
    change(engine)

    def score(work: Workload) -> np.ndarray:
        renderer = Renderer(model.renderer.tokenizer, work.max_length, "card")
        parts = list(score_pairs(engine, renderer, work.pairs, work.order))
        orders = [np.array([z[0] for part in parts for z in part.z_ab])]
        if work.order == "both":
            orders.append(np.array([z[0] for part in parts for z in part.z_ba]))
        return np.stack(orders, axis=1).reshape(-1)  # pair by pair, as `Workload.texts`

    return score


def no_sharing(engine: Engine) -> None:
    """Computes every sequence whole, also what it shares with others."""
    engine.share = False


def no_kernels(engine: Engine) -> None:
    """Computes the steps between matrix products with torch."""
    model, old = engine.model, engine.decoder
    engine.decoder = PackedDecoder(old.backbone, model.head, TorchOps(old.shape, model.dtype, model.device))


def no_packs(engine: Engine) -> None:
    """Computes padded batches of similar lengths."""
    engine.decoder = None


def contenders(spec: dict, folder: str) -> dict[str, Score]:
    """The scorers by name; a name that begins with spaces is this engine without one of its techniques."""
    model, apart = load_model(ModelSpec(**spec)), load_model(ModelSpec(**spec, merge=False))
    made = {
        "card's snippet": snippet(apart),
        "padded, file order": padded(model),
        "CrossEncoder.predict": cross_encoder(model, folder),
        "this engine": ours(model),
        SHARING: ours(model, no_sharing),
        "  no kernels of its own": ours(model, no_kernels),
        "  no packs: padded, sorted": ours(model, no_packs),
        "  deterministic": ours(load_model(ModelSpec(**spec, deterministic=True))),
    }
    if model.device.type == "cpu" and instructions.has_int8():
        made["this engine, int8"] = ours(load_model(ModelSpec(**spec | {"dtype": "int8"})))
    if model.reduced == "int16":
        made["  float32"] = ours(load_model(ModelSpec(**spec | {"dtype": "float32"})))
    return {name: score for name, score in made.items() if score}


# -- measuring --------------------------------------------------------------------------------------------------------


def measured(work: Workload, scorers: dict[str, Score], repeats: int, model, exact: Score, peak: float, clock) -> list:
    """A row for each scorer. `model`: whose tokenizer counts the tokens; `exact`: the scorer in float32; `peak`: the
    tokens per second of matrix products alone; `clock`: returns seconds."""
    turns = {name: partial(score, work) for name, score in scorers.items()}
    passes = take_turns(work.name, turns, repeats, model.device, clock)
    reference, tokens = exact(work), token_count(work, tokenizer_of(model))
    return [
        {
            "workload": work.name,
            "contender": name,
            **own.figures(len(reference), tokens, peak),
            "largest_error": float(np.abs(own.logits - reference).max()),
            "verdicts_changed": float(np.mean((own.logits > 0) != (reference > 0))),
        }
        for name, own in passes.items()
    ]


def token_count(work: Workload, tokenizer) -> int:
    """The tokens of all presentations, as the card cuts them."""
    ids = tokenizer(work.texts(), truncation=True, max_length=work.max_length)["input_ids"]
    return sum(map(len, ids))


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True), help="A file of pairs.")
@click.option("--outputs", type=click.Path(exists=True, path_type=Path), help="A folder of AlpacaEval outputs.")
@click.option("--pretrained", help="The base model. [default: the embedded one]")
@click.option("--peft", help="The adapter. [default: the embedded one]")
@click.option("--dtype", default="auto", show_default=True)
@click.option("--device")
@click.option("--pairs", default=256, show_default=True)
@click.option("--prompts", default=30, show_default=True, help="Prompts of the tournament.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--cpu-seconds", is_flag=True, help="Measure CPU time, not time.")
@click.option("--only", multiple=True, help="Run only workloads with this in their name.")
@click.option("-o", "--output", default=".", type=click.Path(path_type=Path))
def main(data, outputs, pretrained, peft, dtype, device, pairs, prompts, repeats, cpu_seconds, only, output):
    clock = time.process_time if cpu_seconds else time.perf_counter
    spec = {"pretrained": pretrained, "peft": peft, "dtype": dtype, "device": device}
    everything = workloads(data, outputs, pairs, prompts)
    chosen = [w for w in everything if not only or any(o in w.name for o in only)]
    if not chosen:
        names = ", ".join(repr(w.name) for w in everything)
        raise click.UsageError(f"--only {' '.join(only)} is in no name of a workload: these are {names}.")
    exact = ours(load_model(ModelSpec(**spec | {"dtype": "float32"})))
    with tempfile.TemporaryDirectory() as folder:
        scorers, model = contenders(spec, folder), load_model(ModelSpec(**spec))
        peak, rows = matmul_tokens(model, clock), []
        for score in scorers.values():  # a warm-up: kernels are compiled, memory is allocated
            score(Workload("warm-up", chosen[0].pairs[:BATCH], "ab", 512))
        for work in chosen:
            asked = {k: v for k, v in scorers.items() if work.techniques or not k.startswith("  ") or k == SHARING}
            rows += measured(work, asked, repeats, model, exact, peak, clock)
            result = {
                "rows": rows,
                "matmul_tokens_per_s": peak,
                "dtype": model.reduced or str(model.dtype),
                "clock": "CPU seconds" if cpu_seconds else "seconds",
                "instructions": sorted(instructions.instructions()),
                "device": str(model.device),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            }
            output.mkdir(parents=True, exist_ok=True)
            (output / "score.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    click.echo(table(rows))
    picture(rows, output / "score.png")


def table(rows: list[dict]) -> str:
    """The rows as Markdown. "ratio" compares presentations per second with the fastest scorer but this engine."""
    columns = (
        "workload",
        "contender",
        "presentations/s",
        "ratio",
        "useful tokens/s",
        "of matmul peak",
        "extra MiB",
        "largest error",
        "verdicts changed",
    )
    lines = [f"| {' | '.join(columns)} |", "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        others = [
            r["presentations_per_s"] for r in rows if r["workload"] == row["workload"] and is_other(r["contender"])
        ]
        lines.append(
            f"| {row['workload']} | {row['contender'].strip()} | {row['presentations_per_s']:.2f} | "
            f"{row['presentations_per_s'] / max(others):.2f} | {row['tokens_per_s']:.0f} | {row['matmul_share']:.0%} | "
            f"{row['extra_mib']:.0f} | {row['largest_error']:.4f} | {row['verdicts_changed']:.1%} |"
        )
    return "\n".join(lines)


def is_other(contender: str) -> bool:
    """Whether a contender is not this engine in one of its forms."""
    return not contender.startswith(("this engine", "  "))


def picture(rows: list[dict], file: Path) -> None:
    """A picture of presentations per second, with a panel for each workload."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    works = list(dict.fromkeys(r["workload"] for r in rows))
    figure = Figure(figsize=(8, 2.2 * len(works)), layout="constrained")
    for axes, work in zip(np.atleast_1d(figure.subplots(len(works), 1)), works, strict=True):
        mine = [r for r in rows if r["workload"] == work][::-1]
        colours = ["#b0b7c3" if is_other(r["contender"]) else "#2f6fde" for r in mine]
        axes.barh([r["contender"].strip() for r in mine], [r["presentations_per_s"] for r in mine], color=colours)
        axes.set_title(f"{work}: presentations per second", fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    main()
