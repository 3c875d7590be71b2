"""The baseline that a judge has to beat: which response people prefer, guessed from how the two look.

Length, lists, headings, bold type, code, links, words of the prompt, words of refusal: a logistic model of the
differences between the two responses, fitted by `train.fit_surface` on pairs for training. Exchanging the sides changes
the sign of its logit, so it has no position bias. Its numbers are in surface.json.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness_plugin.pairs import Pair, Text

FILE = Path(__file__).with_name("surface.json")
READ = 20_000
"""Characters of a text that are looked at: megabytes would take seconds, and the beginning tells enough."""

_WORD = re.compile(r"\w+")
LIST_ITEM = re.compile(r"^[ \t]*(?:[-*+\u2022]|\d{1,3}[.)])[ \t]", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6} ", re.MULTILINE)
BOLD = re.compile(r"\*\*[^*\n]+\*\*")
_LINK = re.compile(r"https?://|\]\(")
_REFUSAL = re.compile(
    r"\b(?:(?:i['\u2019]?m|i am) (?:sorry|unable|not able|not sure)|i (?:cannot|can['\u2019]t|can not)\b|as an ai\b|"
    r"i (?:do not|don['\u2019]t) (?:know|have)\b|sorry, )",
    re.IGNORECASE,
)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _overlap(prompt: str, response: str) -> float:
    words = set(_words(response))
    return len(words & set(_words(prompt))) / max(1, len(words))


def _count(pattern: re.Pattern[str]) -> Callable[[str, str], float]:
    return lambda prompt, response: math.log1p(len(pattern.findall(response)))


FEATURES: dict[str, Callable[[str, str], float]] = {
    "length": lambda prompt, response: math.log1p(len(response)),
    "different_words": lambda prompt, response: math.log1p(len(set(_words(response)))),
    "paragraphs": lambda prompt, response: math.log1p(response.count("\n\n")),
    "list_items": _count(LIST_ITEM),
    "headings": _count(HEADING),
    "bold": _count(BOLD),
    "code_blocks": lambda prompt, response: math.log1p(response.count("```")),
    "links": _count(_LINK),
    "digits": lambda prompt, response: sum(c.isdigit() for c in response) / max(1, len(response)),
    "refusal": lambda prompt, response: float(_REFUSAL.search(response) is not None),
    "words_of_the_prompt": _overlap,
    "ends_in_a_question": lambda prompt, response: float(response.rstrip()[-1:] in ("?", "\uff1f")),
}
"""Name -> a number of (prompt, response). The model knows the difference between response B and response A."""


@dataclass(frozen=True)
class SurfaceModel:
    """`weights`: name of a feature -> log odds for a difference of 1; `tie_nu`: Davidson's tie mass."""

    weights: dict[str, float]
    tie_nu: float


@cache
def surface_model() -> SurfaceModel:
    """The fitted model that comes with the package."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return SurfaceModel(content["weights"], content["tie_nu"])


def feature_differences(pair: Pair) -> list[float]:
    """Each of FEATURES of response B, less that of response A."""
    prompt, a, b = (_read(text) for text in (pair.prompt, pair.response_a, pair.response_b))
    return [feature(prompt, b) - feature(prompt, a) for feature in FEATURES.values()]


def surface_logit(pair: Pair) -> float:
    """The model's log odds that people prefer response B, ties aside."""
    weights = surface_model().weights
    return sum(weights[name] * d for name, d in zip(FEATURES, feature_differences(pair), strict=True))


def _read(text: Text) -> str:
    return (text if isinstance(text, str) else "\n\n".join(text))[:READ]
