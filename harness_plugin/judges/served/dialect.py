"""What is asked of a server and how its answers are read, whichever server it is."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair

Values = tuple[float, ...]
"""What one answer says: a logit, or log weights of A, B and a tie as they were shown."""

MOST_TOKENS = 1 << 40  # of one answer: a larger number is none
CHARACTERS = 3  # of a token, at least
UNKNOWN = -1.0  # in the store, the tokens of an answer of which the server does not say them


@dataclass(frozen=True)
class Answer:
    """`values`: what it says; `tokens`: how many were read and written for it, None where the server does not say."""

    values: Values
    tokens: int | None

    @property
    def stored(self) -> tuple[float, ...]:
        """The answer as the store of scores keeps it: its values, then its tokens."""
        return (*self.values, UNKNOWN if self.tokens is None else float(self.tokens))

    @classmethod
    def of_stored(cls, numbers: Sequence[float]) -> "Answer":
        """The answer that `stored` gave."""
        *values, tokens = numbers
        return cls(tuple(values), None if tokens == UNKNOWN else int(tokens))


@dataclass(frozen=True)
class Question:
    """One request. `path` follows the server's URL; `body` is sent as JSON and has everything that decides the answer;
    `tokens`: how many are expected to be used; `characters`: of the text that the server is to turn into tokens, 0
    where it is given tokens."""

    path: str
    body: Mapping[str, Any]
    tokens: int
    characters: int = 0

    @cached_property
    def digest(self) -> bytes:
        """Identifies the question by its content, for the store of answers."""
        return hashlib.sha256(json.dumps([self.path, self.body], sort_keys=True).encode()).digest()


@dataclass(frozen=True)
class Asked:
    """A pair and the questions that decide it: one for each order, or of a pointwise reward model one for each
    response. `reading`: the fields `tokens`, `truncated` and `kept` of a `Judgement`; without `tokens`, they are those
    that the server says."""

    pair: Pair
    questions: tuple[Question, ...]
    reading: Mapping[str, Any] = field(default_factory=dict)


class Dialect(Protocol):
    """One server with one model on it.

    `identity`: what decides an answer, without order and calibration; `answers`: the part of it that decides what the
    answer to a given question is, beside the question itself; `num_labels`: how many values an answer has, 1 or 3;
    `limit`: what longer texts are cut to, in words; `pointwise`: whether a question is about one response;
    `classifier`: whether the values are a classifier's logits, not log probabilities.
    """

    @property
    def identity(self) -> dict[str, Any]: ...

    @property
    def answers(self) -> dict[str, Any]: ...

    @property
    def num_labels(self) -> int: ...

    @property
    def calibration(self) -> Calibration: ...

    @property
    def limit(self) -> str: ...

    @property
    def pointwise(self) -> bool: ...

    @property
    def classifier(self) -> bool: ...

    def asked(self, pair: Pair, both: bool) -> Asked:
        """The questions about a pair: A first, and with `both` B first; of a pointwise model A and B."""
        ...

    def read(self, answer: dict[str, Any]) -> Values:
        """What an answer says. Raises Unusable for one without a verdict, and Malformed for one that the protocol does
        not allow."""
        ...


def expected_tokens(characters: int) -> int:
    """How many tokens a text of so many characters may have, for the budget of a run: a few more than English text
    has."""
    return characters // CHARACTERS + 1


def used_tokens(answer: Mapping[str, Any]) -> int | None:
    """The tokens that a response says were used; None where it does not say."""
    usage = answer.get("usage")
    if not isinstance(usage, Mapping):
        return None
    total = _count(usage.get("total_tokens"))
    if total is not None:
        return total
    parts = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    known = [count for count in (_count(usage.get(part)) for part in parts) if count is not None]
    return sum(known) if known else None


def prompt_tokens(answer: Mapping[str, Any]) -> int | None:
    """The tokens that a response says were read for it; None where it does not say."""
    usage = answer.get("usage")
    if not isinstance(usage, Mapping):
        return None
    return next((n for part in ("prompt_tokens", "input_tokens") if (n := _count(usage.get(part))) is not None), None)


def _count(value: Any) -> int | None:
    """The value, if it is a number of tokens."""
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None
