"""A comparison and people's votes on the battles behind it -> are the new answers worse for people?

Answers that did not change differ by nothing, so only those that changed need votes. Of the judged runs that are
compared, the judge's verdicts on all battles help, as far as they go with people's (`stats.anchored_drop`).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from harness_plugin.errors import DataError, UsageError
from harness_plugin.gate.compare import Comparison
from harness_plugin.gate.decide import DECIDES, SECONDARY, ByPeople, Decision, Measured, State, notes_of
from harness_plugin.gate.rules import ITEMS, MARGIN, Rules
from harness_plugin.gate.stored_run import JUDGE, Item
from harness_plugin.pairs import Pair, read_pairs
from harness_plugin.stats.anchored_drop import AnchoredDrop, anchored_drop
from harness_plugin.stats.student import t_quantile
from harness_plugin.tournament import OF_VOTES, Votes, votes_of

METRIC, VALUE = "win_rate_people", "win_rate"


def read_votes(
    labels: str,
    rules: Rules,
    fields: Mapping[str, str] | None = None,
    winner_map: Mapping[str, str | None] | None = None,
) -> Votes:
    """The votes in the file `labels`, for a decision by these rules; `fields` and `winner_map` as in `read_pairs`.
    Raises UsageError for chosen metrics, DataError as `read_pairs` and `votes_of`."""
    if rules.metrics:
        raise UsageError("--metric with --labels", "with labels it is people's preference that decides", "use one")
    found = read_pairs(labels, skip_bad_rows=None, fields=fields, winner_map=winner_map, beside=OF_VOTES)
    return votes_of(found.pairs, labels)


def check_votes(votes: Votes, changed: Iterable[Pair]) -> None:
    """Raises DataError where none of the votes is on one of the battles of answers that changed, if there are any."""
    keys = [pair.key for pair in changed]
    if keys and not any(key in votes.shares for key in keys):
        raise _no_vote(votes, len(keys))


def _no_vote(votes: Votes, changed: int) -> DataError:
    return DataError(
        f"none of the votes in {votes.source} is on one of the {changed} answers that changed",
        "battles and votes are joined by the exact texts, and answers that did not change need no vote",
        "label battles of answers that changed",
    )


def decide_for_people(decision: Decision, votes: Votes) -> Decision:
    """The decision by the votes; the judge's numbers become secondary. Where no answer changed, the decision is the
    same. Raises UsageError for runs without battles, DataError for votes of which none is on an answer that changed."""
    c, rules = decision.comparison, decision.rules
    if c.current.kind != JUDGE or any(c.baseline.items[id].battle is None for id in c.ids):
        raise UsageError(
            "--labels with these runs",
            "votes are joined to battles by their texts, and only judged answers have battles",
            "name two folders of `arena-rm judge`, or use `arena-rm gate duel`",
        )
    if not c.changed:
        return replace(decision, notes=(*decision.notes, "no answer changed, so there is nothing to label"))
    found, by_people = _measured(c, votes, rules)
    judged = [replace(m, role=SECONDARY, margin=None, state=_drop(m, rules)) for m in decision.deciding]
    others = [m for m in decision.measured if m.role != DECIDES]
    measured = (found, *judged, *others)
    return replace(
        decision, state=found.state, measured=measured, notes=tuple(notes_of(c, [], rules)), by_people=by_people
    )


def _drop(m: Measured, rules: Rules) -> State:
    """What a metric that does not decide says."""
    return State.REGRESSION if m.p_holm <= rules.alpha else State.INCONCLUSIVE


def _measured(c: Comparison, votes: Votes, rules: Rules) -> tuple[Measured, ByPeople]:
    pairs = [(c.current.items[id], c.baseline.items[id]) for id in c.ids]
    changed = np.array([new.made != old.made for new, old in pairs])
    people = np.array([_share(new, votes) - _share(old, votes) for new, old in pairs])
    labelled = changed & np.isfinite(people)
    if not labelled.any():
        raise _no_vote(votes, int(changed.sum()))
    # Of both battles. Exact for two draws; one draw's joint probabilities are not in its labels (docs/anchor.md).
    chance = np.array([_chance(new, votes) * _chance(old, votes) for new, old in pairs])
    judge = np.array([new.values[VALUE] - old.values[VALUE] for new, old in pairs])
    duel = all(old.battle is not None and old.battle.identical for _, old in pairs)
    lowest = -0.5 if duel else -1.0
    clusters = [item.cluster for item, _ in pairs]
    found = anchored_drop(
        people, judge, changed, clusters, rules.alpha, lowest, probability=chance, by_items=rules.weigh == ITEMS
    )
    margin = MARGIN if rules.margin is None else rules.margin
    test = found.test if not duel else replace(found.test, before=0.5, after=0.5 + found.test.difference)
    state = State.PASS if test.low >= -margin else State.REGRESSION if test.p <= rules.alpha else State.INCONCLUSIVE
    smallest = _smallest_drop(found, margin, rules)
    measured = Measured(METRIC, DECIDES, True, test, margin, -lowest, False, test.p, smallest, state)
    battles = [item.battle for k in np.flatnonzero(labelled) for item in pairs[k]]
    used = {battle.key for battle in battles if battle is not None and not battle.identical}
    return measured, _by_people(found, votes, int(labelled.sum()), int(changed.sum()), len(used), margin, rules)


def _share(item: Item, votes: Votes) -> float:
    """How much of a win the chatbot under test has for people; NaN without a vote."""
    battle = item.battle
    if battle is None or battle.identical:
        return 0.5 if battle else math.nan
    share = votes.shares.get(battle.key, math.nan)
    return share if battle.second else 1 - share


def _chance(item: Item, votes: Votes) -> float:
    if votes.chances is None or item.battle is None or item.battle.identical:  # what is known was not drawn
        return 1.0
    return votes.chances.get(item.battle.key, 1.0)


def _smallest_drop(found: AnchoredDrop, margin: float, rules: Rules) -> float:
    """The true drop that is reported with the power asked for: significant, and the margin is not ruled out. NaN where
    there are too few labels for any to be significant."""
    test, labelled = found.test, found.mean.estimate.n_clusters
    if not test.stderr > 0 or 2.0**-labelled > rules.alpha:
        return math.nan
    seen, certain = (t_quantile(level, found.mean.degrees) * test.stderr for level in (rules.power, 1 - rules.alpha))
    drop = max(certain, margin - (test.difference - test.low)) + seen
    return drop if drop <= -test.lowest else math.nan


def _by_people(
    found: AnchoredDrop, votes: Votes, labels: int, changed: int, used: int, margin: float, rules: Rules
) -> ByPeople:
    mean = found.mean
    needed = found.labels_for(margin, rules.alpha, rules.power) if margin > 0 else None
    return ByPeople(
        labels,
        changed,
        math.nan if found.few else mean.worth,
        mean.correlation,
        0.0 if found.few else mean.tuning,
        votes.chances is None,
        votes.annotators,
        needed if needed is not None and needed <= changed else None,
        found.noise > 0,
        votes.battles,
        votes.battles - used,
    )
