"""Pairs for training: labels, a split without shared prompts, selection, rendering.

Uses the same reader and renderer as scoring; knows no model.
"""

import hashlib

from harness_plugin.errors import TrainError
from harness_plugin.pairs import Pair, text_length
from harness_plugin.prompt import Renderer
from harness_plugin.train.config import Selection, TrainConfig


def draw(*parts) -> float:
    """A number in [0, 1) that depends only on the parts: the same on every machine and in every order of rows."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def split(pairs: list[Pair], config: TrainConfig) -> tuple[list[Pair], list[Pair]]:
    """(training, validation): every prompt is on one side, chosen by its content and the seed. Raises TrainError when a
    label is missing or a side is empty."""
    unlabelled = [p.id for p in pairs if p.soft_label is None]
    if unlabelled:
        raise TrainError(
            f"{len(unlabelled)} of {len(pairs)} pairs have neither winner nor p_b (such as {unlabelled[0]})",
            "there is nothing to learn from them", "label or remove them",
        )  # fmt: skip
    held = {p.prompt_key: draw("validation", config.seed, p.prompt_key) < config.validation_share for p in pairs}
    train = [p for p in pairs if not held[p.prompt_key]]
    valid = sorted((p for p in pairs if held[p.prompt_key]), key=lambda p: draw("order", config.seed, p.key))
    if not train or not valid:
        raise TrainError(
            f"{len(held)} prompts give {len(train)} training and {len(valid)} validation pairs",
            "both sides need some", "give more data or another validation_share",
        )  # fmt: skip
    return train, valid[: config.validation_pairs]


def select(pairs: list[Pair], rule: Selection, seed: int, tokens) -> list[Pair]:
    """The pairs that the rule lets through, in an order drawn from content. `tokens(pair)` is a pair's full length."""
    kept = sorted(pairs, key=lambda p: draw("select", seed, p.key))
    kept = [p for p in kept if abs(p.soft_label - 0.5) >= rule.min_margin]
    if rule.max_tokens:
        kept = [p for p in kept if tokens(p) <= rule.max_tokens]
    if rule.shorter_right is not None:
        kept = _balance(kept, rule.shorter_right)
    if rule.sources is not None:
        kept = _limit(kept, rule.sources)
    if not kept:
        raise TrainError("no pair passes the recipe's `select`", "there is nothing to train on", "loosen it")
    return kept


def _limit(pairs: list[Pair], most: dict[str, int]) -> list[Pair]:
    """The first `most[source]` pairs of each source."""
    count: dict[str, int] = {}
    out = []
    for p in pairs:
        source = str(p.meta.get("source", ""))
        count[source] = count.get(source, 0) + 1
        if count[source] <= most.get(source, 0):
            out.append(p)
    return out


def _balance(pairs: list[Pair], share: float) -> list[Pair]:
    """Drops pairs, source by source, until the shorter response is preferred in `share` of the decisive ones: a judge
    trained on them cannot win by length alone. Pairs without a preference or a length difference are left out."""
    by: dict[tuple[str, bool], list[Pair]] = {}
    for p in pairs:
        gap = (text_length(p.response_b) - text_length(p.response_a)) * (p.soft_label - 0.5)
        if gap:
            by.setdefault((str(p.meta.get("source", "")), gap < 0), []).append(p)
    chosen = set()
    for source in sorted({s for s, _ in by}):
        short, long = by.get((source, True), []), by.get((source, False), [])
        total = min(len(short) / share if share else len(long), len(long) / (1 - share) if share < 1 else len(short))
        chosen |= {p.key for p in short[: round(total * share)]} | {p.key for p in long[: round(total * (1 - share))]}
    return [p for p in pairs if p.key in chosen]


class Examples:
    """A torch-style dataset: the pair's order is drawn anew in each epoch (`epoch` is set by the loop)."""

    def __init__(self, pairs: list[Pair], renderer: Renderer, config: TrainConfig):
        self.pairs, self.config, self.epoch = pairs, config, 0
        rendered = [renderer.render_orders(p) for p in pairs]
        self._orders = [tuple(view.ids for view in views) for views in rendered]
        self.truncated = sum(views[0].truncated for views in rendered)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> dict:
        """One pair: `input_ids` and `labels` of its presentation, and in `turned` those of the exchanged one where the
        recipe shows both."""
        pair, config = self.pairs[i], self.config
        label = pair.soft_label
        views = [{"input_ids": ids, "labels": y} for ids, y in zip(self._orders[i], (label, 1 - label), strict=True)]
        if config.orders == "both":
            return {**views[0], "turned": views[1]}
        turned = config.orders == "random" and draw("order", config.seed, self.epoch, pair.key) < 0.5
        return views[turned]
