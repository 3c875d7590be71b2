"""The network that is trained: the base with a new head and LoRA, and how it is saved as an adapter folder.

This module knows no pairs.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness_plugin.engine.shape import language_model
from harness_plugin.errors import TrainError, UsageError
from harness_plugin.model.adapter import PREFIX, Adapter
from harness_plugin.model.base import load_base
from harness_plugin.model.quiet import quiet_transformers
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.init import start_from


def dtype_of(name: str) -> torch.dtype:
    """torch.bfloat16 for "bfloat16"; the recipe has checked the name."""
    return getattr(torch, name)


def build(config: TrainConfig, base: str, init: Adapter | None = None):
    """The base with a head and LoRA: new ones, or those of the adapter `init`. What an adapter holds is in float32, the
    rest in the recipe's precision. The LoRA of the recipe's `frozen_layers` is not trained.

    Raises UsageError for a base whose trained parts an adapter could not hold, and for an `init` that does not fit.
    (A head in float16 stops the GradScaler; in bfloat16, small updates would be rounded away.)
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(config.seed)
    frozen = dtype_of(config.precision)
    settings = _quantization(config, frozen)
    model, fresh = load_base(base, config.num_labels, frozen, config.revision, quantization=settings)
    _keep_packing(model)
    if config.head_std is not None:
        nn.init.normal_(_head(model).weight, std=config.head_std)
    own = asdict(config.lora)  # which copies the lists, to which PEFT adds
    lora = LoraConfig(task_type="SEQ_CLS", exclude_modules=_beside_the_texts(model), **own)
    with quiet_transformers():
        network = get_peft_model(model, lora)
    _refuse_untrained(network, fresh)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if init is not None:
        start_from(network, init, str(config.init))
    _freeze(network, config.frozen_layers)
    network.config.get_text_config().use_cache = False
    if config.gradient_checkpointing:
        network.enable_input_require_grads()
    return network


def _head(model: nn.Module) -> nn.Linear:
    """The head of a sequence classifier. Raises UsageError if it is not one linear layer."""
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
    if not isinstance(head, nn.Linear):
        raise UsageError(
            f"head_std with {type(model).__name__}, whose head is not one linear layer",
            "the spread of such a head's weights is not one number",
            "set head_std to null",
        )
    return head


def _freeze(network, count: int) -> None:
    """Stops the LoRA of the lowest `count` layers from being trained. Raises UsageError if no layer would be left."""
    if not count:
        return
    layers = _layers(network)
    if count >= len(layers):
        raise UsageError(
            f"frozen_layers: {count}",
            f"arena-rm sees {len(layers)} layers in this base, and at least one must be trained",
            "set a smaller number",
        )
    for layer in layers[:count]:
        for name, parameter in layer.named_parameters():
            if _is_lora(name):
                parameter.requires_grad_(False)


def _is_lora(name: str) -> bool:
    return ".lora_" in name


def _layers(network) -> list[nn.Module]:
    """The layers of the base, from the lowest to the highest; empty if it has no list of layers."""
    inner = network.get_base_model()
    backbone: Any = language_model(getattr(inner, inner.base_model_prefix, inner))
    stacks = (module for module in backbone.modules() if isinstance(module, nn.ModuleList))
    return list(getattr(backbone, "layers", None) or next(stacks, ()))


def _beside_the_texts(model) -> str | None:
    """A regular expression of the modules that read no text, such as those for pictures of Gemma 3 from 4B on; None
    where there are none. LoRA on them would be saved and never trained."""
    backbone = getattr(model, model.base_model_prefix, None)
    texts = language_model(backbone)
    if texts is backbone:
        return None
    name = next(name for name, module in model.named_modules() if module is texts)
    return rf"(?!{re.escape(name)}\.).*"


def _refuse_untrained(network, fresh: set[str]) -> None:
    """Raises UsageError for weights that the base lacks and that are not trained, since an adapter would not hold
    them."""
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    lost = sorted(fresh & {name.removeprefix(PREFIX).replace(".base_layer.", ".") for name in frozen})
    if lost:
        raise UsageError(
            f"the base has no {', '.join(lost[:3])}",
            "these weights would be random and not trained, so the scores would mean nothing",
            "add the name of their module to lora.modules_to_save in the recipe",
        )


def _keep_packing(model: nn.Module) -> None:
    """Stops bitsandbytes from repacking 4-bit weights at the first evaluation on a CPU with AVX512-BF16.

    The repacked form has no backward pass, and undoing it changes the weights.
    """
    modules: Iterable[Any] = model.modules()  # torch knows no attribute that is neither tensor nor module
    for module in modules:
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _quantization(config: TrainConfig, dtype: torch.dtype):
    """The settings of transformers for a base in NF4 (QLoRA: Dettmers et al. 2023, arXiv:2305.14314), or None."""
    if config.quantization is None:
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=sorted({"score", "classifier", *config.lora.modules_to_save}),
    )


def refuse_broken(network) -> None:
    """Raises TrainError for trained weights that are not finite."""
    broken = [n for n, p in network.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if broken:
        raise TrainError(
            f"{broken[0]} is not finite after training",
            "every score would be NaN",
            "lower the learning rate with --set learning_rate=...",
        )


def save(network, base_name: str, config: TrainConfig, folder: Path, state: dict | None = None) -> None:
    """Writes the adapter files of PEFT. `state`: the gathered tensors, if the network is spread over devices."""
    for peft_config in network.peft_config.values():
        peft_config.base_model_name_or_path = base_name
        peft_config.revision = config.revision
        # each once: PEFT adds the head's name a second time
        peft_config.modules_to_save = list(dict.fromkeys(peft_config.modules_to_save))
        if not isinstance(peft_config.target_modules, str):  # a set, whose order would differ from process to process
            peft_config.target_modules = sorted(peft_config.target_modules)
    dtype = dtype_of(config.save_precision)
    tensors = network.state_dict() if state is None else state
    saved = {n for n, p in network.named_parameters() if p.requires_grad or _is_lora(n)}  # with the frozen LoRA
    tensors = {n: t.to(dtype) if n in saved else t for n, t in tensors.items()}
    network.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False, state_dict=tensors)


def compile_layers(network) -> None:
    """Compiles each layer with torch.compile, for inputs of any length.

    On a CPU, attention is computed with plain tensor operations, which train faster when compiled than PyTorch's fused
    kernel, whose backward pass is slow. Raises UsageError for a network without a list of layers.
    """
    inner, layers = network.get_base_model(), _layers(network)
    if not layers:
        raise UsageError(
            f"compile: true on {type(inner).__name__}",
            "layers are compiled one by one, and this network has no list of layers",
            "leave compile out of the recipe",
        )
    if next(network.parameters()).device.type == "cpu":
        inner.set_attn_implementation("eager")
    for layer in layers:
        layer.compile(dynamic=True)
