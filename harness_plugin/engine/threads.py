"""How many CPU threads to use: as many as this process is allowed, which may be fewer than the machine has.

The quota of a container or of a systemd unit limits the CPU time of its processes; PyTorch does not look at it and
starts too many threads. How long a thread keeps its core busy while it waits is in `harness_plugin.waiting`.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch

log = logging.getLogger("lm_eval.arena_rm")


def use_threads(asked: int | None) -> None:
    """Makes PyTorch use `asked` threads; None: OMP_NUM_THREADS where it is set, else no more than the CPUs allowed."""
    if asked is not None:
        torch.set_num_threads(asked)
        return
    allowed, threads = cpus_allowed(), torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ and threads > allowed:
        log.info("arena_rm: %d CPU threads instead of %d, because the container allows no more", allowed, threads)
        torch.set_num_threads(allowed)


def cpus_allowed(root: Path = Path("/")) -> int:
    """The number of CPUs by affinity or by the smallest quota of this process's control groups, but at least 1.

    `root` holds `proc` and `sys`.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (_quota(group) for group in _groups(root))
    return max(1, min([count, *(int(quota) for quota in quotas if quota is not None)]))


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, with those around them, of both versions of cgroup.

    A container usually sees its own group as the top one, whatever path the kernel gives.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        lines = []
    tops = {"": root / "sys/fs/cgroup", "cpu": root / "sys/fs/cgroup/cpu"}  # version 2; version 1
    yield from tops.values()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in {"", "cpu"} & set(controllers.split(",")):
            parts = path.strip("/").split("/")
            yield from (tops[controller].joinpath(*parts[: n + 1]) for n in range(len(parts)))


def _quota(group: Path) -> float | None:
    """How many CPUs' time a control group may use, or None where it has no limit."""
    try:
        if (group / "cpu.max").exists():
            limit, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            limit, period = ((group / f"cpu.cfs_{x}_us").read_text(encoding="ascii") for x in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else None  # version 1 says -1 for no limit
    except (OSError, ValueError):  # there is no such group here, or the limit is "max"
        return None
