"""What a comparison says of a panel, of a cascade, and of judges that abstain."""

from harness_plugin.files.printable import counted
from harness_plugin.report.comparison_section import Section, Value, counted_interval, interval
from harness_plugin.report.numbers import number

UNITS = ("presentations", "tokens", "seconds")


def panel_sections(panel: Value) -> list[Section]:
    """How independent the members are, and what the panel gains on the best of them."""
    effective, members = panel["effective_judges"], panel["members"]
    votes_cast = (f"{votes} on {counted(pairs, 'pair')}" for votes, pairs in panel["votes_cast"].items())
    said = [
        f"Members: {', '.join(members)}. In {interval(panel['disagreement'])} of the pairs they do not all prefer the "
        f"same side. Their errors are correlated: these {len(members)} judges are worth {interval(effective, 2)} "
        "judges with independent errors.",
        f"The best member is {panel['best_member']}; the panel's accuracy minus its accuracy is "
        f"{interval(panel['less_best_member'])}. It was chosen on the same pairs, which favours it.",
        f"Votes cast: {', '.join(votes_cast)}.",
    ]
    missing = {label: n for label, n in panel["votes_missing"].items() if n}
    if missing:
        counts = ", ".join(f"{label} {n}" for label, n in missing.items())
        said.append(f"Pairs that a member could not judge, so that it cast no vote: {counts}.")
    rows = [[row["judge"], row["other"], number(row["correlation"], 3)] for row in panel["error_correlations"]]
    return [Section("The panel", said, ["judge", "other judge", "correlation of errors"], rows)]


def cascade_sections(cascade: Value) -> list[Section]:
    """What is handed on and what it costs, and the price at several agreements with the big judge."""
    small, big = cascade["small"], cascade["big"]
    decides = (
        f"{small} decides where its confidence is at least {number(cascade['confidence'], 3)}"
        if cascade["confidence"] is not None
        else f"No confidence was enough, so that {small} decides nothing"
    )
    fitted = cascade.get("fitted_for")
    how = (
        f"; fitted to {counted(fitted['pairs'], 'pair')} so that, with a probability of 95%, at least "
        f"{100 * fitted['agreement']:g}% of all verdicts are those of {big}"
        if fitted
        else ""
    )
    errors = cascade["error"]["judges"]
    said = [
        f"{decides}{how}. It hands on {interval(cascade['handed_on'])} of the pairs to {big}, and the verdicts agree "
        f"with those of {big} in {interval(cascade['agreement'])} of the pairs.",
        "Error on decisive pairs, as measured by people's votes: "
        f"{', '.join(f'{label} {counted_interval(error)}' for label, error in errors.items())}. "
        f"The cascade's error minus that of {big}: {interval(cascade['error']['more_than_big'])}.",
        f"A pair costs {_relative(cascade['relative_cost'])} of what it costs with {big} alone.",
    ]
    stages = [
        [stage["judge"], str(stage["reads"]), str(stage["decides"])]
        + [number(stage["cost"][unit], 4 if unit == "seconds" else 2) for unit in UNITS]
        for stage in cascade["stages"]
    ]
    head = ["stage", "reads", "decides", *(f"{unit} a pair" for unit in UNITS)]
    return [Section("The cascade", said, head, stages), _prices(cascade)]


def _prices(cascade: Value) -> Section:
    said = [
        f"{cascade['small']} decides the pairs of which it is surest, as many as this agreement with {cascade['big']} "
        "allows. The numbers are read off these pairs: a confidence that is chosen here must be tried on other pairs."
    ]
    rows = [
        [
            f"{100 * price['agreement']:g}%",
            number(price["confidence"], 3),
            number(price["handed_on"], 3),
            number(price["acc"], 3),
            *(number(price["relative_cost"][unit], 3) for unit in UNITS),
        ]
        for price in cascade["prices"]
    ]
    head = ["agreement", "from confidence", "handed on", "accuracy", *(f"{unit}, relative" for unit in UNITS)]
    return Section("The price of agreement", said, head, rows)


def _relative(cost: Value) -> str:
    known = [f"{number(cost[unit], 3)} ({unit})" for unit in UNITS if cost[unit] is not None]
    return ", ".join(known) or "an unknown share"


def abstention_sections(abstentions: list[Value]) -> list[Section]:
    """What each judge still judges when its error is bounded, in all and by group."""
    one = abstentions[0]
    said = [
        "A judge abstains where it is not sure enough. Its confidence was fitted to other labelled pairs, so that with "
        f"a probability of {100 * one['level']:g}% over such files its error on the decisive pairs that it judges is "
        f"at most {one['wanted_error']:g}. An abstention is no tie and no verdict.",
    ]
    rows = [
        [
            a["judge"],
            number(a["confidence"], 3),
            str(a["fitted_on"]["decisive"]),
            interval(a["coverage"]),
            str(a["abstained"]),
            counted_interval(a["error"]),
            str(a["ties_judged"]),
        ]
        for a in abstentions
    ]
    head = ["judge", "from confidence", "fitted on", "coverage", "abstained", "error", "ties judged"]
    return [Section("Where judges abstain", said, head, rows), *_groups(abstentions)]


def _groups(abstentions: list[Value]) -> list[Section]:
    """Coverage and error by category and by length: what is abstained from is not chosen at random."""
    found = []
    for title, name in (("category", "by_category"), ("length", "by_length")):
        rows = [
            [a["judge"], group, counted_interval(values["coverage"]), counted_interval(values["error"])]
            for a in abstentions
            if a["confidence"] is not None
            for group, values in a[name].items()
        ]
        if rows:
            found.append(Section(f"Abstention by {title}", [], ["judge", title, "coverage", "error"], rows))
    return found
