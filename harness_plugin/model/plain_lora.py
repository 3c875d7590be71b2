"""A plain LoRA folded into its base without PEFT, whose import takes two seconds.

An adapter is plain if its configuration says no more than a rank, a scale and the names of linear layers, and if it
holds exactly the matrices of these layers and a linear head. Everything else goes through PEFT, which also says what is
wrong with an adapter that does not fit its base.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from harness_plugin.model.adapter import HEAD_NAMES, PREFIX, Adapter
from harness_plugin.model.lora_settings import plain_settings
from harness_plugin.model.merge import check_merged, probe_of


@torch.no_grad()
def fold(model: nn.Module, adapter: Adapter, dtype: torch.dtype) -> bool:
    """Folds a plain LoRA into `model` and puts its head in place, as `merge.merge` does with PEFT's layers: in fp32,
    each layer compared with itself before, then cast. Returns False, with nothing changed, where the adapter is not
    plain or does not fit the model exactly. Raises ModelError as `merge.merge` does."""
    if plain_settings(adapter.config) is None:
        return False
    layers = _layers(model, adapter.config)
    if layers is None or not _fits(layers, model, adapter):
        return False
    scale = adapter.config.get("lora_alpha", 8) / adapter.config.get("r", 8)
    for name, layer in layers.items():
        down, up = (adapter.tensors[f"{PREFIX}{name}.lora_{x}.weight"].float() for x in "AB")  # (r, in), (out, r)
        base, probe = layer.weight.float(), probe_of(layer)
        merged = (up @ down).mul_(scale).add_(base)  # in place: new memory costs more time than the sums
        before = F.linear(probe, base) + F.linear(F.linear(probe, down), up) * scale
        check_merged(name, before, F.linear(probe, merged))
        layer.weight.data = merged.to(dtype)
    model.get_submodule("score").weight.data = adapter.tensors[f"{PREFIX}score.weight"].to(dtype)
    return True


def _layers(model: nn.Module, config: Mapping[str, Any]) -> dict[str, nn.Linear] | None:
    """The layers that PEFT would change, by name; None where there are none, which PEFT refuses, and where it would
    change or replace something else too."""
    changed = [x for x in model.named_modules() if any(f".{x[0]}".endswith(f".{t}") for t in config["target_modules"])]
    saved = (*HEAD_NAMES, *(config.get("modules_to_save") or ()))
    replaced = [name for name, _ in model.named_modules() if name.endswith(saved)]
    linears = {name: layer for name, layer in changed if type(layer) is nn.Linear}
    return linears if 0 < len(linears) == len(changed) and replaced == ["score"] and "score" not in linears else None


def _fits(layers: Mapping[str, nn.Linear], model: nn.Module, adapter: Adapter) -> bool:
    """Whether the adapter holds exactly the matrices of the layers and of the linear head, in their shapes."""
    rank, head = adapter.config.get("r", 8), model.get_submodule("score")
    if type(head) is not nn.Linear or head.bias is not None:
        return False
    shapes = {f"{PREFIX}score.weight": tuple(head.weight.shape)}
    for name, layer in layers.items():
        shapes[f"{PREFIX}{name}.lora_A.weight"] = (rank, layer.in_features)
        shapes[f"{PREFIX}{name}.lora_B.weight"] = (layer.out_features, rank)
    return shapes == {name: tuple(tensor.shape) for name, tensor in adapter.tensors.items()}
