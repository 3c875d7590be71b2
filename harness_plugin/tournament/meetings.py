"""Which answers meet, as numbers: a tournament of millions of battles holds each text once, and makes a pair when
somebody asks for it. Knows no model and no score."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import overload

import numpy as np

from harness_plugin.pairs import Pair, Text, content_id, text_length

AT_ONCE = 4096  # rows that are made into Python's numbers together


class Meetings(Sequence[Pair]):
    """n pairs of answers to the same prompts, in 12 bytes each.

    `names`: who answered (two may have one name); `answers`: for each of them prompt id -> answer; `prompts`: prompt
    id -> prompt; `categories`: prompt id -> category where one is known. `at`, (n, 3): for each pair whose answer is A,
    whose is B, and the number of the prompt. A pair is made anew each time that it is asked for. Its id is a hash of
    both names with the prompt's id, which its `meta` has as "prompt_id".
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        answers: Sequence[Mapping[str, Text]] = (),
        prompts: Mapping[str, Text] | None = None,
        categories: Mapping[str, str] | None = None,
        at: np.ndarray | None = None,
    ):
        self.names, self.answers = list(names), list(answers)
        self.prompts, self.categories = prompts or {}, categories or {}
        self.at = np.zeros((0, 3), np.int32) if at is None else np.asarray(at, np.int32).reshape(-1, 3)
        self._hashes: dict[tuple[int, int], str] = {}

    def __len__(self) -> int:
        return len(self.at)

    @overload
    def __getitem__(self, chosen: int) -> Pair: ...

    @overload
    def __getitem__(self, chosen: slice | np.ndarray) -> "Meetings": ...

    def __getitem__(self, chosen: int | slice | np.ndarray) -> "Pair | Meetings":
        """A pair, or those of a slice, a mask or an array of numbers."""
        if isinstance(chosen, (slice, np.ndarray)):
            return Meetings(self.names, self.answers, self.prompts, self.categories, self.at[chosen])
        return self._pair(*self.at[chosen].tolist())

    def __iter__(self) -> Iterator[Pair]:
        return (self._pair(*row) for row in self._rows())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def prompt_ids(self) -> list[str]:
        """The prompts' ids by their numbers."""
        return list(self.prompts)

    @cached_property
    def prompt_keys(self) -> list[str]:
        """The content id of each prompt: where a benchmark repeats a prompt, two ids have one."""
        return [content_id(prompt) for prompt in self.prompts.values()]

    def keys(self) -> np.ndarray:
        """The content ids of the pairs (`Pair.key`), as numbers, (n,)."""
        prompts, ids = list(self.prompts.values()), self.prompt_ids
        made = (content_id(prompts[p], self.answers[a][ids[p]], self.answers[b][ids[p]]) for a, b, p in self._rows())
        return np.fromiter((int(key, 16) for key in made), np.uint64, len(self))

    def ids(self) -> Iterator[str]:
        """The pairs' ids."""
        return (self._id(*row) for row in self._rows())

    def sides(self) -> list[tuple[int, int]]:
        """(number of who answered, number of the prompt) of each answer that meets another, sorted."""
        width = max(len(self.prompts), 1)
        seen = np.unique(np.concatenate([self.at[:, side].astype(np.int64) * width + self.at[:, 2] for side in (0, 1)]))
        return list(zip((seen // width).tolist(), (seen % width).tolist(), strict=True))

    def by_names(self) -> np.ndarray:
        """The numbers of the pairs sorted by both names, then by the prompt's id."""
        a, b, prompt = self.at.T
        name, id = ranks(self.names), ranks(self.prompt_ids)
        return np.lexsort((id[prompt], name[b], name[a]))

    def by_prompt(self) -> np.ndarray:
        """The numbers of the pairs sorted by the prompt's content id, then by both names."""
        a, b, prompt = self.at.T
        name, key = ranks(self.names), ranks(self.prompt_keys)
        return np.lexsort((name[b], name[a], key[prompt]))

    def lengths(self) -> np.ndarray:
        """Characters of both answers, (n, 2)."""
        table = np.zeros((len(self.names), len(self.prompts)))
        for k, given in enumerate(self.answers):
            table[k] = [text_length(given.get(id, "")) for id in self.prompt_ids]
        return np.stack([table[self.at[:, side], self.at[:, 2]] for side in (0, 1)], axis=1)

    def joined(self, other: "Meetings") -> "Meetings":
        """The pairs of both, which are of the same answers."""
        return Meetings(self.names, self.answers, self.prompts, self.categories, np.concatenate([self.at, other.at]))

    def _rows(self) -> Iterator[list[int]]:
        for start in range(0, len(self.at), AT_ONCE):
            yield from self.at[start : start + AT_ONCE].tolist()

    def _id(self, a: int, b: int, prompt: int) -> str:
        if (a, b) not in self._hashes:
            self._hashes[a, b] = content_id(self.names[a], self.names[b])[:8]
        return f"{self._hashes[a, b]}-{self.prompt_ids[prompt]}"

    def _pair(self, a: int, b: int, prompt: int) -> Pair:
        id = self.prompt_ids[prompt]
        return Pair(
            self.prompts[id],
            self.answers[a][id],
            self.answers[b][id],
            model_a=self.names[a],
            model_b=self.names[b],
            category=self.categories.get(id),
            id=self._id(a, b, prompt),
            meta={"prompt_id": id},
        )


def ranks(names: Sequence[str]) -> np.ndarray:
    """The place of each name among the different ones in their order, from 0."""
    places = {name: k for k, name in enumerate(sorted(set(names)))}
    return np.array([places[name] for name in names], dtype=np.int64)
