"""A cascade of two judges that have judged the same pairs: what it hands on, what that costs, and what it is worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness_plugin.comparison.entries import Entry, Timing
from harness_plugin.comparison.figures import Judgements, as_json, cost, credits_of
from harness_plugin.errors import DataError
from harness_plugin.judges.cascade import cascade_identity, decided
from harness_plugin.pairs import Pair
from harness_plugin.scoring.abstention import fit_handing_on, is_sure
from harness_plugin.scoring.identity import identity_hash
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import judgement_arrays
from harness_plugin.stats import clustered_share, share_difference

AGREEMENTS = (0.9, 0.95, 0.98, 1.0)  # with the big judge: for each the price is reported
NONE = 1.01  # a confidence that no judge has: everything is handed on


def fitted_confidence(small: Entry, big: Entry, pairs: Sequence[Pair], agreement: float) -> float:
    """The lowest confidence from which the small judge may decide, fitted to the pairs for an agreement with the big
    judge; NONE where they prove it for none. Raises DataError where a judge has not judged one of the pairs."""
    columns: list[list[Judgement]] = []
    for entry in (small, big):
        columns.append([judgement for pair in pairs if (judgement := entry.of(pair)) is not None])
        if missing := len(pairs) - len(columns[-1]):
            raise DataError(
                f"{entry.label} has not judged {missing} of the {len(pairs)} pairs that a cascade is fitted on",
                "an agreement is measured on pairs that both judges have judged",
                "add these pairs to the stored scores, or name the judge itself",
            )
    found = fit_handing_on(columns[0], columns[1], agreement)
    return NONE if found is None else found


def cascade_entry(label: str, small: Entry, big: Entry, pairs: Sequence[Pair], confidence: float) -> Entry:
    """The cascade of two judges, on the pairs that the small one decides or the big one has judged."""
    identity = cascade_identity(small.identity, big.identity, confidence)
    judge, names = identity_hash(identity), (small.label, big.label)
    judgements: dict[str, Judgement] = {}
    handed_on = 0
    for pair in pairs:
        first, second = small.of(pair), big.of(pair)
        if first is not None and is_sure(first, confidence):
            judgements[pair.key] = decided(first, None, names, judge)
        elif second is not None:
            handed_on += 1
            judgements[pair.key] = decided(first, second, names, judge)
    timing = _time_of(small, big, handed_on / max(len(judgements), 1))
    return Entry(
        label, f"{small.label}, then {big.label}", identity, judgements, timing, lambda j: 1 + (j.stage == big.label)
    )


def _time_of(small: Entry, big: Entry, share: float) -> Timing:
    one, other = small.timing, big.timing
    if not one.pairs or not other.pairs:
        return Timing()
    pairs = min(one.pairs, other.pairs)
    return Timing((one.seconds / one.pairs + share * other.seconds / other.pairs) * pairs, pairs)


def cascade_figures(
    cascade: Entry, small: Entry, big: Entry, confidence: float, judgements: Judgements
) -> dict[str, Any]:
    """What a cascade is worth, as JSON: the share that is handed on, by stage what a pair costs and how many are
    decided, the agreement with the big judge, the error by labels beside that of either judge, and the price at several
    agreements, which is read off these pairs."""
    both = judgements.by_label[small.label], judgements.by_label[big.label]
    own = judgements.by_label[cascade.label]
    prompts = [pair.prompt_key for pair in judgements.pairs]
    handed_on = np.array([j.stage == big.label for j in own])
    agrees = np.array([j.preferred == other.preferred for j, other in zip(own, both[1], strict=True)])
    price = [cost(small, both[0]), cost(big, both[1])]
    return {
        "judge": cascade.label,
        "small": small.label,
        "big": big.label,
        "confidence": confidence if confidence <= 1 else None,
        "handed_on": as_json(clustered_share(handed_on.astype(float), prompts)),
        "agreement": as_json(clustered_share(agrees.astype(float), prompts)),
        "stages": [
            {"judge": small.label, "decides": int((~handed_on).sum()), "reads": len(own), "cost": price[0]},
            {"judge": big.label, "decides": int(handed_on.sum()), "reads": int(handed_on.sum()), "cost": price[1]},
        ],
        "relative_cost": relative_cost(price[0], price[1], float(handed_on.mean())),
        "error": _errors(cascade, small, big, judgements),
        "prices": [_price(level, *both, price) for level in AGREEMENTS],
    }


def relative_cost(small: dict, big: dict, share: float) -> dict[str, float | None]:
    """What a pair costs as a share of what the big judge alone costs, where the small one reads all pairs and the big
    one this share of them; for presentations, tokens and seconds, null where one of them is not known."""
    return {
        name: (small[name] + share * big[name]) / big[name] if small[name] and big[name] else None
        for name in ("presentations", "tokens", "seconds")
    }


def _errors(cascade: Entry, small: Entry, big: Entry, judgements: Judgements) -> dict[str, Any]:
    """The errors on decisive pairs by what people said, and how much more the cascade errs than the big judge."""
    arrays = judgements.arrays()
    found = {entry.label: 1 - credits_of(arrays[entry.label]) for entry in (cascade, small, big)}
    decisive = ~np.isnan(found[big.label])
    prompts = arrays[big.label].clusters[decisive]
    errors = {label: as_json(clustered_share(values[decisive], prompts)) for label, values in found.items()}
    more = share_difference(found[cascade.label][decisive], found[big.label][decisive], prompts)
    return {"judges": errors, "more_than_big": as_json(more)}


def _price(level: float, small: Sequence[Judgement], big: Sequence[Judgement], price: list[dict]) -> dict[str, Any]:
    """The smallest share of these pairs that has to be handed on for an agreement with the big judge, the surest pairs
    decided by the small one, and what it then costs and how accurate it is."""
    sure = np.array([j.confidence if j.preferred is not None else 0.0 for j in small])
    same = np.array([a.preferred == b.preferred for a, b in zip(small, big, strict=True)])
    order = np.argsort(-sure, kind="stable")
    wrong = np.concatenate([[0], np.cumsum(~same[order])])  # after so many pairs decided by the small judge
    last = np.append(np.diff(sure[order]) != 0, True)  # equal confidences are decided together
    allowed = [0, *(np.flatnonzero(last) + 1).tolist()]
    kept = max(k for k in allowed if 1 - wrong[k] / len(same) >= level - 1e-12)
    share = 1 - kept / len(same)
    decided_here = np.zeros(len(same), dtype=bool)
    decided_here[order[:kept]] = True
    mixed = [a if here else b for a, b, here in zip(small, big, decided_here, strict=True)]
    credit = credits_of(judgement_arrays(mixed))
    known = credit[~np.isnan(credit)]
    return {
        "agreement": level,
        "confidence": float(sure[order[kept - 1]]) if kept else None,
        "handed_on": share,
        "relative_cost": relative_cost(price[0], price[1], share),
        "acc": float(known.mean()) if len(known) else None,
    }
