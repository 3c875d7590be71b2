"""Which instructions of the CPU may be used, of those that matter to matrix products.

PyTorch limits its own code by the variable ATEN_CPU_CAPABILITY ("avx2", "default"). The same limit holds here, so that
a machine can be measured as if it had less; oneDNN has a limit of its own, ONEDNN_MAX_CPU_ISA.
"""

import functools
import os
from pathlib import Path

# name here -> its names in /proc/cpuinfo of Linux, on x86 and on ARM
NAMES = {
    "avx2": ("avx2",),
    "avx512": ("avx512bw",),
    "avx_vnni": ("avx_vnni",),
    "avx512_vnni": ("avx512_vnni",),
    "avx512_bf16": ("avx512_bf16",),
    "amx_int8": ("amx_int8",),
    "amx_bf16": ("amx_bf16",),
    "neon": ("asimd",),
    "arm_bf16": ("bf16",),
}
LIMIT = "ATEN_CPU_CAPABILITY"
WITHIN = {"avx2": ("avx2",), "default": ()}  # what a limit leaves over; "avx512" and no limit leave everything
# Options of gcc and clang that keep the compiler within a limit.
COMPILER = {"avx2": ("-mno-avx512f", "-mno-avxvnni"), "default": ("-mno-avx2", "-mno-fma", "-mno-avx512f")}


@functools.cache
def _present() -> frozenset[str]:
    """The names of `NAMES` that this CPU has; on another system than Linux what PyTorch finds out."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        import torch

        known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        words = {name for name, value in known.items() if value is True}
    else:
        words = {word for x in lines if x.startswith(("flags", "Features")) for word in x.partition(":")[2].split()}
    return frozenset(name for name, theirs in NAMES.items() if words & {name, *theirs})


def limit() -> str:
    """The limit that was set: "avx2", "default" (none of `NAMES` on x86), or the empty string."""
    asked = os.environ.get(LIMIT, "").strip().lower()
    return asked if asked in WITHIN else ""


def instructions() -> frozenset[str]:
    """The names of `NAMES` that may be used."""
    present = _present()
    return present.intersection(WITHIN[limit()]) if limit() else present


def has_bf16() -> bool:
    """Whether the CPU multiplies matrices in bfloat16, so that this is faster than float32."""
    return bool(instructions() & {"avx512_bf16", "amx_bf16", "arm_bf16"})


def has_int8() -> bool:
    """Whether the CPU adds up products of int8 in 32 bits; 16 bits would overflow."""
    return bool(instructions() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def has_int16() -> bool:
    """Whether `product` runs: int16 with sums in 32 bits, twice as many products in a register as in float32."""
    return "avx2" in instructions()
