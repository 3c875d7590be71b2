"""What of the data is trained on: no pair twice, no text on both sides of the split, none of an evaluation's prompts.

Everything is drawn from content, so that neither the machine nor the order of rows decides. Knows pairs and counts of
tokens; no recipe, renderer or model.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from harness_plugin.errors import DataError, TrainError
from harness_plugin.files import atomic_write
from harness_plugin.pairs import Pair, Text, read_outputs, read_pairs

QUANTILES = (50, 90, 99)
_NAMED = 5  # ids in a message


def draw(*parts) -> float:
    """A number in [0, 1) that depends only on the parts: the same on every machine and in every order of rows."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True)
class MixedPair(Pair):
    """A pair whose label is a mixture of several: `p_b` is the soft label, and `target`, unlike a plain pair's, says
    the same whatever `winner` is. `p_tie` is the tie's part of it; it takes no side, so that `swap` may leave it."""

    p_tie: float = 0.0

    @property
    def target(self) -> tuple[float, float, float]:
        """Probabilities of A, B and tie that the mixture stands for."""
        p_a, p_b = (max(0.0, p - self.p_tie / 2) for p in (1.0 - self.p_b, self.p_b))
        return p_a, p_b, self.p_tie


def tie_of(pair: Pair) -> float:
    """How much of a pair's label is a tie: what its `target` says, as far as its soft label leaves room for it."""
    return min(pair.target[2], 2 * pair.soft_label, 2 * (1 - pair.soft_label))


def mixed(pair: Pair, p_b: float, p_tie: float) -> MixedPair:
    """The pair with the label `p_b`, of which `p_tie` is a tie; `winner` stays what it was."""
    known = {entry.name: getattr(pair, entry.name) for entry in fields(Pair)}
    p_b = min(1.0, max(0.0, p_b))  # sums of shares may be off by a last digit
    made = MixedPair(**{**known, "p_b": p_b})
    return replace(made, p_tie=max(0.0, min(p_tie, 2 * made.p_b, 2 * (1 - made.p_b))))


def _sides(pair: Pair) -> frozenset[Text]:
    """The two responses without their order."""
    return frozenset((pair.response_a, pair.response_b))


def remove_identical(pairs: Sequence[Pair]) -> tuple[list[Pair], int]:
    """(the pairs left, how many went): those whose two responses are the same text, unless their label is a tie.

    Any other label of theirs prefers a text to itself, as labels that were made from the models' ratings do.
    """
    kept = [p for p in pairs if p.response_a != p.response_b or p.soft_label == 0.5]
    return kept, len(pairs) - len(kept)


def remove_duplicates(pairs: Sequence[Pair]) -> tuple[list[Pair], int]:
    """(the pairs left, how many went): each prompt with the same two responses once, whichever way round they stood.

    The first stays, in its place and orientation, with the label of them all: where they differ it is the mean, a
    `MixedPair`, whose `winner` is what all say or None. Rows without a label have no say where others have one. The
    pairs of `remove_identical` go too.
    """
    pairs, count = list(pairs), len(pairs)
    groups: dict[tuple[Text, frozenset[Text]], list[Pair]] = {}
    for pair in remove_identical(pairs)[0]:
        groups.setdefault((pair.prompt, _sides(pair)), []).append(pair)
    kept = [group[0] if len(group) == 1 else _merged(group) for group in groups.values()]
    return kept, count - len(kept)


def _merged(group: list[Pair]) -> Pair:
    """The first of the group with the label of all."""
    first = group[0]
    labelled = [p for p in group if p.soft_label is not None]
    if not labelled:
        return first
    base = min(p.key for p in labelled)  # one orientation for the sums, so that the order of rows moves no last digit
    labels = [_oriented(p, base) for p in labelled]
    if len({(p.winner, p.p_b, p.target[2]) for p in labels}) > 1:
        soft, tie = (
            math.fsum(values) / len(labels) for values in ([p.soft_label for p in labels], map(tie_of, labels))
        )
        winner = labels[0].winner if len({p.winner for p in labels}) == 1 else None
        labels = [mixed(replace(labels[0], winner=winner), soft, tie)]
    own = {name: getattr(first, name) for name in ("id", "model_a", "model_b", "category", "meta")}
    return replace(_oriented(labels[0], first.key), **own)


def _oriented(pair: Pair, key: str) -> Pair:
    """The pair the way round that has this key."""
    return pair if pair.key == key else pair.swap()


def components(pairs: Sequence[Pair]) -> list[str]:
    """For each pair the name of its connected component, which is the smallest `prompt_key` in it.

    Two pairs are connected where they share the prompt or both responses, in either order: the same answers under a
    reworded prompt would else stand on both sides of a split.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    first: dict[frozenset[Text], str] = {}
    for pair in pairs:
        key = pair.prompt_key
        parent.setdefault(key, key)
        low, high = sorted((root(key), root(first.setdefault(_sides(pair), key))))
        parent[high] = low
    return [root(pair.prompt_key) for pair in pairs]


def split(pairs: Sequence[Pair], share: float, seed: int, most: int | None = None) -> tuple[list[Pair], list[Pair]]:
    """(training, validation): every component is on one side, `share` of the components are for validation.

    The side is drawn from the component's name and the seed. Training pairs stay in their order, validation pairs come
    in one drawn from content, at most `most` of them. Raises TrainError when a label is missing or a side is empty.
    """
    unlabelled = [p.id for p in pairs if p.soft_label is None]
    if unlabelled:
        raise TrainError(
            f"{len(unlabelled)} of {len(pairs)} pairs have neither winner nor p_b (such as {min(unlabelled)})",
            "there is nothing to learn from them",
            "label or remove them",
        )
    names = components(pairs)
    held = {name: draw("validation", seed, name) < share for name in set(names)}
    training = [p for p, name in zip(pairs, names, strict=True) if not held[name]]
    validation = [p for p, name in zip(pairs, names, strict=True) if held[name]]
    if not training or not validation:
        raise TrainError(
            f"{len({p.prompt_key for p in pairs})} prompts in {len(held)} connected groups give "
            f"{len(training)} training and {len(validation)} validation pairs",
            "both sides need some",
            "give more data or another validation_share",
        )
    return training, sorted(validation, key=lambda p: (draw("order", seed, p.key), p.id))[:most]


def evaluation_prompts(file: str | Path) -> set[str]:
    """The prompt keys of a file of pairs or of one model's answers, in any format that `arena-rm` reads.

    Raises DataError where it is neither, or a row is bad: its prompt would go unnoticed.
    """
    try:
        return {pair.prompt_key for pair in read_pairs(file).pairs}
    except DataError as error:
        as_pairs = error
    try:
        return {Pair(output.prompt, "", "").prompt_key for output in read_outputs(file)}
    except DataError as error:
        if str(error) == str(as_pairs):
            raise
        pairs, answers = (e.found.removeprefix(f"{file} ") for e in (as_pairs, error))
        raise DataError(
            f"{file} is read neither as pairs ({pairs}) nor as a model's answers ({answers})",
            "its prompts are unknown",
            "correct the file, or leave it out of the check",
        ) from error


def refuse_overlap(
    pairs: Sequence[Pair], evaluation: dict[str, Iterable[str]], listing: str | Path | None = None
) -> None:
    """Raises TrainError where a pair's prompt stands in an evaluation file: `evaluation` maps a file's name to its
    prompt keys. All overlaps are written to `listing` first, one JSON line {file, prompt_key, pairs} each.

    Prompts are compared exactly: a rewording is another prompt.
    """
    ids: dict[str, list[str]] = {}
    for pair in pairs:
        ids.setdefault(pair.prompt_key, []).append(pair.id)
    shared = {name: sorted(ids.keys() & set(keys)) for name, keys in sorted(evaluation.items())}
    rows = [{"file": n, "prompt_key": k, "pairs": sorted(ids[k])} for n, keys in shared.items() for k in keys]
    if not rows:
        return
    prompts = {row["prompt_key"] for row in rows}
    touched = sorted(i for key in prompts for i in ids[key])
    more = f" and {len(touched) - _NAMED} more" if touched[_NAMED:] else ""
    files = ", ".join(f"{name} ({len(keys)})" for name, keys in shared.items() if keys)
    raise TrainError(
        f"{len(prompts)} of the prompts to train on stand in evaluation files: {files}; "
        f"pairs {', '.join(touched[:_NAMED])}{more}",
        "a judge must not be tested on what it has learned from",
        f"remove these pairs{_listed(rows, listing)}",
    )


def _listed(rows: list[dict], listing: str | Path | None) -> str:
    """Writes the rows; what the message says of it."""
    if listing is None:
        return ""
    try:
        with atomic_write(listing) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except DataError as error:  # the overlap is the news; it must not be lost to a full disk
        return f" ({error.found}, so there is no list)"
    return f", all listed in {listing}"


def token_report(full: Sequence[tuple[int, int, int]], kept: Sequence[tuple[int, int, int]]) -> dict:
    """What cutting to the model's length costs: tokens of (prompt, A, B) of each pair before and after it.

    `pairs`; `full` and `kept`, each with the tokens of all `prompts` and `responses` and the quantiles 50, 90 and 99
    of a pair's `total` (an observed number; the template is not counted); `cut`, `response_halved` (shares of the
    pairs that lost something, and more than half of a response) and `lost` (share of all tokens). JSON-able. Raises
    TrainError for no pairs, and for counts that cannot be.
    """
    import numpy as np

    if not len(full):
        raise TrainError("no pairs to count the tokens of", "there is nothing to train on", "give more data")
    before, after = np.array(full), np.array(kept)
    if before.shape != (len(full), 3) or after.shape != before.shape or (after < 0).any() or (after > before).any():
        raise TrainError("token counts that do not fit each other", "a pair cannot grow by being cut", "report it")

    def counts(tokens) -> dict:
        totals = tokens.sum(axis=1)
        at = np.quantile(totals, [q / 100 for q in QUANTILES], method="inverted_cdf")
        total = {f"p{q}": int(value) for q, value in zip(QUANTILES, at, strict=True)}
        return {"prompts": int(tokens[:, 0].sum()), "responses": int(tokens[:, 1:].sum()), "total": total}

    everything = int(before.sum())
    return {
        "pairs": len(before),
        "full": counts(before),
        "kept": counts(after),
        "cut": float((after < before).any(axis=1).mean()),
        "response_halved": float((2 * after[:, 1:] < before[:, 1:]).any(axis=1).mean()),
        "lost": float(1 - int(after.sum()) / everything) if everything else 0.0,
    }


def describe_report(report: dict) -> str:
    """Two lines for the log."""
    full, kept = report["full"]["total"], report["kept"]["total"]
    sizes = ", ".join(f"{q}% at most {full[f'p{q}']} (kept {kept[f'p{q}']})" for q in QUANTILES)
    return (
        f"{report['pairs']} pairs, tokens of prompt and responses: {sizes}\n"
        f"{report['cut']:.1%} of the pairs are cut, {report['response_halved']:.1%} lose more than half of a response; "
        f"{report['lost']:.1%} of all tokens are lost"
    )
