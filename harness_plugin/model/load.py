"""Loads a `ModelSpec` into a `RewardModel`; every refusal says what was found and what to do."""

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from harness_plugin.errors import ModelError
from harness_plugin.model.adapter import Adapter, check_base, read_adapter
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.device import choose_device, choose_dtype
from harness_plugin.model.embedded import ADAPTER, BASE_NAME, embedded_base
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.model.manifest import Manifest, read_manifest
from harness_plugin.model.spec import EMBEDDED, REDUCED, ModelSpec
from harness_plugin.prompt import Renderer

log = logging.getLogger("lm_eval.arena_rm")

MERGE_TOLERANCE = 1e-3  # of the largest output, fp32: rounding moves them by some 1e-6, a wrong merge by far more


@dataclass(frozen=True)
class RewardModel:
    """A judge ready to score. `network` is the whole sequence classifier in eval mode; `backbone` and `head` are its
    parts where it is a decoder with a linear score (head: fp32, shape (num_labels, hidden)), else None."""

    network: nn.Module
    backbone: nn.Module | None
    head: torch.Tensor | None
    renderer: Renderer
    calibration: Calibration
    num_labels: int
    device: torch.device
    dtype: torch.dtype
    reduced: str | None  # the format of the engine's matrix products where it is smaller than dtype: "int8"
    deterministic: bool
    manifest: Manifest
    identity: dict  # what decides a score: names, fingerprints, dtype, rendering; for headers and caches


@contextmanager
def quiet_transformers():
    """Without transformers' progress bars and its report of a fresh head, which an adapter replaces."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks for `is_gradient_checkpointing`, which transformers 5.23 deprecates: nothing a user can do
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # refused by us, with the reason
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def load_model(spec: ModelSpec) -> RewardModel:
    """Base, adapter, tokenizer and settings of `spec`. Raises ModelError or UsageError, each in one line; what can be
    known without the weights is checked before they are loaded."""
    adapter, manifest, base, name, revision = _found(spec)
    base_print = fingerprint(base)
    if adapter:
        check_base(adapter, name, base_print)
    calibration = _calibration(spec, manifest)
    rendering = _rendering(spec, manifest)
    renderer = Renderer(load_tokenizer(base, adapter, revision), **rendering)
    device = choose_device(spec.device)
    config = base_config(base, revision)
    dtype, reason = choose_dtype(spec.dtype, device, getattr(config, "model_type", ""))
    reduced = spec.dtype if spec.dtype in REDUCED else None
    log.info("arena_rm: %s on %s in %s (%s)", name, device, reduced or _name(dtype), reason)
    if adapter:
        network, head = _with_adapter(base, revision, spec, adapter, dtype)
    else:
        network, head = _whole_model(base, revision, spec, dtype)
    try:
        network.to(device).eval()
    except torch.OutOfMemoryError as e:
        raise ModelError(
            f"{name} does not fit on {device}", "it is out of memory", "use another device or dtype"
        ) from e
    backbone, head = _parts(network, head, device)
    return RewardModel(
        network=network,
        backbone=backbone,
        head=head,
        renderer=renderer,
        calibration=calibration,
        num_labels=network.config.num_labels,
        device=device,
        dtype=dtype,
        reduced=reduced,
        deterministic=spec.deterministic,
        manifest=manifest,
        identity={
            "base": name,
            "revision": revision,
            "base_fingerprint": base_print,
            "adapter": str(spec.peft or EMBEDDED) if adapter else None,
            "adapter_sha256": adapter.sha256 if adapter else None,
            "dtype": reduced or _name(dtype),
            "merge": spec.merge,
            "prompt_version": manifest.prompt_version,
            **rendering,
        },
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _found(spec: ModelSpec) -> tuple[Adapter | None, Manifest, str, str, str | None]:
    """(adapter, manifest, what transformers loads as the base, its name to show, its revision)."""
    adapter = _adapter_of(spec)
    manifest = adapter.manifest if adapter else read_manifest_beside(spec.pretrained)
    base, name = _base_of(spec, adapter)
    pinned = manifest.base_revision if spec.pretrained in (None, manifest.base) else None
    return adapter, manifest, base, name, spec.revision or pinned


def load_renderer(spec: ModelSpec) -> Renderer:
    """The judge's renderer alone: tokenizer and settings, no weights."""
    adapter, manifest, base, _, revision = _found(spec)
    return Renderer(load_tokenizer(base, adapter, revision), **_rendering(spec, manifest))


def _rendering(spec: ModelSpec, manifest: Manifest) -> dict:
    chosen = {
        "max_length": manifest.max_length if spec.max_length is None else spec.max_length,
        "truncation": spec.truncation or manifest.truncation,
    }
    if not manifest.found:
        log.info("arena_rm: no arena_rm.json beside the weights, so the card's settings: %s", chosen)
    return chosen


def _adapter_of(spec: ModelSpec) -> Adapter | None:
    if spec.peft == EMBEDDED or (spec.peft is None and spec.pretrained in (None, EMBEDDED)):
        return read_adapter(str(ADAPTER))
    return read_adapter(spec.peft, allow_pickle=spec.allow_pickle) if spec.peft else None


def _base_of(spec: ModelSpec, adapter: Adapter | None) -> tuple[str, str]:
    """(what transformers loads, the name to show)."""
    name = spec.pretrained or (adapter.base_name if adapter else None)
    if not name:
        raise ModelError(f"{spec.peft} names no base model", "an adapter needs its base", "add pretrained=...")
    if name in (EMBEDDED, BASE_NAME):
        return str(embedded_base()), BASE_NAME
    return name, name


def base_config(base: str, revision: str | None):
    from transformers import AutoConfig

    return _from_hub(base, lambda: AutoConfig.from_pretrained(base, revision=revision))


def load_tokenizer(base: str, adapter: Adapter | None = None, revision: str | None = None):
    """The adapter folder's own tokenizer where it has one, else the base's."""
    from transformers import AutoTokenizer

    own = adapter is not None and (adapter.folder / "tokenizer_config.json").is_file()
    place = str(adapter.folder) if own else base
    with quiet_transformers():
        return _from_hub(place, lambda: AutoTokenizer.from_pretrained(place, revision=None if own else revision))


def load_base(
    base: str,
    num_labels: int,
    dtype: torch.dtype,
    revision: str | None = None,
    allow_pickle: bool = False,
    quantization=None,
):
    """The base as a sequence classifier with a fresh head of `num_labels` logits; returns (model, missing keys).
    `quantization`: a transformers quantization config, or None."""
    from transformers import AutoModelForSequenceClassification

    def load():
        return AutoModelForSequenceClassification.from_pretrained(
            base,
            num_labels=num_labels,
            dtype=dtype,
            revision=revision,
            output_loading_info=True,
            use_safetensors=None if allow_pickle else True,
            weights_only=True,
            **({} if quantization is None else {"quantization_config": quantization}),
        )

    with quiet_transformers():
        model, info = _from_hub(base, load)
    if model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = 0
    return model, set(info["missing_keys"])


def _from_hub(name: str, load):
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as e:
        first = str(e).strip().split("\n")[0][:200]
        raise ModelError(
            f"cannot load {name!r} ({first})",
            "no such folder here, and it could not be had from the hub or is not a safetensors model",
            "check the name, the network or a gated model's licence, or give a local folder",
        ) from e


def _whole_model(base: str, revision: str | None, spec: ModelSpec, dtype: torch.dtype):
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


def _with_adapter(base: str, revision: str | None, spec: ModelSpec, adapter: Adapter, dtype: torch.dtype):
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
        _merge(wrapped, dtype)
    return wrapped.get_base_model(), adapter.head()


@torch.no_grad()
def _merge(wrapped, dtype: torch.dtype) -> None:
    """The adapter folded into the base's weights, layer by layer in fp32, each compared with itself before; then cast.
    Afterwards the network is a plain one, without PEFT's layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in wrapped.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        layer.float()
        probe = _probe(layer.get_base_layer())
        before = layer(probe)
        layer.merge()
        moved = float((layer(probe) - before).abs().max() / before.abs().max().clamp_min(1e-9))
        if not moved <= MERGE_TOLERANCE:
            raise ModelError(
                f"merging moved {name} by {moved:.2g} of its output",
                "the merged model is another judge",
                "use merge=false",
            )
        layer.to(dtype)
    wrapped.unload()


def _probe(layer: nn.Module) -> torch.Tensor:
    """A few fixed inputs for a layer."""
    draw = torch.Generator().manual_seed(0)
    if isinstance(layer, nn.Embedding):
        return torch.randint(layer.num_embeddings, (1, 16), generator=draw)
    if isinstance(layer, nn.Linear):
        return torch.randn(4, layer.in_features, generator=draw)
    raise ModelError(f"the adapter changes a {type(layer).__name__}", "merging it was never tried", "use merge=false")


def _parts(network: nn.Module, head: torch.Tensor | None, device: torch.device):
    """Backbone and fp32 head of a decoder with a linear `score`; (None, None) for other classifiers."""
    if not is_decoder_classifier(network):
        return None, None
    weight = network.score.weight.detach() if head is None else head
    return getattr(network, network.base_model_prefix), weight.to(device=device, dtype=torch.float32)


def is_decoder_classifier(network: nn.Module) -> bool:
    """Whether the logits are a bias-free linear `score` of the last token's hidden state, as transformers' generic
    decoder classifiers (Gemma, Llama, Qwen, ...) compute them. Sees through PEFT's wrappers."""
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    score = getattr(inner, "score", None)
    score = getattr(score, "original_module", score)
    causal = not getattr(inner.config.get_text_config(), "use_bidirectional_attention", False)
    return isinstance(score, nn.Linear) and score.bias is None and hasattr(inner, inner.base_model_prefix) and causal


def _calibration(spec: ModelSpec, manifest: Manifest) -> Calibration:
    given = {k: v for k, v in (("temperature", spec.temperature), ("tie_nu", spec.tie_nu)) if v is not None}
    return replace(manifest.calibrated() or Calibration(), **given)


def read_manifest_beside(pretrained: str | None) -> Manifest:
    return read_manifest(Path(pretrained)) if pretrained and Path(pretrained).is_dir() else Manifest(found=False)
