"""A decoder run on packs: no padding, and each shared prefix is computed once.

`shape` says which decoders these are. In the last layer only the last token of each sequence is computed, because the
head reads nothing else. The arithmetic is that of transformers but for rounding, which is finer here: the residual
stream, the factor on the embedding and the rotary angles stay in float32. `ops` says how each step is computed.

Letters in the comments on shapes:
    N rows of a pack            M members (sequences) of a pack         C logits of one sequence (num_labels)
    D width of the model        I width of the MLP
    H query heads               G key-value heads               E size of a head
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from harness_plugin.engine.ops import TorchOps
from harness_plugin.engine.packing import Pack
from harness_plugin.engine.shape import Part


@dataclass(frozen=True)
class Layer:
    """The weights of one block.

    The matrices are in the form that `ops.weight` gives them; the shapes here are those before that. The norms are in
    float32, with the 1 added that a Gemma adds to its norm weights; None where the decoder has no such norm.
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


class PackedDecoder:
    """Computes a `backbone` of the shape `ops.shape` with the arithmetic of `ops`. `head`: (C, D), float32."""

    def __init__(self, backbone: Part, head: torch.Tensor, ops: TorchOps):
        self.backbone, self.head, self.ops, self.shape = backbone, head, ops, ops.shape
        self.embedding = backbone.embed_tokens.weight
        self.norm = self._norm(backbone.norm)
        self.layers = [self._layer(block) for block in backbone.layers]
        self._angles: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def _norm(self, module: Part) -> torch.Tensor:
        """The weights (width,) of an RMS norm; a Gemma stores them less 1."""
        return (self.shape.norm_offset + module.weight.detach().to(self.ops.wide)).contiguous()

    def _optional_norm(self, module: Part | None) -> torch.Tensor | None:
        return None if module is None else self._norm(module)

    def _layer(self, block: Part) -> Layer:
        attention, mlp = block.self_attn, block.mlp
        after = block.post_attention_layernorm
        if hasattr(block, "pre_feedforward_layernorm"):
            norms = (after, block.pre_feedforward_layernorm, block.post_feedforward_layernorm)
        else:  # With two norms in a block, the one before the MLP is named "post attention".
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
        residual = F.embedding(ids, self.embedding).to(ops.wide) * self.shape.embedding_factor  # (N, D)
        residual, x = ops.add_norm(None, None, residual, self.layers[0].before_attention)  # both (N, D)
        for i in range(len(self.layers)):
            residual, x = self.block(i, residual, x, pack, positions, last, most)  # (N, D); after the last (M, D)
        # The rows that filled M up are cut off again.
        return F.rms_norm(residual, residual.shape[-1:], self.norm, self.shape.eps)[: len(pack.members)]

    def block(self, i: int, residual, x, pack: Pack, positions, last, most: int):
        """One layer: from the residual stream (N, D) and its normed rows x (N, D) to the same after the layer.

        The last layer returns (M, D) and no normed rows. `most` is one more than the largest position.
        """
        ops, layer, final = self.ops, self.layers[i], i + 1 == len(self.layers)
        qkv = ops.linear(x, layer.qkv)  # (N, (H + 2 G) * E)
        # q (N, H, E), k and v (N, G, E)
        q, k, v = ops.split(qkv, layer.query, layer.key, self.angles(self.shape.kinds[i], most), positions)
        if final:  # From here on only the last tokens are read: q (M, H, E), residual (M, D), and N is M below.
            q, residual = q[last], residual[last]
        mixed = ops.attend(q, k, v, pack.last_layout if final else pack.layout, self.shape.windows[i])  # (N, H * E)
        y = ops.linear(mixed, layer.out)  # (N, D)
        residual, x = ops.add_norm(y, layer.after_attention, residual, layer.before_mlp)  # both (N, D)
        y = ops.linear(ops.gated_product(x, layer.gate_up), layer.down)  # (N, I) -> (N, D)
        following = None if final else self.layers[i + 1].before_attention
        return ops.add_norm(y, layer.after_mlp, residual, following)
