"""What a judge reads: its kind, what its logits stand for, and the renderer that makes its token ids."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness_plugin.errors import ModelError, UsageError
from harness_plugin.model.adapter import Adapter
from harness_plugin.model.base import CHAT_TEMPLATE, has_tokenizer, load_tokenizer
from harness_plugin.model.kind import class_order, judge_kind
from harness_plugin.model.manifest import Manifest
from harness_plugin.model.naming import EMBEDDED
from harness_plugin.model.network import labels_of_whole
from harness_plugin.model.plain import refuse_other_heads, tensor_names
from harness_plugin.model.spec import PAIR, ModelSpec
from harness_plugin.prompt import AnswerRenderer, Renderer

log = logging.getLogger("lm_eval.arena_rm")

LONGEST = 4096  # tokens that a pointwise model reads where nobody says how many it was trained on


@dataclass(frozen=True)
class Named:
    """What a spec names. `base` is what transformers loads, `name` what is shown of it."""

    adapter: Adapter | None
    manifest: Manifest
    base: str
    name: str
    revision: str | None
    config: Any


def reading(spec: ModelSpec, named: Named) -> tuple[str, list[int], Renderer | AnswerRenderer]:
    """(kind, classes, renderer) of a head of one or three logits. Raises ModelError for any other, and for weights of
    which nobody says what they read."""
    adapter, manifest, config = named.adapter, named.manifest, named.config
    if adapter is not None:
        judge, num_labels = str(spec.peft or EMBEDDED), adapter.num_labels
    else:
        refuse_other_heads(named.name, tensor_names(Path(named.base)))
        judge = named.name
        num_labels = labels_of_whole(judge, config, spec.kind is not None or manifest.found)
    return reading_of(spec, named, judge, num_labels)


def reading_of(
    spec: ModelSpec, named: Named, judge: str, num_labels: int
) -> tuple[str, list[int], Renderer | AnswerRenderer]:
    """As `reading`, of the judge called `judge` whose head has so many logits; looks at no weights."""
    adapter, manifest = named.adapter, named.manifest
    kind = judge_kind(judge, spec.kind, num_labels, manifest, adapter)
    tokenizer = load_tokenizer(named.base, adapter, named.revision, bare=kind == PAIR)
    if kind == PAIR:
        chosen = _rendering(spec, manifest)
        renderer: Renderer | AnswerRenderer = Renderer(
            tokenizer, **chosen, padding=padding_of(named.config, tokenizer, adapter)
        )
    else:
        renderer = _answer_renderer(spec, named, judge, tokenizer)
    return kind, class_order(judge, num_labels, named.config, manifest, adapter), renderer


def _answer_renderer(spec: ModelSpec, named: Named, judge: str, tokenizer) -> AnswerRenderer:
    """The renderer of a pointwise model: what the user asked for, else what the manifest says, else the chat template
    of the tokenizer and as many tokens as the model takes, up to LONGEST."""
    if spec.truncation not in (None, "budget"):
        raise UsageError(
            f"truncation={spec.truncation} with a pointwise reward model",
            "its head reads the last token, so the end of a text cannot be cut off",
            "leave truncation out",
        )
    stated = named.manifest if named.manifest.found else None
    template = (stated and stated.template) or chat_template(tokenizer, judge, named.adapter)
    most = [LONGEST, tokenizer.model_max_length]
    most.append(getattr(named.config.get_text_config(), "max_position_embeddings", None) or LONGEST)
    length = spec.max_length or (stated and stated.max_length) or min(most)
    log.info("arena_rm: %s scores one response at a time, in its chat template, up to %d tokens", judge, length)
    return AnswerRenderer(tokenizer, int(length), template, padding_of(named.config, tokenizer, named.adapter))


def padding_of(config: Any, tokenizer: Any, adapter: Adapter | None) -> int | None:
    """The padding token with which the weights were trained: that of the adapter's own tokenizer, else the one that the
    configuration of the base or the whole model names. Trainers such as TRL write the tokenizer's into the base's
    configuration, which is not saved with an adapter. Where it is also the last token of a chat template (the end of a
    turn, in Llama 3), the logit is read before that."""
    own = getattr(tokenizer, "pad_token_id", None) if has_tokenizer(adapter) else None
    return getattr(config.get_text_config(), "pad_token_id", None) if own is None else own


def chat_template(tokenizer, judge: str, adapter: Adapter | None = None) -> str:
    """The chat template of a tokenizer, or the one in the adapter's folder. Raises ModelError where there is none, and
    for a file that is no text."""
    if adapter is not None and (adapter.folder / CHAT_TEMPLATE).is_file():
        file = adapter.folder / CHAT_TEMPLATE
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise ModelError(
                f"{file} cannot be read ({e})",
                "a pointwise reward model reads a conversation in this template",
                "restore the file, or save it as UTF-8",
            ) from e
    try:
        return tokenizer.get_chat_template()
    except ValueError as e:  # none, or several of which none is the default one
        raise ModelError(
            f"the tokenizer of {judge} has no chat template",
            "a pointwise reward model reads a conversation in the template that it was trained with",
            f"put that template into a file {CHAT_TEMPLATE} in the folder of the model, or of the adapter",
        ) from e


def _rendering(spec: ModelSpec, manifest: Manifest) -> dict[str, Any]:
    """The arguments of the renderer: what the user asked for, else what the manifest says."""
    chosen = {
        "max_length": manifest.max_length if spec.max_length is None else spec.max_length,
        "truncation": spec.truncation or manifest.truncation,
    }
    if not manifest.found:
        log.info("arena_rm: no arena_rm.json beside the weights, so the card's settings: %s", chosen)
    return chosen
