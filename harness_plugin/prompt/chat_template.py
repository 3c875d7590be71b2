"""A model's chat template, as the fixed text around the messages of a conversation.

It is rendered with marks in the place of the messages' texts, so that no text of a user's is read as a part of the
template. It says what stands between the texts, and how much of the white space around them the template keeps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from harness_plugin.errors import DataError

Strip = Callable[[str], str]
SPACE = "\n \n"  # around a mark; what is left of it says what the template strips
# What may be left of SPACE before and after a text, with what the template does to texts there.
BEFORE: dict[str, Strip] = {SPACE: str, " \n": lambda text: text.lstrip("\n"), "": str.lstrip}
AFTER: dict[str, Strip] = {SPACE: str, "\n ": lambda text: text.rstrip("\n"), "": str.rstrip}
# Some templates write the day on which they are rendered, which would change scores every day. This is the day that
# Llama's templates take where they know no other.
TODAY = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"


@dataclass(frozen=True)
class Around:
    """What a template puts around n messages. `fixed`: the n + 1 texts before, between and after them; `strips`: n
    functions that take off the white space that it takes off."""

    fixed: tuple[str, ...]
    strips: tuple[Strip, ...]


class ChatTemplate:
    """The Jinja template `source`, rendered with the special tokens of `tokenizer` by transformers."""

    def __init__(self, tokenizer, source: str):
        self.tokenizer = tokenizer
        self.source = TODAY + source if "strftime_now" in source else source
        self._around: dict[tuple[str, ...], Around] = {}

    def around(self, roles: tuple[str, ...]) -> Around:
        """What stands around messages of these roles. Raises DataError where the template refuses such a conversation,
        or does not write each message once and in order."""
        if roles not in self._around:
            marks = [f"\ue000{i}\ue001" for i in range(len(roles))]
            fixed = _between(self._rendered(roles, marks), marks, roles)
            spaced = _between(self._rendered(roles, [SPACE + mark + SPACE for mark in marks]), marks, roles)
            self._around[roles] = Around(tuple(fixed), _strips(fixed, spaced))
        return self._around[roles]

    def _rendered(self, roles: Sequence[str], texts: Sequence[str]) -> str:
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        settings = {"chat_template": self.source, "tokenize": False, "add_generation_prompt": False}
        try:
            return self.tokenizer.apply_chat_template(messages, **settings)
        except MemoryError:
            raise
        except Exception as e:  # whatever a template raises, of Jinja's errors and of its own
            reason = " ".join(str(e).split())[:160]
            raise DataError(
                f"a conversation of {', '.join(roles)}",
                f"the model's chat template cannot render it ({type(e).__name__}: {reason})",
                "leave such pairs out, or put another chat_template.jinja beside the model",
            ) from e


def _between(text: str, marks: Sequence[str], roles: Sequence[str]) -> list[str]:
    """The texts before, between and after the marks."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise DataError(
                f"a conversation of {', '.join(roles)}",
                "the model's chat template does not write each message once and in order",
                "leave such pairs out, or put another chat_template.jinja beside the model",
            )
        pieces.append(before)
    return [*pieces, text]


def _strips(fixed: list[str], spaced: list[str]) -> tuple[Strip, ...]:
    """What the template does to the white space around each text: `fixed` as in `Around`, `spaced` the same texts where
    SPACE stood before and after every mark."""
    last = len(fixed) - 1
    sides = []
    for i, piece in enumerate(fixed):
        possible = product(AFTER if i else [""], BEFORE if i < last else [""])
        same = ((after, before) for after, before in possible if after + piece + before == spaced[i])
        sides.append(next(same, (SPACE, SPACE)))
    return tuple(_both(BEFORE[sides[i][1]], AFTER[sides[i + 1][0]]) for i in range(last))


def _both(left: Strip, right: Strip) -> Strip:
    return lambda text: right(left(text))
