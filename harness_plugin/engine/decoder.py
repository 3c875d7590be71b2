"""A Gemma decoder (1, 2 or 3) run on packs: no padding, shared prefixes once, the last layer for last tokens alone.

The arithmetic is transformers' own up to rounding, which here is finer: the residual stream, the embedding's factor and
the rotary angles stay in float32. `ops` says how each step is computed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from harness_plugin.engine.ops import Heads
from harness_plugin.engine.packing import Pack

GEMMAS = ("gemma", "gemma2", "gemma3_text")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Layer:
    """One block. Matrices as `ops.weight` made them, q, k, v in one and gate and up in one; norms in float32 with
    Gemma's one added, None where a Gemma has none; window 0: attention to everything before."""

    qkv: object
    out: object
    gate_up: object
    down: object
    before_attention: torch.Tensor
    after_attention: torch.Tensor | None
    before_mlp: torch.Tensor
    after_mlp: torch.Tensor | None
    query: torch.Tensor | None
    key: torch.Tensor | None
    window: int
    kind: str


def decoder_of(backbone: nn.Module | None, linears: tuple[type, ...] = (nn.Linear,)) -> nn.Module | None:
    """The backbone, or its text half, where `PackedDecoder` computes what it computes: a Gemma whose matrices are
    layers of the types `linears`."""
    backbone = getattr(backbone, "language_model", backbone)
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


def heads_of(backbone: nn.Module) -> Heads:
    config, attention = backbone.config, backbone.layers[0].self_attn
    softcap = getattr(config, "attn_logit_softcapping", None)
    return Heads(config.num_attention_heads, config.num_key_value_heads, config.head_dim, attention.scaling, softcap)


class PackedDecoder:
    """The backbone with `ops`. `head`: (num_labels, hidden), float32."""

    def __init__(self, backbone: nn.Module, head: torch.Tensor, ops):
        self.backbone, self.head, self.ops = backbone, head, ops
        config = backbone.config
        self.scale, self.eps = config.hidden_size**0.5, config.rms_norm_eps
        self.embedding = backbone.embed_tokens.weight
        self.norm = self._norm(backbone.norm)
        self.layers = [self._layer(block, i) for i, block in enumerate(backbone.layers)]
        self._angles: dict[str, tuple] = {}

    def _norm(self, module: nn.Module | None) -> torch.Tensor | None:
        return None if module is None else (1 + module.weight.detach().to(self.ops.wide)).contiguous()

    def _layer(self, block: nn.Module, index: int) -> Layer:
        attention, mlp, config = block.self_attn, block.mlp, self.backbone.config
        kind = config.layer_types[index] if getattr(config, "layer_types", None) else "full_attention"
        after = block.post_attention_layernorm
        if hasattr(block, "pre_feedforward_layernorm"):
            norms = (after, block.pre_feedforward_layernorm, block.post_feedforward_layernorm)
        else:  # Gemma 1 has two norms a block, and calls the one before the MLP by where it stands
            norms = (None, after, None)
        return Layer(
            self.ops.weight(attention.q_proj, attention.k_proj, attention.v_proj),
            self.ops.weight(attention.o_proj),
            self.ops.weight(mlp.gate_proj, mlp.up_proj),
            self.ops.weight(mlp.down_proj),
            self._norm(block.input_layernorm),
            *map(self._norm, norms),
            *(self._norm(getattr(attention, name, None)) for name in ("q_norm", "k_norm")),
            config.sliding_window if kind == "sliding_attention" else 0,
            kind,
        )

    def angles(self, kind: str, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin (positions, size / 2) from the network's own rotary embedding, for at least `most` positions."""
        if kind not in self._angles or len(self._angles[kind][0]) < most:
            rotary, size = self.backbone.rotary_emb, 1 << max(9, (most - 1).bit_length())
            positions = torch.arange(size, device=self.embedding.device)[None]
            like = torch.zeros(1, dtype=self.ops.wide, device=positions.device)
            typed = hasattr(rotary, f"{kind}_inv_freq")
            tables = rotary(like, positions, kind) if typed else rotary(like, positions)
            self._angles[kind] = tuple(t[0, :, : t.shape[2] // 2].contiguous() for t in tables)
        return self._angles[kind]

    @torch.inference_mode()
    def logits(self, pack: Pack) -> np.ndarray:
        """(members, num_labels), float64."""
        hidden = self.hidden(pack)
        return (hidden @ self.head.T.to(hidden.dtype)).double().cpu().numpy()

    def hidden(self, pack: Pack) -> torch.Tensor:
        """The normed hidden states of the members' last tokens, (members, width) in `ops.wide`."""
        ops, device = self.ops, self.embedding.device
        # rows nobody attends to: oneDNN makes and keeps a program for each number of rows that it meets
        ids, positions, last = (
            F.pad(torch.from_numpy(x), (0, -len(x) % ops.multiple)).to(device)
            for x in (pack.ids, pack.positions, pack.last)
        )
        most = int(pack.positions.max()) + 1
        residual = F.embedding(ids, self.embedding).to(ops.wide) * self.scale
        residual, x = ops.add_norm(None, None, residual, self.layers[0].before_attention)
        for i in range(len(self.layers)):
            residual, x = self.block(i, residual, x, pack, positions, last, most)
        return F.rms_norm(residual, residual.shape[-1:], self.norm, self.eps)[: len(pack.members)]

    def block(self, i: int, residual, x, pack: Pack, positions, last, most: int):
        """One layer: the residual stream and its normed rows to the same after it. `most`: one more than the largest
        position."""
        ops, layer, final = self.ops, self.layers[i], i + 1 == len(self.layers)
        q, k, v = ops.split(ops.linear(x, layer.qkv), layer.query, layer.key, self.angles(layer.kind, most), positions)
        if final:  # only last tokens are read from here on
            q, residual = q[last], residual[last]
        mixed = ops.attend(q, k, v, pack.last_layout if final else pack.layout, layer.window)
        y = ops.linear(mixed, layer.out)
        residual, x = ops.add_norm(y, layer.after_attention, residual, layer.before_mlp)
        y = ops.linear(ops.gated(ops.linear(x, layer.gate_up)), layer.down)
        following = None if final else self.layers[i + 1].before_attention
        return ops.add_norm(y, layer.after_mlp, residual, following)
