"""Names of chatbots and prompts that a person takes for the same, and that are not: what keeps answers apart unseen.

They differ in white space (a line end of Windows, a space at the end), in the way in which Unicode writes a character,
or, of names, in case. Knows texts and no file.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from harness_plugin.files.printable import counted, listed
from harness_plugin.pairs import Text, flat_text
from harness_plugin.pairs.likeness import seen_text

log = logging.getLogger("lm_eval.arena_rm")


def say_lookalikes(prompts: Mapping[str, Text], by_model: Mapping[str, Mapping[str, Text]]) -> None:
    """Warns of models whose names look alike, and of prompts (key -> prompt) that look alike and of which different
    models (name -> key -> answer) answered one each."""
    for names in names_alike(by_model):
        log.warning(
            "%s are different chatbots here: their names differ only in case, white space or how Unicode writes them",
            listed([repr(name) for name in names]),
        )
    apart = _apart(prompts, by_model)
    if apart:
        log.warning(
            "the chatbots' files write %s in several ways, which differ in white space or in how Unicode writes a "
            "character, so that the answers do not meet; write them in one way (first: %s)",
            counted(len(apart), "prompt"),
            _difference(*map(flat_text, apart[0][:2])),
        )


def names_alike(names: Iterable[str]) -> list[list[str]]:
    """Those of the names that look alike, in upper or lower case too, group by group."""
    return _alike(names, lambda name: seen_text(name).casefold())


def _difference(one: str, other: str) -> str:
    """Where two texts differ, with escapes, since they look alike."""
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"after {one[max(0, at - 40) : at]!r} comes {one[at : at + 10]!a} or {other[at : at + 10]!a}"


def _alike(texts: Iterable[Any], bare: Callable[[Any], Any]) -> list[list[Any]]:
    """Those of the texts that are the same once they are `bare`, group by group."""
    groups: dict[Any, list] = {}
    for text in texts:
        groups.setdefault(bare(text), []).append(text)
    return [same for same in groups.values() if len(same) > 1]


def _apart(prompts: Mapping[str, Text], by_model: Mapping[str, Mapping[str, Text]]) -> list[list[Text]]:
    """Prompts that look alike, of which no model answered two."""
    answered = Counter(key for given in by_model.values() for key in given)
    some = [key for key in prompts if 0 < answered[key] < len(by_model)]
    keys = {prompts[key]: key for key in reversed(some)}
    groups = _alike(keys, lambda text: seen_text(text) if isinstance(text, str) else tuple(map(seen_text, text)))
    return [same for same in groups if not _answered_twice([keys[text] for text in same], by_model.values())]


def _answered_twice(keys: Collection[str], answers: Iterable[Mapping[str, Text]]) -> bool:
    return any(sum(key in given for key in keys) > 1 for given in answers)
