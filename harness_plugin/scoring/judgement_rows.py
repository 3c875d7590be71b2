"""Rows of judgements, checked: the fields of a row, whether its numbers follow from its logits, and its checksum.

Knows the fields of a `Judgement` by name and not the class, which reads its rows with this file. Rows of version 0.1.0,
which had no schema number, are read too.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.checked import number, optional_text, text, wrong_value
from harness_plugin.pairs import Winner
from harness_plugin.scoring.probabilities import Outcomes, average_orders, davidson_log_probabilities, length_ratio

SCHEMA = 2
"""The number of the row format."""

TOLERANCE = 1e-6
"""How far a stored score or probability may be from what its logits give: rounding, and nothing more."""

Logits = tuple[float, ...]
"""One logit (positive: the response shown second is preferred), or three: first, second, tie."""

Vote = tuple[float, float, float] | None
"""What a member of a panel said: P of A, B, tie; None where it could not judge the pair."""

_PROBABILITIES = ("p_a", "p_b", "p_tie")


def recompute(judgements: Sequence[Any]) -> Outcomes:
    """What the logits of n judgements give; all have the same orders and a head of the same size."""
    one = judgements[0]
    return outcomes_of(
        None if one.z_ab is None else [j.z_ab for j in judgements],
        None if one.z_ba is None else [j.z_ba for j in judgements],
        np.array([j.temperature for j in judgements]),
        np.array([j.tie_nu for j in judgements]),
        np.array([added_logit(j, j.length_a, j.length_b, j.surface) for j in judgements]),
    )


def added_logit(worths: Any, length_a: int | None, length_b: int | None, surface: float | None) -> float:
    """What a calibration adds to the logit of a pair: what its surface tells, and less what its lengths are worth.
    `worths`: whatever has `length_worth` and `surface_worth`, a `Calibration` or a `Judgement`."""
    added = 0.0
    if worths.length_worth and length_a is not None and length_b is not None:
        added -= worths.length_worth * float(length_ratio(length_a, length_b))
    if worths.surface_worth and surface is not None:
        added += worths.surface_worth * surface
    return added


def outcomes_of(z_ab, z_ba, temperature: np.ndarray, tie_nu: np.ndarray, added: np.ndarray) -> Outcomes:
    """`probabilities.combine` with a calibration for each of n pairs, shape (n,), and with either order or both.

    B shown first says of A and B what A shown first says of B and A. Without logits nothing speaks for either side.
    `added`, shape (n,), is added to the logit (`added_logit`)."""
    if z_ab is None and z_ba is None:
        s, bias, log_tie = np.zeros(len(temperature)), np.full(len(temperature), np.nan), None
    elif z_ab is None:
        s, bias, log_tie = average_orders(z_ba)
        s = -s
    else:
        s, bias, log_tie = average_orders(z_ab, z_ba)
    s = s + added
    with np.errstate(divide="ignore"):  # a tie mass of 0 is a log weight of -inf
        log_tie = np.log(tie_nu) if log_tie is None else log_tie / temperature
    return Outcomes(s, bias, davidson_log_probabilities(s / temperature, log_tie))


def row_checksum(row: Mapping[str, Any]) -> str:
    """The first 16 hex digits of the sha256 of a row, its own `checksum` aside. It tells an edited or damaged row from
    the row that was written, also where the edited numbers agree with each other."""
    content = {name: value for name, value in row.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def check_checksum(row: Mapping[str, Any], written: Mapping[str, Any], where: str) -> None:
    """Compares the checksum in `row` with that of `written`, the row that its judgement gives. Raises DataError where
    they differ. Rows of version 0.1.0 have none."""
    if "schema" in row and row.get("checksum") != written["checksum"]:
        raise DataError(
            f"{where}: the checksum is {row.get('checksum')!r}, but the row gives {written['checksum']!r}",
            "the row was edited or damaged after it was written",
            "make the file again",
        )


def fields_of_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a `Judgement` from its row, each checked to be of its type. Raises DataError, which begins with
    `where`. Whether the numbers follow from each other is checked by `check_judgements`."""
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
    if row.get("surface_worth") and row.get("surface") is None:
        raise wrong_value("surface", None, "a number, as surface_worth is given", where)
    winner = optional_text(row, "winner", where)
    if winner and winner not in list(Winner):
        raise wrong_value("winner", winner, ", ".join(Winner), where)
    return {
        "id": text(row, "id", where),
        "key": text(row, "key", where),
        "prompt_key": prompt_key,
        "prompt_id": optional_text(row, "prompt_id", where) or prompt_key,
        "judge": text(row, "judge", where),
        "z_ab": _logits(row, "z_ab", where),
        "z_ba": _logits(row, "z_ba", where),
        "temperature": temperature,
        "tie_nu": number(row, "tie_nu", where, 0),
        "length_worth": 0.0 if row.get("length_worth") is None else number(row, "length_worth", where),
        "surface_worth": 0.0 if row.get("surface_worth") is None else number(row, "surface_worth", where),
        "score": number(row, "score", where),
        "position_bias": None if row.get("position_bias") is None else number(row, "position_bias", where),
        "p_a": p_a,
        "p_b": p_b,
        "p_tie": p_tie,
        "tokens": None if row.get("tokens") is None else int(number(row, "tokens", where, 0)),
        "truncated": _flag(row, "truncated", where),
        "kept": _kept(row, where),
        "length_a": _length(row, "length_a", where),
        "length_b": _length(row, "length_b", where),
        "winner": Winner(winner) if winner else None,
        "model_a": optional_text(row, "model_a", where) or None,
        "model_b": optional_text(row, "model_b", where) or None,
        "category": optional_text(row, "category", where) or None,
        "identical": _flag(row, "identical", where),
        "surface": None if row.get("surface") is None else number(row, "surface", where),
        "r_a": None if row.get("r_a") is None else number(row, "r_a", where),
        "r_b": None if row.get("r_b") is None else number(row, "r_b", where),
        "votes": _votes(row, where),
        "stage": optional_text(row, "stage", where) or None,
        "abstained": _flag(row, "abstained", where),
    }


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


def _votes(row: Mapping[str, Any], where: str) -> dict[str, Vote]:
    value = row.get("votes") or {}
    if not isinstance(value, dict):
        raise wrong_value("votes", value, "an object", where)
    votes: dict[str, Vote] = {}
    for name, vote in value.items():
        if vote is not None and not (isinstance(vote, list) and len(vote) == 3):
            raise wrong_value("votes", value, "for each member P of A, B and tie, or null", where)
        a, b, tie = (number({name: p}, name, where, 0, 1) for p in vote or (0, 0, 0))
        votes[name] = None if vote is None else (a, b, tie)
    return votes


def _kept(row: Mapping[str, Any], where: str) -> dict[str, tuple[int, int]]:
    value = row.get("kept") or {}
    if not isinstance(value, dict):
        raise wrong_value("kept", value, "an object", where)
    for counts in value.values():
        if not (isinstance(counts, list) and len(counts) == 2 and all(type(n) is int for n in counts)):
            raise wrong_value("kept", value, "for each field two whole numbers: tokens kept, tokens before", where)
    return {name: (counts[0], counts[1]) for name, counts in value.items()}


def check_judgements(places: Sequence[str], judgements: Sequence[Any]) -> None:
    """Compares what n judgements say with what their logits give. Raises DataError, with the judgement's place, for the
    first whose score, bias or probabilities do not follow, or whose logits do not follow from those of its responses.

    Those with the same orders and a head of the same size are computed together: one at a time would take a hundred
    times as long.
    """
    groups: dict[tuple, list[int]] = {}
    for n, judgement in enumerate(judgements):
        sizes = [len(z) for z in (judgement.z_ab, judgement.z_ba) if z is not None]
        if len(set(sizes)) != 1 and not (judgement.identical and not sizes):
            logits = [judgement.z_ab, judgement.z_ba]
            raise wrong_value("z_ab and z_ba", logits, "logits of one head", places[n])
        _check_rewards(places[n], judgement)
        groups.setdefault((judgement.orders, judgement.identical, *sizes), []).append(n)
    for group in groups.values():
        _check([places[n] for n in group], [judgements[n] for n in group])


def _check_rewards(place: str, judgement: Any) -> None:
    """Raises DataError for logits of a pair that are not the difference between those of its responses, where these are
    given."""
    r_a, r_b = judgement.r_a, judgement.r_b
    if r_a is None and r_b is None:
        return
    if r_a is None or r_b is None:
        raise wrong_value("r_a and r_b", [r_a, r_b], "the logits of both responses", place)
    for name, wanted in (("z_ab", r_b - r_a), ("z_ba", r_a - r_b)):
        z = getattr(judgement, name)
        if z is not None and (len(z) != 1 or abs(z[0] - wanted) > TOLERANCE * max(1.0, abs(wanted))):
            raise DataError(
                f"{place}: {name} is {_shown(z)}, but r_a and r_b give {wanted:.6g}",
                "a row whose logit is not the difference between those of its responses was edited or damaged",
                "make the file again",
            )


def _shown(logits: Logits) -> str:
    return ", ".join(f"{z:.6g}" for z in logits)


def _check(places: list[str], judgements: list[Any]) -> None:
    """Raises DataError for the first of the judgements whose numbers do not follow from its logits."""
    outcomes = recompute(judgements)
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
