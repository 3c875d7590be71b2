"""Which chatbots are of the judge's own family, by their names. Judges tend to prefer answers that are like their own
(Panickssery et al. 2024, arXiv:2404.13076)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

NAMES = ("base", "adapter", "served_model")  # parts of an identity that name a model
# Each family with the words that its models' names begin with, also behind other words, as in "google/gemma-2-9b".
_WORDS = {
    "Claude": "claude",
    "Command": "command-?[ar]|c4ai|aya",
    "DeepSeek": "deepseek",
    "Gemini": "gemini",
    "Gemma": r"(?:code|med|recurrent|pali)?gemma",
    "GLM": "(?:chat)?glm",
    "GPT": r"(?:chat)?gpt-?(?:3|4(?!all)|5|oss)|chatgpt|davinci",
    "Granite": "granite",
    "Grok": "grok",
    "Llama": "(?:code|meta)?-?llama|vicuna|alpaca",
    "Mistral": "mistral|mixtral|ministral|magistral|codestral|zephyr",
    "OLMo": "olmo|tulu",
    "Phi": "phi-?[1-9]",
    "Qwen": "(?:code)?qwen|qwq",
    "Yi": "yi-[0-9]",
}
_FAMILIES = {family: re.compile(rf"(?<![a-z])(?:{words})", re.IGNORECASE) for family, words in _WORDS.items()}


def families_of(name: str) -> set[str]:
    """The families that a model's name mentions: none, one, or several, as in "deepseek-r1-distill-llama"."""
    return {family for family, pattern in _FAMILIES.items() if pattern.search(name)}


def own_family(judge: Mapping[str, Any], models: Iterable[str]) -> list[dict]:
    """For each family that the judge's identity names, the models that are of it too: `family`, `judge` (the name) and
    `models`. A family without models is left out."""
    models = list(models)
    found: list[dict] = []
    # Of a path only the last two parts name a model.
    for name in dict.fromkeys("/".join(name.split("/")[-2:]) for name in _names(judge)):
        for family in sorted(families_of(name)):
            same = [model for model in models if family in families_of(model)]
            if same and all(family != row["family"] for row in found):
                found.append({"family": family, "judge": name, "models": same})
    return found


def _names(value: Any) -> Iterable[str]:
    """The names of models in an identity, also in those of the members of a panel."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key in NAMES and isinstance(part, str):
                yield part
            else:
                yield from _names(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _names(part)
