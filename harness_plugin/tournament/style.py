"""How answers are written: the counts that Chatbot Arena's style control uses beside their length."""

import re
from collections.abc import Sequence

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


def styles(battles: Battles) -> dict[str, tuple[Counts, Counts]]:
    """For each battle, by its id, the counts of both answers."""
    counts: dict[Text, Counts] = {}

    def of(text: Text) -> Counts:
        if text not in counts:
            counts[text] = style_counts(text)
        return counts[text]

    return {p.id: (of(p.response_a), of(p.response_b)) for p in (*battles.pairs, *battles.identical)}


def style_features(lengths, counts: Sequence[tuple[Counts, Counts]]) -> np.ndarray:
    """The features of B less A in the order of FEATURES, shape (n, 4). lengths: characters, (n, 2)."""
    sides = np.asarray(counts, dtype=np.float64).reshape(len(lengths), 2, len(MARKS))
    columns = [count_feature(sides[:, 0, k], sides[:, 1, k]) for k in range(len(MARKS))]
    return np.column_stack([length_feature(lengths[:, 1] - lengths[:, 0]), *columns])


def mean_counts(c: JudgementArrays, counts: Sequence[tuple[Counts, Counts]]) -> dict[str, dict[str, float | None]]:
    """Columns for the leaderboard, such as mean_headings: model -> the mean count of its answers, each prompt once;
    None without answers. counts: of the n battles."""
    columns: dict[str, dict[str, float | None]] = {f"mean_{name}": {} for name in MARKS}
    for m, model in enumerate(c.models):
        own: dict[str, Counts] = {}
        for side, played in enumerate((c.i == m, c.j == m)):
            own |= {c.clusters[row]: counts[row][side] for row in np.flatnonzero(played).tolist()}
        for k, column in enumerate(columns.values()):
            column[model] = round(float(np.mean([count[k] for count in own.values()])), 2) if own else None
    return columns
