"""Several processes started by `accelerate launch`: which one this is, its share of the work, and taking turns."""

import atexit
import os
from contextlib import nullcontext
from datetime import timedelta


def accelerator(on_cpu: bool):
    """The `Accelerator` when there are several processes, else None.

    Without CUDA, `cpu=True` is needed: without it each process would believe that it is the only one. The timeout is
    long because the processes meet only once, when the results are gathered, and a slow one must not be given up.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs

    patient = InitProcessGroupKwargs(timeout=timedelta(weeks=52))
    joined = Accelerator(cpu=on_cpu or not torch.cuda.is_available(), kwargs_handlers=[patient])
    atexit.register(leave_group)
    return joined


def leave_group() -> None:
    """Ends gloo's threads while Python still runs. One that holds a tensor when Python ends aborts the process
    ("terminate called without an active exception", github.com/pytorch/pytorch/pull/179291), and the launcher then
    calls a finished run a failed one. NCCL has no such threads, and its end may wait for a process that has failed. Can
    go when PyTorch leaves the group itself."""
    import torch

    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    if group and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def first_in_turn(accelerator):
    """One process of a machine converts or downloads first; the others wait and then use its result."""
    return accelerator.local_main_process_first() if accelerator else nullcontext()


def own_share(items: list, accelerator) -> list:
    """This process's part of a list. It is one run of neighbours, which may share a prefix that is computed once."""
    count, rank = accelerator.num_processes, accelerator.process_index
    return items[len(items) * rank // count : len(items) * (rank + 1) // count]
