"""Device and dtype, each with its reason."""

import logging
from typing import NamedTuple

import torch

from harness_plugin.errors import ModelError, UsageError
from harness_plugin.kernels import instructions
from harness_plugin.kernels.library import kernels

log = logging.getLogger("lm_eval.arena_rm")

# The formats of matrix products only, and the dtype of everything else.
REDUCED = {"int8": torch.bfloat16, "int16": torch.float32}


def choose_device(requested: str | None) -> torch.device:
    """The named device, or the best present. Raises UsageError for a name torch does not know, ModelError for a device
    that is not here."""
    if requested in (None, "", "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")
    try:
        device = torch.device(requested)
    except RuntimeError as e:
        raise UsageError(f"device={requested!r}", "torch knows no such device", "use cpu, cuda or cuda:N") from e
    if device.type not in ("cpu", "cuda", "mps") or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise ModelError(
            f"device={requested!r}",
            "this machine does not have it, or arena-rm does not support it",
            "use cpu, cuda or cuda:N",
        )
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ModelError(
            f"device={requested!r} but {count} CUDA devices are here",
            "the judge would have nowhere to run",
            "use --device cpu or leave it out",
        )
    return device


class Arithmetic(NamedTuple):
    """The dtype of a network, the format of its matrix products where it is another ("int8", "int16"), and why."""

    dtype: torch.dtype
    reduced: str | None
    reason: str


def choose_dtype(requested: str, device: torch.device, model_type: str = "", packs: bool = True) -> Arithmetic:
    """What a model is computed in.

    "auto" is the fastest whose logits are as near to float32's as bfloat16's are: bfloat16 where the hardware computes
    in it, else int16 on a CPU with AVX2, else float32. int16 needs a C compiler and a model that the engine scores on
    packs (`packs`).
    """
    if requested in REDUCED:
        if device.type != "cpu":
            raise UsageError(f"dtype={requested} on {device}", "it is for CPUs", "use dtype=bfloat16 on this device")
        return Arithmetic(REDUCED[requested], requested, "as asked")
    if requested != "auto":
        if requested == "float16" and model_type.startswith("gemma"):
            log.warning("arena_rm: float16 overflows in Gemma's activations (NaN logits are refused); prefer bfloat16")
        return Arithmetic(getattr(torch, requested), None, "as asked")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Arithmetic(torch.bfloat16, None, "the GPU computes in bfloat16")
        return Arithmetic(torch.float32, None, "this GPU has no bfloat16, and Gemma overflows in float16")
    if device.type == "cpu" and instructions.has_bf16():
        return Arithmetic(torch.bfloat16, None, "the CPU has bfloat16 instructions")
    lacks = f"no bfloat16 instructions on this {device.type}"
    if device.type == "cpu" and instructions.has_int16() and packs and kernels() is not None:
        return Arithmetic(REDUCED["int16"], "int16", f"{lacks}; int16 is about twice as fast as float32")
    return Arithmetic(torch.float32, None, lacks)


def describe_devices() -> dict[str, str]:
    """What there is to compute on and what would be chosen, for people."""
    device = choose_device(None)
    chosen = choose_dtype("auto", device)
    cards = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "cpu": f"{torch.get_num_threads()} threads; {_instructions()}",
        "cuda": ", ".join(cards) or "none",
        "default": f"{device}, {chosen.reduced or str(chosen.dtype).removeprefix('torch.')} ({chosen.reason})",
    }


def _instructions() -> str:
    """The instructions of this CPU that matter, and what each brings; the factors are those of docs/speed.md, on one
    CPU with all of them but AMX."""
    here = instructions.instructions()
    brings = [
        (here & {"amx_bf16", "avx512_bf16", "arm_bf16"}, "bfloat16, 2.5 times as fast as PyTorch's float32"),
        (here & {"amx_int8", "avx512_vnni", "avx_vnni"}, "int8, 3.8 times"),
        (here & {"avx2"}, "int16, 2.1 times, or 2.4 times with AVX-512"),
    ]
    parts = [f"{', '.join(sorted(names))}: {what}" for names, what in brings if names]
    if instructions.limit():
        parts.append(f"limited to {instructions.limit()} by {instructions.LIMIT}")
    return "; ".join(parts) or "no instructions that make anything faster than float32"
