"""The parts of the embedded base that the engine reads, without transformers' classes of it: their import brings
torch.compile, scipy and much else, which takes two seconds.

The parts have the names that they have in transformers. They compute nothing but the angles of the positions.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from harness_plugin.model.embedded import WEIGHTS

NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


class Weight(nn.Module):
    """An embedding or the weights of a norm."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)


class Rotary(nn.Module):
    """The cosines and sines of positions, as transformers computes them."""

    def __init__(self, config: Any):
        super().__init__()
        self.rope_type = {kind: rope["rope_type"] for kind, rope in config.rope_parameters.items()}
        halves = torch.arange(0, config.head_dim, 2, dtype=torch.float) / config.head_dim
        for kind, rope in config.rope_parameters.items():
            self.register_buffer(f"{kind}_inv_freq", 1.0 / (rope["rope_theta"] ** halves), persistent=False)

    def forward(self, like: torch.Tensor, positions: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Both (1, positions, head size), in the dtype of `like`, for positions (1, positions)."""
        angles = positions[..., None].float() * getattr(self, f"{kind}_inv_freq")
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


class BareGemma3(nn.Module):
    """A Gemma 3 classifier of `num_labels` logits from the weights in `folder`, in `dtype`; its head is zeros. The
    embedding may be stored in a narrower dtype. On a CPU the engine scores with it as with transformers' own."""

    base_model_prefix = "model"

    def __init__(self, folder: Path, config: Any, num_labels: int, dtype: torch.dtype):
        from safetensors.torch import load_file

        super().__init__()
        stored = load_file(folder / WEIGHTS)  # mapped into memory: what is not read costs nothing
        embedding = stored.pop("model.embed_tokens.weight")
        if torch.promote_types(embedding.dtype, dtype) != dtype:  # else the dtype holds each value: few rows are read
            embedding = embedding.to(dtype)
        weights = {name.removesuffix(".weight"): tensor.to(dtype) for name, tensor in stored.items()}
        self.config = config
        self.model = nn.Module()
        self.model.config = config
        self.model.embed_tokens = Weight(embedding)
        self.model.layers = nn.ModuleList(_layer(config, weights, i) for i in range(config.num_hidden_layers))
        self.model.norm = Weight(weights["model.norm"])
        self.model.rotary_emb = Rotary(config)
        self.score = _linear(torch.zeros(num_labels, config.hidden_size, dtype=dtype))


def _layer(config: Any, weights: dict[str, torch.Tensor], i: int) -> nn.Module:
    place = f"model.layers.{i}."
    layer: Any = nn.Module()
    layer.self_attn, layer.mlp = nn.Module(), nn.Module()
    layer.self_attn.head_dim, layer.self_attn.scaling = config.head_dim, config.query_pre_attn_scalar**-0.5
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        layer.self_attn.add_module(name, _linear(weights[f"{place}self_attn.{name}"]))
    for name in ("q_norm", "k_norm"):
        layer.self_attn.add_module(name, Weight(weights[f"{place}self_attn.{name}"]))
    layer.mlp.act_fn = partial(F.gelu, approximate="tanh")
    for name in ("gate_proj", "up_proj", "down_proj"):
        layer.mlp.add_module(name, _linear(weights[f"{place}mlp.{name}"]))
    for name in NORMS:
        layer.add_module(name, Weight(weights[place + name]))
    return layer


def _linear(weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    layer.out_features, layer.in_features = weight.shape
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer
