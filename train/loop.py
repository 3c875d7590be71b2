"""The training run: transformers' Trainer, a PEFT adapter, an adapter folder that is ready to score with.

`python -m harness_plugin.train.loop` is not a command; `arena-rm train RECIPE` is.
"""

import json
import logging
import shutil
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from harness_plugin.errors import TrainError, UsageError
from harness_plugin.model import EMBEDDED, Manifest
from harness_plugin.model.device import choose_device
from harness_plugin.model.embedded import BASE_NAME, embedded_base
from harness_plugin.model.fingerprint import file_sha256, fingerprint
from harness_plugin.model.load import load_base, load_tokenizer, quiet_transformers
from harness_plugin.pairs import Pair, atomic_write, read_pairs
from harness_plugin.prompt import Renderer
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.data import Examples, select, split
from harness_plugin.train.measure import measure
from harness_plugin.train.trainer import make_trainer

log = logging.getLogger("lm_eval.arena_rm")

LIBRARIES = ("torch", "transformers", "peft", "accelerate")


def read(file: str) -> list[Pair]:
    """The pairs of a file whose format its columns tell."""
    return read_pairs(file).pairs


def train(config: TrainConfig, files: list[str], out: Path, device: str | None = None, read=read) -> Manifest:
    """Trains an adapter and writes it to `out`, which must not exist; returns its manifest.

    `read` turns a file's name into its pairs. The folder appears only when it is whole; checkpoints live beside it in
    `out`.part until then.
    """
    if out.exists():
        raise UsageError(f"{out} exists", "an adapter is never overwritten", "choose another -o or move it away")
    place = _check_device(config, device)
    name, base = _base(config)
    renderer = Renderer(load_tokenizer(base, revision=config.revision), config.max_length, config.truncation)
    training, validation, used = prepare(config, files, renderer, read)
    facts = {
        "recipe": config.to_dict(), "files": used, "pairs": len(training), "validation_pairs": len(validation),
    }  # fmt: skip
    work = out.with_name(out.name + ".part")
    with _only_one(work):
        checkpoint = _begin(work, facts)
        examples = [Examples(part, renderer, config) for part in (training, validation)]
        log.info("arena_rm: training on %d pairs, %d of them cut; validating on %d",
                 len(training), examples[0].truncated, len(validation))  # fmt: skip
        network, history = _fit(config, base, examples, work, place, checkpoint)
        final = work / "adapter"
        _save(network, name, config, final)
        manifest = Manifest(
            base=name, base_revision=config.revision, base_fingerprint=fingerprint(base),
            max_length=config.max_length, truncation=config.truncation,
            training={**facts, "log": history}, versions={lib: version(lib) for lib in LIBRARIES},
        )  # fmt: skip
        manifest.save(final)
        manifest = measure(manifest, final, validation, device)
        manifest.save(final)
        shutil.move(str(final), str(out))
        shutil.rmtree(work)
    return manifest


def _check_device(config: TrainConfig, device: str | None) -> torch.device:
    place = choose_device(device)
    if place.type not in ("cpu", "cuda"):
        raise UsageError(f"training on {place.type}", "it was never tried", "use --device cpu or cuda")
    if config.precision == "float16" and place.type == "cpu":
        raise UsageError("precision: float16 on a CPU", "it has no float16 training", "use --set precision=bfloat16")
    return place


def _base(config: TrainConfig) -> tuple[str, str]:
    """(the base's name for the adapter's config, what transformers loads); a folder's name is its absolute path."""
    if config.base == EMBEDDED:
        return BASE_NAME, str(embedded_base())
    base = str(Path(config.base).resolve()) if Path(config.base).is_dir() else config.base
    return base, base


def _fit(
    config: TrainConfig, base: str, examples: list[Examples], work: Path, place: torch.device, checkpoint: str | None
):
    """(the trained network, the history of losses)."""
    try:
        network = build(config, base)
        trainer = make_trainer(config, network, *examples, work, place)
    except ValueError as e:  # peft's and transformers' own checks of what the recipe passes on to them
        raise UsageError(f"the recipe cannot be run ({e})", "", "correct it") from e
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError as e:
        raise TrainError("out of memory", "a batch does not fit", "lower batch_size, raise accumulation") from e
    _refuse_broken(network)
    return network, _history(trainer)


@contextmanager
def _only_one(work: Path):
    """Refuses a second run into the same folder while the first is alive."""
    lock = FileLock(f"{work}.lock")
    work.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as e:
        raise UsageError(f"{work} is in use", "another run is writing it", "wait, or choose another -o") from e
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _begin(work: Path, facts: dict) -> str | None:
    """Makes the working folder, or finds the last checkpoint of the same run that was stopped there."""
    from transformers.trainer_utils import get_last_checkpoint

    note = work / "run.json"
    if note.exists():
        if json.loads(note.read_text(encoding="utf-8")) != facts:
            raise UsageError(
                f"{work} holds another run, unfinished", "its checkpoints do not belong to this recipe and data",
                "repeat that run's command, or delete the folder",
            )  # fmt: skip
        checkpoint = get_last_checkpoint(str(work))
        log.info("arena_rm: continuing from %s", checkpoint or "the start")
        return checkpoint
    if work.exists() and any(work.iterdir()):
        raise UsageError(f"{work} is not empty", "the run would work and clean up there", "move it away")
    work.mkdir(parents=True, exist_ok=True)
    with atomic_write(note) as f:
        f.write(json.dumps(facts))
    return None


def prepare(
    config: TrainConfig, files: list[str], renderer: Renderer, read=read
) -> tuple[list[Pair], list[Pair], list[dict]]:
    """(training pairs, validation pairs, what each file was), read, split by prompt, then selected."""
    pairs, used = [], []
    for name in files:
        if name == "-":
            raise UsageError(
                "--data -", "the data's hash goes into the manifest, so it must be a file", "save it first"
            )
        found = read(name)
        used.append({"name": Path(name).name, "sha256": file_sha256(Path(name)), "pairs": len(found)})
        pairs += found
    training, validation = split(pairs, config)
    if len(validation) < 2:
        raise TrainError(
            f"{len(validation)} validation pair", "a calibration is fitted on them", "give more data or another share"
        )
    unlimited = Renderer(renderer.tokenizer, 10**9, renderer.truncation)

    def tokens(pair: Pair) -> int:
        return len(unlimited.render(pair).ids)

    return select(training, config.select, config.seed, tokens), validation, used


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
    lora = LoraConfig(task_type="SEQ_CLS", **asdict(config.lora))  # copies: PEFT adds to the lists
    with quiet_transformers():
        network = get_peft_model(model, lora)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    network.config.use_cache = False
    return network


def _refuse_broken(network) -> None:
    broken = [n for n, p in network.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if broken:
        raise TrainError(f"{broken[0]} is not finite after training", "no score could come of it", "lower the rate")


def _save(network, base_name: str, config: TrainConfig, folder: Path) -> None:
    for peft_config in network.peft_config.values():
        peft_config.base_model_name_or_path = base_name
        peft_config.revision = config.revision
        peft_config.modules_to_save = list(dict.fromkeys(peft_config.modules_to_save))  # PEFT adds the head's twice
    network.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)


def _history(trainer) -> list[dict]:
    keep = ("step", "epoch", "loss", "eval_loss")
    return [
        {k: round(row[k], 5) for k in keep if k in row}
        for row in trainer.state.log_history
        if {"loss", "eval_loss"} & set(row)
    ]


def describe(manifest: Manifest) -> str:
    return json.dumps({"metrics": manifest.metrics, "calibration": manifest.calibration}, indent=1)
