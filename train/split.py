"""Which pairs are trained on: each pair once, no text on both sides of the split, no prompt of an evaluation.

All random choices depend only on the content of the pairs and the seed, not on the machine or the order of the rows.
This module knows pairs and numbers of tokens; it does not know the recipe, the renderer or the model.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from harness_plugin.errors import DataError, TrainError
from harness_plugin.files import atomic_write
from harness_plugin.files.printable import listed
from harness_plugin.pairs import Pair, Text, content_id, flat_text, read_outputs, read_pairs
from harness_plugin.pairs.likeness import seen_text

QUANTILES = (50, 90, 99)
NAMED = 5  # ids in a message


def draw(*parts) -> float:
    """A number from 0 to below 1, as if at random, that depends only on the parts."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True)
class MixedPair(Pair):
    """A pair whose label is the mean of several labels.

    `p_b` is the soft label, and `p_tie` the probability of a tie in it, which `swap` need not change. `target` follows
    from these two alone; for other pairs it follows from `winner`.
    """

    p_tie: float = 0.0

    @property
    def target(self) -> tuple[float, float, float]:
        """The probabilities of A, B and a tie."""
        p_a, p_b = (max(0.0, p - self.p_tie / 2) for p in (1.0 - label_of(self), label_of(self)))
        return p_a, p_b, self.p_tie


def label_of(pair: Pair) -> float:
    """The soft label of a pair that has a label. Raises TrainError for one without."""
    if pair.soft_label is None:
        raise _unlabelled(pair)
    return pair.soft_label


def target_of(pair: Pair) -> tuple[float, float, float]:
    """The probabilities of A, B and a tie, of a pair that has a label. Raises TrainError for one without."""
    if pair.target is None:
        raise _unlabelled(pair)
    return pair.target


def _unlabelled(pair: Pair) -> TrainError:
    return TrainError(f"pair {pair.id} has no label", "nothing can be learned from it", "leave the pair out")


def tie_of(pair: Pair) -> float:
    """The probability of a tie in a pair's label, at most what its soft label allows."""
    p_b = label_of(pair)
    return min(target_of(pair)[2], 2 * p_b, 2 * (1 - p_b))


def mixed(pair: Pair, p_b: float, p_tie: float) -> MixedPair:
    """The pair with the soft label `p_b` and the probability `p_tie` of a tie; `winner` stays the same."""
    values = {entry.name: getattr(pair, entry.name) for entry in fields(Pair)}
    p_b = min(1.0, max(0.0, p_b))  # a sum of floats may be beyond the end by a rounding
    made = MixedPair(**{**values, "p_b": p_b})
    p_b = label_of(made)  # as a pair stores it, with 15 decimals
    return replace(made, p_tie=max(0.0, min(p_tie, 2 * p_b, 2 * (1 - p_b))))


def _sides(pair: Pair) -> frozenset[Text]:
    """The two responses without their order."""
    return frozenset((pair.response_a, pair.response_b))


def remove_identical(pairs: Sequence[Pair]) -> tuple[list[Pair], int]:
    """(the pairs that are kept, the number of pairs removed). Pairs with two identical responses are removed, unless
    their label is a tie.

    Any other label would prefer a text to itself; such labels come from data sets that compare ratings of models.
    """
    kept = [p for p in pairs if p.response_a != p.response_b or p.soft_label == 0.5]
    return kept, len(pairs) - len(kept)


def remove_duplicates(pairs: Sequence[Pair]) -> tuple[list[Pair], int]:
    """(the pairs that are kept, the number of pairs removed). A prompt with the same two responses is kept once, in
    whichever order the responses are.

    The first one is kept, in its place and its order of the sides. If the labels differ, it becomes a `MixedPair` with
    the mean of the labels, whose `winner` is the common one or None. Pairs without a label do not count for the mean.
    The pairs of `remove_identical` are removed too.
    """
    pairs, count = list(pairs), len(pairs)
    groups: dict[tuple[Text, frozenset[Text]], list[Pair]] = {}
    for pair in remove_identical(pairs)[0]:
        groups.setdefault((pair.prompt, _sides(pair)), []).append(pair)
    kept = [group[0] if len(group) == 1 else _merged(group) for group in groups.values()]
    return kept, count - len(kept)


def _merged(group: list[Pair]) -> Pair:
    """The first pair of a group of duplicates, with the label of the group."""
    first = group[0]
    labelled = [p for p in group if p.soft_label is not None]
    if not labelled:
        return first
    # One order of the sides for all sums, so that the order of the rows changes no digit.
    base = min(p.key for p in labelled)
    labels = [_oriented(p, base) for p in labelled]
    if len({(p.winner, p.p_b, target_of(p)[2]) for p in labels}) > 1:
        soft, tie = (math.fsum(map(part, labels)) / len(labels) for part in (label_of, tie_of))
        winner = labels[0].winner if len({p.winner for p in labels}) == 1 else None
        labels = [mixed(replace(labels[0], winner=winner), soft, tie)]
    own = {name: getattr(first, name) for name in ("id", "model_a", "model_b", "category", "meta")}
    return replace(_oriented(labels[0], first.key), **own)


def _oriented(pair: Pair, key: str) -> Pair:
    """The pair, with its sides exchanged if it has another key."""
    return pair if pair.key == key else pair.swap()


def components(pairs: Sequence[Pair]) -> list[str]:
    """For each pair, the name of its connected component: the smallest `prompt_key` in it.

    Two pairs are connected if they share the prompt, or both responses in either order. Otherwise the same responses
    under a reworded prompt could be on both sides of a split.
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
    """(training pairs, validation pairs). All pairs of a component are on one side; about `share` of the components
    are for validation.

    The side depends on the name of the component and the seed. Training pairs stay in their order; at most `most`
    validation pairs are kept, in a random order that depends on their content. Raises TrainError if a pair has no label
    or one side is empty.
    """
    unlabelled = [p.id for p in pairs if p.soft_label is None]
    if unlabelled:
        raise TrainError(
            f"{len(unlabelled)} of {len(pairs)} pairs have neither winner nor p_b (such as {min(unlabelled)})",
            "training learns from labels",
            "fill in winner or p_b, remove these pairs, or label them with --teacher",
        )
    names = components(pairs)
    held = {name: draw("validation", seed, name) < share for name in set(names)}
    training = [p for p, name in zip(pairs, names, strict=True) if not held[name]]
    validation = [p for p, name in zip(pairs, names, strict=True) if held[name]]
    if not training or not validation:
        raise TrainError(
            f"{len(training)} training and {len(validation)} validation pairs, from {len(held)} groups of pairs "
            "(those that share a prompt or both responses)",
            "training and validation each need at least one pair",
            "give more data, or change validation_share in the recipe",
        )
    return training, sorted(validation, key=lambda p: (draw("order", seed, p.key), p.id))[:most]


def overlap_key(prompt: Text) -> str:
    """A hash by which prompts to train on and prompts of an evaluation are compared: without regard to case, white
    space, the ends of turns, and how Unicode writes a character."""
    return content_id(seen_text(flat_text(prompt)).casefold())


def evaluation_prompts(file: str | Path) -> set[str]:
    """The keys (`overlap_key`) of the prompts of a file of pairs or of one model's answers, in any format that
    `arena-rm` reads.

    Raises DataError for a file that is neither, and for a row that is bad or makes no pair, whose prompt would
    otherwise be missed.
    """
    try:
        found = read_pairs(file, skip_bad_rows=None)
    except DataError as error:
        as_pairs = error
    else:
        if found.missing:
            raise found.missing[0]
        return {overlap_key(pair.prompt) for pair in found.pairs}
    try:
        return {overlap_key(output.prompt) for output in read_outputs(file)}
    except DataError as error:
        if str(error) == str(as_pairs):
            raise
        pairs, answers = (e.found.removeprefix(f"{file} ") for e in (as_pairs, error))
        raise DataError(
            f"{file} can be read neither as pairs ({pairs}) nor as a model's answers ({answers})",
            "its prompts cannot be kept out of the training",
            "correct the file, or leave out --keep-out for it",
        ) from error


def refuse_overlap(
    pairs: Sequence[Pair], evaluation: dict[str, Iterable[str]], listing: str | Path | None = None
) -> None:
    """Raises TrainError if the prompt of a pair is also in an evaluation file.

    `evaluation` maps the name of a file to the keys of its prompts (`evaluation_prompts`). Before that, all such
    prompts are written to the file `listing`, each as a JSON line {file, prompt_key, pairs}. Prompts are compared by
    `overlap_key`: a reworded prompt is another prompt.
    """
    ids: dict[str, list[str]] = {}
    asked: dict[str, str] = {}
    for pair in pairs:
        ids.setdefault(pair.prompt_key, []).append(pair.id)
        asked[pair.prompt_key] = overlap_key(pair.prompt)
    shared = {}
    for name, keys in sorted(evaluation.items()):
        kept_out = set(keys)
        shared[name] = sorted(key for key in ids if asked[key] in kept_out)
    rows = [{"file": n, "prompt_key": k, "pairs": sorted(ids[k])} for n, keys in shared.items() for k in keys]
    if not rows:
        return
    prompts = {key for keys in shared.values() for key in keys}
    touched = sorted(i for key in prompts for i in ids[key])
    files = ", ".join(f"{name} ({len(keys)})" for name, keys in shared.items() if keys)
    raise TrainError(
        f"{len(prompts)} of the prompts to train on are in evaluation files: {files}; pairs {listed(touched, NAMED)}",
        "a judge must not be tested on what it has learned from",
        f"remove these pairs{_listed(rows, listing)}",
    )


def _listed(rows: list[dict], listing: str | Path | None) -> str:
    """Writes the rows, and returns what the error message says about the list."""
    if listing is None:
        return ""
    try:
        with atomic_write(listing) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except DataError as error:  # the error about the overlap is more important than the one about the list
        return f" ({error.found}, so there is no list)"
    return f", all listed in {listing}"


def token_report(full: Sequence[tuple[int, int, int]], kept: Sequence[tuple[int, int, int]]) -> dict:
    """How many tokens are lost when pairs are cut to the model's length.

    `full` and `kept`: the tokens of (prompt, A, B) of each pair before and after the cut. The report, which JSON can
    hold, has: `pairs`, their number; `full` and `kept`, each with the tokens of all `prompts` and `responses` and with
    `total`, the quantiles 50, 90 and 99 of the tokens of a pair (without the template); `cut`, the share of the pairs
    that lost something; `response_halved`, the share that lost more than half of a response; `lost`, the share of all
    tokens that is lost. Raises TrainError if there are no pairs or the counts contradict each other.
    """
    import numpy as np

    if not len(full):
        raise TrainError("no pairs to count the tokens of", "there is nothing to train on", "give more data")
    before, after = np.array(full), np.array(kept)
    if before.shape != (len(full), 3) or after.shape != before.shape or (after < 0).any() or (after > before).any():
        raise TrainError(
            "token counts that contradict each other",
            "a pair cannot become longer when it is cut",
            "report this as a bug of arena-rm",
        )

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
    """The report of `token_report` as two lines for the log."""
    full, kept = report["full"]["total"], report["kept"]["total"]
    sizes = ", ".join(f"{q}% at most {full[f'p{q}']} (kept {kept[f'p{q}']})" for q in QUANTILES)
    return (
        f"{report['pairs']} pairs, tokens of prompt and responses: {sizes}\n"
        f"{report['cut']:.1%} of the pairs are cut, {report['response_halved']:.1%} lose more than half of a response; "
        f"{report['lost']:.1%} of all tokens are lost"
    )
