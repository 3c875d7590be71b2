"""How many CPU threads to use: as many as this process is allowed, which may be fewer than the machine has.

The quota of a container limits the CPU time of its processes; PyTorch does not look at it and starts too many threads.
"""

import logging
import os
from pathlib import Path

import torch

log = logging.getLogger("lm_eval.arena_rm")

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # where a container sees its own quota, with cgroup v2


def cpus_allowed(quota: Path = QUOTA) -> int:
    """The number of CPUs by affinity or by the container's quota, whichever is smaller, but at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = quota.read_text(encoding="ascii").split()
        return max(1, min(count, int(limit) // int(period)))
    except (OSError, ValueError):  # there is no cgroup v2, or the limit is "max": no quota
        return count


def use_the_cpus_allowed() -> None:
    """Lowers PyTorch's number of threads to the CPUs allowed, unless OMP_NUM_THREADS is set."""
    allowed = cpus_allowed()
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > allowed:
        threads = torch.get_num_threads()
        log.info("arena_rm: %d CPU threads instead of %d, because the container allows no more", allowed, threads)
        torch.set_num_threads(allowed)
