"""A `ModelSpec` becomes a `RewardModel`: first a plan, which needs no weights of the base, then the network.

Every refusal says what is wrong, why it matters and what to do.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness_plugin.engine.shape import has_packs
from harness_plugin.errors import ModelError
from harness_plugin.model.adapter import Adapter, check_base, read_adapter
from harness_plugin.model.base import base_config, base_of, has_tokenizer, local_folder
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.device import choose_device, choose_dtype
from harness_plugin.model.embedded import embedded_adapter
from harness_plugin.model.file_hashes import file_sha256, short_hash
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.model.lora_settings import adapter_settings
from harness_plugin.model.manifest import Manifest, read_manifest
from harness_plugin.model.naming import EMBEDDED
from harness_plugin.model.network import bare_with_adapter, parts_of, whole_model, with_adapter
from harness_plugin.model.part_hashes import settings, tokenizer_hash, weights_hash
from harness_plugin.model.reading import Named, reading
from harness_plugin.model.spec import PAIR, POINTWISE, ModelSpec
from harness_plugin.prompt import PROMPT_VERSION, AnswerRenderer, Renderer

log = logging.getLogger("lm_eval.arena_rm")

IN_IDENTITY = {PAIR: "pair classifier", POINTWISE: "pointwise"}  # what the kinds are called there


@dataclass(frozen=True)
class RewardModel:
    """A judge ready to score. `kind`: PAIR, or POINTWISE, whose logit is of one response. `network` is the whole
    sequence classifier in eval mode; `backbone` and `head` are its parts where it is a decoder with a linear score
    (head: fp32, shape (num_labels, hidden)), else None. `classes`: the positions of A, B and tie among its logits, [0]
    for one logit; the engine gives logits in that order."""

    kind: str
    network: nn.Module
    backbone: nn.Module | None
    head: torch.Tensor | None
    renderer: Renderer | AnswerRenderer
    calibration: Calibration
    classes: list[int]
    device: torch.device
    dtype: torch.dtype
    reduced: str | None  # the format of the matrix products where it is another than dtype: "int8", "int16"
    deterministic: bool
    manifest: Manifest
    identity: dict  # as `Plan.identity`

    @property
    def num_labels(self) -> int:
        """How many logits its head gives."""
        return len(self.classes)


@dataclass(frozen=True)
class Plan(Named):
    """A judge before the base's weights are loaded. `config` is the base's configuration (`base_config`); `kind` and
    `classes`, `dtype` and `reduced` as in `RewardModel`; `reason` says why these two were chosen."""

    spec: ModelSpec
    kind: str
    renderer: Renderer | AnswerRenderer
    calibration: Calibration
    classes: list[int]
    device: torch.device
    dtype: torch.dtype
    reduced: str | None
    reason: str

    @property
    def arithmetic(self) -> str:
        return self.reduced or str(self.dtype).removeprefix("torch.")

    @property
    def num_labels(self) -> int:
        return len(self.classes)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides a score, but for the order and the calibration (`scoring.identity` adds them and says what
        counts). All files are hashed whole, or were since they last changed. Raises ModelError where weights cannot be
        read, or for a base from the hub that is not on this machine yet."""
        folder, adapter = local_folder(self.base, self.revision), self.adapter
        own = adapter.folder if adapter and has_tokenizer(adapter) else folder
        return {
            "kind": IN_IDENTITY[self.kind],
            "num_labels": self.num_labels,
            "base": self.name,
            "revision": self.revision,
            "base_sha256": weights_hash(folder),
            "base_config": short_hash(settings(self.config)),
            "tokenizer": tokenizer_hash(own),
            "adapter": str(self.spec.peft or EMBEDDED) if adapter else None,
            "adapter_sha256": file_sha256(adapter.weights) if adapter else None,
            "adapter_config": short_hash(adapter_settings(adapter.folder)) if adapter else None,
            "prompt_version": PROMPT_VERSION,
            "template": short_hash(self.renderer.template),
            "max_length": self.renderer.max_length,
            "truncation": self.renderer.truncation,
            "dtype": self.arithmetic,
            "merge": self.spec.merge,
            "deterministic": self.spec.deterministic,
        }


def _named(spec: ModelSpec) -> Named:
    adapter = _adapter_of(spec)
    manifest = adapter.manifest if adapter else _manifest_beside(spec.pretrained)
    name, base = base_of(adapter, spec.pretrained)
    pinned = manifest.base_revision if spec.pretrained in (None, manifest.base) else None
    revision = spec.revision or pinned
    return Named(adapter, manifest, base, name, revision, base_config(base, revision, whole=adapter is None))


def plan_model(spec: ModelSpec) -> Plan:
    """Everything about a judge that can be known without loading the base's weights: kind, adapter, manifest,
    tokenizer, settings, device and dtype, each checked. Raises ModelError or UsageError, each in one line."""
    spec = spec.resolved()
    device = choose_device(spec.device)  # before the embedded base is converted, or another one downloaded
    named = _named(spec)
    if named.adapter:
        check_base(named.adapter, named.name, fingerprint(named.base))
    calibration = calibration_of(spec, named.manifest)
    kind, classes, renderer = reading(spec, named)
    check_vocabulary(renderer, named.config, named.adapter, named.name)
    packs = has_packs(named.config) and (spec.merge or named.adapter is None)
    arithmetic = choose_dtype(spec.dtype, device, getattr(named.config, "model_type", ""), packs)
    return Plan(
        **vars(named),
        spec=spec,
        kind=kind,
        renderer=renderer,
        calibration=calibration,
        classes=classes,
        device=device,
        **arithmetic._asdict(),
    )


def check_vocabulary(renderer: Renderer | AnswerRenderer, config: Any, adapter: Adapter | None, name: str) -> None:
    """Raises ModelError for a tokenizer whose ids have no row in the embedding: on a CPU they would end the run in the
    middle, on a GPU they would stop the device."""
    rows = config.get_text_config().vocab_size
    if adapter is not None and adapter.embedding is not None and adapter.embedding.shape[0] != rows:
        log.info(
            "arena_rm: the adapter brings its own embeddings; those of %s are resized from %d to %d rows",
            name,
            rows,
            adapter.embedding.shape[0],
        )
        rows = adapter.embedding.shape[0]
    beyond = renderer.tokens_beyond(rows)
    if beyond:
        owner = str(adapter.folder) if adapter is not None and has_tokenizer(adapter) else name
        raise ModelError(
            f"the tokenizer of {owner} has {renderer.vocabulary_size} tokens and the embedding of {name} {rows} rows "
            f"(no row for {', '.join(map(repr, beyond[:3]))})",
            "a text with such a token cannot be scored",
            "use the tokenizer that belongs to these weights, or an adapter that was saved with its resized embedding",
        )


def load_model(spec: ModelSpec, whole: bool = True) -> RewardModel:
    """Base, adapter, tokenizer and settings of `spec`. Raises ModelError or UsageError, each in one line; what can be
    known without the weights (`plan_model`) is checked before they are loaded. Unless it is to be `whole`, its network
    may have only the parts that the engine reads, and no forward pass of its own: that loads faster."""
    plan = plan_model(spec)
    spec = plan.spec
    log.info("arena_rm: %s on %s in %s (%s)", plan.name, plan.device, plan.arithmetic, plan.reason)
    if plan.adapter:
        bare = None
        if not whole and plan.device.type == "cpu":  # where the engine packs whatever the dtype
            bare = bare_with_adapter(plan.base, plan.config, spec, plan.adapter, plan.dtype)
        network, head = bare or with_adapter(plan.base, plan.revision, spec, plan.adapter, plan.dtype)
    else:
        network, head = whole_model(plan.base, plan.revision, spec, plan.num_labels, plan.dtype)
    try:
        network.to(plan.device).eval()
    except torch.OutOfMemoryError as e:
        raise ModelError(
            f"{plan.name} does not fit on {plan.device}", "it is out of memory", "use another device or dtype"
        ) from e
    backbone, head = parts_of(network, head, plan.device)
    return RewardModel(
        kind=plan.kind,
        network=network,
        backbone=backbone,
        head=head,
        renderer=plan.renderer,
        calibration=plan.calibration,
        classes=plan.classes,
        device=plan.device,
        dtype=plan.dtype,
        reduced=plan.reduced,
        deterministic=spec.deterministic,
        manifest=plan.manifest,
        identity=plan.identity,
    )


def load_renderer(spec: ModelSpec) -> Renderer | AnswerRenderer:
    """The judge's renderer alone: tokenizer and settings, no weights of the base."""
    spec = spec.resolved()
    return reading(spec, _named(spec))[2]


def _adapter_of(spec: ModelSpec) -> Adapter | None:
    if spec.peft == EMBEDDED or (spec.peft is None and spec.pretrained in (None, EMBEDDED)):
        return read_adapter(str(embedded_adapter()))
    return read_adapter(spec.peft, allow_pickle=spec.allow_pickle) if spec.peft else None


def _manifest_beside(pretrained: str | None) -> Manifest:
    return read_manifest(Path(pretrained)) if pretrained and Path(pretrained).is_dir() else Manifest(found=False)


def calibration_of(spec: ModelSpec, manifest: Manifest) -> Calibration:
    """The calibration of the manifest, else none, with the numbers that the user gives in their place. Raises
    ModelError for length control where the manifest does not say what length is worth."""
    given = {k: v for k, v in (("temperature", spec.temperature), ("tie_nu", spec.tie_nu)) if v is not None}
    calibration = replace(manifest.calibrated() or Calibration(), **given)
    if not spec.length_control:
        return calibration
    worth = manifest.length_worth()
    if worth is None:
        raise ModelError(
            "length_control=true, and the judge's arena_rm.json has no length_worth",
            "what length is worth to this judge was not measured",
            "calibrate it with `arena-rm calibrate`",
        )
    return replace(calibration, length_worth=worth, surface_worth=0.0)
