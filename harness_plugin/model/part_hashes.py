"""What identifies a judge's weights, settings and tokenizer: hashes of its files and configurations, not of names.

Everything here works on files and on configurations; no network is loaded for it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness_plugin.errors import ModelError
from harness_plugin.files.rows import parse_json
from harness_plugin.model.file_hashes import file_sha256, files_sha256, short_hash
from harness_plugin.model.naming import ADAPTER_CONFIG

# Fields of configurations that say where a model lies, which library wrote it, or how it was used: never a score.
# "dtype" is that of the stored weights, which have a hash; the arithmetic's is a part of its own.
NAMES = {"_name_or_path", "_model_name_or_path", "base_model_name_or_path", "name_or_path", "revision", "auto_mapping"}
STAMPS = {"transformers_version", "peft_version", "inference_mode", "dtype", "torch_dtype"}
KINDS = {"model_type", "peft_type"}  # always kept: they say which defaults hold
MISSING = object()

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
# Not about ids: names of places, and the template for chats, which a judge does not use.
NOT_IDS = {"name_or_path", "tokenizer_file", "vocab_file", "chat_template", "transformers_version"}


def weights_hash(folder: Path) -> str:
    """The hash of all weights of a model's folder (`files_sha256`). Raises ModelError where there are none, and for a
    folder with an adapter in it, since transformers would load that and the base that the adapter names."""
    if (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"{folder} is named as the base and holds an adapter",
            "which weights are the base's is not clear",
            "name the adapter's folder with peft=... and its base with pretrained=...",
        )
    try:
        return files_sha256(_weight_files(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ModelError(
            f"the weights in {folder} cannot be read ({e})",
            "a judge is identified by its weights",
            "get the folder again, or name another model",
        ) from e


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers loads: the first kind of WEIGHTS that is there, the parts of an index included."""
    for name in WEIGHTS:
        file = folder / name
        if not file.is_file():
            continue
        if not name.endswith(".index.json"):
            return [file]
        index = parse_json(file.read_text(encoding="utf-8"))
        return [folder / part for part in sorted(set(index["weight_map"].values()))]
    raise FileNotFoundError(f"none of {', '.join(WEIGHTS)}")


def settings(config: Any) -> dict[str, Any]:
    """A transformers or PEFT configuration as it is after loading: each field that differs from its class's default,
    without names, places and stamps. Unlike weights, settings such as lora_alpha or a sliding window stand nowhere
    else. Without the defaults, because a new version of a library adds fields that change nothing."""
    values = config.to_dict()
    try:
        defaults = type(config)().to_dict()
    except (TypeError, ValueError):  # a class that cannot be made without arguments has no defaults
        defaults = {}
    chosen = {}
    for name, value in values.items():
        inner = getattr(config, name, None)
        if hasattr(inner, "to_dict") and isinstance(value, Mapping):
            chosen[name] = settings(inner)
        elif name in KINDS or (name not in NAMES | STAMPS and value != defaults.get(name, MISSING)):
            chosen[name] = value
    return json.loads(json.dumps(chosen, sort_keys=True, default=_plain))


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)


def tokenizer_hash(folder: Path) -> str:
    """A hash of all files of a tokenizer: vocabulary, merges, normalizer, post-processor, special and added tokens."""
    parts: dict[str, Any] = {n: file_sha256(folder / n) for n in TOKENIZER_FILES if (folder / n).is_file()}
    config = folder / TOKENIZER_CONFIG
    if config.is_file():
        fields = parse_json(config.read_text(encoding="utf-8"))
        parts[TOKENIZER_CONFIG] = {name: value for name, value in fields.items() if name not in NOT_IDS}
    return short_hash(parts)
