"""kernels.c as a library: compiled once for this CPU by the compiler that is here, kept in `home()`, loaded by ctypes.

Shipping it compiled would need a wheel for every instruction set, and PyTorch's own C++ extensions need ninja and a
minute; this is one file and one second. Without a compiler `ops` computes the same, more slowly.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness_plugin.files.home import home

log = logging.getLogger("lm_eval.arena_rm")

SOURCE = Path(__file__).with_name("kernels.c")
# Sums may be taken in any order. Not -ffast-math: linked into a library it switches off denormals in the whole process.
FLAGS = (
    "-O3",
    "-march=native",
    "-fopenmp",
    "-shared",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
)
POINTER, LONG, FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
SIGNATURES = {
    "add_norm": [POINTER] * 7 + [LONG] * 3 + [FLOAT],
    "rotate": [POINTER] * 7 + [LONG] * 4 + [FLOAT],
    "gated_gelu": [POINTER] * 4 + [LONG] * 3,
    "quantize": [POINTER] * 3 + [LONG] * 3,
    "attention": [POINTER, LONG, POINTER, POINTER, LONG, POINTER, LONG] + [POINTER] * 5 + [LONG] * 3 + [FLOAT, LONG],
}


@functools.cache
def kernels() -> ctypes.CDLL | None:
    """The library, compiled on the first use, or None with the reason in the log. `attention` is missing where the CPU
    has no AVX512-BF16."""
    try:
        library = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError) as e:
        told = getattr(e, "stderr", None) or str(e)
        log.info("arena_rm: no kernels of our own (%s); scoring goes on with torch's, slower", told.strip()[:200])
        return None
    for name, arguments in SIGNATURES.items():
        if hasattr(library, name):
            getattr(library, name).argtypes = arguments
    return library


def _compiled() -> Path:
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
    if compiler is None or platform.system() != "Linux":
        raise OSError("no C compiler" if compiler is None else f"not tried on {platform.system()}")
    key = hashlib.sha256(SOURCE.read_bytes())
    key.update(repr((FLAGS, compiler, os.stat(compiler).st_mtime, _cpu())).encode())
    file = home() / "kernels" / f"decoder-{key.hexdigest()[:16]}.so"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=file.parent
        ) as folder:  # moved in whole: two processes may compile at once
            work = Path(folder) / file.name
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(work), "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
            os.replace(work, file)
    return file


def _cpu() -> str:
    """What -march=native depends on: a home shared by machines must not serve one the other's instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features", "CPU part"))}))
