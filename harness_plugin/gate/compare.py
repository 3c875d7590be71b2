"""Two runs -> the items that both have, or the reason why they cannot be compared.

Fingerprints come first: what a run rests on besides what is under test must be the same. Knows no format and decides
nothing about better or worse.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from harness_plugin.errors import ArenaError, UsageError
from harness_plugin.gate.rules import MAX_MISSING
from harness_plugin.gate.stored_run import KINDS, PAIRS, Item, Run

NAMED = 10  # items named in a message
PROBABILITIES = ("p_right", "brier")  # values that change with every logit, of decisive pairs and of all
ROUNDING = 1e-4  # of a probability: what another machine or batch changes at most in float32


@dataclass(frozen=True)
class Difference:
    """A fingerprint that differs between the runs."""

    name: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.name}: {self.before} then, {self.after} now"


class NotComparable(ArenaError):
    """Runs that differ in more than what is under test. `differences`: which fingerprints; `missing`, `added`: items of
    one run only."""

    def __init__(self, found: str, why: str, do: str, differences=(), missing=(), added=()):
        super().__init__(found, why, do)
        self.differences, self.missing, self.added = tuple(differences), tuple(missing), tuple(added)


@dataclass(frozen=True)
class Comparison:
    """Runs that can be compared. `ids`: items of both, sorted; `missing`: of the baseline only; `added`: of the current
    run only; `ignored`: fingerprints that differ and were to be ignored; `subject`: what differs of what is under test;
    `changed`: how many items' outputs changed, None where runs have no outputs."""

    baseline: Run
    current: Run
    ids: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    ignored: tuple[Difference, ...]
    subject: tuple[Difference, ...]
    changed: int | None


def compare(baseline: Run, current: Run, ignore: Collection[str] = (), max_missing: float = MAX_MISSING) -> Comparison:
    """Raises NotComparable, with the fingerprints that differ or the items that are missing, and UsageError for an
    `ignore` that names no fingerprint. `max_missing`: the share of all items that may be in one run only."""
    if baseline.kind != current.kind:
        kinds = Difference("kind", KINDS[baseline.kind], KINDS[current.kind])
        raise NotComparable(str(kinds), "they measure different things", "name two runs of one kind", [kinds])
    ids = tuple(id for id in baseline.items if id in current.items)
    differences = [*_run_differences(baseline, current), *_item_differences(baseline, current, ids)]
    _check_ignored(ignore, baseline, current)
    fatal = [d for d in differences if d.name not in ignore]
    missing = tuple(id for id in baseline.items if id not in current.items)
    added = tuple(id for id in current.items if id not in baseline.items)
    if fatal:
        raise NotComparable(
            "; ".join(map(str, fatal)),
            "this difference alone could change the results",
            "make both runs with the same settings, or bless a new baseline",
            fatal,
            missing,
            added,
        )
    check_missing(ids, missing, added, max_missing)
    subject = tuple(_differing(baseline.subject, current.subject))
    return Comparison(
        baseline,
        current,
        ids,
        missing,
        added,
        tuple(d for d in differences if d.name in ignore),
        subject,
        _changed([(baseline.items[id], current.items[id]) for id in ids], current.kind),
    )


def _changed(items: list[tuple[Item, Item]], kind: str) -> int | None:
    """How many items' outputs differ; None where the runs do not have the outputs. A judge's outputs are its
    probabilities."""
    if kind == PAIRS:
        return sum(not _same_probabilities(old.values, new.values) for old, new in items)
    known = any(new.made for _, new in items)
    return sum(old.made != new.made for old, new in items) if known else None


def _same_probabilities(before: dict[str, float], after: dict[str, float]) -> bool:
    """Whether a judge said the same of a pair, up to rounding. Probabilities of 0 and 1 alone do not show that: many
    logits give them. A pair of which no probability is stored says nothing, and is the same."""
    names = [name for name in PROBABILITIES if name in before and name in after]
    close = all(abs(before[name] - after[name]) <= ROUNDING for name in names)
    return close and (not names or any(before[name] not in (0.0, 1.0) for name in names))


def _run_differences(baseline: Run, current: Run) -> list[Difference]:
    """The fingerprints that differ, and the metrics of which each run says another direction is better."""
    directions = [
        Difference(f"higher is better, for {name}", before, current.metrics[name])
        for name, before in baseline.metrics.items()
        if current.metrics.get(name, before) != before
    ]
    return _differing(baseline.fixed, current.fixed) + directions


def _differing(before: dict, after: dict) -> list[Difference]:
    """The names that have a value in both and whose values differ; what one of them does not know is not compared."""
    names = [name for name in before if before[name] is not None and after.get(name) is not None]
    return [Difference(name, before[name], after[name]) for name in names if before[name] != after[name]]


def _item_differences(baseline: Run, current: Run, ids: Collection[str]) -> list[Difference]:
    """One difference for each item fingerprint that differs in some items."""
    changed: dict[str, list[str]] = {}
    for id in ids:
        before, after = _fingerprints(baseline.items[id]), _fingerprints(current.items[id])
        if before != after:
            for name in before.keys() | after.keys():
                if before.get(name) != after.get(name):
                    changed.setdefault(name, []).append(id)
    return [
        Difference(
            name,
            f"{_fingerprints(baseline.items[where[0]]).get(name)!r} in item {where[0]}",
            f"{_fingerprints(current.items[where[0]]).get(name)!r} ({len(where)} of {len(ids)} items differ)",
        )
        for name, where in sorted(changed.items())
    ]


def _fingerprints(item: Item) -> dict:
    """What must be the same of an item in both runs: its cluster too, since the tests rest on it."""
    return {**item.fixed, "cluster": item.cluster}


def _check_ignored(ignore: Collection[str], *runs: Run) -> None:
    known = {"cluster"} | {name for run in runs for name in run.fixed}
    known |= {name for run in runs for item in run.items.values() for name in item.fixed}
    for name in ignore:
        if name not in known:
            raise UsageError(
                f"--ignore {name!r}", "these runs have no such fingerprint", f"it is one of {', '.join(sorted(known))}"
            )


def check_missing(ids: Collection[str], missing: Collection[str], added: Collection[str], max_missing: float) -> None:
    """Raises NotComparable where no item is in both runs (`ids`), or more than the share `max_missing` of all is in one
    of them only: the baseline (`missing`), or the current run (`added`)."""
    total = len(ids) + len(missing) + len(added)
    if ids and len(missing) + len(added) <= max_missing * total:
        return
    parts = [
        f"{len(found)} of {total} items are {where} ({', '.join(list(found)[:NAMED])}{', ...' * (len(found) > NAMED)})"
        for found, where in ((missing, "missing now"), (added, "new"))
        if found
    ]
    why, do = "no item is in both", "name two runs on the same prompts, or bless a new baseline"
    if ids:
        why = f"more than {max_missing:.3g} of the items are in one run only"
        do = "complete the runs, bless a new baseline, or allow it with --max-missing"
    raise NotComparable("; ".join(parts), why, do, missing=missing, added=added)
