"""A Gemma decoder (1, 2 or 3) run on packs: no padding, and each shared prefix is computed once.

In the last layer only the last token of each sequence is computed, because the head reads nothing else. The arithmetic
is that of transformers but for rounding, which is finer here: the residual stream, the factor on the embedding and the
rotary angles stay in float32. `ops` says how each step is computed.

Letters in the comments on shapes:
    N rows of a pack            M members (sequences) of a pack         C logits of one sequence (num_labels)
    D width of the model        I width of the MLP
    H query heads               G key-value heads               E size of a head
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from harness_plugin.engine.ops import Heads, TorchOps
from harness_plugin.engine.packing import Pack

GEMMAS = ("gemma", "gemma2", "gemma3_text")
# A part of a network of transformers. torch types every attribute of a module as `Tensor | Module`, which says nothing.
Part = Any
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Layer:
    """The weights of one block.

    The matrices are in the form that `ops.weight` gives them; the shapes here are those before that. The norms are in
    float32 and have the 1 added that Gemma adds to its norm weights; None where this Gemma has no such norm.
    """

    qkv: object  # ((H + 2 G) * E, D): the projections to queries, keys and values, joined
    out: object  # (D, H * E)
    gate_up: object  # (2 I, D): gate and up, joined
    down: object  # (D, I)
    before_attention: torch.Tensor  # (D,)
    after_attention: torch.Tensor | None  # (D,)
    before_mlp: torch.Tensor  # (D,)
    after_mlp: torch.Tensor | None  # (D,)
    query: torch.Tensor | None  # (E,) the norm of each query head
    key: torch.Tensor | None  # (E,) the norm of each key head
    window: int  # how many keys a query sees, itself included; 0: all keys up to its own position
    kind: str  # "full_attention" or "sliding_attention", which may have other rotary angles


def decoder_of(network: Part | None, linears: tuple[type, ...] = (nn.Linear,)) -> Part | None:
    """The part of `network` that `PackedDecoder` can stand in for, or None if there is none.

    This is the network itself, or its language model where it has one, if it is a Gemma with the tanh form of GELU
    whose matrices are layers of the types `linears` without bias.
    """
    backbone: Part = getattr(network, "language_model", network)
    config = getattr(backbone, "config", None)
    if getattr(config, "model_type", None) not in GEMMAS:
        return None
    blocks = [
        getattr(part, p)
        for x in backbone.layers
        for part in (x.self_attn, x.mlp)
        for p in PROJECTIONS
        if hasattr(part, p)
    ]
    plain = all(type(block) in linears and block.bias is None for block in blocks)
    probe = torch.linspace(-4, 4, 33)
    gelu = F.gelu(probe, approximate="tanh")
    tanh_gelu = all(torch.allclose(x.mlp.act_fn(probe), gelu, atol=1e-5) for x in backbone.layers[:1])
    return backbone if plain and tanh_gelu else None


def heads_of(backbone: Part) -> Heads:
    """The shape of the attention of a Gemma."""
    config, attention = backbone.config, backbone.layers[0].self_attn
    softcap = getattr(config, "attn_logit_softcapping", None)
    return Heads(config.num_attention_heads, config.num_key_value_heads, config.head_dim, attention.scaling, softcap)


class PackedDecoder:
    """Computes a Gemma `backbone` with the arithmetic of `ops`. `head`: (C, D), float32."""

    def __init__(self, backbone: Part, head: torch.Tensor, ops: TorchOps):
        self.backbone, self.head, self.ops = backbone, head, ops
        config = backbone.config
        self.scale, self.eps = config.hidden_size**0.5, config.rms_norm_eps
        self.embedding = backbone.embed_tokens.weight
        self.norm = self._norm(backbone.norm)
        self.layers = [self._layer(block, i) for i, block in enumerate(backbone.layers)]
        self._angles: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def _norm(self, module: Part) -> torch.Tensor:
        """The weights (width,) of an RMS norm; Gemma stores them less 1."""
        return (1 + module.weight.detach().to(self.ops.wide)).contiguous()

    def _optional_norm(self, module: Part | None) -> torch.Tensor | None:
        return None if module is None else self._norm(module)

    def _layer(self, block: Part, index: int) -> Layer:
        attention, mlp, config = block.self_attn, block.mlp, self.backbone.config
        kind = config.layer_types[index] if getattr(config, "layer_types", None) else "full_attention"
        after = block.post_attention_layernorm
        if hasattr(block, "pre_feedforward_layernorm"):
            norms = (after, block.pre_feedforward_layernorm, block.post_feedforward_layernorm)
        else:  # Gemma 1 has two norms in a block, and names the one before the MLP "post attention"
            norms = (None, after, None)
        return Layer(
            qkv=self.ops.weight(attention.q_proj, attention.k_proj, attention.v_proj),
            out=self.ops.weight(attention.o_proj),
            gate_up=self.ops.weight(mlp.gate_proj, mlp.up_proj),
            down=self.ops.weight(mlp.down_proj),
            before_attention=self._norm(block.input_layernorm),
            after_attention=self._optional_norm(norms[0]),
            before_mlp=self._norm(norms[1]),
            after_mlp=self._optional_norm(norms[2]),
            query=self._optional_norm(getattr(attention, "q_norm", None)),
            key=self._optional_norm(getattr(attention, "k_norm", None)),
            window=config.sliding_window if kind == "sliding_attention" else 0,
            kind=kind,
        )

    def angles(self, kind: str, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin, each (positions, E / 2), from the network's own rotary embedding.

        They hold at least the first `most` positions, and are kept for the next pack. `kind` is the kind of the layer.
        """
        if kind not in self._angles or len(self._angles[kind][0]) < most:
            rotary, size = self.backbone.rotary_emb, 1 << max(9, (most - 1).bit_length())
            positions = torch.arange(size, device=self.embedding.device)[None]  # (1, positions)
            like = torch.zeros(1, dtype=self.ops.wide, device=positions.device)  # the tables have its dtype
            typed = hasattr(rotary, f"{kind}_inv_freq")
            tables = rotary(like, positions, kind) if typed else rotary(like, positions)
            # transformers gives (1, positions, E) with both halves equal; one half is enough
            cos, sin = (t[0, :, : t.shape[2] // 2].contiguous() for t in tables)
            self._angles[kind] = cos, sin
        return self._angles[kind]

    @torch.inference_mode()
    def logits(self, pack: Pack) -> np.ndarray:
        """The logits of the pack's members, (M, C) float64, in the order of `pack.members`."""
        hidden = self.hidden(pack)  # (M, D)
        return (hidden @ self.head.T.to(hidden.dtype)).double().cpu().numpy()  # (M, D) @ (D, C) -> (M, C)

    def hidden(self, pack: Pack) -> torch.Tensor:
        """The normed hidden states of the members' last tokens, (M, D) in `ops.wide`."""
        ops, device = self.ops, self.embedding.device
        # N and M are padded up to a multiple of `ops.multiple`, with rows that nobody attends to: oneDNN compiles and
        # keeps a program for each number of rows that it meets, so a few round numbers are faster. N and M are the
        # padded numbers from here on.
        ids, positions, last = (  # (N,), (N,), (M,)
            F.pad(torch.from_numpy(x), (0, -len(x) % ops.multiple)).to(device)
            for x in (pack.ids, pack.positions, pack.last)
        )
        most = int(pack.positions.max()) + 1
        residual = F.embedding(ids, self.embedding).to(ops.wide) * self.scale  # (N, D)
        residual, x = ops.add_norm(None, None, residual, self.layers[0].before_attention)  # both (N, D)
        for i in range(len(self.layers)):
            residual, x = self.block(i, residual, x, pack, positions, last, most)  # (N, D); after the last (M, D)
        # The rows that filled M up are cut off again.
        return F.rms_norm(residual, residual.shape[-1:], self.norm, self.eps)[: len(pack.members)]

    def block(self, i: int, residual, x, pack: Pack, positions, last, most: int):
        """One layer: from the residual stream (N, D) and its normed rows x (N, D) to the same after the layer.

        The last layer returns (M, D) and no normed rows. `most` is one more than the largest position.
        """
        ops, layer, final = self.ops, self.layers[i], i + 1 == len(self.layers)
        qkv = ops.linear(x, layer.qkv)  # (N, (H + 2 G) * E)
        # q (N, H, E), k and v (N, G, E)
        q, k, v = ops.split(qkv, layer.query, layer.key, self.angles(layer.kind, most), positions)
        if final:  # From here on only the last tokens are read: q (M, H, E), residual (M, D), and N is M below.
            q, residual = q[last], residual[last]
        mixed = ops.attend(q, k, v, pack.last_layout if final else pack.layout, layer.window)  # (N, H * E)
        y = ops.linear(mixed, layer.out)  # (N, D)
        residual, x = ops.add_norm(y, layer.after_attention, residual, layer.before_mlp)  # both (N, D)
        y = ops.linear(ops.gated(ops.linear(x, layer.gate_up)), layer.down)  # (N, 2 I) -> (N, I) -> (N, D)
        following = None if final else self.layers[i + 1].before_attention
        return ops.add_norm(y, layer.after_mlp, residual, following)
