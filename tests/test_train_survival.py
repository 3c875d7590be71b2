"""Training that is killed, runs out of disk or memory, or meets a loss that is no number: the same command again ends
in the same adapter, to the byte."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from harness_plugin.errors import TrainError, UsageError
from harness_plugin.pairs import Pair, Winner, write_pairs
from harness_plugin.train import checkpoints, run, trainer
from harness_plugin.train.config import read_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
EVERY, STEPS = 3, 14  # updates between two checkpoints, and in all; the first epoch ends after seven


def lesson(n):
    """Pairs whose right answer says "rain", a few words to a dozen long."""
    rows = []
    for i in range(n):
        wrong, right = tiny.words(2 + i % 11, i), f"{tiny.words(2 + i % 7, 900 + i)} rain"
        pair = Pair(f"{tiny.words(3, i)} {i}", wrong, right, id=f"t{i}", winner=Winner.MODEL_B, p_b=0.95)
        rows.append(pair if i % 2 else pair.swap())
    return rows


@pytest.fixture(scope="module")
def job(tiny_base, tmp_path_factory):
    """(recipe, data), both files."""
    folder = tmp_path_factory.mktemp("job")
    recipe = {
        "base": str(tiny_base("gemma")),
        "max_length": 96,
        "epochs": 2,
        "learning_rate": 0.01,
        "batch_size": 4,
        "accumulation": 2,
        "both_orders": 0.5,
        "consistency": 1.0,
        "precision": "float32",
        "evaluations": 4,
        "validation_share": 0.2,
        "warmup": 0.1,
        "head_learning_rate": 0.001,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    write_pairs(folder / "lesson.jsonl", lesson(64))
    return str(folder / "recipe.yaml"), str(folder / "lesson.jsonl")


def train(job, out, *overrides):
    """The command, in this process."""
    return run.train(read_config(job[0], overrides), run.Request([job[1]], device="cpu"), out)


def weights(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


@pytest.fixture
def shown(monkeypatch):
    """Which pairs are trained on from here on, in their order: (id, epoch, which is shown)."""
    return watch(monkeypatch)


def watch(patch):
    seen, real = [], run.Examples

    class Watched(real):
        def __getitem__(self, i):
            row = super().__getitem__(i)
            if not self.plain:
                seen.append((self.pairs[i].id, self.epoch, row["labels"][1], "turned" in row))
            return row

    patch.setattr(run, "Examples", Watched)
    return seen


@pytest.fixture(scope="module")
def whole(job, tmp_path_factory):
    """(weights, log, pairs shown) of the run that nothing befell."""
    out = tmp_path_factory.mktemp("whole") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        rows = watch(patch)
        log = train(job, out).training["log"]
    assert [row["step"] for row in log if "eval_loss" in row] == [3, 6, 9, 12, STEPS]
    return weights(out), log, rows


def stop(*_):
    raise KeyboardInterrupt


def fail_at(monkeypatch, step, raises):
    """Lets `raises()` happen in the first batch of that update."""
    real = trainer.PreferenceTrainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step + 1 == step:
            raises()
        return real(self, *args, **kwargs)

    monkeypatch.setattr(trainer.PreferenceTrainer, "training_step", training_step)


def states(work):
    """{step: whether it is whole} of the checkpoints."""
    return {int(p.name.split("-")[1]): (p / checkpoints.COMPLETE).exists() for p in work.glob("checkpoint-*")}


class Killed:
    """The real command in a process of its own, which `when` kills (-9) as soon as its condition holds."""

    def __init__(self, job, folder):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "harness_plugin.cli", "train", job[0], "--data", job[1], "-o", "mine"]
        self.notes = open(folder / "stderr.txt", "w+", encoding="utf-8")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, "--device", "cpu"], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=self.notes
        )

    def wait(self, condition):
        try:
            while not condition():
                assert self.process.poll() is None, Path(self.notes.name).read_text(encoding="utf-8")[-3000:]
                time.sleep(0.002)
        except BaseException:
            self.process.kill()
            raise

    def when(self, condition):
        self.wait(condition)
        self.process.kill()
        self.notes.close()
        assert self.process.wait() == -signal.SIGKILL


def stop_at(file):
    """Whoever opens the file for writing waits there, for a reader that never comes."""
    file.parent.mkdir()
    os.mkfifo(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_command_killed_three_times_and_repeated_gives_the_same_adapter(job, whole, tmp_path):
    work = tmp_path / "mine.part"
    Killed(job, tmp_path).when((work / "run.json").exists)
    assert states(work) == {}

    (work / "checkpoint-1").mkdir()  # as a kill leaves it; it goes when the run begins
    second = Killed(job, tmp_path)
    second.wait(lambda: not (work / "checkpoint-1").exists())
    stop_at(work / "checkpoint-12" / "adapter_config.json")
    second.when(lambda: states(work).get(9))
    assert states(work)[9], "killed in the second epoch, between two checkpoints"

    (work / "checkpoint-12").mkdir(exist_ok=True)
    third = Killed(job, tmp_path)
    third.wait(lambda: not (work / "checkpoint-12").exists())
    stop_at(work / "checkpoint-12" / "optimizer.pt")
    third.when((work / "checkpoint-12" / "adapter_model.safetensors").exists)
    assert not states(work)[12] and states(work)[9], "killed while it was written"

    log = train(job, tmp_path / "mine").training["log"]
    assert weights(tmp_path / "mine") == whole[0] and log == whole[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "stderr.txt"]


@pytest.mark.parametrize("step", [2, 5, 8, 11])
def test_a_resumed_run_sees_the_pairs_that_the_other_one_saw(job, whole, tmp_path, monkeypatch, shown, step):
    with monkeypatch.context() as patch:
        fail_at(patch, step, stop)
        with pytest.raises(KeyboardInterrupt):
            train(job, tmp_path / "mine")
    last = (step - 1) // EVERY * EVERY
    assert states(tmp_path / "mine.part").get(last, last == 0)
    assert shown == whole[2][: len(shown)]
    del shown[:]
    log = train(job, tmp_path / "mine").training["log"]
    assert 0 < len(shown) <= len(whole[2]) and shown == whole[2][-len(shown) :]
    assert len(shown) == len(whole[2]) or last
    assert {epoch for _, epoch, _, _ in shown} == ({0, 1} if last < 7 else {1})
    assert weights(tmp_path / "mine") == whole[0] and log == whole[1]


@pytest.mark.parametrize("epochs", [2, 1.5])
def test_a_run_stopped_after_its_last_step_trains_no_further_and_keeps_the_best(
    job, whole, tmp_path, monkeypatch, shown, epochs
):
    # so large that with one of them, which depends on the CPU's rounding, the best is not the last
    for rate in (1.0, 0.6, 0.3, 2.0, 0.8, 1.5, 0.4, 3.0):
        settings = f"epochs={epochs}", f"learning_rate={rate}"
        manifest = train(job, tmp_path / f"whole at {rate}", *settings)
        measured = {row["step"]: row["eval_loss"] for row in manifest.training["log"] if "eval_loss" in row}
        if min(measured, key=measured.get) != max(measured):
            break
    assert min(measured, key=measured.get) != max(measured)
    with monkeypatch.context() as patch:
        patch.setattr(run, "measure", stop)
        with pytest.raises(KeyboardInterrupt):
            train(job, tmp_path / "mine", *settings)
    (tmp_path / "mine.part" / "adapter" / "README.md").write_bytes(b"---\nhalf: \xe2\x80")
    (tmp_path / "mine.part").rename(tmp_path / "moved.part")
    del shown[:]
    again = train(job, tmp_path / "moved", *settings)
    assert not shown and again.training["log"] == manifest.training["log"] and again.metrics == manifest.metrics
    assert weights(tmp_path / "moved") == weights(tmp_path / f"whole at {rate}")


CUT_SHORT = r"^\S*mine\.part could not be written; its disk is full, .*: it goes on from checkpoint-6$"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "trainer_state.json"])
def test_a_full_disk_is_one_line_that_names_the_last_whole_checkpoint(job, whole, tmp_path, monkeypatch, name):
    build, file = run.build, tmp_path / "mine.part" / "checkpoint-9" / name

    def filled(*args):
        file.parent.mkdir()
        file.symlink_to("/dev/full")
        return build(*args)

    with monkeypatch.context() as patch:
        patch.setattr(run, "build", filled)
        with pytest.raises(TrainError, match=CUT_SHORT):
            train(job, tmp_path / "mine")
    assert states(tmp_path / "mine.part")[6] and not states(tmp_path / "mine.part")[9]
    file.unlink()
    file.touch()  # what a disk leaves; /dev/full could be read without end
    train(job, tmp_path / "mine")
    assert weights(tmp_path / "mine") == whole[0]


def test_weights_that_cannot_be_written_are_one_line_too(job, whole, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    limits, real = resource.getrlimit(resource.RLIMIT_FSIZE), trainer.PreferenceTrainer.save_model

    def save_model(self, *args, **kwargs):
        if self.state.global_step == 9:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole[0]) // 2, limits[1]))
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.PreferenceTrainer, "save_model", save_model)
        try:
            with pytest.raises(TrainError, match=CUT_SHORT):
                train(job, tmp_path / "mine")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    train(job, tmp_path / "mine")
    assert weights(tmp_path / "mine") == whole[0]


def test_memory_that_is_not_there_is_one_line(job, tmp_path, monkeypatch):
    fail_at(monkeypatch, 5, lambda: torch.empty(1 << 55))
    with pytest.raises(TrainError, match=r"^out of memory; a batch does not fit; lower batch_size"):
        train(job, tmp_path / "mine")
    assert states(tmp_path / "mine.part") == {3: True}


def test_a_loss_that_is_no_number_keeps_the_checkpoints(job, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        nothing = lambda logits, *_: logits.sum() * float("nan")  # noqa: E731
        fail_at(patch, 11, lambda: patch.setattr(trainer, "preference_loss", nothing))
        with pytest.raises(TrainError, match="not a number"):
            train(job, tmp_path / "mine")
    found = states(tmp_path / "mine.part")
    assert found[9] and all(found.values()) and len(found) <= 2, "the last and the best"
    train(job, tmp_path / "mine")
    assert weights(tmp_path / "mine") == whole[0]


def test_a_checkpoint_that_is_half_deleted_is_not_resumed(tmp_path, monkeypatch):
    for step in (3, 6, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").touch()

    class State:
        is_world_process_zero, global_step, best_global_step = True, 9, 3
        output_dir = str(tmp_path)

    (tmp_path / "checkpoint-3" / checkpoints.COMPLETE).touch()
    (tmp_path / "checkpoint-6" / checkpoints.COMPLETE).touch()
    monkeypatch.setattr(checkpoints.shutil, "rmtree", lambda _: None)
    checkpoints.KeepWhole().on_save(State, State, None)
    assert states(tmp_path) == {3: True, 6: False, 9: True}
    assert checkpoints.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")


def test_a_working_folder_is_one_runs_and_one_process_at_a_time(tmp_path):
    work = tmp_path / "mine.part"
    work.mkdir()
    (work / ".arena-rm-1-ab.tmp").touch()  # killed while it wrote its note
    checkpoints.begin(work, {"seed": 2})
    (work / "checkpoint-3").mkdir()  # not complete: nothing is lost with that run
    checkpoints.begin(work, {"seed": 0})
    assert not (work / "checkpoint-3").exists()
    (work / "checkpoint-6").mkdir()
    (work / "checkpoint-6" / checkpoints.COMPLETE).touch()
    checkpoints.begin(work, {"seed": 0})
    with pytest.raises(UsageError, match="another run, unfinished"):
        checkpoints.begin(work, {"seed": 1})
    checkpoints.refuse_private(work)
    with pytest.raises(UsageError, match="not on this machine"):
        checkpoints.refuse_private(tmp_path / "other.part")
    with checkpoints.only_one(work), pytest.raises(UsageError, match="in use"), checkpoints.only_one(work):
        pass
    with checkpoints.only_one(work):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["mine.part"]


class Lengths:
    """What a sampler asks of the examples."""

    def __init__(self, n):
        rng = random.Random(n)
        self.lengths, self.epoch = [rng.randint(1, 500) for _ in range(n)], 0

    def __len__(self):
        return len(self.lengths)

    def length(self, i):
        return self.lengths[i]


def order(examples, epoch=0, batch=4, grouped=True, seed=0):
    examples.epoch = epoch
    sampler = trainer.LengthBatches(examples, batch, grouped, seed)
    assert len(sampler) == len(examples)
    return list(sampler)


@pytest.mark.parametrize("n", [1, 3, 4, 127, 128, 129, 1002])
@pytest.mark.parametrize("grouped", [True, False])
def test_every_example_is_drawn_once_anew_in_each_epoch_and_again_the_same(n, grouped):
    examples = Lengths(n)
    first = order(examples, grouped=grouped)
    assert sorted(first) == list(range(n))
    assert first == order(examples, grouped=grouped)
    if n > 4:
        assert first != order(examples, epoch=1, grouped=grouped) != order(examples, epoch=2, grouped=grouped)
        assert first != order(examples, seed=1, grouped=grouped)


@pytest.mark.parametrize("n", [1000, 1001, 1003])
def test_batches_hold_similar_lengths_and_follow_each_other_in_any_order(n):
    examples = Lengths(n)

    def batches(**options):
        drawn = [examples.lengths[i] for i in order(examples, **options)]
        return [drawn[i : i + 4] for i in range(0, n, 4)]

    grouped, plain = ([max(b) - min(b) for b in batches(grouped=g)] for g in (True, False))
    assert sum(grouped) < 0.15 * sum(plain) and max(grouped) < 150, "a batch cut across a shorter one would be wide"
    means = [sum(b) / len(b) for b in batches()]
    rises = sum(a < b for a, b in pairwise(means))
    assert 0.35 < rises / len(means) < 0.65


def test_the_words_of_a_failure_are_told_apart(tmp_path):
    def said(error):
        with pytest.raises((TrainError, RuntimeError, OSError)) as caught, run._resource_errors(tmp_path):
            raise error
        return caught.value

    assert re.match("out of memory", str(said(RuntimeError("CUDA error: out of memory"))))
    assert "goes on from the start" in str(said(OSError(28, "No space left on device")))
    other = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert said(other) is other
