"""Device and dtype, each with its reason."""

import logging

import torch

from harness_plugin.errors import ModelError, UsageError
from harness_plugin.model.spec import REDUCED

log = logging.getLogger("lm_eval.arena_rm")


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
        raise ModelError(f"device={requested!r}", "it is not here or was never tried", "use cpu, cuda or cuda:N")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ModelError(
            f"device={requested!r} but {count} CUDA devices are here", "", "use --device cpu or leave it out"
        )
    return device


def choose_dtype(requested: str, device: torch.device, model_type: str = "") -> tuple[torch.dtype, str]:
    """(dtype, reason). "auto" is bfloat16 where the hardware computes in it, else float32; a reduced format computes in
    bfloat16 what is not a matrix product."""
    if requested in REDUCED:
        if device.type != "cpu":
            raise UsageError(f"dtype={requested} on {device}", "it is for CPUs", "use dtype=bfloat16 on this device")
        return torch.bfloat16, "as asked"
    if requested != "auto":
        if requested == "float16" and model_type.startswith("gemma"):
            log.warning("arena_rm: float16 overflows in Gemma's activations (NaN logits are refused); prefer bfloat16")
        return getattr(torch, requested), "as asked"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "the GPU computes in bfloat16"
        return torch.float32, "this GPU has no bfloat16, and Gemma overflows in float16"
    if device.type == "cpu" and cpu_has_bf16():
        return torch.bfloat16, "the CPU has bfloat16 instructions"
    return torch.float32, f"no bfloat16 instructions on this {device.type}"


def cpu_has_bf16() -> bool:
    """AVX512-BF16 or AMX on x86; torch names both."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))


def describe_devices() -> dict[str, str]:
    """What there is to compute on and what would be chosen, for people."""
    device = choose_device(None)
    dtype, reason = choose_dtype("auto", device)
    cards = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "cpu": f"{torch.get_num_threads()} threads, bfloat16 {'yes' if cpu_has_bf16() else 'no'}",
        "cuda": ", ".join(cards) or "none",
        "default": f"{device}, {str(dtype).removeprefix('torch.')} ({reason})",
    }
