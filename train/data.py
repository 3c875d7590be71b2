"""Pairs for training: which are selected, how files are mixed, and the presentations of each pair with their labels.

The renderer is the one that scoring uses. This module knows no model.
"""

import logging
from array import array
from collections.abc import Collection

import numpy as np

from harness_plugin.errors import TrainError, UsageError
from harness_plugin.model.spec import POINTWISE
from harness_plugin.pairs import Pair, text_length
from harness_plugin.prompt import Kept
from harness_plugin.stats import length_feature
from harness_plugin.stats.measures import logistic
from harness_plugin.stats.search import newton, solved_step
from harness_plugin.train.config import Selection, TrainConfig
from harness_plugin.train.render import AnyRenderer, kept_of, views_of
from harness_plugin.train.split import draw, label_of, target_of

log = logging.getLogger("lm_eval.arena_rm")

SLOPE_PRECISION = 1e-3  # of the prior on the length slope: weak, and finite where length alone explains the labels


def select(pairs: list[Pair], rule: Selection, seed: int, tokens) -> list[Pair]:
    """The pairs that fit the rule, in a random order that depends only on their content and the seed.

    `tokens(pair)` is the length of a pair before anything is cut. Raises TrainError if no pair is left.
    """
    if rule.sources is not None:
        _check_sources(pairs, rule.sources)
    kept = sorted(pairs, key=lambda p: draw("select", seed, p.key))
    kept = [p for p in kept if abs(label_of(p) - 0.5) >= rule.min_margin]
    if rule.max_tokens is not None:
        kept = [p for p in kept if tokens(p) <= rule.max_tokens]
    if rule.shorter_right is not None:
        kept = _balance(kept, rule.shorter_right)
    if rule.sources is not None:
        kept = _limit(kept, rule.sources)
    if not kept:
        raise TrainError(
            "no pair passes the recipe's `select`",
            "there is nothing to train on",
            "lower select.min_margin, raise select.max_tokens, or set select.shorter_right to null",
        )
    return kept


def source_of(pair: Pair) -> str:
    """The data set that a pair comes from, as its `meta` says; "" if it does not."""
    return str(pair.meta.get("source", ""))


def _check_sources(pairs: list[Pair], most: dict[str, int]) -> None:
    """Raises TrainError where no pair is from a source that is named; warns of one from which there is no pair."""
    here, named = {source_of(p) for p in pairs}, {source for source, count in most.items() if count}
    if not here & named:
        raise TrainError(
            f"select.sources names {', '.join(sorted(named)) or 'none'}, and the pairs are from "
            f"{', '.join(sorted(here - {''})) or 'no named source'}",
            "pairs of other sources are left out, so there is nothing to train on",
            "use --set select.sources=null for all pairs, or name the sources of the data (its field source)",
        )
    if named - here:
        log.warning("arena_rm: select.sources: no pair is from %s", ", ".join(sorted(named - here)))


def _limit(pairs: list[Pair], most: dict[str, int]) -> list[Pair]:
    """The first `most[source]` pairs of each source; none of a source that is not named."""
    count: dict[str, int] = {}
    out = []
    for p in pairs:
        source = source_of(p)
        count[source] = count.get(source, 0) + 1
        if count[source] <= most.get(source, 0):
            out.append(p)
    return out


def _balance(pairs: list[Pair], share: float) -> list[Pair]:
    """Leaves out pairs of each source until the shorter response is preferred in `share` of them.

    With a share of one half, a judge cannot learn to prefer the longer response. Pairs without a preference, and pairs
    of equally long responses, are left out.
    """
    by: dict[tuple[str, bool], list[Pair]] = {}
    for p in pairs:
        gap = length_gap(p) * (label_of(p) - 0.5)
        if gap:
            by.setdefault((source_of(p), gap < 0), []).append(p)
    chosen = set()
    for source in sorted({s for s, _ in by}):
        short, long = by.get((source, True), []), by.get((source, False), [])
        total = min(len(short) / share if share else len(long), len(long) / (1 - share) if share < 1 else len(short))
        chosen |= {p.key for p in short[: round(total * share)]} | {p.key for p in long[: round(total * (1 - share))]}
    return [p for p in pairs if p.key in chosen]


def length_gap(pair: Pair) -> int:
    """By how many characters response B is longer than response A."""
    return text_length(pair.response_b) - text_length(pair.response_a)


def mix(
    pairs: list[tuple[str, Pair]], weights: dict[str, float] | None, seed: int, names: Collection[str]
) -> list[Pair]:
    """The pairs of one epoch, from (file name, pair).

    A weight of 2 shows the pairs of a file twice; 0.5 shows half of them, drawn by content; the default is 1. Raises
    UsageError for a weight whose name is not in `names`, the names of the files.
    """
    unknown = sorted(set(weights or {}) - set(names))
    if unknown:
        raise UsageError(
            f"weights: {unknown[0]!r} names no file of --data",
            "a weight for a file that is not read would have no effect",
            f"use the names without folders: {', '.join(sorted(names))}",
        )
    out: list[Pair] = []
    for name, pair in pairs:
        whole, part = divmod((weights or {}).get(name, 1.0), 1)
        out += [pair] * (int(whole) + (draw("weight", seed, pair.key) < part))
    return out


def length_offsets(pairs: list[Pair]) -> list[float]:
    """What the lengths of the responses alone predict for each pair's logit, shape (n,); positive for response B.

    This is w times the `length_feature` of the pair, with w fitted for each source by maximum likelihood on the soft
    labels. Exchanging the sides changes the sign.
    """
    out = np.zeros(len(pairs))
    sources = np.array([source_of(p) for p in pairs])
    for source in sorted(set(sources)):
        index = np.flatnonzero(sources == source)
        gap = np.array([length_gap(pairs[i]) for i in index], dtype=np.float64)
        x = length_feature(gap)
        y = np.array([label_of(pairs[i]) for i in index])
        out[index] = _slope(x, y) * x
    return out.tolist()


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """The w of P(B) = 1 / (1 + e^(-w x)) that maximises the likelihood of the soft labels y, with a weak prior at 0.

    x, y: shape (n,); y is the probability that B is preferred.
    """

    def value(w: np.ndarray) -> float:
        return float((y * w * x - np.logaddexp(0, w * x)).sum() - SLOPE_PRECISION * w[0] ** 2 / 2)

    def derivatives(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = logistic(w * x)
        gradient = np.array([(y - p) @ x - SLOPE_PRECISION * w[0]])
        return gradient, np.array([[(p * (1 - p) * x) @ x + SLOPE_PRECISION]])

    w = newton(value, solved_step(derivatives), np.zeros(1), 1e-16 * len(x))
    if w is None:
        raise TrainError(
            "no effect of length can be fitted to the labels",
            "the search for the maximum of the likelihood did not end",
            "use --set length_debias=0",
        )
    return float(w[0])


class Examples:
    """The presentations of the pairs, as a data set of torch.

    Which order of a pair is shown is drawn again in each epoch; the trainer sets `epoch`. With `plain`, for validation,
    each pair is shown once, in the order of the file and without length offsets. A pointwise model is shown both
    responses of a pair, one after the other; the order makes no difference to its loss.
    """

    def __init__(self, pairs: list[Pair], renderer: AnyRenderer, config: TrainConfig, plain: bool = False):
        self.pairs, self.config, self.plain, self.epoch = pairs, config, plain, 0
        self.ids: list[list[array[int]]] = []  # of both presentations; four bytes a token, where a tuple takes forty
        self.kept: list[tuple[Kept, Kept, Kept]] = []  # as from `kept_of`
        for pair in pairs:
            views = views_of(renderer, pair)
            self.ids.append([array("i", view.ids) for view in views])
            self.kept.append(kept_of(views))
        self.offsets = [0.0] * len(pairs) if plain or not config.length_debias else length_offsets(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def length(self, i: int) -> int:
        """The number of tokens of pair i, of its longer presentation."""
        return max(map(len, self.ids[i]))

    def tokens(self) -> int:
        """The number of tokens in one epoch, without padding."""
        shown = ([0, 1] if self.config.kind == POINTWISE else self._sides(i) for i in range(len(self)))
        return sum(len(self.ids[i][side]) for i, sides in enumerate(shown) for side in sides)

    def __getitem__(self, i: int) -> dict:
        """Pair i: `input_ids`, `labels` and `offset` of its presentation. If it is shown in both orders, the second
        presentation, with the sides exchanged, is under `turned`. For a pointwise model `input_ids` are those of
        response A, and those of response B are under `against`."""
        if self.config.kind == POINTWISE:
            return self._view(i, 0) | {"against": tuple(self.ids[i][1])}
        first, *rest = (self._view(i, side) for side in self._sides(i))
        return {**first, "turned": rest[0]} if rest else first

    def _sides(self, i: int) -> list[int]:
        """The presentations of pair i in this epoch: 0 is the order of the file, 1 has the sides exchanged."""
        pair, config = self.pairs[i], self.config
        if self.plain:
            return [0]
        if draw("both", config.seed, pair.key) < config.both_orders:
            return [0, 1]
        return [int(config.orders == "random" and draw("order", config.seed, self.epoch, pair.key) < 0.5)]

    def _view(self, i: int, turned: int) -> dict:
        """One presentation of pair i; `turned` is 1 for exchanged sides."""
        pair, offset = self.pairs[i], self.offsets[i]
        y = label_of(pair)
        labels = list(target_of(pair)) if self.config.num_labels == 3 else [1 - y, y]
        if turned:
            labels[:2], offset = labels[1::-1], -offset
        return {"input_ids": tuple(self.ids[i][turned]), "labels": labels, "offset": offset}
