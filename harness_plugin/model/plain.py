"""Which models are a plain sequence classifier, whose logits are one linear layer on one token's hidden state.

Other reward models have heads of several objectives, code of their own, or no head at all. transformers loads many of
them as a plain classifier without a word, with a head drawn at random or with a part of the real one. So they are
refused by what their configuration says, and by the names of their tensors, before weights are loaded.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness_plugin.errors import ModelError
from harness_plugin.files.rows import parse_json

# Fields of config.json that plain classifiers do not have, and what they are a sign of.
MARKS = {
    "num_objectives": "a head with several objectives, as ArmoRM has",
    "num_quantiles": "a head of quantiles, as QRM has",
    "reward_token_id": "a reward that is read at a token of its own, as in InternLM2-reward",
    "value_head_prefix": "a value head in a layout of its own, as OpenRLHF saves it",
}
OWN_CODE = ("AutoModelForSequenceClassification", "AutoModelForTokenClassification", "AutoModel")
HEADS = re.compile(r"(^|\.)(v|value|reward|rm|regression)_?(head|layer)\.|^gating\.|^(score|classifier)\.\d+\.")
LINEAR = re.compile(r"(^|\.)(v_head\.summary|value_head)\.(weight|bias|safetensors|bin)$")  # of these, one linear layer
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
VALUE_HEADS = ("value_head.safetensors", "value_head.bin")  # where LLaMA-Factory and ms-swift put a head
INSTEAD = (
    "use a reward model with one linear head (docs/judges.md lists public ones), or let a server run this one and name "
    "the server with --judge"
)
CONVERT = "convert its head as docs/judges.md shows under 'Convert a value head', or " + INSTEAD


def refuse_marked(name: str, config: Mapping[str, Any]) -> None:
    """Raises ModelError for the configuration (the fields of config.json) of a model that is no plain sequence
    classifier."""
    for field, sign in MARKS.items():
        if config.get(field) is not None:
            do = CONVERT if field == "value_head_prefix" else INSTEAD
            raise _not_plain(name, f"{field} is {config[field]!r} in its config.json", sign, do)
    auto_map = config.get("auto_map")
    code = auto_map if isinstance(auto_map, Mapping) else {}
    own = [code[kind] for kind in OWN_CODE if kind in code]
    if own:
        raise _not_plain(name, f"auto_map names {own[0]!r} in its config.json", "code of its own, which is not run")


def refuse_other_heads(name: str, tensors: Iterable[str]) -> None:
    """Raises ModelError for weights among whose names is a head that a plain sequence classifier does not have."""
    other = sorted(tensor for tensor in tensors if HEADS.search(tensor))
    if other:
        do = CONVERT if all(map(LINEAR.search, other)) else INSTEAD
        raise _not_plain(
            name, f"its weights hold {', '.join(other[:3])}", "another head than the one of a classifier", do
        )


def tensor_names(folder: Path) -> set[str]:
    """The names of the tensors in a model's folder, read without the tensors, and that of the file of a value head
    beside them; none where there is no safetensors file, or one that cannot be read: loading says what is wrong with
    it."""
    from safetensors import SafetensorError, safe_open

    beside = {name for name in VALUE_HEADS if (folder / name).is_file()}
    try:
        if (folder / WEIGHTS).is_file():
            with safe_open(folder / WEIGHTS, framework="pt") as file:
                return beside | set(file.keys())
        index = folder / INDEX
        return beside | set(parse_json(index.read_text(encoding="utf-8"))["weight_map"]) if index.is_file() else beside
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return beside


def _not_plain(name: str, found: str, sign: str, do: str = INSTEAD) -> ModelError:
    return ModelError(
        f"{name} is no plain sequence classifier ({found})",
        f"it has {sign}; read as a plain classifier its scores would be noise",
        do,
    )
