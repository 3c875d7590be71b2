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
        if any(m.training and getattr(m.lora_dropout["default"], "p", 0) for m, _, _ in weight.adapters):
            return F.linear(x[0], weight.weight, weight.bias) + self._with_dropout(x[0], weight), None
        parts = [(m.scaling["default"], start, end) for m, start, end in weight.adapters]
        downs = [m.lora_A["default"].weight for m, _, _ in weight.adapters]  # (r_j, I) each
        ups = [m.lora_B["default"].weight for m, _, _ in weight.adapters]  # (O_j, r_j) each
        y = AdaptedLinear.apply(x[0], weight.weight, parts, *downs, *ups)
        return (y if weight.bias is None else y + weight.bias), None

    def _with_dropout(self, x, weight: Adapted):
        """What LoRA adds to x (N, I) times the frozen matrix: (N, O).

        Each adapter drops other inputs, so their products cannot be merged as `AdaptedLinear` merges them.
        """
        pieces, at = [], 0
        for m, start, end in weight.adapters:
            pieces.append(x.new_zeros(len(x), start - at))  # the outputs of layers without LoRA, if there are any
            low = F.linear(m.lora_dropout["default"](x), m.lora_A["default"].weight.to(x.dtype))  # (N, r_j)
            pieces.append(m.scaling["default"] * F.linear(low, m.lora_B["default"].weight.to(x.dtype)))  # (N, O_j)
            at = end
        pieces.append(x.new_zeros(len(x), len(weight.weight) - at))
        return torch.cat(pieces, 1)  # (N, O)


class AdaptedLinear(torch.autograd.Function):
    """A frozen joined matrix W and the LoRA of the layers in it: y = x W', and y_j += s_j (x A_j') B_j' for layer j.

    x (N, I), W (O, I), A_j (r_j, I), B_j (O_j, r_j), y (N, O); y_j are the O_j columns start to end - 1 of y. The A_j
    and B_j are float32 parameters and are cast to the dtype of x for the products. `parts` holds (s_j, start, end).

    PEFT computes each layer by itself and casts x to float32. Here the layers share x, so their A_j are joined to one
    A (R, I), and one product x A' gives the low-rank activations of all of them. Backward, from the gradient dy:
        dlow_j = dy_j (s_j B_j)     (N, r_j)        dB_j = s_j dy_j' low_j      (O_j, r_j)
        dA = dlow' x                (R, I)          dx = dy W + dlow A          (N, I)
    where low = x A' (N, R), dlow is all dlow_j side by side, and the rows of dA are split into the dA_j again.
    """

    @staticmethod
    def forward(ctx, x, weight, parts, *matrices):
        downs = matrices[: len(parts)]
        down = torch.cat(downs).to(x.dtype)  # A (R, I)
        scales = [scale for scale, _, _ in parts]
        # s_j B_j (O_j, r_j)
        ups = [(scale * up).to(x.dtype) for scale, up in zip(scales, matrices[len(parts) :], strict=True)]
        low = F.linear(x, down)  # (N, I) @ (I, R) -> (N, R)
        y = F.linear(x, weight)  # (N, I) @ (I, O) -> (N, O)
        for (_, start, end), up, part in zip(parts, ups, low.split([len(d) for d in downs], 1), strict=True):
            y[:, start:end].addmm_(part, up.T)  # (N, O_j) += (N, r_j) @ (r_j, O_j)
        ctx.save_for_backward(x, low, weight, down, *ups)
        ctx.parts, ctx.ranks = parts, [len(d) for d in downs]
        return y

    @staticmethod
    def backward(ctx, grad):
        x, low, weight, down, *ups = ctx.saved_tensors
        grad_lows, grad_ups = [], []
        for (scale, start, end), up, part in zip(ctx.parts, ups, low.split(ctx.ranks, 1), strict=True):
            piece = grad[:, start:end]  # dy_j (N, O_j)
            grad_lows.append(piece @ up)  # (N, O_j) @ (O_j, r_j) -> (N, r_j)
            grad_ups.append((piece.T @ part).float() * scale)  # (O_j, N) @ (N, r_j) -> (O_j, r_j)
        grad_low = torch.cat(grad_lows, 1)  # (N, R)
        grad_downs = (grad_low.T @ x).float().split(ctx.ranks)  # (R, N) @ (N, I) -> (R, I), split into (r_j, I)
        grad_x = None
        if ctx.needs_input_grad[0]:  # not in the first layer: nothing before it is trained
            grad_x = (grad @ weight).addmm_(grad_low, down)  # (N, O) @ (O, I) + (N, R) @ (R, I) -> (N, I)
        return grad_x, None, None, *grad_downs, *grad_ups
