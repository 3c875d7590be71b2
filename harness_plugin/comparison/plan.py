"""What a comparison shall hold beside the judges: a panel, a cascade, abstentions. From the options to the result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness_plugin.comparison.abstentions import all_abstentions
from harness_plugin.comparison.cascades import cascade_entry, cascade_figures, fitted_confidence
from harness_plugin.comparison.entries import Entry
from harness_plugin.comparison.figures import check_reference, compared, judged_by_all
from harness_plugin.comparison.named import Named
from harness_plugin.comparison.panels import panel_entry, panel_figures
from harness_plugin.errors import UsageError
from harness_plugin.model.naming import CASCADE, PANEL
from harness_plugin.pairs import Pair
from harness_plugin.scoring.abstention import refuse_shared

ABSTAIN = "abstain"  # beside CASCADE a name of what is fitted; PANEL and CASCADE are labels too


@dataclass(frozen=True)
class Plan:
    """`judges`: all that are opened or read; `panel`, `cascade`: labels of the members, empty for none; `confidence`:
    of the cascade, None where it is fitted for `agreement`; `error`, `level`: of abstentions; `files`: what is fitted,
    with the file of the pairs; `reference`: the label that the others are compared with."""

    judges: list[Named]
    panel: list[str]
    cascade: list[str]
    confidence: float | None
    agreement: float
    error: float
    level: float
    files: dict[str, str]
    reference: str | None

    def check(self, votes: Sequence[Pair], fitted_on: Mapping[str, Sequence[Pair]]) -> None:
        """Raises DataError where something is fitted to prompts that it is reported on."""
        for name, pairs in fitted_on.items():
            refuse_shared(pairs, votes, self.files[name])


def planned(
    judges: list[Named],
    *,
    reference: str | None = None,
    panel: str | None = None,
    cascade: str | None = None,
    cascade_confidence: float | None = None,
    cascade_data: str | None = None,
    cascade_agreement: float = 0.95,
    abstain_data: str | None = None,
    abstain_error: float = 0.1,
    abstain_level: float = 0.95,
) -> Plan:
    """The plan for the options of the command. Raises UsageError for options that contradict each other."""
    if cascade is None and (cascade_confidence is not None or cascade_data is not None):
        raise UsageError("a setting of a cascade without --cascade", "there is no cascade", "add --cascade SMALL,BIG")
    if cascade is not None and (cascade_confidence is None) == (cascade_data is None):
        raise UsageError(
            f"--cascade {cascade} with {'neither' if cascade_data is None else 'both'} of --cascade-confidence and "
            "--cascade-data",
            "the confidence from which the small judge decides is given or fitted",
            "give one of them",
        )
    members = {PANEL: _labels(judges, "--panel", panel), CASCADE: _labels(judges, "--cascade", cascade)}
    if cascade is not None and len(members[CASCADE]) != 2:
        raise UsageError(f"--cascade {cascade}", "a cascade has two judges", "write --cascade SMALL,BIG")
    if panel is not None and len(members[PANEL]) < 2:
        raise UsageError(f"--panel {panel}", "a panel has several judges", "write --panel JUDGE,JUDGE")
    made = [label for label in members if members[label]]
    if taken := [judge.label for judge in judges if judge.label in made]:
        raise UsageError(
            f"--{taken[0]} beside a judge that is called {taken[0]}",
            "the table would have two judges of one name",
            f"name the judge by another path, such as ./{taken[0]}",
        )
    check_reference(reference, [*(judge.label for judge in judges), *made])  # before anything is judged
    files = {name: file for name, file in ((CASCADE, cascade_data), (ABSTAIN, abstain_data)) if file is not None}
    settings = (cascade_confidence, cascade_agreement, abstain_error, abstain_level)
    return Plan(judges, members[PANEL], members[CASCADE], *settings, files, reference)


def _labels(judges: Sequence[Named], option: str, names: str | None) -> list[str]:
    """The labels of the judges that an option names, by label or as they were given."""
    labels = []
    for name in names.split(",") if names else ():
        found = [judge.label for judge in judges if judge.is_called(name)]
        if not found or found[0] in labels:
            known = ", ".join(judge.label for judge in judges)
            raise UsageError(
                f"{option} {names}: {name!r}", "it is no judge of this comparison, or is named twice", f"use {known}"
            )
        labels.append(found[0])
    return labels


def result_of(
    plan: Plan, entries: Mapping[str, Entry], votes: Sequence[Pair], fitted_on: Mapping[str, Sequence[Pair]]
) -> dict[str, Any]:
    """The comparison as a JSON object: `figures.compared`, and under `panel`, `cascade` and `abstentions` what was
    asked for, else null. Raises as the parts do."""
    columns, confidence = list(entries.values()), plan.confidence
    members = [entries[label] for label in plan.panel]
    everything = [*votes, *(pair for pairs in fitted_on.values() for pair in pairs)]
    if members:
        columns.append(panel_entry(PANEL, members, everything))
    two = [entries[label] for label in plan.cascade]
    if two:
        if confidence is None:
            confidence = fitted_confidence(two[0], two[1], fitted_on[CASCADE], plan.agreement)
        columns.append(cascade_entry(CASCADE, two[0], two[1], everything, confidence))
    whole = judged_by_all(votes, columns)
    result = compared(whole, columns, plan.reference)
    by_label = {entry.label: entry for entry in columns}
    cascade = cascade_figures(by_label[CASCADE], two[0], two[1], confidence or 0.0, whole) if two else None
    if cascade is not None and CASCADE in fitted_on:
        cascade["fitted_for"] = {"agreement": plan.agreement, "pairs": len(fitted_on[CASCADE])}
    return {
        **result,
        "panel": panel_figures(by_label[PANEL], members, whole, votes) if members else None,
        "cascade": cascade,
        "abstentions": all_abstentions(columns, fitted_on[ABSTAIN], whole, plan.error, plan.level)
        if ABSTAIN in fitted_on
        else None,
    }
