"""What a decoder computes: its shape, and the few things in which the families of decoders differ.

Most of it is read from the loaded network. `FAMILIES` holds the rest, which only the code of transformers says. A
network that `Shape` cannot describe is scored by `padded`.

Letters in the comments on shapes: D width of the model, E size of a head.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

# A part of a network of transformers. torch types every attribute of a module as `Tensor | Module`, which says nothing.
Part = Any
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Family:
    """What transformers computes for every model of a family, and no configuration says."""

    norms_add_one: bool = False  # an RMS norm multiplies by 1 + weight, not by weight
    embedding_times: Callable[[int], float] = lambda width: 1.0  # the factor on the embedding, from D
    window_everywhere: bool = False  # `sliding_window` of the configuration holds in every layer


GEMMA = Family(norms_add_one=True, embedding_times=math.sqrt)
# By the `model_type` of the decoder. A family belongs here once `PackedDecoder` has been compared with it: others
# have modules of the same names and compute something else (Granite multiplies its residuals by a factor).
FAMILIES = {
    "gemma": GEMMA,
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "llama": Family(),
    "mistral": Family(window_everywhere=True),
    "qwen2": Family(),
    "qwen3": Family(),
}
# Rotary embeddings whose angles depend on the length of the whole batch, so that no table of them serves a pack.
BY_LENGTH = {"dynamic", "longrope"}


@dataclass(frozen=True)
class Activation:
    """The function on the gate of an MLP: x * sigmoid(linear * x + cubic * x^3).

    SiLU has this form, and so has GELU with a tanh: 0.5 x (1 + tanh(y)) is x sigmoid(2 y). `function` is torch's own.
    """

    function: Callable[[torch.Tensor], torch.Tensor]
    linear: float
    cubic: float


SILU = Activation(F.silu, 1.0, 0.0)
GELU = Activation(partial(F.gelu, approximate="tanh"), math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi))


@dataclass(frozen=True)
class Heads:
    """The shape of the attention: how many query heads and key-value heads there are, and how large one is.

    The score of a query q and a key k is `scale` * (q . k); with a `softcap` c it is then c * tanh(score / c).
    """

    queries: int  # H
    keys: int  # G
    size: int  # E
    scale: float
    softcap: float | None


@dataclass(frozen=True)
class Shape:
    """What `PackedDecoder` needs to know of a decoder besides its weights."""

    heads: Heads
    eps: float  # of the RMS norms
    activation: Activation
    norm_offset: float  # is added to the weights of a norm
    embedding_factor: float
    kinds: tuple[str, ...]  # of each layer: "full_attention" or "sliding_attention", which may have other rotary angles
    windows: tuple[int, ...]  # of each layer: how many keys a query sees, itself included; 0: all up to its position


def language_model(network: Part | None) -> Part | None:
    """The decoder within a `network`: its language model where it has one, else the network itself."""
    return getattr(network, "language_model", network)


def shape_of(backbone: Part | None, linears: tuple[type, ...] = (nn.Linear,)) -> Shape | None:
    """The shape of a decoder of transformers, or None where `PackedDecoder` does not compute the same.

    It does for the families of `FAMILIES` whose matrices are layers of the types `linears`.
    """
    config: Part = getattr(backbone, "config", None)
    family = FAMILIES.get(getattr(config, "model_type", ""))
    if backbone is None or family is None:
        return None
    blocks: list[Part] = list(backbone.layers)
    kinds = _kinds(config, family, len(blocks))
    activation = _activation(blocks[0].mlp.act_fn)
    if activation is None or not set(kinds) <= {"full_attention", "sliding_attention"}:
        return None
    matrices = (
        getattr(part, p) for x in blocks for part in (x.self_attn, x.mlp) for p in PROJECTIONS if hasattr(part, p)
    )
    if BY_LENGTH & _rope_types(backbone.rotary_emb) or not all(type(matrix) in linears for matrix in matrices):
        return None
    attention = blocks[0].self_attn
    heads = Heads(
        config.num_attention_heads,
        config.num_key_value_heads,
        attention.head_dim,
        attention.scaling,
        getattr(config, "attn_logit_softcapping", None),
    )
    return Shape(
        heads=heads,
        eps=config.rms_norm_eps,
        activation=activation,
        norm_offset=float(family.norms_add_one),
        embedding_factor=family.embedding_times(config.hidden_size),
        kinds=kinds,
        windows=tuple(config.sliding_window if kind == "sliding_attention" else 0 for kind in kinds),
    )


def has_packs(config: Part) -> bool:
    """Whether `shape_of` describes the networks with this configuration of transformers. False also where the
    configuration leaves a doubt, as another name for a known activation does."""
    text = config.get_text_config()
    ropes = getattr(text, "rope_parameters", None) or {}
    types = {x.get("rope_type", "default") for x in ropes.values() if isinstance(x, dict)} or {ropes.get("rope_type")}
    activation = getattr(text, "hidden_activation", None) or getattr(text, "hidden_act", None)
    return text.model_type in FAMILIES and activation in ("silu", "gelu_pytorch_tanh") and not BY_LENGTH & types


def _kinds(config: Part, family: Family, layers: int) -> tuple[str, ...]:
    """The kind of each layer."""
    if getattr(config, "layer_types", None):
        return tuple(config.layer_types)
    slides = family.window_everywhere and config.sliding_window is not None
    return ("sliding_attention" if slides else "full_attention",) * layers


def _activation(function: Part) -> Activation | None:
    """The activation that has the same values as `function`."""
    probe = torch.linspace(-4, 4, 33)
    values = function(probe)
    return next((a for a in (GELU, SILU) if torch.allclose(values, a.function(probe), atol=1e-5)), None)


def _rope_types(rotary: Part) -> set[str]:
    """The types of rotary embedding; Gemma 3 has one for each kind of layer."""
    types = getattr(rotary, "rope_type", "default")
    return set(types.values()) if isinstance(types, dict) else {types}
