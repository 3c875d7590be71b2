"""A Gemma with LoRA trained on packs: no padding, a prompt that is shown in both orders computed once.

The engine's own packs and decoder, with gradients. What this cannot do (other bases, DoRA, a quantized base) is trained
on padded batches.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from harness_plugin.engine.attention import flash_runs_on
from harness_plugin.engine.decoder import PackedDecoder, decoder_of, heads_of
from harness_plugin.engine.ops import Rows, TorchOps, joined
from harness_plugin.engine.packing import Pack
from harness_plugin.model.load import is_decoder_classifier
from harness_plugin.train.attention import TrainedAttention


def can_pack(network: nn.Module, device: torch.device) -> bool:
    """Whether `pack` computes what the network computes there: a Gemma whose trained parts are its head and plain
    LoRA."""
    backbone = _backbone(network)
    if backbone is None or not is_decoder_classifier(network):
        return False
    half = backbone.embed_tokens.weight.dtype in (torch.bfloat16, torch.float16)
    if device.type == "cuda" and (heads_of(backbone).softcap or not flash_runs_on(device) or not half):
        return False  # there, blocks of attention one by one are slower than padded batches
    adapted = [m for m in network.modules() if isinstance(m, LoraLinear)]
    plain = all(
        m.active_adapters == ["default"] and not any(m.use_dora.values()) and not m.lora_bias["default"]
        for m in adapted
    )
    known = {id(p) for m in adapted for part in (m.lora_A, m.lora_B) for p in part.parameters()}
    known |= {id(p) for p in network.get_base_model().score.parameters()}
    return plain and all(id(p) in known for p in network.parameters() if p.requires_grad)


def pack(network: nn.Module, compiled: bool = False, checkpointing: bool = False) -> None:
    """From here on the network takes `pack=` (a `Pack`) and returns the logits of its members, in the pack's order."""
    inner = network.get_base_model()
    inner.forward = PackedForward(inner, _backbone(network), compiled, checkpointing)


def _backbone(network: nn.Module) -> nn.Module | None:
    inner = network.get_base_model()
    return decoder_of(getattr(inner, inner.base_model_prefix, None), (nn.Linear, LoraLinear))


class PackedForward:
    """Stands in for the `forward` of a sequence classifier. Its decoder is made at the first call, when the network is
    where it will be trained: it joins matrices and would not follow them to another device."""

    def __init__(self, inner: nn.Module, backbone: nn.Module, compiled: bool, checkpointing: bool):
        self.inner, self.backbone = inner, backbone
        self.compiled, self.checkpointing, self.decoder = compiled, checkpointing, None

    def __call__(self, input_ids=None, pack: Pack | None = None, **ignored):
        if self.decoder is None:
            ops = LoraOps(self.backbone, self.compiled)
            self.decoder = TrainedDecoder(self.backbone, None, ops)
            self.decoder.checkpointing = self.checkpointing
        head = self.inner.score
        head = getattr(head, "modules_to_save", {"default": head})["default"].weight
        with torch.autocast(head.device.type, enabled=False):  # every step has its precision already
            hidden = self.decoder.hidden(pack)
            return SimpleNamespace(logits=hidden @ head.T.to(hidden.dtype))


class TrainedDecoder(PackedDecoder):
    """`checkpointing`: a layer's activations are computed again in the backward pass instead of kept."""

    checkpointing = False

    def block(self, *args):
        if not (self.checkpointing and torch.is_grad_enabled()):
            return super().block(*args)
        return checkpoint(super().block, *args, use_reentrant=False)


@dataclass(frozen=True)
class Adapted:
    """A frozen matrix of several layers in one, and the LoRA layers among them with their (first, last) output rows."""

    weight: torch.Tensor
    adapters: list[tuple[LoraLinear, int, int]]


class LoraOps(TorchOps):
    """The engine's arithmetic in torch, with LoRA beside every adapted matrix and gradients for it."""

    def __init__(self, backbone: nn.Module, compiled: bool):
        weight = backbone.embed_tokens.weight
        super().__init__(heads_of(backbone), backbone.config.rms_norm_eps, weight.dtype, weight.device)
        self.attention = TrainedAttention(self.heads, weight.device)
        if compiled:
            self.compile()

    def weight(self, *linears) -> Adapted:
        adapters, start = [], 0
        for linear in linears:
            if isinstance(linear, LoraLinear):
                adapters.append((linear, start, start + linear.out_features))
            start += linear.out_features
        return Adapted(joined(*linears), adapters)

    def linear(self, x: Rows, weight: Adapted) -> Rows:
        if not weight.adapters:
            return F.linear(x[0], weight.weight), None
        if any(m.training and getattr(m.lora_dropout["default"], "p", 0) for m, _, _ in weight.adapters):
            return F.linear(x[0], weight.weight) + self._with_dropout(x[0], weight), None
        parts = [(m.scaling["default"], start, end) for m, start, end in weight.adapters]
        downs = [m.lora_A["default"].weight for m, _, _ in weight.adapters]
        ups = [m.lora_B["default"].weight for m, _, _ in weight.adapters]
        return AdaptedLinear.apply(x[0], weight.weight, parts, *downs, *ups), None

    def _with_dropout(self, x, weight: Adapted):
        """What LoRA adds where each adapter drops other inputs, so that nothing can be computed together."""
        pieces, at = [], 0
        for m, start, end in weight.adapters:
            pieces.append(x.new_zeros(len(x), start - at))
            low = F.linear(m.lora_dropout["default"](x), m.lora_A["default"].weight.to(x.dtype))
            pieces.append(m.scaling["default"] * F.linear(low, m.lora_B["default"].weight.to(x.dtype)))
            at = end
        pieces.append(x.new_zeros(len(x), len(weight.weight) - at))
        return torch.cat(pieces, 1)


class AdaptedLinear(torch.autograd.Function):
    """x W' + s (x A') B' with W frozen, the LoRA of layers that share x computed together, A and B in float32.

    `parts`: scale and output rows of each adapter. PEFT's own layers do this one by one, with x cast to float32.
    """

    @staticmethod
    def forward(ctx, x, weight, parts, *matrices):
        downs, ups = matrices[: len(parts)], matrices[len(parts) :]
        down = torch.cat(downs).to(x.dtype)
        ups = [(scale * up).to(x.dtype) for (scale, _, _), up in zip(parts, ups, strict=True)]
        low = F.linear(x, down)
        y = F.linear(x, weight)
        for (_, start, end), up, part in zip(parts, ups, low.split([len(d) for d in downs], 1), strict=True):
            y[:, start:end].addmm_(part, up.T)
        ctx.save_for_backward(x, low, weight, down, *ups)
        ctx.parts, ctx.ranks = parts, [len(d) for d in downs]
        return y

    @staticmethod
    def backward(ctx, grad):
        x, low, weight, down, *ups = ctx.saved_tensors
        grad_low, grad_ups = [], []
        for (scale, start, end), up, part in zip(ctx.parts, ups, low.split(ctx.ranks, 1), strict=True):
            piece = grad[:, start:end]
            grad_low.append(piece @ up)
            grad_ups.append((piece.T @ part).float() * scale)
        grad_low = torch.cat(grad_low, 1)
        grad_downs = (grad_low.T @ x).float().split(ctx.ranks)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_low, down)
        return grad_x, None, None, *grad_downs, *grad_ups
