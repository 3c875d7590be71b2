"""The working folder of a run: which run it belongs to, and which of its checkpoints are complete.

This module knows no model and no data.
"""

import json
import logging
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from accelerate import PartialState
from filelock import FileLock, Timeout
from transformers import TrainerCallback

from harness_plugin.errors import UsageError
from harness_plugin.files import atomic_write
from harness_plugin.files.rows import read_object

log = logging.getLogger("lm_eval.arena_rm")

RUN_FILE = "run.json"
COMPLETE = "complete"  # a file in a checkpoint's folder that is written last


class KeepWhole(TrainerCallback):
    """Marks each checkpoint that is completely written, and then deletes the earlier ones except the best.

    A checkpoint that a kill or a full disk cut short has no mark, so no run resumes from it.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        # A resumed state names the best checkpoint by its old path, and the folder may have been moved.
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
    # The mark goes first: if the deletion is cut short, the rest does not count as a complete checkpoint.
    (folder / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(folder)


@contextmanager
def only_one(work: Path):
    """Holds a lock on the working folder. Raises UsageError while another run holds it."""
    lock = FileLock(f"{work}.lock")
    work.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as e:
        raise UsageError(
            f"{work} is in use", "another run is writing to it", "wait until it ends, or give another folder with -o"
        ) from e
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes no open file
            # While it is held: else a third run could make a new one beside a second run that waits for this one.
            Path(lock.lock_file).unlink()
        lock.release()


def begin(work: Path, facts: dict) -> None:
    """Makes the working folder for the run that `facts` describe, or continues with the folder of the same run.

    Checkpoints that were not completely written are deleted, and so is the folder of another run that has no complete
    one, such as a run that a wrong setting stopped. Raises UsageError if the folder has checkpoints of another run.
    """
    note = work / RUN_FILE
    other = note.exists() and read_object(note) != json.loads(json.dumps(facts))
    if other and last_checkpoint(work) is None:
        log.info("arena_rm: %s is of another run, which has no checkpoint, and is begun anew", work)
        shutil.rmtree(work)
    if note.exists():
        if other:
            raise UsageError(
                f"{work} holds another run, unfinished",
                "its checkpoints do not belong to this recipe and data",
                "repeat the command of that run, or delete the folder",
            )
        for folder in work.glob("checkpoint-*"):
            if not (folder / COMPLETE).exists():
                log.warning("arena_rm: %s was not completely written and is deleted", folder.name)
                _drop(folder)
        log.info("arena_rm: continuing from %s", last_checkpoint(work) or "the start")
        return
    # A kill while the note below was written leaves a .tmp file, which is no reason to refuse the folder.
    if work.exists() and any(p.suffix != ".tmp" for p in work.iterdir()):
        raise UsageError(
            f"{work} is not empty",
            "the run keeps its checkpoints there and deletes the folder at its end",
            "move the folder away, or give another one with -o",
        )
    work.mkdir(parents=True, exist_ok=True)
    with atomic_write(note) as f:
        f.write(json.dumps(facts))


def refuse_private(work: Path) -> None:
    """Raises UsageError on a machine that does not see the folder which the first process made in `begin`."""
    if not (work / RUN_FILE).exists():
        raise UsageError(
            f"{work} is not on this machine",
            "every process writes checkpoints to it and resumes from it",
            "give a folder with -o that is on a disk that all machines share",
        )


def last_checkpoint(work: Path) -> str | None:
    """The newest complete checkpoint, or None."""
    whole = [p for p in work.glob("checkpoint-*") if (p / COMPLETE).exists()]
    return str(max(whole, key=_step)) if whole else None
