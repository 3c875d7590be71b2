"""How answers are written: the counts that Chatbot Arena's style control uses beside their length."""

import re
from collections.abc import Mapping

import numpy as np

from harness_plugin.pairs import Text
from harness_plugin.scoring.judgement_arrays import JudgementArrays
from harness_plugin.scoring.surface import BOLD, HEADING, LIST_ITEM
from harness_plugin.stats import count_feature, length_feature
from harness_plugin.tournament.battles import Battles

MARKS = {"headings": HEADING, "lists": LIST_ITEM, "bold": BOLD}
FEATURES = ("length", *MARKS)
# Code is no style: a comment that begins with # is no heading. A fence that nobody closes reaches to the end.
_FENCE = re.compile(r"^ {0,3}(```|~~~).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)

Counts = tuple[int, ...]
"""Of one answer, in the order of MARKS."""


def style_counts(text: Text) -> Counts:
    """Headings, list items and pieces of bold type in a Markdown text, outside fenced code; a conversation's are those
    of its turns."""
    turns = [text] if isinstance(text, str) else text
    plain = "\n\n".join(_FENCE.sub("", turn) for turn in turns)
    return tuple(len(mark.findall(plain)) for mark in MARKS.values())


Styles = Mapping[tuple[str, str], Counts]
"""Of the answers of a tournament, by model and prompt id."""


def styles(battles: Battles) -> Styles:
    """The counts of each answer that met another one."""
    return {(model, key): style_counts(text) for key, given in battles.met.items() for model, text in given.items()}


def side_counts(c: JudgementArrays, style: Styles) -> np.ndarray:
    """The counts of both answers of each of n battles, (n, 2, 3)."""
    table = np.zeros((len(c.models), len(c.prompt_ids), len(MARKS)), dtype=np.int32)
    models, prompts = ({name: k for k, name in enumerate(names)} for names in (c.models, c.prompt_ids))
    for (model, prompt), counts in style.items():
        if model in models and prompt in prompts:
            table[models[model], prompts[prompt]] = counts
    return np.stack([table[c.i, c.prompts], table[c.j, c.prompts]], axis=1)


def style_features(lengths, counts) -> np.ndarray:
    """The features of B less A in the order of FEATURES, shape (n, 4). lengths: characters, (n, 2); counts: as
    `side_counts` gives them."""
    columns = [count_feature(counts[:, 0, k], counts[:, 1, k]) for k in range(len(MARKS))]
    return np.column_stack([length_feature(lengths[:, 1] - lengths[:, 0]), *columns])


def mean_counts(c: JudgementArrays, counts) -> dict[str, dict[str, float | None]]:
    """Columns for the leaderboard, such as mean_headings: model -> the mean count of its answers, each prompt once;
    None without answers. counts: as `side_counts` gives them."""
    columns: dict[str, dict[str, float | None]] = {f"mean_{name}": {} for name in MARKS}
    for m, model in enumerate(c.models):
        own = own_answers(c, m, counts)
        for k, column in enumerate(columns.values()):
            column[model] = round(float(np.mean(own[:, k])), 2) if len(own) else None
    return columns


def own_answers(c: JudgementArrays, m: int, values) -> np.ndarray:
    """Of values of both answers of each battle, (n, 2, ...), those of one model's answers, each prompt once."""
    sides = [np.flatnonzero(side == m) for side in (c.i, c.j)]
    own = np.concatenate([values[rows, side] for side, rows in enumerate(sides)])
    clusters = np.concatenate([c.clusters[rows] for rows in sides])
    last = np.unique(clusters[::-1], return_index=True)[1]  # of a prompt that a benchmark repeats
    return own[len(own) - 1 - last]
