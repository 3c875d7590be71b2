"""What a comparison is: one prompt, two responses, and who won, if that is known.

This file knows nothing of files, formats, tokens or models. A `Pair` that exists is valid: its constructor refuses
what cannot be rendered or counted, so that no later module checks it again.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from enum import Enum
from functools import cached_property
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.checked import (
    RowError,
    excerpt,
    id_value,
    is_absent,
    missing_field,
    refuse_surrogates,
    wrong_value,
)
from harness_plugin.files.rounding import rounded

Text = str | tuple[str, ...]
"""A str is one turn; a tuple is the turns of a conversation, first to last."""

_DEEPEST = 100


class Winner(str, Enum):
    """The outcome of a battle that somebody judged."""

    MODEL_A = "model_a"
    MODEL_B = "model_b"
    TIE = "tie"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def favoured(cls, strength: float) -> "Winner":
        """The side that the strength of a preference favours: above 0 it is B, below 0 A, and 0 is a tie."""
        return cls.TIE if strength == 0 else cls.MODEL_B if strength > 0 else cls.MODEL_A

    @property
    def class_index(self) -> int:
        """0 for A, 1 for B, 2 for a tie: the column of this outcome wherever probabilities stand in an array."""
        return list(Winner).index(self)

    @property
    def swapped(self) -> "Winner":
        """The same outcome with the sides exchanged."""
        return {Winner.MODEL_A: Winner.MODEL_B, Winner.MODEL_B: Winner.MODEL_A}.get(self, self)


def content_id(*parts: Text) -> str:
    """16 hex digits of the SHA-256 of the parts: equal for equal texts, on any machine and in any process."""
    packed = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(packed.encode("ascii")).hexdigest()[:16]


def checked_text(name: str, value: Any) -> Text:
    """A turn or the turns of a conversation in the one form that `Pair` holds.

    Lists become tuples, and a single turn becomes a plain str, so equal texts have equal ids.
    Raises DataError for anything that is not text, an empty list, or text with half a surrogate pair.
    """
    turns = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not turns or not all(isinstance(turn, str) for turn in turns):
        raise wrong_value(name, value, "a string, or a list of at least one string (the turns of a conversation)")
    for turn in turns:
        refuse_surrogates(name, turn)
    return turns if len(turns) > 1 else turns[0]


class MissingAnswer(RowError):
    """An answer, or a turn of one, that is absent: no field, null, NaN or an empty list. It is left out and counted,
    and is never a loss; the empty string is an answer."""


class UnknownWinner(RowError):
    """A winner in words that its format does not have; the user may say what they mean."""


def unknown_winner(name: str, value: Any, words: Iterable[str]) -> UnknownWinner:
    """The error for a field of a winner whose value is not one of the words."""
    allowed = f"allowed: {', '.join(map(repr, words))}, or null where nobody judged"
    return UnknownWinner(f"field {name} is {excerpt(value)}", allowed, "correct the row")


def missing_answer(found: str) -> MissingAnswer:
    """The error for an answer that is absent, or has a turn that is; `found` says the field and what it holds."""
    return MissingAnswer(found, "a missing answer is not an empty one", 'fill it in; "" is an empty answer')


def is_no_answer(value: Any) -> bool:
    """Whether a value says that there is no answer: it is absent, or a list of turns or messages without any."""
    return is_absent(value) or (isinstance(value, (list, tuple)) and not value)


def checked_answer(name: str, value: Any) -> Text:
    """`checked_text` of an answer. Raises MissingAnswer where it, or a turn of it, is absent."""
    if is_no_answer(value) or (isinstance(value, (list, tuple)) and any(map(is_absent, value))):
        raise missing_answer(f"field {name} is {excerpt(value)}")
    return checked_text(name, value)


def turn_count(text: Text) -> int:
    """How many turns a text has."""
    return 1 if isinstance(text, str) else len(text)


def flat_text(text: Text) -> str:
    """The turns as one text, with a line feed between them."""
    return text if isinstance(text, str) else "\n".join(text)


def text_length(text: Text) -> int:
    """Characters of a field; a conversation's is the sum of its turns."""
    return len(text) if isinstance(text, str) else sum(map(len, text))


def _checked_name(name: str, value: Any) -> str | None:
    if is_absent(value) or value == "":
        return None
    if not isinstance(value, str):
        raise wrong_value(name, value, "a string or null")
    refuse_surrogates(name, value)
    return value


def _checked_winner(value: Any) -> Winner | None:
    if is_absent(value):
        return None
    try:
        return Winner(value)
    except ValueError as error:
        raise unknown_winner("winner", value, map(str, Winner)) from error


def _checked_probability(value: Any) -> float | None:
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:  # NaN fails the comparison
        raise wrong_value("p_b", value, "a number from 0 to 1 (the probability that B is preferred), or null")
    # 15 decimals survive 1 - p and back exactly; all 17 digits of a float do not.
    return rounded(value, 15)


def plain(value: Any, depth: int = 0) -> Any:
    """A value that JSON can hold, for `meta`: dates as ISO text, numbers that are not finite as null.

    Raises DataError for nesting deeper than 100 levels, which JSON libraries differ about.
    """
    if depth > _DEEPEST:
        raise wrong_value("meta", value, f"objects and lists nested at most {_DEEPEST} deep")
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.isoformat() if isinstance(value, date) else plain(str(value))


@dataclass(frozen=True)
class Pair:
    """One prompt with two responses.

    `p_b` is the probability in [0, 1] that B is preferred, kept to 15 decimals. An empty `id` becomes the content id
    (`key`), and an empty name of a model or a category is none. `meta` holds what else the file said; it is not
    compared and does not take sides, so `swap` leaves it.
    Raises DataError for a field that its type or range does not allow, MissingAnswer (a DataError) for a response that
    is absent.
    """

    prompt: Text
    response_a: Text
    response_b: Text
    id: str = ""
    winner: Winner | None = None
    model_a: str | None = None
    model_b: str | None = None
    category: str | None = None
    p_b: float | None = None
    meta: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        put = object.__setattr__  # the dataclass is frozen for everybody else
        put(self, "prompt", checked_text("prompt", self.prompt))
        for name in ("response_a", "response_b"):
            put(self, name, checked_answer(name, getattr(self, name)))
        for name in ("model_a", "model_b", "category"):
            put(self, name, _checked_name(name, getattr(self, name)))
        put(self, "winner", _checked_winner(self.winner))
        put(self, "p_b", _checked_probability(self.p_b))
        if not isinstance(self.meta, Mapping):
            raise wrong_value("meta", self.meta, "an object")
        put(self, "meta", plain(self.meta))
        put(self, "id", id_value("id", self.id) or self.key)

    @cached_property
    def key(self) -> str:
        """Content id of the prompt and both responses, in this order of the sides."""
        return content_id(self.prompt, self.response_a, self.response_b)

    @cached_property
    def battle_key(self) -> str:
        """Content id of the prompt and both responses, whichever side is called A."""
        return min(self.key, self.swap().key)

    @cached_property
    def prompt_key(self) -> str:
        """Content id of the prompt alone: pairs that share it form one cluster."""
        return content_id(self.prompt)

    @property
    def verdict(self) -> Winner | None:
        """The winner where known, else the side that `p_b` favours (exactly one half: a tie); None without a label."""
        if self.winner is not None or self.p_b is None:
            return self.winner
        return Winner.favoured(self.p_b - 0.5)

    @property
    def target(self) -> tuple[float, float, float] | None:
        """Probabilities of A, B and tie that the label stands for: the winner where known, else `p_b` shared between
        the sides; None without a label."""
        if self.winner is not None:
            a, b, tie = (float(self.winner is winner) for winner in Winner)
            return a, b, tie
        return None if self.p_b is None else (1.0 - self.p_b, self.p_b, 0.0)

    def mark(self, name: str) -> str | None:
        """The text that the pair has under one of MARKS, by which results are reported; None without."""
        value = self.category if name == "category" else self.meta.get(name)
        return value if isinstance(value, str) and value else None

    @property
    def lengths(self) -> tuple[int, int]:
        """Characters of response A and of response B."""
        return text_length(self.response_a), text_length(self.response_b)

    @property
    def soft_label(self) -> float | None:
        """Probability that B is preferred: `p_b` where known, else the winner, a tie being one half; None without."""
        if self.p_b is not None or self.winner is None:
            return self.p_b
        return 0.5 if self.winner is Winner.TIE else float(self.winner is Winner.MODEL_B)

    def swap(self) -> "Pair":
        """The same battle with the sides exchanged: responses, models, winner and `p_b`. Its own inverse."""
        return replace(
            self,
            response_a=self.response_b,
            response_b=self.response_a,
            model_a=self.model_b,
            model_b=self.model_a,
            winner=None if self.winner is None else self.winner.swapped,
            p_b=None if self.p_b is None else 1.0 - self.p_b,
        )

    def to_dict(self) -> dict[str, Any]:
        """The canonical row: JSON types only, `id` first, fields that say nothing left out."""
        row: dict[str, Any] = {"id": self.id}
        for name in FIELDS:
            value = getattr(self, name)
            if value is not None and value != {}:
                row[name] = list(value) if isinstance(value, tuple) else value
        if self.winner is not None:
            row["winner"] = self.winner.value
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Pair":
        """The pair of a canonical row; fields with other names go to `meta`.

        Raises DataError for a missing or wrong field, or one that stands both in the row and in its `meta`.
        """
        for name in REQUIRED:
            if name not in row:
                raise missing_field(name, row)
        known = {name: row[name] for name in FIELDS if name in row and name != "meta"}
        meta = row.get("meta")
        meta = {} if meta is None else meta
        if not isinstance(meta, Mapping):
            raise wrong_value("meta", meta, "an object")
        extra = {name: value for name, value in row.items() if name not in FIELDS}
        for name in sorted(set(extra) & set(meta)):
            raise wrong_value(name, extra[name], "one value, but the row's meta has this field too")
        return cls(**known, meta={**meta, **extra})


def labelled(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs of which people said who won, or whose `p_b` says it; each then has a `winner`. Raises DataError where
    there is none."""
    asked = list(pairs)
    found = [replace(pair, winner=pair.verdict) for pair in asked if pair.verdict is not None]
    if not found:
        raise DataError(
            f"none of {len(asked)} pairs has a winner",
            "what people said is needed here",
            "give a file of pairs with winners",
        )
    return found


FIELDS = tuple(entry.name for entry in fields(Pair))
"""The canonical field names."""

MARKS = ("category", "difficulty", "decides")
"""What results are reported by: the category, how hard a pair is to judge, and what it takes to decide it."""

REQUIRED = ("prompt", "response_a", "response_b")
"""The canonical fields that a row cannot do without."""
