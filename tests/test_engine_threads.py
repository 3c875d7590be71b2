"""How many threads compute, and how long one that waits keeps its core busy."""

import os
import sys

import pytest
import tiny
import torch

from harness_plugin import cli, waiting
from harness_plugin.engine import threads
from harness_plugin.engine.threads import cpus_allowed, use_threads
from harness_plugin.errors import UsageError
from harness_plugin.judges import open_judge
from harness_plugin.model import ModelSpec

TOP, UNIT, OLD = "sys/fs/cgroup", "sys/fs/cgroup/slice/unit", "sys/fs/cgroup/cpu/job"


@pytest.fixture
def count():
    """The number of threads of this process, which is set back at the end."""
    before = torch.get_num_threads()
    yield torch.get_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def eight(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


def machine(root, own: str, files: dict[str, str]):
    """A folder with the `proc` and `sys` of a process in the control groups `own`."""
    for name, text in {"proc/self/cgroup": own, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files", "most"),
    [
        ("", {}, 8),
        ("0::/\n", {f"{TOP}/cpu.max": "max 100000"}, 8),
        ("0::/\n", {f"{TOP}/cpu.max": "250000 100000"}, 2),
        ("0::/\n", {f"{TOP}/cpu.max": "50000 100000"}, 1),
        ("0::/\n", {f"{TOP}/cpu.max": ""}, 8),
        ("0::/slice/unit\n", {f"{UNIT}/cpu.max": "300000 100000"}, 3),
        ("0::/slice/unit\n", {f"{UNIT}/cpu.max": "max 100000", f"{TOP}/slice/cpu.max": "400000 100000"}, 4),
        ("0::/slice/other\n", {f"{UNIT}/cpu.max": "300000 100000"}, 8),
        ("4:cpu,cpuacct:/job\n", {f"{OLD}/cpu.cfs_quota_us": "200000", f"{OLD}/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu,cpuacct:/job\n", {f"{OLD}/cpu.cfs_quota_us": "-1", f"{OLD}/cpu.cfs_period_us": "100000"}, 8),
        ("5:memory:/slice/unit\n", {f"{UNIT}/cpu.max": "300000 100000"}, 8),
    ],
)
def test_a_quota_of_a_container_or_of_a_unit_bounds_the_threads(tmp_path, eight, own, files, most):
    assert cpus_allowed(machine(tmp_path, own, files)) == most


def test_asked_threads_come_first_then_omp_num_threads_then_the_quota(count, monkeypatch):
    monkeypatch.setattr(threads, "cpus_allowed", lambda: 1)
    torch.set_num_threads(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    use_threads(None)
    assert count() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_threads(None)
    assert count() == 1
    use_threads(2)
    assert count() == 2


def test_a_judge_computes_with_the_threads_that_it_was_given(count, tiny_base, tiny_adapter):
    names = {"pretrained": str(tiny_base("gemma")), "peft": str(tiny_adapter("gemma")), "device": "cpu"}
    with open_judge(**names, threads="3") as judge:
        assert count() == 3
    with open_judge(**names, threads=1) as other:
        assert count() == 1 and other.hash == judge.hash
    tiny.refusal(UsageError, lambda: ModelSpec(threads=0), "threads=0", "above 0")


@pytest.fixture
def settings(monkeypatch):
    """The environment without settings of libgomp, as before torch was imported."""
    for name in waiting.SETTINGS:
        monkeypatch.setenv(name, "")  # so that what the test sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch")
    return monkeypatch


def test_the_command_limits_how_long_threads_spin(settings):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == waiting.ROUNDS


@pytest.mark.parametrize("name", waiting.SETTINGS)
def test_what_the_user_said_about_waiting_stays(settings, name):
    settings.setenv(name, "mine")
    waiting.wait_briefly()
    assert [os.environ.get(n) for n in waiting.SETTINGS] == ["mine" if n == name else None for n in waiting.SETTINGS]


def test_once_torch_is_there_the_environment_is_left_alone(settings):
    settings.setitem(sys.modules, "torch", torch)
    waiting.wait_briefly()
    assert not set(waiting.SETTINGS) & set(os.environ)
