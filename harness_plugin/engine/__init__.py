"""Token ids become logits: without padding, with shared prefixes computed once, in the order of the input.

`engine` is the engine itself, which also halves a batch where memory runs out. It knows no pairs, no text and no
outcomes. `packing` decides what is computed together. `shape` says which decoders run on packs and in what they differ,
and `decoder` runs them, with the arithmetic of `ops` (any device) or `fused` (CPUs, with the C code of the package
`kernels`). `padded` runs all other classifiers on padded batches. `attention` is that of packs, `threads` chooses how
many threads compute, `memory` how many tokens a batch has (and keeps what PyTorch frees), and `processes` is for
several under `accelerate launch`. The comments in these modules give the shape of each tensor where it is made, with
one letter for each dimension; the letters are explained at the top of each module.
"""

from typing import Any

__all__ = ["Engine"]


def __getattr__(name: str) -> Any:
    if name == "Engine":  # imports torch, which a judge behind a server does not need
        from harness_plugin.engine.engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
