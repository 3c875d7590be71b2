"""How far annotators agree, as Markdown for a terminal."""

import math
from collections.abc import Sequence

from harness_plugin.label.merge import Annotator
from harness_plugin.report.markdown_syntax import safe, table
from harness_plugin.report.words import many, number
from harness_plugin.stats import Estimate
from harness_plugin.stats.agreement import Agreement


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
        return f"{alone}: how far people agree cannot be said."
    return (
        f"On {many(agreement.share.n, 'battle')} with two votes or more, two votes agree in "
        f"{_with_interval(agreement.share)}; Krippendorff's alpha is {_with_interval(agreement.alpha)} (1: all agree, "
        "0: as by chance)."
    )


def _with_interval(e: Estimate) -> str:
    if math.isnan(e.low):
        return "-" if math.isnan(e.value) else number(e.value, 2)
    return f"{number(e.value, 2)} [{number(e.low, 2)}, {number(e.high, 2)}]"
