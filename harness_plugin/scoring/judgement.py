"""What a judge said of a pair: one record, and one place that writes and reads it.

Score files, verdicts, the gate, lm-eval's tasks, training's validation and the pytest plugin all hold `Judgement`s.
Knows numbers, pairs and rows; no model, no engine and no file.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, Winner
from harness_plugin.scoring.judgement_rows import (
    SCHEMA,
    Logits,
    Vote,
    added_logit,
    check_checksum,
    check_judgements,
    fields_of_row,
    outcomes_of,
    recompute,
    row_checksum,
)
from harness_plugin.scoring.probabilities import win_of_b
from harness_plugin.scoring.surface import surface_logit
from harness_plugin.stats.selective import confidence_of

log = logging.getLogger("lm_eval.arena_rm")

Place = TypeVar("Place", bound=str)
"""How messages name the place of a row, which may say more to its reader."""


@dataclass(frozen=True)
class Judgement:
    """One pair, as one judge sees it.

    `id`: the pair's; `key`: content id of its three texts, in this order of the sides; `prompt_key`: content id of the
    prompt, which names the cluster; `prompt_id`: the prompt's name within a tournament, where a benchmark may repeat a
    prompt. `judge`: the judge's hash (`identity.identity_hash`).

    `z_ab`: logits with A shown first; `z_ba`: logits with B shown first; None where that order was not judged. A pair
    of identical texts needs no judge: then both are None and `identical` is true. `temperature`, `tie_nu`,
    `length_worth`, `surface_worth`: the calibration that was in force. From these follow `score` (the log odds for B,
    position cancelled, with what the calibration adds for surface and length) and `position_bias` (positive: the
    response shown second; None with one order), both in raw logits, not divided by the temperature; and `p_a`, `p_b`,
    `p_tie`.

    `tokens` and `truncated` are over the presentations that were judged: how many tokens were read, and of a chat model
    written too (None where its server does not say), and whether a text was cut. `kept` maps a field to (kept,
    original) tokens with A first. `length_a`, `length_b`: characters, None in rows of version 0.1.0 that lack them.
    `winner`, `model_a`, `model_b`, `category`: what the pair's file said. `surface`: what the baseline of surface
    features says, as log odds for B, of a pair with a winner or where the calibration adds it. `r_a`, `r_b`: the logits
    of the two responses where a pointwise reward model gave them one each, else None; then z_ab is (r_b - r_a,) and
    z_ba, where it is given, (r_a - r_b,).

    `votes`: of a panel, each member's P of A, B, tie, None where it could not judge the pair. `stage`: of a cascade,
    the judge that decided. `abstained`: the judge was not sure enough, so that this is no verdict.
    """

    id: str
    key: str
    prompt_key: str
    prompt_id: str
    judge: str
    z_ab: Logits | None
    z_ba: Logits | None
    temperature: float
    tie_nu: float
    score: float
    position_bias: float | None
    p_a: float
    p_b: float
    p_tie: float
    tokens: int | None = None
    truncated: bool = False
    kept: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    length_a: int | None = None
    length_b: int | None = None
    winner: Winner | None = None
    model_a: str | None = None
    model_b: str | None = None
    category: str | None = None
    identical: bool = False
    surface: float | None = None
    length_worth: float = 0.0
    surface_worth: float = 0.0
    r_a: float | None = None
    r_b: float | None = None
    votes: Mapping[str, Vote] = field(default_factory=dict, hash=False)
    stage: str | None = None
    abstained: bool = False

    def __str__(self) -> str:
        """One line for a log: lm-eval writes it into the samples of a task."""
        return f"pair {self.id}: P(A) {self.p_a:.4f}, P(B) {self.p_b:.4f}, P(tie) {self.p_tie:.4f}"

    @property
    def p(self) -> tuple[float, float, float]:
        """P of A, B, tie."""
        return self.p_a, self.p_b, self.p_tie

    @property
    def win_b(self) -> float:
        """How much of a win the judgement is for B: P(B), and half of P(tie)."""
        return win_of_b(self.p_a, self.p_b)

    @property
    def confidence(self) -> float:
        """P of the side that is the more likely winner, given that there is no tie: from 0.5 to 1."""
        return confidence_of(abs(self.score) / self.temperature)

    @property
    def logit(self) -> float:
        """The judge's own log odds for B, position cancelled: `score` without what the calibration adds."""
        return self.score - added_logit(self, self.length_a, self.length_b, self.surface)

    @property
    def preferred(self) -> str | None:
        """ "a" or "b", whichever is the more likely winner; None where neither is."""
        return None if self.score == 0 else "b" if self.score > 0 else "a"

    @property
    def orders(self) -> str:
        """ "ab" or "ba" where only that order was judged, else "both"."""
        return "ab" if self.z_ba is None and not self.identical else "ba" if self.z_ab is None and self.z_ba else "both"

    @property
    def log_p(self) -> np.ndarray:
        """ln P of A, B, tie, shape (3,), from the logits; -inf where the judge has no ties."""
        return recompute([self]).logp[0]

    def of_pair(self, pair: Pair) -> "Judgement":
        """The same judgement of the same texts under the name of `pair`, with what that pair's file said."""
        return replace(self, **_pair_fields(pair, self.surface_worth, self.surface))

    def swapped(self) -> "Judgement":
        """The judgement of the pair with its sides exchanged. `key` remains that of the texts as they were judged."""
        return replace(
            self,
            z_ab=self.z_ba,
            z_ba=self.z_ab,
            r_a=self.r_b,
            r_b=self.r_a,
            score=-self.score,
            p_a=self.p_b,
            p_b=self.p_a,
            length_a=self.length_b,
            length_b=self.length_a,
            winner=self.winner and self.winner.swapped,
            surface=None if self.surface is None else -self.surface,
            votes={name: vote and (vote[1], vote[0], vote[2]) for name, vote in self.votes.items()},
            model_a=self.model_b,
            model_b=self.model_a,
        )

    def to_row(self) -> dict[str, Any]:
        """The judgement as a JSON object. Logits are a number for a head of one and a list for a head of three. What is
        not known of winner, models, category and lengths is left out. `checksum` is over all other fields."""
        optional = {
            "winner": self.winner and self.winner.value,
            "category": self.category,
            "model_a": self.model_a,
            "model_b": self.model_b,
            "length_a": self.length_a,
            "length_b": self.length_b,
            "prompt_id": None if self.prompt_id == self.prompt_key else self.prompt_id,
            "identical": self.identical or None,
            "surface": self.surface,
            "length_worth": self.length_worth or None,
            "surface_worth": self.surface_worth or None,
            "r_a": self.r_a,
            "r_b": self.r_b,
            "votes": {name: vote and list(vote) for name, vote in self.votes.items()} or None,
            "stage": self.stage,
            "abstained": self.abstained or None,
        }
        row = {
            "schema": SCHEMA,
            "id": self.id,
            "key": self.key,
            "z_ab": _plain(self.z_ab),
            "z_ba": _plain(self.z_ba),
            "score": self.score,
            "position_bias": self.position_bias,
            "p_a": self.p_a,
            "p_b": self.p_b,
            "p_tie": self.p_tie,
            "confidence": self.confidence,
            "temperature": float(self.temperature),
            "tie_nu": float(self.tie_nu),
            "tokens": self.tokens,
            "truncated": self.truncated,
            "kept": {name: list(counts) for name, counts in self.kept.items()},
            **{name: value for name, value in optional.items() if value is not None},
            "prompt_key": self.prompt_key,
            "judge": self.judge,
        }
        return row | {"checksum": row_checksum(row)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: str = "row") -> "Judgement":
        """The judgement that `to_row` wrote. Raises DataError, which begins with `where`, for a field of another type,
        a number that is not finite, a score or probability that does not follow from the logits, and a row that is not
        as it was written."""
        return next(read_judgements([(where, row)]))


def judged(
    pairs: Sequence[Pair],
    z_ab: Sequence[Logits] | None,
    z_ba: Sequence[Logits] | None,
    calibration: Calibration,
    judge: str,
    reading: Sequence[Mapping[str, Any]] | None = None,
) -> list[Judgement]:
    """The judgements of n pairs from their logits, n x 1 or n x 3 for each order; an order that was not
    judged is None.

    `judge`: the judge's hash. `reading`: for each pair what the judge read of it, as the fields `tokens`, `truncated`
    and `kept`, and of a pointwise reward model `r_a` and `r_b`. Raises DataError for heads of other sizes.
    """
    if not pairs:
        return []
    n = len(pairs)
    fields = [_pair_fields(pair, calibration.surface_worth) for pair in pairs]
    added = np.array([added_logit(calibration, f["length_a"], f["length_b"], f["surface"]) for f in fields])
    numbers = np.full(n, calibration.temperature), np.full(n, calibration.tie_nu), added
    outcomes = outcomes_of(z_ab, z_ba, *numbers)
    p = outcomes.p  # (n, 3)
    return [
        Judgement(
            **fields[n],
            key=pair.key,
            judge=judge,
            z_ab=None if z_ab is None else tuple(map(float, z_ab[n])),
            z_ba=None if z_ba is None else tuple(map(float, z_ba[n])),
            temperature=calibration.temperature,
            tie_nu=calibration.tie_nu,
            length_worth=calibration.length_worth,
            surface_worth=calibration.surface_worth,
            score=float(outcomes.s[n]),
            position_bias=_number_or_none(outcomes.bias[n]),
            p_a=float(p[n, 0]),
            p_b=float(p[n, 1]),
            p_tie=float(p[n, 2]),
            **(reading[n] if reading else {}),
        )
        for n, pair in enumerate(pairs)
    ]


def judged_identical(pair: Pair, calibration: Calibration, judge: str) -> Judgement:
    """The judgement of a text against itself: what every judge says once both orders are averaged."""
    (judgement,) = judged([pair], None, None, calibration, judge)
    return replace(judgement, identical=True, tokens=0)


class Counted(Protocol):
    """What has a number of tokens, None where it is not known."""

    @property
    def tokens(self) -> int | None: ...


def joined(ab: Sequence[Judgement], ba: Sequence[Judgement]) -> list[Judgement]:
    """The judgements of n pairs from those of one order each, by the same judge. Tokens add up; what was kept is that
    of A shown first. The votes of a panel's members, which were of one order, are left out."""
    if not ab:
        return []
    both = [
        replace(
            one,
            votes={},
            z_ba=other.z_ba,
            tokens=total_tokens([one, other]),
            truncated=one.truncated or other.truncated,
        )
        for one, other in zip(ab, ba, strict=True)
    ]
    outcomes = recompute(both)
    rows = zip(both, outcomes.s.tolist(), outcomes.bias.tolist(), outcomes.p.tolist(), strict=True)
    return [
        replace(judgement, score=s, position_bias=bias, p_a=p[0], p_b=p[1], p_tie=p[2])
        for judgement, s, bias, p in rows
    ]


def total_tokens(parts: Sequence[Counted]) -> int | None:
    """The tokens of all parts, such as judgements or answers; None where they are not known of each."""
    known = [part.tokens for part in parts if part.tokens is not None]
    return sum(known) if len(known) == len(parts) else None


def read_judgements(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Judgement]:
    """The judgements of rows that `Judgement.to_row` wrote, each with its place for messages. Checked as `from_row`
    says, a thousand at a time."""
    rows = iter(rows)
    while part := list(islice(rows, _AT_ONCE)):
        judgements = [Judgement(**fields_of_row(row, where)) for where, row in part]
        check_judgements([where for where, _ in part], judgements)
        for (where, row), judgement in zip(part, judgements, strict=True):
            check_checksum(row, judgement.to_row(), where)
        yield from judgements


def sound_judgements(rows: Iterable[tuple[str, Mapping[str, Any]]], place: str) -> Iterator[Judgement]:
    """The judgements of the rows that can be read, for a run that judges the others again. Says on the log how many
    rows of `place` are damaged, and why the first one is."""
    return (judgement for _, judgement in sound_rows(rows, place))


def sound_rows(rows: Iterable[tuple[Place, Mapping[str, Any]]], place: str) -> Iterator[tuple[Place, Judgement]]:
    """As `sound_judgements`, each with the place of its row."""
    rows, damaged = iter(rows), list[DataError]()
    while part := list(islice(rows, _AT_ONCE)):
        try:
            judgements = list(read_judgements(part))
        except DataError:  # one at a time, which takes far longer, for the sake of the rows that are whole
            for where, row in part:
                try:
                    yield where, Judgement.from_row(row, where)
                except DataError as e:
                    damaged.append(e)
        else:
            yield from zip((where for where, _ in part), judgements, strict=True)
    if damaged:
        log.warning(
            "arena_rm: %d rows of %s are damaged and are judged again (the first: %s)", len(damaged), place, damaged[0]
        )


_AT_ONCE = 1024


def _pair_fields(pair: Pair, surface_worth: float, surface: float | None = None) -> dict[str, Any]:
    """What a judgement has of its pair. `surface`: what `surface_logit` says of the texts, where it is known. It is
    kept for pairs with a winner, as the baseline, and where it counts in the verdict."""
    if pair.winner is None and not surface_worth:
        surface = None
    elif surface is None:
        surface = surface_logit(pair)
    own = pair.meta.get("prompt_id")  # a tournament's, or a column that a file of pairs happens to have
    return {
        "id": pair.id,
        "prompt_key": pair.prompt_key,
        "prompt_id": own if isinstance(own, str) and own.startswith(pair.prompt_key) else pair.prompt_key,
        "length_a": pair.lengths[0],
        "length_b": pair.lengths[1],
        "winner": pair.winner,
        "model_a": pair.model_a,
        "model_b": pair.model_b,
        "category": pair.category,
        "surface": surface,
    }


def _number_or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _plain(logits: Logits | None) -> float | list[float] | None:
    return logits if logits is None else logits[0] if len(logits) == 1 else list(logits)
