"""The training run: from pairs and a recipe to an adapter folder that is ready to score with.

The command for it is `arena-rm train RECIPE`.
"""

import atexit
import errno
import gc
import json
import logging
import math
import os
import shutil
import time
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path

import torch

from harness_plugin.engine.processes import leave_group
from harness_plugin.engine.threads import use_threads
from harness_plugin.errors import TrainError, UsageError
from harness_plugin.model import Manifest
from harness_plugin.model.adapter import Adapter
from harness_plugin.model.base import base_config, find_base, has_tokenizer, load_tokenizer, tokenizer_files
from harness_plugin.model.device import choose_device
from harness_plugin.model.file_hashes import short_hash
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.model.load import check_vocabulary
from harness_plugin.model.network import is_decoder_classifier
from harness_plugin.model.reading import padding_of
from harness_plugin.model.spec import POINTWISE
from harness_plugin.pairs import Pair
from harness_plugin.train.checkpoints import begin, last_checkpoint, only_one, refuse_private
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.data import Examples
from harness_plugin.train.init import init_facts, init_name, read_init
from harness_plugin.train.libraries import check_libraries, has_compiler
from harness_plugin.train.measure import measure
from harness_plugin.train.network import build, compile_layers, refuse_broken, save
from harness_plugin.train.packed import can_pack
from harness_plugin.train.prepare import Request, check_request, prepare
from harness_plugin.train.record import write_record
from harness_plugin.train.render import AnyRenderer, renderer_for
from harness_plugin.train.split import describe_report, token_report
from harness_plugin.train.trainer import make_trainer, train_from, updates, use_packs

log = logging.getLogger("lm_eval.arena_rm")

LIBRARIES = ("torch", "transformers", "peft", "accelerate")
# Parts of the messages by which libraries say that the disk is full; the second line is from torch.save.
DISK_FULL: tuple[str, ...] = ("No space left", "os error 28", "Disk quota exceeded", "File too large", "os error 27")
DISK_FULL += ("PytorchStreamWriter failed", "iostream error", "unexpected pos")
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "out of memory", "ALLOC_FAILED")
CURVES_FOLDER = "TENSORBOARD_LOGGING_DIR"  # the variable that transformers reads
COMPILE_FROM = 100  # updates from which a run gains more than the minute that torch.compile takes


def train(config: TrainConfig, request: Request, out: Path) -> Manifest | None:
    """Trains an adapter and writes it to `out`, which must not exist; returns its manifest.

    The folder appears only when it is complete. Until then the checkpoints are beside it in `out`.part, and the same
    command continues from the last one. Where several processes run it (`accelerate launch`), the first one writes
    and returns the manifest; the others return None. Raises UsageError, DataError, ModelError and TrainError.
    """
    from accelerate import PartialState

    if out.exists():
        raise UsageError(
            f"{out} exists",
            "an adapter that is there is never overwritten",
            "give another folder with -o, or move this one away",
        )
    # Whatever can be refused is refused before a base is downloaded and the data is read.
    check_request(request, config)
    place = _place(config, request.device)
    check_libraries(config, request.report_to, place.type)
    state = PartialState(cpu=place.type == "cpu")
    atexit.register(leave_group)
    if not state.is_main_process:
        log.setLevel(logging.WARNING)
    with only_one(_work(out)) if state.is_main_process else nullcontext():
        return _run(config, request, out, place, state)


def _work(out: Path) -> Path:
    return out.with_name(out.name + ".part")


def _run(config: TrainConfig, request: Request, out: Path, place: torch.device, state) -> Manifest | None:
    """`train` after its first checks. `state`: accelerate's, which says which of several processes this is."""
    started, work = time.monotonic(), _work(out)
    with state.main_process_first():  # the first process converts the embedded base, the others use the result
        name, base = _base(config)
    init = read_init(config, base)
    settings = base_config(base, config.revision)
    tokenizer = load_tokenizer(base, init, config.revision)
    renderer = renderer_for(config, tokenizer, padding_of(settings, tokenizer, init), init)
    check_vocabulary(renderer, settings, init, name)
    data = prepare(config, request, renderer, listing=out.with_name(out.name + ".overlap.jsonl"))
    facts = {**_recipe_facts(config, init), **data.facts, "devices": state.num_processes}
    if config.kind == POINTWISE:
        facts["chat_template"] = short_hash(renderer.template)  # a run does not go on with another one
    with _resource_errors(work):
        if state.is_main_process:
            begin(work, {**facts, "base_fingerprint": fingerprint(base), "content": data.digest})
        state.wait_for_everyone()
        refuse_private(work)
        resumed = last_checkpoint(work) is not None
        examples = Examples(data.training, renderer, config), Examples(data.validation, renderer, config, plain=True)
        report = _report(examples[0])
        counts = len(data.training), len(data.validation), describe_report(report)
        log.info("arena_rm: %d pairs to train on, %d to validate on; %s", *counts)
        with _curves_beside(out, request.report_to):
            trainer = _fit(config, base, init, examples, work, place, request.report_to)
        folder, history = work / "adapter", _history(trainer)
        _save(trainer, name, config, folder, state, init)
        del trainer
        _free_memory()  # the adapter is measured on a base of its own, for which there may be no room beside this one
        if not state.is_main_process:
            return None  # without waiting for the measurements, which may take longer than a barrier lasts
        run = {
            "device": _device_name(place),
            "devices": state.num_processes,
            "pairs": len(data.training),
            "seconds": None if resumed else round(time.monotonic() - started, 1),  # not known of a resumed run
            "truncation": report,
            "own_tokenizer": init is not None and has_tokenizer(init),
            "tokens": round(examples[0].tokens() * config.epochs),
        }
        manifest = _manifest(config, name, base, renderer, {**facts, "log": history})
        manifest = _finish(manifest, run, request, folder, data.validation)
        folder.rename(out)
        shutil.rmtree(work, ignore_errors=True)  # the adapter is complete, whatever is left of this folder
    return manifest


@contextmanager
def _curves_beside(out: Path, report_to: str):
    """Within it, the curves for TensorBoard are written beside `out`, unless the user names another folder: they would
    be deleted with the working folder."""
    if report_to not in ("tensorboard", "all") or CURVES_FOLDER in os.environ:
        yield
        return
    os.environ[CURVES_FOLDER] = str(out.with_name(out.name + ".runs").absolute())
    try:
        yield
    finally:
        del os.environ[CURVES_FOLDER]  # else those of the next run in this process would be written there, too


def _free_memory() -> None:
    """Gives back the memory of a network that nothing names any more."""
    gc.collect()  # a trainer and its network name each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _place(config: TrainConfig, device: str | None) -> torch.device:
    """The device to train on, with the CPU threads that the process may use. Raises UsageError for a device that
    training cannot use."""
    place = choose_device(device)
    use_threads(None)
    if place.type not in ("cpu", "cuda"):
        raise UsageError(
            f"training on {place.type} is not possible",
            "arena-rm trains on CPUs and on CUDA devices only",
            "use --device cpu or --device cuda",
        )
    if config.precision == "float16" and place.type == "cpu":
        raise UsageError(
            "precision: float16 on a CPU", "PyTorch cannot train in float16 there", "use --set precision=bfloat16"
        )
    if device and place.index:
        raise UsageError(
            f"--device {device}",
            "the Trainer of transformers uses the first GPU that it sees",
            f"use --device cuda with the environment variable CUDA_VISIBLE_DEVICES={place.index}",
        )
    return place


def _device_name(place: torch.device) -> str:
    """The device as the model card names it."""
    return torch.cuda.get_device_name(place) if place.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def _base(config: TrainConfig) -> tuple[str, str]:
    """(the name of the base in the adapter's config, what transformers loads).

    A folder is named by its absolute path, because the config is read from other places.
    """
    name, base = find_base(config.base)
    if name != base or not Path(base).is_dir():
        return name, base
    return (str(Path(base).resolve()),) * 2


def _recipe_facts(config: TrainConfig, init: Adapter | None) -> dict:
    """What the manifest says of the recipe and of the adapter that the run starts from."""
    facts: dict = {"recipe": {**config.to_dict(), "init": init_name(config)}}
    return facts if init is None else {**facts, "init": init_facts(config, init)}


def _report(examples: Examples) -> dict:
    """How many tokens the examples lose by being cut, as `token_report` gives it."""
    fields = examples.kept
    return token_report(
        [(p.original, a.original, b.original) for p, a, b in fields], [(p.kept, a.kept, b.kept) for p, a, b in fields]
    )


def _fit(
    config: TrainConfig, base: str, init: Adapter | None, examples, work: Path, place: torch.device, report_to: str
):
    """The trainer after its run; its network has the best weights."""
    try:
        network = build(config, base, init)
        training, validation = examples
        trainer = make_trainer(config, network, training, validation, work, place, report_to)
    except (ValueError, ImportError) as e:
        raise UsageError(
            f"training cannot start ({e})",
            "PEFT or transformers refuses a setting of the recipe",
            "correct the setting, in the recipe or with --set NAME=VALUE",
        ) from e
    steps = updates(config, len(examples[0]), trainer.args.world_size)
    compiled = _compiles(config, network, place, steps)
    packs = can_pack(network, place) and not _spread(trainer)
    log.info("arena_rm: %s batches%s", "packed" if packs else "padded", ", with torch.compile" if compiled else "")
    if packs:
        use_packs(trainer, compiled)
    elif compiled and (config.compile or not _spread(trainer)):
        compile_layers(network)
    train_from(last_checkpoint(work), trainer)
    refuse_broken(network)
    return trainer


def _compiles(config: TrainConfig, network, place: torch.device, steps: int) -> bool:
    """Whether torch.compile is used: as the recipe says, else where the run is long enough to gain from it."""
    if config.compile is not None:
        return config.compile
    return (
        has_compiler(place.type)
        and steps >= COMPILE_FROM
        and is_decoder_classifier(network)
        and not config.quantization
    )


@contextmanager
def _resource_errors(work: Path):
    """Turns a full disk or too little memory into a TrainError; the checkpoints stay, and the same command resumes."""
    try:
        yield
    except Exception as e:  # safetensors, torch and the file system have different types of errors for a full disk
        text = str(e)
        if getattr(e, "errno", None) == errno.ENOSPC or any(part in text for part in DISK_FULL):
            last = last_checkpoint(work)
            raise TrainError(
                f"{work} could not be written",
                "its disk is full, or a limit on file sizes is reached",
                f"free some space and repeat the command: it goes on from {Path(last).name if last else 'the start'}",
            ) from e
        if isinstance(e, (torch.OutOfMemoryError, MemoryError)) or any(part in text for part in NO_MEMORY):
            raise TrainError(
                "out of memory",
                "a batch does not fit",
                "lower batch_size and raise accumulation, or use --set gradient_checkpointing=true",
            ) from e
        raise


def _spread(trainer) -> bool:
    """Whether FSDP or DeepSpeed has spread the weights over several devices."""
    return trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled


def _save(trainer, name: str, config: TrainConfig, folder: Path, state, init: Adapter | None) -> None:
    """Writes the adapter, with the tokenizer of `init` if that has its own; all processes take part in gathering its
    weights, the first one writes."""
    tensors = trainer.accelerator.get_state_dict(trainer.model_wrapped) if _spread(trainer) else None
    if state.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)  # an earlier run may have been killed while it wrote
        save(trainer.accelerator.unwrap_model(trainer.model), name, config, folder, tensors)
        if init is not None and has_tokenizer(init):
            for file in tokenizer_files(init):
                shutil.copyfile(file, folder / file.name)


def _manifest(config: TrainConfig, name: str, base: str, renderer: AnyRenderer, training: dict) -> Manifest:
    """The manifest before anything was measured; `base` is the folder or hub id that was loaded."""
    return Manifest(
        kind=config.kind,
        template=renderer.template,
        base=name,
        base_revision=config.revision,
        base_fingerprint=fingerprint(base),
        max_length=config.max_length,
        truncation=config.truncation,
        num_labels=config.num_labels,
        training=training,
        versions={library: version(library) for library in LIBRARIES},
    )


def _finish(manifest: Manifest, run: dict, request: Request, folder: Path, validation: list[Pair]) -> Manifest:
    """Measures the saved adapter and calibrates it, then writes its manifest, its record and its model card."""
    manifest.save(folder)
    manifest = measure(manifest, folder, validation, request.device)
    manifest.save(folder)
    write_record(folder, manifest, manifest.training["log"], run, request.terms)
    return manifest


def _history(trainer) -> list[dict]:
    """The rows of training.json: a step and the numbers logged there. Numbers that are not finite are left out."""
    keep = ("epoch", "loss", "eval_loss", "eval_accuracy", "learning_rate", "grad_norm")
    return [
        {"step": row["step"]} | {k: float(f"{row[k]:.5g}") for k in keep if k in row and math.isfinite(row[k])}
        for row in trainer.state.log_history
        if {"loss", "eval_loss"} & set(row)
    ]


def describe(manifest: Manifest) -> str:
    """Metrics and calibration as JSON, which the command prints."""
    return json.dumps({"metrics": manifest.metrics, "calibration": manifest.calibration}, indent=1)
