"""Several processes under accelerate's launcher: which of them this is, its share of the work, and waiting."""

import os
from contextlib import nullcontext
from datetime import timedelta


def accelerator(on_cpu: bool):
    """Accelerate's view of the processes when there are several, else None. `cpu=True` without CUDA: left out, each
    process would take itself for the only one. The long timeout lets a slow rank arrive at the gather."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs

    patient = InitProcessGroupKwargs(timeout=timedelta(weeks=52))
    return Accelerator(cpu=on_cpu or not torch.cuda.is_available(), kwargs_handlers=[patient])


def first_in_turn(accelerator):
    """One process of a machine converts or downloads; the others find the result."""
    return accelerator.local_main_process_first() if accelerator else nullcontext()


def own_share(items: list, accelerator) -> list:
    """This process's part of a list, in one piece: neighbours may share a beginning that is computed once."""
    count, rank = accelerator.num_processes, accelerator.process_index
    return items[len(items) * rank // count : len(items) * (rank + 1) // count]
