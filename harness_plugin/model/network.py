"""Weights become a sequence classifier: a whole model with its own head, or a base with an adapter."""

from typing import Any

import torch
from torch import nn

from harness_plugin.errors import ModelError
from harness_plugin.model.adapter import Adapter
from harness_plugin.model.base import base_config, load_base
from harness_plugin.model.merge import merge
from harness_plugin.model.quiet import quiet_transformers
from harness_plugin.model.spec import ModelSpec


def whole_model(base: str, revision: str | None, spec: ModelSpec, dtype: torch.dtype):
    """A model saved with its trained head, no adapter."""
    config = base_config(base, revision)
    saved_with_head = any("SequenceClassification" in a for a in config.architectures or ())
    if saved_with_head and config.num_labels not in (1, 3):
        raise ModelError(
            f"{spec.pretrained}: a head of {config.num_labels} logits",
            "a judge has one logit (positive: B) or three (A, B, tie)",
            "use such a model",
        )
    network, missing = load_base(base, config.num_labels if saved_with_head else 1, dtype, revision, spec.allow_pickle)
    if missing:
        raise ModelError(
            f"{spec.pretrained} has no trained head ({', '.join(sorted(missing))} missing)",
            "a head drawn at random would make the scores noise",
            "add the adapter with peft=..., or name a model that was trained with its head",
        )
    return network, None


def with_adapter(base: str, revision: str | None, spec: ModelSpec, adapter: Adapter, dtype: torch.dtype):
    from peft import PeftModel, get_peft_model_state_dict

    model, fresh = load_base(base, adapter.num_labels, dtype, revision, spec.allow_pickle)
    fresh &= {name for name, _ in model.named_parameters()}
    lost = sorted(name for name in fresh if f"base_model.model.{name}" not in adapter.tensors)
    if lost:
        raise ModelError(
            f"neither {base!r} nor the adapter has {', '.join(lost[:3])}",
            "drawn at random they would make the scores noise",
            "use the base that the adapter was trained on, or train one that saves them (modules_to_save)",
        )
    try:
        with quiet_transformers():
            # to be merged they stay float32; apart they are cast, as the card's snippet casts them
            wrapped = PeftModel.from_pretrained(model, str(adapter.folder), autocast_adapter_dtype=spec.merge)
    except (RuntimeError, ValueError, KeyError) as e:
        lines = [x.strip() for x in str(e).splitlines() if "size mismatch" in x] or [str(e).splitlines()[0]]
        raise ModelError(
            f"the adapter does not fit {base!r} ({lines[0][:160]})",
            "it was trained on another base",
            f"use its own base, {adapter.base_name!r}",
        ) from e
    # without save_embedding_layers=False, peft asks the hub for the base's config
    differ = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False)) ^ set(adapter.tensors)
    if differ:
        raise ModelError(
            f"{len(differ)} tensors differ between the adapter and the base, such as {min(differ)}",
            "layers without their trained weights would make the scores noise",
            f"use its own base, {adapter.base_name!r}",
        )
    if spec.merge:
        merge(wrapped, dtype)
    return wrapped.get_base_model(), adapter.head()


def parts_of(network: Any, head: torch.Tensor | None, device: torch.device):
    """Backbone and fp32 head of a decoder with a linear `score`; (None, None) for other classifiers."""
    if not is_decoder_classifier(network):
        return None, None
    weight = network.score.weight.detach() if head is None else head
    return getattr(network, network.base_model_prefix), weight.to(device=device, dtype=torch.float32)


def is_decoder_classifier(network: Any) -> bool:
    """Whether the logits are a bias-free linear `score` of the last token's hidden state, as transformers' generic
    decoder classifiers (Gemma, Llama, Qwen, ...) compute them. Sees through PEFT's wrappers."""
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    score = getattr(inner, "score", None)
    score = getattr(score, "original_module", score)
    causal = not getattr(inner.config.get_text_config(), "use_bidirectional_attention", False)
    return isinstance(score, nn.Linear) and score.bias is None and hasattr(inner, inner.base_model_prefix) and causal
