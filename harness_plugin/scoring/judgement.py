"""What a judge said of a pair: one record, and one place that writes and reads it.

Score files, verdicts, the gate, lm-eval's tasks, training's validation and the pytest plugin all hold `Judgement`s.
Knows numbers, pairs and rows; no model, no engine and no file.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.checked import number, optional_text, text, wrong_value
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, Winner, text_length
from harness_plugin.scoring.outcome import (
    Outcomes,
    average_orders,
    davidson_log_probabilities,
    log_probabilities,
)

SCHEMA = 2
"""The number of the row format. Version 0.1.0 wrote rows without a number; they are read as far as they go."""

TOLERANCE = 1e-6
"""How far a stored score or probability may be from what its logits give: rounding, and nothing more."""

Logits = tuple[float, ...]
"""One logit (positive: the response shown second is preferred), or three: first, second, tie."""

_PROBABILITIES = ("p_a", "p_b", "p_tie")


@dataclass(frozen=True)
class Judgement:
    """One pair, as one judge sees it.

    `id`: the pair's; `key`: content id of its three texts, in this order of the sides; `prompt_key`: content id of the
    prompt, which names the cluster; `prompt_id`: the prompt's name within a tournament, where a benchmark may repeat a
    prompt. `judge`: the judge's hash (`identity.identity_hash`).

    `z_ab`: logits with A shown first; `z_ba`: logits with B shown first; None where that order was not judged. A pair
    of identical texts needs no judge: then both are None and `identical` is true. `temperature`, `tie_nu`: the
    calibration that was in force. From these follow `score` (the log odds for B, position cancelled) and
    `position_bias` (positive: the response shown second; None with one order), both in raw logits, not divided by the
    temperature; and `p_a`, `p_b`, `p_tie`.

    `tokens` and `truncated` are over the presentations that were judged; `kept` maps a field to (kept, original) tokens
    with A first. `length_a`, `length_b`: characters, None in rows of version 0.1.0 that lack them. `winner`, `model_a`,
    `model_b`, `category`: what the pair's file said.
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
    tokens: int = 0
    truncated: bool = False
    kept: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    length_a: int | None = None
    length_b: int | None = None
    winner: Winner | None = None
    model_a: str | None = None
    model_b: str | None = None
    category: str | None = None
    identical: bool = False

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
        return self.p_b + self.p_tie / 2

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
        return _recomputed([self]).logp[0]

    def of_pair(self, pair: Pair) -> "Judgement":
        """The same judgement of the same texts under the name of `pair`, with what that pair's file said."""
        return replace(self, **_pair_fields(pair))

    def swapped(self) -> "Judgement":
        """The judgement of the pair with its sides exchanged. `key` remains that of the texts as they were judged."""
        return replace(
            self,
            z_ab=self.z_ba,
            z_ba=self.z_ab,
            score=-self.score,
            p_a=self.p_b,
            p_b=self.p_a,
            length_a=self.length_b,
            length_b=self.length_a,
            winner=self.winner and self.winner.swapped,
            model_a=self.model_b,
            model_b=self.model_a,
        )

    def to_row(self) -> dict[str, Any]:
        """The judgement as a JSON object. Logits are a number for a head of one and a list for a head of three. What is
        not known of winner, models, category and lengths is left out."""
        optional = {
            "winner": self.winner and self.winner.value,
            "category": self.category,
            "model_a": self.model_a,
            "model_b": self.model_b,
            "length_a": self.length_a,
            "length_b": self.length_b,
            "prompt_id": None if self.prompt_id == self.prompt_key else self.prompt_id,
            "identical": self.identical or None,
        }
        return {
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
            "temperature": self.temperature,
            "tie_nu": self.tie_nu,
            "tokens": self.tokens,
            "truncated": self.truncated,
            "kept": {name: list(counts) for name, counts in self.kept.items()},
            **{name: value for name, value in optional.items() if value is not None},
            "prompt_key": self.prompt_key,
            "judge": self.judge,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: str = "row") -> "Judgement":
        """The judgement that `to_row` wrote. Raises DataError, which begins with `where`, for a field of another type,
        a number that is not finite, and a score or probability that does not follow from the logits."""
        return next(read_judgements([(where, row)]))


def judged(
    pairs: Sequence[Pair],
    z_ab: Sequence[Logits] | None,
    z_ba: Sequence[Logits] | None,
    calibration: Calibration,
    judge: str,
    reading: Sequence[Mapping[str, Any]] | None = None,
) -> list[Judgement]:
    """The judgements of n pairs from their logits, n x 1 or n x 3 for each order; one of the orders may be None.

    `judge`: the judge's hash. `reading`: for each pair what the judge read of it, as the fields `tokens`, `truncated`
    and `kept`. Raises DataError for heads of other sizes.
    """
    if not pairs:
        return []
    n = len(pairs)
    outcomes = _outcomes(z_ab, z_ba, np.full(n, calibration.temperature), np.full(n, calibration.tie_nu))
    p = outcomes.p  # (n, 3)
    return [
        Judgement(
            **_pair_fields(pair),
            key=pair.key,
            judge=judge,
            z_ab=None if z_ab is None else tuple(map(float, z_ab[n])),
            z_ba=None if z_ba is None else tuple(map(float, z_ba[n])),
            temperature=calibration.temperature,
            tie_nu=calibration.tie_nu,
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
    p_a, p_b, p_tie = np.exp(log_probabilities([0.0], calibration)[0]).tolist()
    return Judgement(
        **_pair_fields(pair),
        key=pair.key,
        judge=judge,
        z_ab=None,
        z_ba=None,
        temperature=calibration.temperature,
        tie_nu=calibration.tie_nu,
        score=0.0,
        position_bias=None,
        p_a=p_a,
        p_b=p_b,
        p_tie=p_tie,
        identical=True,
    )


def joined(ab: Sequence[Judgement], ba: Sequence[Judgement]) -> list[Judgement]:
    """The judgements of n pairs from those of one order each, by the same judge. Tokens add up; what was kept is that
    of A shown first."""
    if not ab:
        return []
    both = [
        replace(one, z_ba=other.z_ba, tokens=one.tokens + other.tokens, truncated=one.truncated or other.truncated)
        for one, other in zip(ab, ba, strict=True)
    ]
    outcomes = _recomputed(both)
    rows = zip(both, outcomes.s.tolist(), outcomes.bias.tolist(), outcomes.p.tolist(), strict=True)
    return [
        replace(judgement, score=s, position_bias=bias, p_a=p[0], p_b=p[1], p_tie=p[2])
        for judgement, s, bias, p in rows
    ]


def read_judgements(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Judgement]:
    """The judgements of rows that `Judgement.to_row` wrote, each with its place for messages. Checked as `from_row`
    says, a thousand at a time."""
    part: list[tuple[str, Judgement]] = []
    for where, row in rows:
        part.append((where, _parsed(row, where)))
        if len(part) == _AT_ONCE:
            yield from _verified(part)
            part = []
    yield from _verified(part)


@dataclass(frozen=True)
class JudgementArrays:
    """n judgements as arrays. `models`: sorted names; `i`, `j`: indices of model_a and model_b, -1 where unnamed;
    `score`, `bias` (NaN where unknown), `win_b`: shape (n,); `p`: (n, 3), of A, B, tie; `lengths`: (n, 2), NaN where
    unknown; `winners`: 0 A, 1 B, 2 tie, -1 unknown; `clusters`: prompt keys; `categories`: "" where unknown;
    `truncated`: true or false."""

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
    index = {name: k for k, name in enumerate(ordered)}

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
    )


_AT_ONCE = 1024


def _pair_fields(pair: Pair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "prompt_key": pair.prompt_key,
        "prompt_id": pair.meta.get("prompt_id", pair.prompt_key),
        "length_a": text_length(pair.response_a),
        "length_b": text_length(pair.response_b),
        "winner": pair.winner,
        "model_a": pair.model_a,
        "model_b": pair.model_b,
        "category": pair.category,
    }


def _number_or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _plain(logits: Logits | None) -> float | list[float] | None:
    return logits if logits is None else logits[0] if len(logits) == 1 else list(logits)


def _recomputed(judgements: Sequence[Judgement]) -> Outcomes:
    """What the logits of n judgements give; all have the same orders and a head of the same size."""
    one = judgements[0]
    return _outcomes(
        None if one.z_ab is None else [j.z_ab for j in judgements],
        None if one.z_ba is None else [j.z_ba for j in judgements],
        np.array([j.temperature for j in judgements]),
        np.array([j.tie_nu for j in judgements]),
    )


def _outcomes(z_ab, z_ba, temperature: np.ndarray, tie_nu: np.ndarray) -> Outcomes:
    """`outcome.combine` with a calibration for each of n pairs, shape (n,), and with either order or both. B shown
    first says of A and B what A shown first says of B and A. Without logits nothing speaks for either side."""
    if z_ab is None and z_ba is None:
        s, bias, log_tie = np.zeros(len(temperature)), np.full(len(temperature), np.nan), None
    elif z_ab is None:
        s, bias, log_tie = average_orders(z_ba)
        s = -s
    else:
        s, bias, log_tie = average_orders(z_ab, z_ba)
    with np.errstate(divide="ignore"):  # a tie mass of 0 is a log weight of -inf
        log_tie = np.log(tie_nu) if log_tie is None else log_tie / temperature
    return Outcomes(s, bias, davidson_log_probabilities(s / temperature, log_tie))


def _parsed(row: Mapping[str, Any], where: str) -> Judgement:
    """The row's judgement, each field of its type; whether the numbers follow from each other is checked later."""
    if row.get("schema", 1) not in (1, SCHEMA):
        raise DataError(
            f"{where} has schema {row['schema']!r}",
            f"this version of arena-rm reads schema {SCHEMA} and the rows of version 0.1.0",
            "use the version of arena-rm that wrote it, or make the file again",
        )
    if "schema" not in row:
        row = _of_version_0_1(row, where)
    p_a, p_b, p_tie = (number(row, name, where, 0, 1) for name in _PROBABILITIES)
    temperature = number(row, "temperature", where, 0)
    if temperature == 0:
        raise wrong_value("temperature", 0, "a number above 0", where)
    prompt_key = text(row, "prompt_key", where)
    winner = optional_text(row, "winner", where)
    if winner and winner not in list(Winner):
        raise wrong_value("winner", winner, ", ".join(Winner), where)
    return Judgement(
        id=text(row, "id", where),
        key=text(row, "key", where),
        prompt_key=prompt_key,
        prompt_id=optional_text(row, "prompt_id", where) or prompt_key,
        judge=text(row, "judge", where),
        z_ab=_logits(row, "z_ab", where),
        z_ba=_logits(row, "z_ba", where),
        temperature=temperature,
        tie_nu=number(row, "tie_nu", where, 0),
        score=number(row, "score", where),
        position_bias=None if row.get("position_bias") is None else number(row, "position_bias", where),
        p_a=p_a,
        p_b=p_b,
        p_tie=p_tie,
        tokens=int(number(row, "tokens", where, 0)),
        truncated=_flag(row, "truncated", where),
        kept=_kept(row, where),
        length_a=_length(row, "length_a", where),
        length_b=_length(row, "length_b", where),
        winner=Winner(winner) if winner else None,
        model_a=optional_text(row, "model_a", where) or None,
        model_b=optional_text(row, "model_b", where) or None,
        category=optional_text(row, "category", where) or None,
        identical=_flag(row, "identical", where),
    )


def _of_version_0_1(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A row of version 0.1.0 with what its schema lacked. The calibration is what the probabilities say, since P(B) /
    P(A) = e^(s / T) and P(tie)^2 = nu^2 P(A) P(B). For a head of three logits, score and bias were divided by T. The
    prompt's name in a tournament stood behind a hyphen in the id."""
    p_a, p_b, p_tie = (number(row, name, where, 0, 1) for name in _PROBABILITIES)
    score, behind = number(row, "score", where), text(row, "id", where).partition("-")[2]
    more: dict[str, Any] = {"temperature": 1.0, "tie_nu": 0.0}
    if behind.startswith(text(row, "prompt_key", where)):
        more["prompt_id"] = behind
    z_ab, z_ba = _logits(row, "z_ab", where), _logits(row, "z_ba", where)
    if z_ab and len(z_ab) == 3:
        s, bias, _ = average_orders([z_ab], z_ba and [z_ba])
        scaled = score if z_ba is None or abs(s[0]) > abs(bias[0]) else number(row, "position_bias", where)
        raw = float(s[0] if scaled is score else bias[0])
        more["temperature"] = raw / scaled if raw * scaled > 0 else 1.0
        more["score"] = score * more["temperature"]
        if z_ba is not None:
            more["position_bias"] = number(row, "position_bias", where) * more["temperature"]
    elif p_a and p_b:
        odds = math.log(p_b / p_a)
        more["temperature"] = score / odds if score * odds > 0 else 1.0
        more["tie_nu"] = p_tie / math.sqrt(p_a * p_b)
    return {**row, **more}


def _logits(row: Mapping[str, Any], name: str, where: str) -> Logits | None:
    value = row.get(name)
    if value is None:
        return None
    several = value if isinstance(value, list) else [value]
    if len(several) not in (1, 3):
        raise wrong_value(name, value, "one logit, or a list of three", where)
    return tuple(number({name: one}, name, where) for one in several)


def _flag(row: Mapping[str, Any], name: str, where: str) -> bool:
    value = row.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong_value(name, value, "true or false", where)
    return bool(value)


def _length(row: Mapping[str, Any], name: str, where: str) -> int | None:
    return None if row.get(name) is None else int(number(row, name, where, 0))


def _kept(row: Mapping[str, Any], where: str) -> dict[str, tuple[int, int]]:
    value = row.get("kept") or {}
    if not isinstance(value, dict):
        raise wrong_value("kept", value, "an object", where)
    for counts in value.values():
        if not (isinstance(counts, list) and len(counts) == 2 and all(type(n) is int for n in counts)):
            raise wrong_value("kept", value, "for each field two whole numbers: tokens kept, tokens before", where)
    return {name: (counts[0], counts[1]) for name, counts in value.items()}


def _verified(part: list[tuple[str, Judgement]]) -> Iterator[Judgement]:
    """The judgements of the part, each compared with what its logits give. Those with the same orders and a head of the
    same size are computed together: one at a time would take a hundred times as long."""
    groups: dict[tuple, list[tuple[str, Judgement]]] = {}
    for where, judgement in part:
        sizes = [len(z) for z in (judgement.z_ab, judgement.z_ba) if z is not None]
        if len(set(sizes)) != 1 and not (judgement.identical and not sizes):
            raise wrong_value("z_ab and z_ba", [judgement.z_ab, judgement.z_ba], "logits of one head", where)
        groups.setdefault((judgement.orders, judgement.identical, *sizes), []).append((where, judgement))
    for group in groups.values():
        _verify([where for where, _ in group], [judgement for _, judgement in group])
    return iter([judgement for _, judgement in part])


def _verify(places: list[str], judgements: list[Judgement]) -> None:
    """Raises DataError for the first of the judgements whose numbers do not follow from its logits."""
    outcomes = _recomputed(judgements)
    columns = {"score": outcomes.s, "position_bias": outcomes.bias}
    columns |= dict(zip(_PROBABILITIES, outcomes.p.T, strict=True))
    for name, wanted in columns.items():
        stored = np.array([getattr(j, name) for j in judgements], dtype=np.float64)  # None becomes NaN
        near = np.abs(stored - wanted) <= TOLERANCE * np.maximum(1.0, np.abs(wanted))
        wrong_rows = np.flatnonzero(~(near | (np.isnan(stored) & np.isnan(wanted))))
        if len(wrong_rows):
            n = int(wrong_rows[0])
            raise DataError(
                f"{places[n]}: {name} is {getattr(judgements[n], name)!r}, but the logits give {wanted[n]:.6g}",
                "a judgement that does not follow from its logits was edited or damaged",
                "make the file again",
            )
