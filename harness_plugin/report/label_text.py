"""How far annotators agree, and how many labels are needed, as Markdown for a terminal."""

import math
from collections.abc import Mapping, Sequence

from harness_plugin.files.printable import counted
from harness_plugin.label.merge import Annotator
from harness_plugin.report.markdown_syntax import safe, table
from harness_plugin.report.numbers import number, with_interval
from harness_plugin.stats import Estimate
from harness_plugin.stats.agreement import Agreement
from harness_plugin.stats.anchored_plan import LabelPlan


def agreement_text(annotators: Sequence[Annotator], agreement: Agreement) -> str:
    """A table with a line for each annotator, and a sentence on their agreement where two judged the same battle."""
    head = ("annotator", "A or B", "ties", "both bad", "skipped", "left preferred")
    rows = [
        (safe(a.name), *map(str, (a.decided, a.ties, a.both_bad, a.skipped)), _with_interval(a.left))
        for a in annotators
    ]
    return f"{table(head, rows)}\n\n{_sentence(len(annotators), agreement)}"


def _sentence(people: int, agreement: Agreement) -> str:
    if not agreement.share.n:
        alone = "One annotator" if people == 1 else "No battle has votes of two annotators"
        return f"{alone}, so it is not known how well people agree."
    return (
        f"On {counted(agreement.share.n, 'battle')} with two votes or more, two votes agree in "
        f"{_with_interval(agreement.share)}; Krippendorff's alpha is {_with_interval(agreement.alpha)} (1: all agree, "
        "0: as by chance)."
    )


def _with_interval(e: Estimate) -> str:
    value, low, high = (None if math.isnan(x) else x for x in (e.value, e.low, e.high))
    return with_interval(value, low, high, 2)


def plan_text(plans: Mapping[str, LabelPlan | None], half: float) -> str:
    """A table with a line for each model: the labels of its battles, and those that its win rate for people takes to be
    known to ±half; and what that means for the whole."""
    head = ("model", "labels", "now", f"labels for ±{half:g}", "range", "all labelled")
    rows = []
    for name, plan in plans.items():
        if plan is None:
            rows.append((safe(name), "fewer than 10", *["-"] * 4))
            continue
        reached = "not reachable" if plan.labels is None else str(plan.labels)
        ends = ["more than all" if n is None else str(n) for n in (plan.low, plan.high)]
        known = [f"±{number(width, 3)}" for width in (plan.now, plan.all)]
        rows.append((safe(name), str(plan.pilot), known[0], reached, "-".join(ends), known[1]))
    return f"{table(head, rows)}\n\n{_of_all(plans, half)}"


def _of_all(plans: Mapping[str, LabelPlan | None], half: float) -> str:
    known = {name: plan for name, plan in plans.items() if plan is not None}
    if not known:
        return "These are too few labels for a plan: label about 50 battles first."
    never = {name: plan for name, plan in known.items() if plan.labels is None}
    if never:
        widest = max(never.values(), key=lambda plan: plan.all)
        return (
            f"±{half:g} is not reachable with these prompts for {', '.join(map(safe, never))}; labelling all gives "
            f"±{number(widest.all, 3)}. More prompts are needed."
        )
    times = max((plan.labels or 0) / plan.pilot for plan in known.values())
    if times <= 1:
        return f"Every win rate has ±{half:g} or less already."
    return (
        f"For ±{half:g} on every win rate, label about {number(times, 1)} times as many battles as now, drawn like "
        "these, which count as part of them. The range is what a pilot of this size leaves open."
    )
