"""How many CPU threads: as many as this process may use, which a container's quota can make fewer than torch thinks."""

import logging
import os
from pathlib import Path

import torch

log = logging.getLogger("lm_eval.arena_rm")

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2, as a container sees its own


def cpus_allowed(quota: Path = QUOTA) -> int:
    """CPUs by affinity and by the container's quota, whichever is less; at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = quota.read_text(encoding="ascii").split()
        return max(1, min(count, int(limit) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        return count


def use_the_cpus_allowed() -> None:
    """Fewer threads where torch would start more than there are CPUs to run them; OMP_NUM_THREADS is obeyed."""
    allowed = cpus_allowed()
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > allowed:
        log.info("arena_rm: %d threads instead of %d, as the container allows", allowed, torch.get_num_threads())
        torch.set_num_threads(allowed)
