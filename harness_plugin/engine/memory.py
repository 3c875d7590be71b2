"""Memory: how many tokens are computed at once, and what PyTorch frees on a CPU kept for the next step."""

import ctypes
import platform

import torch

CPU_TOKENS = 4096  # rows in a pack: fewer compute more prefixes twice, more do not fit in the caches of the CPU
GPU_TOKENS = 65536  # rows in a pack at most; less free memory makes it fewer
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def tokens_of_a_batch(model) -> int:
    """How many tokens a batch may have at most, until memory runs out: the rows of a pack.

    On a GPU, as many as fit in half of the memory that is free now. A row takes the most memory in the MLP, where gate
    and up (2 I values) and their product (I) are alive with some rows of the hidden width D, at 2 bytes for each value;
    twice that is counted, to be safe.
    """
    if model.device.type != "cuda":
        return CPU_TOKENS
    config = model.network.config.get_text_config()
    row = 2 * (3 * getattr(config, "intermediate_size", 4 * config.hidden_size) + 8 * config.hidden_size)
    free = torch.cuda.mem_get_info(model.device)[0]
    return int(min(GPU_TOKENS, max(512, free // 2 // (2 * row))))


def keep_freed_memory() -> None:
    """From here on, freed memory stays with the process.

    The steps of a forward pass allocate and free tens of megabytes each. glibc maps so large a block anew every time,
    and the kernel of the operating system fills it with zeros, page by page: this took 13% of the time of a forward
    pass in bfloat16 and 20% in int8. Does nothing with another C library.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
