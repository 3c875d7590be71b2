"""A decoder with LoRA trained on packs: no padding, and the prompt of a pair in both orders is computed once.

This uses the packs and the decoder of the engine, with gradients. What it cannot do (other bases, DoRA, a quantized
base) is trained on padded batches.

Letters in the comments on shapes:
    N rows of a pack            M members (sequences)           D width of the model            C logits (num_labels)
    I, O inputs and outputs of a matrix that joins several layers (of q, k and v, for example)
    O_j outputs of adapted layer j          r_j rank of its LoRA            R sum of the ranks
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from harness_plugin.engine.attention import flash_runs_on
from harness_plugin.engine.decoder import PackedDecoder
from harness_plugin.engine.ops import Rows, TorchOps, joined, joined_bias
from harness_plugin.engine.packing import Pack
from harness_plugin.engine.shape import Part, Shape, language_model, shape_of
from harness_plugin.model.network import is_decoder_classifier
from harness_plugin.train.attention import TrainedAttention


def can_pack(network: Part, device: torch.device) -> bool:
    """Whether a network that went through `pack` computes on `device` what it computed before.

    It does for a decoder that the engine runs on packs, whose trained parts are its head and plain LoRA.
    """
    backbone, shape = _decoder(network)
    if shape is None or not is_decoder_classifier(network):
        return False
    half = backbone.embed_tokens.weight.dtype in (torch.bfloat16, torch.float16)
    if device.type == "cuda" and (shape.heads.softcap or not flash_runs_on(device) or not half):
        return False  # without flash attention, segments are computed one by one: slower than padded batches
    adapted = [m for m in network.modules() if isinstance(m, LoraLinear)]
    plain = all(
        m.active_adapters == ["default"] and not any(m.use_dora.values()) and not m.lora_bias["default"]
        for m in adapted
    )
    trainable = {id(p) for m in adapted for part in (m.lora_A, m.lora_B) for p in part.parameters()}
    trainable |= {id(p) for p in network.get_base_model().score.parameters()}
    return plain and all(id(p) in trainable for p in network.parameters() if p.requires_grad)


def pack(network: Part, compiled: bool = False, checkpointing: bool = False) -> None:
    """Changes the network: from here on it takes `pack=` (a `Pack`) and returns the logits of the pack's members.

    The logits are (M, C), in the order of `pack.members`. `compiled` uses torch.compile; `checkpointing` computes
    activations again in the backward pass instead of keeping them.
    """
    inner = network.get_base_model()
    inner.forward = PackedForward(inner, _decoder(network)[0], compiled, checkpointing)


def _decoder(network: Part) -> tuple[Part, Shape | None]:
    """The decoder of a classifier, and its shape, or None where it cannot be packed."""
    inner = network.get_base_model()
    backbone = language_model(getattr(inner, inner.base_model_prefix, None))
    return backbone, shape_of(backbone, (nn.Linear, LoraLinear))


class PackedForward:
    """Takes the place of the `forward` of a sequence classifier.

    Its decoder is made at the first call, when the network is on the device where it will be trained: the decoder joins
    matrices and would stay where it is if the network moved to another device afterwards.
    """

    def __init__(self, inner: Part, backbone: Part, compiled: bool, checkpointing: bool):
        self.inner, self.backbone = inner, backbone
        self.compiled, self.checkpointing = compiled, checkpointing
        self.decoder: TrainedDecoder | None = None

    def __call__(self, input_ids=None, *, pack: Pack, **ignored):
        score = self.inner.score
        head = getattr(score, "modules_to_save", {"default": score})["default"].weight  # (C, D)
        if self.decoder is None:
            self.decoder = TrainedDecoder(self.backbone, head, LoraOps(self.backbone, self.compiled))
            self.decoder.checkpointing = self.checkpointing
        with torch.autocast(head.device.type, enabled=False):  # every step chooses its own precision
            hidden = self.decoder.hidden(pack)  # (M, D)
            return SimpleNamespace(logits=hidden @ head.T.to(hidden.dtype))  # (M, C)


class TrainedDecoder(PackedDecoder):
    """The decoder of the engine. With `checkpointing`, the backward pass computes the activations of a layer again,
    so that they need not be kept."""

    checkpointing = False

    def block(self, *args):
        if not (self.checkpointing and torch.is_grad_enabled()):
            return super().block(*args)
        return checkpoint(super().block, *args, use_reentrant=False)


@dataclass(frozen=True)
class Adapted:
    """The frozen matrices of several layers, joined, and the LoRA layers among them.

    An adapter (layer, start, end) owns the outputs start to end - 1 of the joined matrix.
    """

    weight: torch.Tensor  # (O, I)
    bias: torch.Tensor | None  # (O,), frozen too
    adapters: list[tuple[Part, int, int]]


class LoraOps(TorchOps):
    """The arithmetic of the engine in torch, with the LoRA of every adapted matrix and with gradients for it."""

    def __init__(self, backbone: Part, compiled: bool):
        shape = shape_of(backbone, (nn.Linear, LoraLinear))
        if shape is None:
            raise ValueError("this decoder cannot be packed; ask can_pack first")
        weight = backbone.embed_tokens.weight
        super().__init__(shape, weight.dtype, weight.device)
        self.attention = TrainedAttention(self.heads, weight.device)
        if compiled:
            self.compile()

    def weight(self, *linears) -> Adapted:
        adapters: list[tuple[Part, int, int]] = []
        start = 0
        for linear in linears:
            end = start + linear.out_features
            if isinstance(linear, LoraLinear):
                adapters.append((linear, start, end))
            start = end
        return Adapted(joined(*linears), joined_bias(*linears), adapters)

    def linear(self, x: Rows, weight: Adapted) -> Rows:
        if not weight.adapters:
            return F.linear(x[0], weight.weight, weight.bias), None  # (N, I) -> (N, O)
        parts, masks = [], []
        for m, start, end in weight.adapters:
            p = getattr(m.lora_dropout["default"], "p", 0.0) if m.training else 0.0
            parts.append((m.scaling["default"] / (1 - p), start, end))
            masks.append(dropout_mask(x[0], p) if p else None)
        downs = [m.lora_A["default"].weight for m, _, _ in weight.adapters]  # (r_j, I) each
        ups = [m.lora_B["default"].weight for m, _, _ in weight.adapters]  # (O_j, r_j) each
        return AdaptedLinear.apply(x[0], weight.weight, weight.bias, parts, masks, *downs, *ups), None


def dropout_mask(x: torch.Tensor, p: float) -> torch.Tensor:
    """For each value of x, 0 with probability p, else 1; the random numbers are those that `F.dropout` would use."""
    # One byte for each value is enough. But CPUs convert it before they multiply, which takes longer than the product.
    dtype = torch.bool if x.is_cuda else x.dtype
    return torch.empty_like(x, dtype=dtype).bernoulli_(1 - p)


class AdaptedLinear(torch.autograd.Function):
    """A frozen joined matrix W and the LoRA of the layers in it: y = x W' + b, and for layer j, with its dropout mask
    m_j of zeros and ones, y_j += s_j (x * m_j) A_j' B_j'.

    x and m_j (N, I), W (O, I), b (O,), A_j (r_j, I), B_j (O_j, r_j), y (N, O); y_j are the O_j columns start to end - 1
    of y. The A_j and B_j are float32 parameters and are cast to the dtype of x for the products. `parts` holds
    (s_j, start, end); s_j includes the factor 1 / (1 - p) of a dropout p. `masks` holds m_j, or None without dropout.

    PEFT computes each layer by itself and casts x to float32. Here the layers without dropout share x, so their A_j are
    joined to one A (R, I), and one product x A' gives the low-rank activations of all of them. With dropout each layer
    reads other inputs, but only x and the masks are kept for the backward pass. From the gradient dy:
        dlow_j = dy_j (s_j B_j)     (N, r_j)        dB_j = s_j dy_j' low_j                      (O_j, r_j)
        dA_j = dlow_j' (x * m_j)    (r_j, I)        dx = dy W + sum of (dlow_j A_j) * m_j       (N, I)
    where low_j = (x * m_j) A_j' (N, r_j). Without dropout, dlow is all dlow_j side by side, dA = dlow' x has the rows
    of all dA_j, and dx = dy W + dlow A.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, parts, masks, *matrices):
        downs, scales = matrices[: len(parts)], [scale for scale, _, _ in parts]
        down, ranks = torch.cat(downs).to(x.dtype), [len(d) for d in downs]  # A (R, I)
        # s_j B_j (O_j, r_j)
        ups = [(scale * up).to(x.dtype) for scale, up in zip(scales, matrices[len(parts) :], strict=True)]
        if all(mask is None for mask in masks):
            low = F.linear(x, down)  # (N, I) @ (I, R) -> (N, R)
        else:
            # (N, I) @ (I, r_j) -> (N, r_j) each, side by side (N, R)
            low = torch.cat([F.linear(_dropped(x, m), d) for m, d in zip(masks, down.split(ranks), strict=True)], 1)
        y = F.linear(x, weight, bias)  # (N, I) @ (I, O) -> (N, O)
        for (_, start, end), up, part in zip(parts, ups, low.split(ranks, 1), strict=True):
            y[:, start:end].addmm_(part, up.T)  # (N, O_j) += (N, r_j) @ (r_j, O_j)
        ctx.save_for_backward(x, low, weight, down, *ups, *masks)
        ctx.parts, ctx.ranks = parts, ranks
        return y

    @staticmethod
    def backward(ctx, grad):
        x, low, weight, down, *rest = ctx.saved_tensors
        ups, masks = rest[: len(ctx.parts)], rest[len(ctx.parts) :]
        grad_lows, grad_ups = [], []
        for (scale, start, end), up, part in zip(ctx.parts, ups, low.split(ctx.ranks, 1), strict=True):
            piece = grad[:, start:end]  # dy_j (N, O_j)
            grad_lows.append(piece @ up)  # (N, O_j) @ (O_j, r_j) -> (N, r_j)
            grad_ups.append((piece.T @ part).float() * scale)  # (O_j, N) @ (N, r_j) -> (O_j, r_j)
        # The first layer needs no dx: nothing before it is trained.
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None  # (N, O) @ (O, I) -> (N, I)
        if all(mask is None for mask in masks):
            grad_low = torch.cat(grad_lows, 1)  # (N, R)
            grad_downs = (grad_low.T @ x).float().split(ctx.ranks)  # (R, N) @ (N, I) -> (R, I), split into (r_j, I)
            if grad_x is not None:
                grad_x.addmm_(grad_low, down)  # (N, I) += (N, R) @ (R, I)
        else:
            grad_downs = [(g.T @ _dropped(x, m)).float() for g, m in zip(grad_lows, masks, strict=True)]  # (r_j, I)
            if grad_x is not None:
                for g, d, m in zip(grad_lows, down.split(ctx.ranks), masks, strict=True):
                    _add_dropped(grad_x, g @ d, m)  # (N, r_j) @ (r_j, I) -> (N, I)
        return grad_x, None, None, None, None, *grad_downs, *grad_ups


def _dropped(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x if mask is None else x * mask


def _add_dropped(total: torch.Tensor, x: torch.Tensor, mask: torch.Tensor | None) -> None:
    """Adds x * mask to `total`, in place."""
    if mask is None:
        total += x
    else:
        total.addcmul_(x, mask)
