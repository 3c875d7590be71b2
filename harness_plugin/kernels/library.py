"""The C files of this folder as a library: compiled once for this CPU by the machine's own compiler, kept in `home()`,
loaded by ctypes. Its name holds a hash of its bytes, since a damaged library would end the process that loads it: it is
compiled anew.

Shipping it compiled would need a wheel for every instruction set, and PyTorch's own C++ extensions need ninja and a
minute to compile; these are a few files and take some four seconds. Without a compiler `engine.ops` computes the same,
more slowly.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness_plugin.files.home import home
from harness_plugin.kernels.instructions import COMPILER, limit

log = logging.getLogger("lm_eval.arena_rm")

FOLDER = Path(__file__).parent  # of the sources
# The compiler may add up in any order. -ffast-math is not used: in a library it also switches off denormal numbers in
# the whole process.
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
POINTER, LONG, FLOAT, INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_int


class Out(ctypes.Structure):
    """`Out` of steps.c: where a step writes its rows, and in what form."""

    _fields_ = (("values", POINTER), ("scale", POINTER), ("stride", LONG), ("block", LONG), ("largest", LONG))


ATTENTION = [POINTER, LONG, POINTER, POINTER, LONG, POINTER, LONG] + [POINTER] * 5 + [LONG] * 3 + [FLOAT, LONG]
SIGNATURES = {
    "add_norm": [INT] + [POINTER] * 5 + [Out, LONG, LONG, FLOAT],
    "rotate": [INT] + [POINTER] * 7 + [LONG] * 4 + [FLOAT],
    "gated": [INT, POINTER, POINTER, Out, LONG, LONG, FLOAT, FLOAT],
    "quantize": [INT, POINTER, Out, LONG, LONG],
    "attention_bf16": ATTENTION,
    "attention_float": ATTENTION,
    "attention_int16": ATTENTION,
    "panel": [],
    "pack_panels": [POINTER, POINTER, LONG, LONG],
    "product": [POINTER, LONG] + [POINTER] * 5 + [LONG] * 3,
    "gated_product": [POINTER, LONG] + [POINTER] * 3 + [Out] + [LONG] * 3 + [FLOAT, FLOAT],
}


@functools.cache
def kernels() -> ctypes.CDLL | None:
    """The library, compiled at the first use; None where that fails, with the reason in the log.

    `attention_bf16` is missing where the CPU has no AVX512-BF16, and what computes in int16 without AVX2.
    """
    try:
        library = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError) as e:
        reason = getattr(e, "stderr", None) or str(e)
        if isinstance(e, subprocess.TimeoutExpired):  # whose text is the long command
            reason = f"the compiler did not end within {e.timeout:.0f} seconds"
        log.info(
            "arena_rm: could not compile the CPU kernels (%s); scoring goes on with PyTorch's own, which are slower",
            reason.strip()[:200],
        )
        return None
    for name, arguments in SIGNATURES.items():
        if hasattr(library, name):
            getattr(library, name).argtypes = arguments
    return library


@contextmanager
def compiled_meanwhile() -> Iterator[None]:
    """Compiles the library, where that was not done yet, while the caller does something that takes longer: the
    compiler is another process."""
    with ThreadPoolExecutor(1) as other:
        other.submit(kernels)
        yield


def _compiled() -> Path:
    """The file of the compiled library. Raises OSError or SubprocessError where it cannot be compiled."""
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
    system = platform.system()
    if compiler is None or system != "Linux":
        raise OSError("no C compiler" if compiler is None else f"they are compiled only on Linux, and this is {system}")
    sources = sorted(file for file in FOLDER.iterdir() if file.suffix in (".c", ".h"))
    key = hashlib.sha256(b"".join(file.read_bytes() for file in sources))
    limits = COMPILER.get(limit(), ())
    key.update(repr(((*FLAGS, *limits), compiler, os.stat(compiler).st_mtime, _cpu())).encode())
    folder, name = home() / "kernels", f"decoder-{key.hexdigest()[:16]}"
    for file in sorted(folder.glob(f"{name}-*.so")):
        if file.stem == f"{name}-{_content(file)}":
            return file
        log.warning("arena_rm: %s is damaged and is compiled anew", file)
        file.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Two processes may compile at once: each moves its finished file into place, and no one loads half a file.
    with TemporaryDirectory(prefix=f"{name}.", suffix=".tmp", dir=folder) as scratch:
        work = Path(scratch) / "decoder.so"
        code = [str(file) for file in sources if file.suffix == ".c"]
        options = (*FLAGS, *(option for option in limits if _accepts(compiler, option)))
        command = [compiler, *options, *code, "-o", str(work), "-lm"]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        return work.replace(folder / f"{name}-{_content(work)}.so")


def _accepts(compiler: str, option: str) -> bool:
    """Whether the compiler knows the option. One that does not know the instructions which the option switches off,
    such as AVX-VNNI before gcc 11, does not write them either."""
    command = [compiler, option, "-fsyntax-only", "-x", "c", os.devnull]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _cpu() -> str:
    """What -march=native depends on, so that machines which share a home do not load each other's instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features", "CPU part"))}))
