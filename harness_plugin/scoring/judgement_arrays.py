"""Judgements as arrays, for whatever computes with many of them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from harness_plugin.scoring.judgement import Judgement


@dataclass(frozen=True)
class JudgementArrays:
    """n judgements as arrays. `models`: sorted names; `i`, `j`: indices of model_a and model_b, -1 where unnamed;
    `score`, `bias` (NaN where unknown), `win_b`: shape (n,); `p`: (n, 3), of A, B, tie; `lengths`: (n, 2), NaN where
    unknown; `winners`: 0 A, 1 B, 2 tie, -1 unknown; `clusters`: the prompts' content ids as numbers from 0 in their
    order; `prompt_ids`: the prompts' sorted names, and `prompts`: indices of these; `categories`: "" where unknown;
    `truncated`, `identical`: true or false; `surface`: log odds of the baseline, NaN where unknown."""

    models: list[str]
    prompt_ids: list[str]
    i: np.ndarray
    j: np.ndarray
    score: np.ndarray
    bias: np.ndarray
    p: np.ndarray
    win_b: np.ndarray
    lengths: np.ndarray
    winners: np.ndarray
    clusters: np.ndarray
    prompts: np.ndarray
    categories: np.ndarray
    truncated: np.ndarray
    identical: np.ndarray
    surface: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, chosen) -> "JudgementArrays":
        """The judgements at a mask or at indices; `models` and `prompt_ids` stay."""
        return replace(self, **{k: v[chosen] for k, v in vars(self).items() if isinstance(v, np.ndarray)})

    def among(self, models: Iterable[str]) -> "JudgementArrays":
        """The same judgements where there are more models, which may be in no judgement."""
        ordered = sorted({*self.models, *models})
        index = {name: k for k, name in enumerate(ordered)}
        places = np.array([*(index[name] for name in self.models), -1], dtype=int)  # -1 stays: the last place
        return replace(self, models=ordered, i=places[self.i], j=places[self.j])


class StoredJudgements(Sequence[Judgement]):
    """n judgements that are in a file: `arrays` has their numbers, `keys`, (n,), those of their texts (`Judgement.key`)
    as numbers, and `read(k)` gives the k-th one as a whole, from the file."""

    def __init__(self, arrays: JudgementArrays, keys: np.ndarray, read: Callable[[int], Judgement]):
        self.arrays, self.keys, self.read = arrays, keys, read

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, chosen: int) -> Judgement: ...

    @overload
    def __getitem__(self, chosen: slice) -> list[Judgement]: ...

    def __getitem__(self, chosen: int | slice) -> Judgement | list[Judgement]:
        numbers = range(len(self))[chosen]
        return self.read(numbers) if isinstance(numbers, int) else [self.read(k) for k in numbers]


def keys_of(judgements: Sequence[Judgement]) -> Iterator[str]:
    """`Judgement.key` of each; of those in a file without reading it."""
    if isinstance(judgements, StoredJudgements):
        return (f"{key:016x}" for key in judgements.keys)
    return (judgement.key for judgement in judgements)


def judgement_arrays(judgements: Sequence[Judgement], models: Iterable[str] = ()) -> JudgementArrays:
    """The judgements as arrays; `models`: names that may be in no judgement."""
    if isinstance(judgements, StoredJudgements):
        return judgements.arrays.among(models)
    names = {name for j in judgements for name in (j.model_a, j.model_b) if name is not None}
    ordered = sorted(names | set(models))
    index: dict[str | None, int] = {name: k for k, name in enumerate(ordered)}

    def column(values, kind=np.float64):
        return np.array(list(values), dtype=kind)

    def known(values):
        return column(math.nan if v is None else v for v in values)

    prompt_ids, prompts = _numbered([j.prompt_id for j in judgements])
    return JudgementArrays(
        ordered,
        prompt_ids,
        column((index.get(j.model_a, -1) for j in judgements), int),
        column((index.get(j.model_b, -1) for j in judgements), int),
        column(j.score for j in judgements),
        known(j.position_bias for j in judgements),
        column(j.p for j in judgements).reshape(-1, 3),
        column(j.win_b for j in judgements),
        np.stack([known(j.length_a for j in judgements), known(j.length_b for j in judgements)], axis=1),
        column((-1 if j.winner is None else j.winner.class_index for j in judgements), int),
        _numbered([j.prompt_key for j in judgements])[1],
        prompts,
        column((j.category or "" for j in judgements), object),
        column((j.truncated for j in judgements), bool),
        column((j.identical for j in judgements), bool),
        known(j.surface for j in judgements),
    )


def _numbered(names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """(the sorted different names, the number of each name among them)"""
    ordered = sorted(set(names))
    index = {name: k for k, name in enumerate(ordered)}
    return ordered, np.array([index[name] for name in names], dtype=int)
