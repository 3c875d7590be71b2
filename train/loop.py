"""The training run: pairs and a recipe in, an adapter folder that is ready to score with out.

`python -m harness_plugin.train.loop` is not a command; `arena-rm train RECIPE` is.
"""

import errno
import json
import logging
import math
import shutil
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from harness_plugin.errors import TrainError, UsageError
from harness_plugin.model import Manifest
from harness_plugin.model.base import find_base, load_tokenizer
from harness_plugin.model.device import choose_device
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.model.hashes import file_sha256
from harness_plugin.model.network import is_decoder_classifier
from harness_plugin.pairs import Pair, read_pairs
from harness_plugin.prompt import Renderer
from harness_plugin.train.augment import degrade, mismatch
from harness_plugin.train.checkpoints import begin, last_checkpoint, only_one, refuse_private
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.data import Examples, mix, select
from harness_plugin.train.measure import measure
from harness_plugin.train.network import build, compile_layers, refuse_broken, save
from harness_plugin.train.packed import can_pack
from harness_plugin.train.record import write_record
from harness_plugin.train.split import (
    describe_report,
    evaluation_prompts,
    refuse_overlap,
    remove_duplicates,
    split,
    token_report,
)
from harness_plugin.train.teacher import apply_teacher, read_teacher
from harness_plugin.train.trainer import make_trainer, train_from, updates, use_packs

log = logging.getLogger("lm_eval.arena_rm")

LIBRARIES = ("torch", "transformers", "peft", "accelerate")
FULL = ("No space left", "os error 28", "Disk quota exceeded", "File too large", "os error 27")
FULL += ("PytorchStreamWriter failed", "iostream error", "unexpected pos")  # in the words of torch.save
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "out of memory", "ALLOC_FAILED")
LONG_ENOUGH = 100  # updates from which compiling (about a minute) pays


@dataclass(frozen=True)
class Request:
    """What a run is asked for, apart from its recipe and its place. `read` turns a file's name into its pairs;
    `keep_out` are files whose prompts must not be trained on; `teacher` is another judge's `arena-rm score` output."""

    files: list[str]
    keep_out: tuple[str, ...] = ()
    teacher: str | None = None
    device: str | None = None
    report_to: str = "none"
    terms: str | None = None
    read: object = None


def read(file: str) -> list[Pair]:
    """The pairs of a file whose format its columns tell."""
    return read_pairs(file).pairs


def train(config: TrainConfig, request: Request, out: Path) -> Manifest:
    """Trains an adapter and writes it to `out`, which must not exist; returns its manifest.

    The folder appears only when it is whole; checkpoints live beside it in `out`.part until then, and the same command
    continues from the last of them. Run by several processes (`accelerate launch`), the first one writes.
    """
    from accelerate import PartialState

    started = time.monotonic()
    if out.exists():
        raise UsageError(f"{out} exists", "an adapter is never overwritten", "choose another -o or move it away")
    place = _check_device(config, request.device)
    if request.device and place.index:
        raise UsageError(
            f"--device {request.device}",
            "the Trainer takes the first GPU that it sees",
            f"use --device cuda with CUDA_VISIBLE_DEVICES={place.index}",
        )
    state = PartialState(cpu=place.type == "cpu")
    if not state.is_main_process:
        log.setLevel(logging.WARNING)
    with state.main_process_first():  # which converts the embedded base for all
        name, base = _base(config)
    renderer = Renderer(load_tokenizer(base, revision=config.revision), config.max_length, config.truncation)
    data = prepare(config, request, renderer, listing=out.with_name(out.name + ".overlap.jsonl"))
    facts = {"recipe": config.to_dict(), **data.facts, "devices": state.num_processes}
    work = out.with_name(out.name + ".part")
    with only_one(work) if state.is_main_process else nullcontext(), _clear_trouble(work):
        if state.is_main_process:
            begin(work, facts)
        state.wait_for_everyone()
        refuse_private(work)
        continued = last_checkpoint(work) is not None  # what the first part cost is then not known
        examples = Examples(data.training, renderer, config), Examples(data.validation, renderer, config, plain=True)
        report = _report(examples[0])
        log.info(
            "arena_rm: %d pairs to train on, %d to validate on; %s",
            len(data.training),
            len(data.validation),
            describe_report(report),
        )
        trainer = _fit(config, base, examples, work, place, request.report_to)
        final = work / "adapter"
        _save(trainer, name, config, final, state)
        manifest = None
        if state.is_main_process:
            cost = {
                "device": _device_name(place),
                "devices": state.num_processes,
                "pairs": len(data.training),
                "seconds": None if continued else round(time.monotonic() - started, 1),
                "truncation": report,
                "tokens": round(examples[0].tokens() * config.epochs),
            }
            manifest = Manifest(
                base=name,
                base_revision=config.revision,
                base_fingerprint=fingerprint(base),
                max_length=config.max_length,
                truncation=config.truncation,
                num_labels=config.num_labels,
                training={**facts, "log": _history(trainer)},
                versions={lib: version(lib) for lib in LIBRARIES},
            )
            manifest = _finish(manifest, cost, request, final, data.validation)
            final.rename(out)
            shutil.rmtree(work)
    return manifest  # the others do not wait: measuring may take longer than a barrier lasts


@dataclass(frozen=True)
class Data:
    """Pairs on both sides, and what the manifest and a resumed run have to know of where they came from."""

    training: list[Pair]
    validation: list[Pair]
    facts: dict


def prepare(config: TrainConfig, request: Request, renderer: Renderer, listing: Path | None = None) -> Data:
    """Reads, joins the teacher's labels, drops duplicates, splits by connected components, selects, mixes."""
    found, used = [], []
    for name in request.files:
        if name == "-":
            raise UsageError(
                "--data -", "the data's hash goes into the manifest, so it must be a file", "save it first"
            )
        pairs = (request.read or read)(name)
        used.append({"name": Path(name).name, "sha256": file_sha256(Path(name)), "pairs": len(pairs)})
        found += [(Path(name).name, pair) for pair in pairs]
    home = {pair.key: name for name, pair in reversed(found)}
    pairs = [p for _, p in found]
    refuse_overlap(pairs, {name: evaluation_prompts(name) for name in request.keep_out}, listing)
    facts, teacher = {"files": used}, None
    if request.teacher:
        facts["teacher"] = {"name": Path(request.teacher).name, "sha256": file_sha256(Path(request.teacher))}
        teacher = read_teacher(request.teacher)
        # only where nothing else is known: validation is by the data's own labels
        taught = apply_teacher(pairs, teacher, 1.0)
        pairs = [own if own.soft_label is not None else new for own, new in zip(pairs, taught, strict=True)]
    pairs, gone = remove_duplicates(pairs)
    training, validation = split(pairs, config.validation_share, config.seed, config.validation_pairs)
    if len(validation) < 2:
        raise TrainError(
            f"{len(validation)} validation pair", "a calibration is fitted on them", "give more data or another share"
        )
    if teacher is not None:
        training = apply_teacher(training, teacher, config.teacher_share)
    unlimited = Renderer(renderer.tokenizer, 10**9, renderer.truncation)
    training = select(training, config.select, config.seed, lambda pair: len(unlimited.render(pair).ids))
    training = [
        *training,
        *mismatch(training, config.mismatched, config.seed),
        *degrade(training, config.degraded, config.seed),
    ]
    training = mix(
        [(home.get(p.key, ""), p) for p in training], config.weights, config.seed, {name for name, _ in found}
    )
    facts |= {
        "pairs": len(training),
        "validation_pairs": len(validation),
        "duplicates": gone,
        "kept_out": sorted(Path(n).name for n in request.keep_out),
    }
    return Data(training, validation, facts)


def _check_device(config: TrainConfig, device: str | None) -> torch.device:
    place = choose_device(device)
    if place.type not in ("cpu", "cuda"):
        raise UsageError(f"training on {place.type}", "it was never tried", "use --device cpu or cuda")
    if config.precision == "float16" and place.type == "cpu":
        raise UsageError("precision: float16 on a CPU", "it has no float16 training", "use --set precision=bfloat16")
    return place


def _device_name(place: torch.device) -> str:
    return torch.cuda.get_device_name(place) if place.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def _base(config: TrainConfig) -> tuple[str, str]:
    """`find_base`, with a folder by its whole path: the adapter's config names it, and is read from other places."""
    name, base = find_base(config.base)
    if name != base or not Path(base).is_dir():
        return name, base
    return (str(Path(base).resolve()),) * 2


def _report(examples: Examples) -> dict:
    fields = [(v[0].prompt, v[0].response_a, v[0].response_b) for v in examples.rendered]
    return token_report(
        [tuple(f.original for f in row) for row in fields], [tuple(f.kept for f in row) for row in fields]
    )


def _fit(config: TrainConfig, base: str, examples, work: Path, place: torch.device, report_to: str):
    """The trainer, after its run, holding the best weights."""
    try:
        network = build(config, base)
        trainer = make_trainer(config, network, *examples, work, place, report_to)
    except (ValueError, ImportError) as e:  # peft's and transformers' own checks of what the recipe passes on to them
        raise UsageError(f"the recipe cannot be run ({e})", "", "correct it") from e
    steps = updates(config, len(examples[0]), trainer.args.world_size)
    compiled = _compiles(config, network, place, steps)
    packs = can_pack(network, place) and not _spread(trainer)
    log.info("arena_rm: %s batches%s", "packed" if packs else "padded", ", fused by torch.compile" if compiled else "")
    if packs:
        use_packs(trainer, compiled)
    elif compiled and (config.compile or not _spread(trainer)):
        compile_layers(network)
    train_from(last_checkpoint(work), trainer)
    refuse_broken(network)
    return trainer


def _compiles(config: TrainConfig, network, place: torch.device, steps: int) -> bool:
    compiler = place.type == "cuda" or shutil.which("g++") or shutil.which("clang++")
    if config.compile and not compiler:
        raise UsageError("compile: true", "torch.compile finds no C++ compiler", "install g++ or --set compile=null")
    if config.compile is not None:
        return config.compile
    return bool(compiler) and steps >= LONG_ENOUGH and is_decoder_classifier(network) and not config.quantization


@contextmanager
def _clear_trouble(work: Path):
    """Out of memory and a full disk as one line each; the checkpoints stay, and the same command continues."""
    try:
        yield
    except Exception as e:  # safetensors, torch and the file system each have a type of their own for a full disk
        text = str(e)
        if getattr(e, "errno", None) == errno.ENOSPC or any(sign in text for sign in FULL):
            last = last_checkpoint(work)
            raise TrainError(
                f"{work} could not be written",
                "its disk is full or a limit is reached",
                f"free some space and repeat the command: it goes on from {Path(last).name if last else 'the start'}",
            ) from e
        if isinstance(e, (torch.OutOfMemoryError, MemoryError)) or any(sign in text for sign in NO_MEMORY):
            raise TrainError(
                "out of memory",
                "a batch does not fit",
                "lower batch_size, raise accumulation, or gradient_checkpointing",
            ) from e
        raise


def _spread(trainer) -> bool:
    return trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled


def _save(trainer, name: str, config: TrainConfig, folder: Path, state) -> None:
    tensors = trainer.accelerator.get_state_dict(trainer.model_wrapped) if _spread(trainer) else None
    if state.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)  # left by a kill while it was written
        save(trainer.accelerator.unwrap_model(trainer.model), name, config, folder, tensors)


def _finish(manifest: Manifest, run: dict, request: Request, folder: Path, validation: list[Pair]) -> Manifest:
    """Calibration and metrics of the saved adapter, then its manifest, record and model card."""
    manifest.save(folder)
    manifest = measure(manifest, folder, validation, request.device)
    manifest.save(folder)
    write_record(folder, manifest, manifest.training["log"], run, request.terms)
    return manifest


def _history(trainer) -> list[dict]:
    """The rows of training.json: each a step and what was known there; numbers that are not finite are left out."""
    keep = ("epoch", "loss", "eval_loss", "eval_accuracy", "learning_rate", "grad_norm")
    return [
        {"step": row["step"]} | {k: float(f"{row[k]:.5g}") for k in keep if k in row and math.isfinite(row[k])}
        for row in trainer.state.log_history
        if {"loss", "eval_loss"} & set(row)
    ]


def describe(manifest: Manifest) -> str:
    return json.dumps({"metrics": manifest.metrics, "calibration": manifest.calibration}, indent=1)
