"""The working folder of a run: whose it is, which checkpoints in it are whole. Knows no model and no data."""

import json
import logging
import shutil
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from filelock import FileLock, Timeout
from transformers import TrainerCallback

from harness_plugin.errors import UsageError
from harness_plugin.files import atomic_write

log = logging.getLogger("lm_eval.arena_rm")

RUN_FILE = "run.json"
COMPLETE = "complete"  # a file in a checkpoint's folder, written last


class KeepWhole(TrainerCallback):
    """Marks a checkpoint that is wholly written, so that one cut short by a kill or a full disk is never resumed; only
    then drops the earlier ones, all but the best."""

    def on_train_begin(self, args, state, control, **kwargs):
        # a resumed state names the best one by the path it had then
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        state.best_model_checkpoint = str(best) if best.is_dir() else None

    def on_save(self, args, state, control, **kwargs):
        PartialState().wait_for_everyone()  # each process writes a file of its own
        if state.is_world_process_zero:
            work = Path(args.output_dir)
            (work / f"checkpoint-{state.global_step}" / COMPLETE).touch()
            for folder in work.glob("checkpoint-*"):
                if _step(folder) < state.global_step and _step(folder) != state.best_global_step:
                    _drop(folder)


def _step(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def _drop(folder: Path) -> None:
    (folder / COMPLETE).unlink(missing_ok=True)  # before the rest, so that half of it cannot pass for the whole
    shutil.rmtree(folder)


@contextmanager
def only_one(work: Path):
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


def begin(work: Path, facts: dict) -> None:
    """Makes the working folder for the run that `facts` describe, or finds the same run's, stopped there; what a kill
    left half-written is removed. Raises UsageError when the folder is another run's."""
    note = work / RUN_FILE
    if note.exists():
        if json.loads(note.read_text(encoding="utf-8")) != json.loads(json.dumps(facts)):
            raise UsageError(
                f"{work} holds another run, unfinished",
                "its checkpoints do not belong to this recipe and data",
                "repeat that run's command, or delete the folder",
            )
        for folder in work.glob("checkpoint-*"):
            if not (folder / COMPLETE).exists():
                log.warning("arena_rm: %s was cut short and is not used", folder.name)
                _drop(folder)
        log.info("arena_rm: continuing from %s", last_checkpoint(work) or "the start")
        return
    if work.exists() and any(p.suffix != ".tmp" for p in work.iterdir()):  # which a kill leaves of the note below
        raise UsageError(f"{work} is not empty", "the run would work and clean up there", "move it away")
    work.mkdir(parents=True, exist_ok=True)
    with atomic_write(note) as f:
        f.write(json.dumps(facts))


def refuse_private(work: Path) -> None:
    """Raises UsageError on a machine that does not see the folder which the first process has made by `begin`."""
    if not (work / RUN_FILE).exists():
        raise UsageError(
            f"{work} is not on this machine",
            "every process writes to it and resumes from it",
            "choose an -o on a disk that all machines share",
        )


def last_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint."""
    whole = [p for p in work.glob("checkpoint-*") if (p / COMPLETE).exists()]
    return str(max(whole, key=_step)) if whole else None
