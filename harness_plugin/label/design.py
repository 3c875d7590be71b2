"""Which battles people label: drawn by a seeded rule, each with a known probability above 0.

An estimate of what people prefer is right whatever the judge is like only if the labels were drawn this way. The
probabilities do not depend on anything that is found out later.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness_plugin.errors import DataError, UsageError
from harness_plugin.label.candidates import Candidate
from harness_plugin.pairs import Pair

KINDS = ("uniform", "confidence")
DIGITS = 12  # of a probability: sums differ between machines in the last digits of a double
STRATA = 4  # by the judge's confidence; 1: the closest battles


@dataclass(frozen=True)
class DesignBattle:
    """One battle in a design. `stratum`: 1 where the judge is least sure, up to STRATA; 1 for all without a judge.
    `probability`: that it is drawn. `first`: the side, "a" or "b", that the annotator sees first (on the left)."""

    pair: Pair
    key: str
    stratum: int
    probability: float
    drawn: bool
    first: str
    order: float


@dataclass(frozen=True)
class Design:
    """What was drawn, and from what. `judge`: the hash of the judge whose confidence was used; None without one."""

    kind: str
    seed: int
    judge: str | None
    battles: list[DesignBattle]

    @property
    def drawn(self) -> list[DesignBattle]:
        """The battles to label, in the random order in which they are shown: whoever stops early has labelled a random
        part."""
        return sorted((battle for battle in self.battles if battle.drawn), key=lambda battle: battle.order)


def draw(candidates: Sequence[Candidate], n: int, seed: int = 0, kind: str = "uniform") -> Design:
    """A design that draws n of the N candidates, or all where there are no more than n.

    uniform: each with probability n / N. confidence: with p = n / N (1/2 + 1/2 u_h / u), where u_h is the mean of
    sqrt(f (1 - f)) in the battle's stratum of the judge's confidence, u that of all battles, and f the judge's win of
    B: battles that the judge finds close are drawn more often, and the first half keeps every p above 0 (active
    inference: Zrnic and Candes 2024; mixed with uniform draws, since overconfident judges exist). Probabilities above
    1 become 1, and the others grow.

    Within these probabilities the draw is spread evenly over pairs of models and over confidence: battles stand in this
    order, at random within it, and are drawn systematically with a random start (Madow 1949), so that each group has
    the expected number of labels up to 1. The random numbers are hashes of the seed and the battle's texts, the same
    on every machine. Raises UsageError for confidence without a judge, DataError for several judges.
    """
    judge = _judge_of(candidates)
    if kind == "confidence" and judge is None:
        raise UsageError(
            "--design confidence without scores",
            "the draw needs to know how sure a judge is of each pair",
            "give a folder of `arena-rm judge`, or scores with --scores, or choose --design uniform",
        )
    wins = np.array([0.5 if c.win_b is None else c.win_b for c in candidates])
    strata = confidence_strata(wins) if judge is not None else np.ones(len(wins), dtype=int)
    p = inclusion_probabilities(min(n, len(candidates)), strata, wins if kind == "confidence" else None)
    p = np.round(p, DIGITS)
    order = sorted(
        range(len(candidates)),
        key=lambda k: (_models(candidates[k]), strata[k], _random(seed, "draw", candidates[k].key)),
    )
    chosen = np.zeros(len(candidates), dtype=bool)
    chosen[order] = systematic(p[order], _random(seed, "start"))
    return Design(
        kind,
        seed,
        judge,
        [
            DesignBattle(
                c.pair,
                c.key,
                int(strata[k]),
                float(p[k]),
                bool(chosen[k]),
                "a" if _random(seed, "first", c.key) < 0.5 else "b",
                _random(seed, "order", c.key),
            )
            for k, c in enumerate(candidates)
        ],
    )


def confidence_strata(win_b: np.ndarray) -> np.ndarray:
    """Quarters by |win_b - 1/2|, shape (N,) of 1 (closest) to STRATA; equal values are in one stratum."""
    distance = np.round(np.abs(win_b - 0.5), 12)
    edges = np.quantile(distance, np.arange(1, STRATA) / STRATA)
    return 1 + np.searchsorted(edges, distance, side="left")


def inclusion_probabilities(n: int, strata: np.ndarray, win_b: np.ndarray | None) -> np.ndarray:
    """Probabilities of shape (N,) that sum to n: those of `draw`, equal within a stratum; equal for all without
    `win_b`."""
    weights = np.ones(len(strata))
    if win_b is not None:
        u = np.sqrt(win_b * (1 - win_b))
        means = {h: u[strata == h].mean() for h in np.unique(strata)}
        if u.mean() > 0:
            weights = 0.5 + 0.5 * np.array([means[h] for h in strata]) / u.mean()
    p, certain = np.ones(len(weights)), np.zeros(len(weights), dtype=bool)
    while not certain.all():
        p[~certain] = weights[~certain] * (n - certain.sum()) / weights[~certain].sum()
        if not (over := ~certain & (p >= 1)).any():
            break
        p[over], certain = 1.0, certain | over
    return p


def systematic(p: np.ndarray, start: float) -> np.ndarray:
    """Which units are drawn, shape (N,): those in which the running sum of p, moved by `start` in [0, 1), passes a
    whole number. Each is drawn with probability p where start is uniform, and exactly sum(p) of them are. Those with
    p = 1 are always drawn."""
    drawn = p >= 1
    rest = p[~drawn]
    if len(rest):
        sums = np.cumsum(rest)
        sums *= round(sums[-1]) / sums[-1]
        drawn[~drawn] = np.diff(np.floor(sums + start), prepend=0.0) > 0
    return drawn


def counts(design: Design) -> list[dict]:
    """For each stratum how many battles it has, how many are drawn, and the probability of each."""
    battles = Counter(battle.stratum for battle in design.battles)
    drawn = Counter(battle.stratum for battle in design.battles if battle.drawn)
    p = {battle.stratum: battle.probability for battle in design.battles}
    return [{"stratum": h, "battles": battles[h], "drawn": drawn[h], "sampling_probability": p[h]} for h in sorted(p)]


def _judge_of(candidates: Sequence[Candidate]) -> str | None:
    judges = sorted({c.judge for c in candidates if c.judge is not None})
    if len(judges) > 1:
        raise DataError(
            f"the scores are of several judges ({', '.join(judges[:3])})",
            "how sure two judges are cannot be compared",
            "give the scores of one judge",
        )
    return judges[0] if judges else None


def _models(candidate: Candidate) -> tuple[str, ...]:
    return tuple(sorted((candidate.pair.model_a or "", candidate.pair.model_b or "")))


def _random(seed: int, *what: object) -> float:
    """A number from 0 up to but not 1, from the seed and what it is for."""
    text = "\n".join(map(str, (seed, *what)))
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13
