"""Training by several processes: accelerate's launcher with the shipped configurations, and the run of one process."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from safetensors.torch import load_file
from test_train_survival import lesson, states, stop_at

from harness_plugin.pairs import write_pairs
from harness_plugin.train import run
from harness_plugin.train.checkpoints import only_one
from harness_plugin.train.config import read_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "train" / "configs" / "accelerate"
COMMAND = "from harness_plugin.cli import main\nmain()\n"
BROKEN = """
import os
from harness_plugin.errors import TrainError
from harness_plugin.train import trainer
step = trainer.PreferenceTrainer.training_step
def training_step(self, *args, **kwargs):
    if self.state.global_step == 2 and os.environ["RANK"] == "1":
        raise TrainError("a device is lost", "it has been taken out", "put it back")
    return step(self, *args, **kwargs)
trainer.PreferenceTrainer.training_step = training_step
"""
# accelerate spreads a model over any kind of device but the CPU, which is missing from one list of kinds; with another
# kind's name in its place all the rest is what runs on GPUs, over gloo.
ON_CPU = """
from accelerate import state
real = state.AcceleratorState.__init__
def init(self, *args, **kwargs):
    shared = state.PartialState._shared_state
    if shared.get("distributed_type") == state.DistributedType.MULTI_CPU:
        shared["distributed_type"] = state.DistributedType.MULTI_GPU
    real(self, *args, **kwargs)
state.AcceleratorState.__init__ = init
"""
PARTS = """
from harness_plugin.train import run
save = run._save
def told(trainer, *args):
    held = sum(getattr(p, "_local_tensor", p).numel() for p in trainer.model.parameters())
    print(f"holding {held / sum(p.numel() for p in trainer.model.parameters()):.2f}")
    save(trainer, *args)
run._save = told
"""


@pytest.fixture(scope="module")
def job(tiny_base, tmp_path_factory):
    """(recipe for two devices, data), both files: 48 pairs in 12 batches, 16 validation pairs in two."""
    folder = tmp_path_factory.mktemp("job")
    recipe = {
        "base": str(tiny_base("gemma")),
        "max_length": 96,
        "epochs": 2,
        "learning_rate": 0.003,
        "batch_size": 4,
        "accumulation": 1,
        "both_orders": 0.5,
        "consistency": 1.0,
        "precision": "float32",
        "evaluations": 4,
        "validation_share": 0.3,
        "validation_pairs": 16,
        "select": {"sources": {"": 48}},
        "lora": {"lora_dropout": 0.0},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    write_pairs(folder / "lesson.jsonl", lesson(100))
    return str(folder / "recipe.yaml"), str(folder / "lesson.jsonl")


@pytest.fixture(scope="module")
def alone(job, tmp_path_factory):
    """(adapter, log) of one process that accumulates the batches of two."""
    out = tmp_path_factory.mktemp("alone") / "mine"
    recipe = read_config(job[0], ("accumulation=2",))
    manifest = run.train(recipe, run.Request([job[1]], device="cpu"), out)
    assert (manifest.training["pairs"], manifest.training["validation_pairs"]) == (48, 16)
    return out, manifest.training["log"]


def launch(job, folder, config, *program):
    """Two processes at work in `folder`, started."""
    launcher = ["accelerate.commands.launch", "--config_file", str(config)]
    launcher += ["--num_processes", "2", "--main_process_port", "0", *(program or ("-m", "harness_plugin.cli"))]
    return started(job, folder, *launcher)


def started(job, folder, *launcher):
    """The processes of a launcher that runs the command, at work in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", *launcher, "train", job[0], "--data", job[1], "-o", "mine", "--device", "cpu"]
    with open(folder / "notes.txt", "w", encoding="utf-8") as notes:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=notes, stderr=notes)


def finished(process, folder):
    """(exit code, what was printed) of a launch."""
    try:
        return process.wait(), (folder / "notes.txt").read_text(encoding="utf-8")
    finally:
        kill(process)


def kill(process):
    """Ends the launcher and the processes that it started, each in a session of its own."""
    if process.poll() is None:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()


def killed_when(condition, process, folder):
    try:
        while not condition():
            assert process.poll() is None, (folder / "notes.txt").read_text(encoding="utf-8")[-3000:]
            time.sleep(0.002)
    finally:
        kill(process)


def same(adapter, alone):
    """Whether an adapter and its log are those of one process but for rounding."""
    training = json.loads((adapter / "arena_rm.json").read_text(encoding="utf-8"))["training"]
    assert training["devices"] == 2
    assert [row["step"] for row in training["log"]] == [row["step"] for row in alone[1]]
    for ours, theirs in zip(training["log"], alone[1], strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-4)
    tensors, wanted = (load_file(folder / "adapter_model.safetensors") for folder in (adapter, alone[0]))
    assert tensors.keys() == wanted.keys()
    assert max(float((tensors[name] - wanted[name]).abs().max()) for name in wanted) < 1e-3
    return True


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(("config", "change", "share"), [("ddp_cpu", "", 1.0), ("fsdp", ON_CPU, 0.5)])
def test_two_processes_killed_in_their_second_epoch_and_resumed_are_one_that_accumulates(
    job, alone, tmp_path, config, change, share
):
    asked = [CONFIGS / f"{config}.yaml", *([program(tmp_path, change, PARTS)] if change else [])]
    work = tmp_path / "mine.part"
    first = launch(job, tmp_path, *asked)
    killed_when(lambda: stopped(work) and states(work).get(9), first, tmp_path)
    code, notes = finished(launch(job, tmp_path, *asked), tmp_path)
    assert code == 0, notes[-3000:]
    assert "continuing from" in notes and notes.count("pairs to train on") == 1, "the first process speaks"
    assert not change or notes.count(f"holding {share:.2f}") == 2
    assert same(tmp_path / "mine", alone)
    assert not work.exists()


def test_torchrun_is_a_launcher_too(job, alone, tmp_path):
    torchrun = "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "harness_plugin.cli"
    code, notes = finished(started(job, tmp_path, *torchrun), tmp_path)
    assert code == 0, notes[-3000:]
    assert "packed batches" in notes and same(tmp_path / "mine", alone)


def stopped(work):
    """True as soon as the run has begun, which from then on cannot write its twelfth update's checkpoint."""
    file = work / "checkpoint-12" / "adapter_config.json"
    if (work / "run.json").exists() and not file.parent.exists():
        stop_at(file)
    return file.exists()


def program(folder, *parts):
    """A file that changes something and then is the command."""
    (folder / "program.py").write_text("".join([*parts, COMMAND]), encoding="utf-8")
    return str(folder / "program.py")


def test_a_process_that_fails_ends_the_others(job, tmp_path):
    broken = launch(job, tmp_path, CONFIGS / "ddp_cpu.yaml", program(tmp_path, BROKEN))
    code, notes = finished(broken, tmp_path)
    assert code != 0 and "arena-rm: a device is lost; it has been taken out; put it back" in notes
    assert not (tmp_path / "mine").exists()
    with only_one(tmp_path / "mine.part"):
        pass  # nobody holds it any more


def parsed(file):
    """What accelerate's launcher makes of a configuration: (its arguments, the workers' environment)."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    args = launch_command_parser().parse_args(["--config_file", str(file), "--main_process_port", "0", "program.py"])
    args = _validate_launch_command(args)[0]
    return args, {} if args.use_deepspeed else prepare_multi_gpu_env(args)


def test_accelerate_understands_every_configuration(monkeypatch):
    found = {file.stem: parsed(file) for file in sorted(CONFIGS.glob("*.yaml"))}
    kinds = {n: (a.multi_gpu, a.use_fsdp, a.use_deepspeed, a.use_cpu, a.num_processes) for n, (a, _) in found.items()}
    assert kinds == {
        "ddp": (True, False, False, False, 8),
        "ddp_cpu": (True, False, False, True, 2),
        "deepspeed_zero3": (False, False, True, False, 8),
        "fsdp": (False, True, False, False, 8),
    }
    assert all(args.mixed_precision == "no" for args, _ in found.values()), "the recipe decides"
    environment = found["fsdp"][1]
    assert (environment["ACCELERATE_USE_FSDP"], environment["FSDP_VERSION"]) == ("true", "2")
    assert environment["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
    deepspeed = found["deepspeed_zero3"][0]
    assert (deepspeed.zero_stage, deepspeed.zero3_save_16bit_model) == (3, True)
