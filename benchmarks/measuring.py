"""What the benchmarks of scoring share: contenders that take turns, their time and memory, and the rate of the matrix
products alone."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import torch

Clock = Callable[[], float]
"""Seconds, of the clock on the wall or of the processor."""


@dataclass
class Passes:
    """The passes of one contender over a workload. `seconds`: of each; `extra_mib`: the peak of memory beyond what was
    in use before; `logits`: of the last pass, shape (n,)."""

    seconds: list[float] = field(default_factory=list)
    extra_mib: float = 0.0
    logits: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def figures(self, presentations: int, tokens: int, peak: float) -> dict:
        """The median rates of passes over so many presentations with so many tokens. `peak`: the tokens per second of
        the matrix products alone."""
        median = statistics.median(self.seconds)
        return {
            "presentations": presentations,
            "tokens": tokens,
            "seconds": [round(s, 2) for s in self.seconds],
            "presentations_per_s": presentations / median,
            "tokens_per_s": tokens / median,
            "matmul_share": tokens / median / peak,
            "extra_mib": self.extra_mib,
        }


def take_turns(
    name: str,
    scorers: Mapping[str, Callable[[], np.ndarray]],
    repeats: int,
    device: torch.device,
    clock: Clock = time.perf_counter,
) -> dict[str, Passes]:
    """The passes of each scorer over the workload of this name; in every round each of them has a turn."""
    passes = {contender: Passes() for contender in scorers}
    for repeat in range(repeats):
        for contender, score in scorers.items():
            own = passes[contender]
            before, start = reset_peak(device), clock()
            own.logits = score()
            own.seconds.append(clock() - start)
            own.extra_mib = max(own.extra_mib, peak_mib(device) - before)
            click.echo(f"{name}, round {repeat + 1}, {contender.strip()}: {own.seconds[-1]:.1f} s", err=True)
    return passes


def matmul_tokens(model, clock: Clock = time.perf_counter) -> float:
    """The tokens per second of the decoder's matrix products alone, best of five runs."""
    rows = 16384 if model.device.type == "cuda" else 2048
    layers = [m for name, m in model.network.named_modules() if "layers." in name and isinstance(m, torch.nn.Linear)]
    inputs = {m.in_features: torch.randn(rows, m.in_features, device=model.device, dtype=model.dtype) for m in layers}
    best = 0.0
    with torch.inference_mode():
        for _ in range(5):
            start = clock()
            for m in layers:
                torch.nn.functional.linear(inputs[m.in_features], m.weight)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            best = max(best, rows / (clock() - start))
    return best


def reset_peak(device: torch.device) -> float:
    """Starts to measure the peak of memory, and returns the MiB that are in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # on Linux this resets VmHWM
    return status_mib("VmRSS")


def peak_mib(device: torch.device) -> float:
    """The most MiB that were in use at once since `reset_peak`."""
    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else status_mib("VmHWM")


def status_mib(name: str) -> float:
    """An entry of this process's status on Linux, such as VmHWM, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith(name))
