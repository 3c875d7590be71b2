"""Folds an adapter into its base, and compares both on the way."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from harness_plugin.errors import ModelError

MERGE_TOLERANCE = 1e-3  # of the largest output, fp32: rounding moves them by some 1e-6, a wrong merge by far more


@torch.no_grad()
def merge(wrapped, dtype: torch.dtype) -> None:
    """The adapter folded into the base's weights, layer by layer in fp32, each compared with itself before; then cast.
    Afterwards the network is a plain one, without PEFT's layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = {name: layer for name, layer in wrapped.named_modules() if isinstance(layer, BaseTunerLayer)}
    _refuse_shared(layers)
    for name, layer in layers.items():
        _merge_layer(name, layer, dtype)
    wrapped.unload()


def _refuse_shared(layers: Mapping[str, Any]) -> None:
    """Raises ModelError where several of PEFT's layers change one weight of the base, as with `layer_replication`:
    merged, each would change the others too. Each layer alone would still look right."""
    owners: dict[int, str] = {}
    for name, layer in layers.items():
        weight = getattr(layer.get_base_layer(), "weight", None)
        owner = name if weight is None else owners.setdefault(weight.data_ptr(), name)
        if owner != name and not name.startswith(f"{owner}."):  # PEFT wraps one layer twice for target_parameters
            raise ModelError(
                f"the adapter changes {owner} and {name} apart, and the base has one weight for both",
                "a weight can be merged with one change only",
                "use merge=false",
            )


def _merge_layer(name: str, layer: Any, dtype: torch.dtype) -> None:
    """`layer` is both a module and one of PEFT's layers, for which there is no type."""
    layer.float()
    probe = probe_of(layer.get_base_layer())
    before = layer(probe)
    layer.merge()
    check_merged(name, before, layer(probe))
    layer.to(dtype)


def check_merged(name: str, before: torch.Tensor, after: torch.Tensor) -> None:
    """Raises ModelError where the outputs of the layer `name` before and after merging differ by more than
    rounding."""
    moved = float((after - before).abs().max() / before.abs().max().clamp_min(1e-9))
    if not moved <= MERGE_TOLERANCE:
        raise ModelError(
            f"merging moved {name} by {moved:.2g} of its output",
            "the merged model is another judge",
            "use merge=false",
        )


def probe_of(layer: nn.Module) -> torch.Tensor:
    """A few fixed inputs for a layer."""
    draw = torch.Generator().manual_seed(0)
    if isinstance(layer, nn.Embedding):
        return torch.randint(layer.num_embeddings, (1, 16), generator=draw)
    if isinstance(layer, nn.Linear):
        return torch.randn(4, layer.in_features, generator=draw)
    if type(layer).__name__ == "Conv1D":  # of GPT-2: a linear layer with its weight transposed
        return torch.randn(4, layer.get_parameter("weight").shape[0], generator=draw)
    raise ModelError(f"the adapter changes a {type(layer).__name__}", "merging it was never tried", "use merge=false")
