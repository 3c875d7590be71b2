"""Weights become a sequence classifier: a whole model with its own head, or a base with an adapter."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness_plugin.errors import ModelError
from harness_plugin.model.adapter import CONFIG, PREFIX, Adapter, is_embedding
from harness_plugin.model.base import load_base, local_folder
from harness_plugin.model.embedded import base_folder
from harness_plugin.model.lora_settings import plain_settings
from harness_plugin.model.merge import merge
from harness_plugin.model.plain import refuse_other_heads, tensor_names
from harness_plugin.model.plain_lora import fold
from harness_plugin.model.quiet import quiet_transformers
from harness_plugin.model.spec import ModelSpec


def labels_of_whole(name: str, config: Any, is_judge: bool) -> int:
    """How many logits the head of a whole model has, by its configuration. Raises ModelError for a head that is no
    judge's, and for a model that was saved as something else than a sequence classifier, unless `is_judge`: then it has
    one logit, and the weights say whether they have a head."""
    if not any("SequenceClassification" in a for a in config.architectures or ()):
        if not is_judge:
            raise _headless(name, f"it was saved as {', '.join(config.architectures or ['a model without a name'])}")
        return 1
    if config.num_labels not in (1, 3):
        raise ModelError(
            f"{name}: a head of {config.num_labels} logits",
            "a judge has one logit, or three (A, B, tie); which of several objectives is the total is not known",
            "use such a model",
        )
    return config.num_labels


def whole_model(base: str, revision: str | None, spec: ModelSpec, num_labels: int, dtype: torch.dtype):
    """A model saved with its trained head of `num_labels` logits, no adapter."""
    network, missing = load_base(base, num_labels, dtype, revision, spec.allow_pickle)
    refuse_other_heads(str(spec.pretrained), tensor_names(local_folder(base, revision)))
    if missing:
        raise _headless(str(spec.pretrained), f"{', '.join(sorted(missing))} missing")
    return network, None


def _headless(name: str, detail: str) -> ModelError:
    return ModelError(
        f"{name} has no trained head ({detail})",
        "a head drawn at random would make the scores noise",
        "add the adapter with peft=..., or name a model that was trained with its head; a model that writes its "
        "verdict as text can be asked through a server (--judge openai:URL#MODEL)",
    )


def bare_with_adapter(base: str, config: Any, spec: ModelSpec, adapter: Adapter, dtype: torch.dtype):
    """The embedded base with a plain LoRA folded in, of which only the engine's parts are loaded: (model, head). None
    for another base or adapter."""
    if Path(base) != base_folder() or not spec.merge or plain_settings(adapter.config) is None:
        return None
    from harness_plugin.model.bare_gemma3 import BareGemma3

    model = BareGemma3(Path(base), config, adapter.num_labels, dtype)
    return (model, adapter.head()) if fold(model, adapter, dtype) else None


def with_adapter(base: str, revision: str | None, spec: ModelSpec, adapter: Adapter, dtype: torch.dtype):
    """A base with an adapter: folded into it where the spec says so, else as PEFT's layers. Returns (model, head)."""
    model, fresh = load_base(base, adapter.num_labels, dtype, revision, spec.allow_pickle)
    _bring_embedding(model, base, adapter)
    fresh &= {name for name, _ in model.named_parameters()}
    lost = sorted(name for name in fresh if f"{PREFIX}{name}" not in adapter.tensors)
    if lost:
        raise ModelError(
            f"neither {base!r} nor the adapter has {', '.join(lost[:3])}",
            "drawn at random they would make the scores noise",
            "use the base that the adapter was trained on, or train one that saves them (modules_to_save)",
        )
    if spec.merge and fold(model, adapter, dtype):
        return model, adapter.head()
    from peft import PeftModel, get_peft_model_state_dict

    try:
        with quiet_transformers():
            # to be merged they stay float32; apart they are cast, as the card's snippet casts them
            wrapped = PeftModel.from_pretrained(model, str(adapter.folder), autocast_adapter_dtype=spec.merge)
    except MemoryError:
        raise
    except Exception as e:  # whatever PEFT raises about fields and shapes that do not fit
        lines = [x.strip() for x in str(e).splitlines() if "size mismatch" in x] or str(e).splitlines()[:1] or [repr(e)]
        raise ModelError(
            f"the adapter does not fit {base!r} ({lines[0][:160]})",
            f"it was trained on another base, or its {CONFIG} was changed",
            f"use its own base, {adapter.base_name!r}, and the file that was saved with it",
        ) from e
    # without save_embedding_layers=False, peft asks the hub for the base's config
    differ = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False)) ^ set(adapter.tensors)
    differ = {name for name in differ if not is_embedding(name)}  # `_bring_embedding` has loaded it
    if differ:
        raise ModelError(
            f"{len(differ)} tensors differ between the adapter and the base, such as {min(differ)} "
            f"({CONFIG}: target_modules {adapter.config.get('target_modules')})",
            "layers without their trained weights would make the scores noise",
            f"use its own base, {adapter.base_name!r}, and the {CONFIG} that was saved with it",
        )
    if spec.merge:
        merge(wrapped, dtype)
    return wrapped.get_base_model(), adapter.head()


@torch.no_grad()
def _bring_embedding(model: Any, base: str, adapter: Adapter) -> None:
    """Puts the embedding that the adapter stores, if it stores one, in the place of the base's, which may have fewer
    rows. PEFT loads it only into an embedding that has the right size already."""
    stored = adapter.embedding
    if stored is None:
        return
    weight = model.get_input_embeddings().weight
    if stored.shape[1] != weight.shape[1]:
        raise ModelError(
            f"the adapter's embedding has {stored.shape[1]} columns and that of {base!r} {weight.shape[1]}",
            "it was trained on another base",
            f"use its own base, {adapter.base_name!r}",
        )
    model.resize_token_embeddings(stored.shape[0], mean_resizing=False)
    model.get_input_embeddings().weight.copy_(stored)


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
    config = inner.config.get_text_config()
    causal = getattr(config, "is_causal", True) and not getattr(config, "use_bidirectional_attention", False)
    return isinstance(score, nn.Linear) and score.bias is None and hasattr(inner, inner.base_model_prefix) and causal
