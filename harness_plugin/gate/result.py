"""The whole of a gate: two paths in, one result out, whatever is wrong with what lies there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from harness_plugin.errors import DONE, INCONCLUSIVE, NOT_DONE, REGRESSION, ArenaError, UsageError
from harness_plugin.gate.compare import Difference, NotComparable, compare
from harness_plugin.gate.decide import Decision, State, decide
from harness_plugin.gate.people import decide_for_people, read_votes
from harness_plugin.gate.readers.any_run import read_two
from harness_plugin.gate.rules import DEFAULT_READING, FAIL, Reading, Rules
from harness_plugin.gate.stored_run import Run
from harness_plugin.gate.worst_items import Change, worst_changes
from harness_plugin.tournament import Stopped, Votes


@dataclass(frozen=True)
class GateResult:
    """`decision` is None where the runs could not be compared, and `reason` says why; `baseline`, `current`: what was
    compared; `worst`: the items that lost most in the first deciding metric, worst first; `stopped`: where judging
    ended, if it was to stop when the decision is clear."""

    state: State
    baseline: str
    current: str
    rules: Rules
    decision: Decision | None = None
    reason: str = ""
    differences: tuple[Difference, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    worst: tuple[Change, ...] = ()
    stopped: Stopped | None = None

    @property
    def exit_code(self) -> int:
        """That of `arena-rm gate`. Inconclusive counts as done, unless that is to fail or everything collapsed."""
        if self.state == State.INCONCLUSIVE:
            collapsed = self.decision is not None and self.decision.collapsed
            return INCONCLUSIVE if collapsed or self.rules.on_inconclusive == FAIL else DONE
        return {State.PASS: DONE, State.REGRESSION: REGRESSION, State.NOT_COMPARABLE: NOT_DONE}[self.state]


def run_gate(baseline: str, current: str, rules: Rules, reading: Reading = DEFAULT_READING) -> GateResult:
    """Compares what lies at two paths. Runs that are broken, not there or not comparable are a result too; only a
    UsageError is raised."""
    return gate_runs(
        partial(read_two, baseline, current, reading),
        rules,
        reading,
        (baseline, current),
        votes=None
        if reading.labels is None
        else partial(read_votes, reading.labels, rules, reading.label_fields, reading.label_words),
    )


def gate_runs(
    runs: Callable[[], tuple[Run, Run]],
    rules: Rules,
    reading: Reading,
    names: tuple[str, str],
    stopped: Stopped | None = None,
    votes: Callable[[], Votes] | None = None,
) -> GateResult:
    """`run_gate` of (baseline, current) as `runs` reads them. `votes`: reads those of people who are to decide;
    `stopped`: where judging the runs ended, if it was to stop early."""
    try:
        by_people = None if votes is None else votes()
        comparison = compare(*runs(), reading.ignore, reading.max_missing)
        decision = decide(comparison, rules, None if stopped is None else stopped.part.look)
        worst = tuple(worst_changes(comparison, decision.deciding[0].name))
        decision = decision if by_people is None else decide_for_people(decision, by_people)
    except UsageError:
        raise
    except ArenaError as e:
        return not_comparable(e, rules, names)
    return GateResult(
        decision.state,
        *names,
        rules,
        decision,
        "",
        comparison.ignored,
        comparison.missing,
        comparison.added,
        worst,
        stopped,
    )


def not_comparable(error: ArenaError, rules: Rules, names: tuple[str, str]) -> GateResult:
    """The result where the error keeps two runs, of these names, from being compared."""
    result = GateResult(State.NOT_COMPARABLE, *names, rules, None, str(error))
    if isinstance(error, NotComparable):
        return replace(result, differences=error.differences, missing=error.missing, added=error.added)
    return result
