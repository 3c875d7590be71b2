"""Judgements as arrays, for whatever computes with many of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness_plugin.scoring.judgement import Judgement


@dataclass(frozen=True)
class JudgementArrays:
    """n judgements as arrays. `models`: sorted names; `i`, `j`: indices of model_a and model_b, -1 where unnamed;
    `score`, `bias` (NaN where unknown), `win_b`: shape (n,); `p`: (n, 3), of A, B, tie; `lengths`: (n, 2), NaN where
    unknown; `winners`: 0 A, 1 B, 2 tie, -1 unknown; `clusters`: prompt keys; `categories`: "" where unknown;
    `truncated`: true or false; `surface`: log odds of the baseline, NaN where unknown."""

    models: list[str]
    i: np.ndarray
    j: np.ndarray
    score: np.ndarray
    bias: np.ndarray
    p: np.ndarray
    win_b: np.ndarray
    lengths: np.ndarray
    winners: np.ndarray
    clusters: np.ndarray
    categories: np.ndarray
    truncated: np.ndarray
    surface: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, chosen) -> "JudgementArrays":
        """The judgements at a mask or at indices; `models` stay."""
        arrays = {name: value[chosen] for name, value in vars(self).items() if name != "models"}
        return JudgementArrays(self.models, **arrays)


def judgement_arrays(judgements: Sequence[Judgement], models: Iterable[str] = ()) -> JudgementArrays:
    """The judgements as arrays; `models`: names that may be in no judgement."""
    names = {name for j in judgements for name in (j.model_a, j.model_b) if name is not None}
    ordered = sorted(names | set(models))
    index: dict[str | None, int] = {name: k for k, name in enumerate(ordered)}

    def column(values, kind=np.float64):
        return np.array(list(values), dtype=kind)

    def known(values):
        return column(math.nan if v is None else v for v in values)

    return JudgementArrays(
        ordered,
        column((index.get(j.model_a, -1) for j in judgements), int),
        column((index.get(j.model_b, -1) for j in judgements), int),
        column(j.score for j in judgements),
        known(j.position_bias for j in judgements),
        column(j.p for j in judgements).reshape(-1, 3),
        np.clip(column(j.win_b for j in judgements), 0.0, 1.0),
        np.stack([known(j.length_a for j in judgements), known(j.length_b for j in judgements)], axis=1),
        column((-1 if j.winner is None else j.winner.class_index for j in judgements), int),
        column((j.prompt_key for j in judgements), str),
        column((j.category or "" for j in judgements), object),
        column((j.truncated for j in judgements), bool),
        known(j.surface for j in judgements),
    )
