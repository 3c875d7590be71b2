"""What a gate decided, as lines for a terminal, as JSON, and as Markdown for a pull request.

Every text that came from a file of results is somebody's: in Markdown it is escaped or fenced, on a terminal it is one
line without control characters.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from harness_plugin.files.printable import KEPT, counted, listed, log_line
from harness_plugin.files.rounding import rounded_or_none
from harness_plugin.gate import Change, GateResult, Measured, State
from harness_plugin.gate.decide import CATEGORY, DECIDES, SHOWN, ByPeople, signed
from harness_plugin.report.board_words import stopped
from harness_plugin.report.markdown_syntax import safe, table
from harness_plugin.report.numbers import number

SCHEMA = 1
DIGITS = 6
LONGEST = 4000  # characters of a text in JSON
P_DECIDES = (
    "an interval contains 0 although p is small: p decides whether there is a drop, and assumes that rises and drops "
    "are equally likely without a change; the interval decides whether a drop is ruled out, and does not assume that"
)
START, NAMED = 1000, 10  # characters of a text in Markdown; ids of missing items
COMMENT_LIMIT = 65_000  # bytes; GitHub takes comments of 65,536 characters


def headline(result: GateResult) -> str:
    """The decision in a sentence that begins with its name."""
    if result.decision is None:
        return f"{result.state}: {log_line(result.reason)}"
    deciding = result.decision.deciding
    if result.state == State.REGRESSION:
        fell = [m for m in deciding if m.state == State.REGRESSION]
        return f"{result.state}: " + "; ".join(
            f"{log_line(m.name)} got worse by {abs(m.difference):.4f}{_levels(m)}" for m in fell
        )
    names = ", ".join(log_line(m.name) for m in deciding)
    if result.state == State.INCONCLUSIVE:
        if result.decision.collapsed:
            return f"{result.state}: every prompt got worse in {names}, and there are too few prompts for a test"
        return f"{result.state}: the items show neither a drop in {names} nor that there is none"
    if all(m.unchanged for m in deciding):
        return f"{result.state}: all outputs are the same, and so is {names}"
    return f"{result.state}: a drop of {max(m.margin or 0.0 for m in deciding):g} or more in {names} is ruled out"


def terminal(result: GateResult, worst: int = 3) -> str:
    """The decision as lines: what was decided, each number, what to know beside it, the items that lost most."""
    lines = [headline(result)]
    if result.decision:
        lines.append(f"  {'metric':<24} {'baseline':>9}    {'current':>9}  change  {_level(result)} interval")
    for m in _measured(result):
        name = log_line(m.name) if m.role != CATEGORY else f"- {log_line(m.name)}"
        lines.append(
            f"  {name[:24]:<24} {_value(m.before):>9} -> {_value(m.after):>9} {signed(m.difference):>8} "
            f"{_interval(m):<19} p {_p(m.p_holm)}  n={m.test.n}{_remark(m)}"
        )
    lines += [f"  {log_line(line)}" for line in _beside(result)]
    for change in result.worst[:worst]:
        lines.append(f"  worse: {log_line(change.id)} {_value(change.before)} -> {_value(change.after)}")
    return "\n".join(lines)


def document(result: GateResult) -> dict[str, Any]:
    """The decision as JSON-able data. Fields are only added within a schema; what cannot be known is None."""
    d, rules = result.decision, result.rules
    return {
        "schema": SCHEMA,
        "verdict": str(result.state),
        "exit_code": result.exit_code,
        "reason": result.reason or None,
        "baseline": result.baseline,
        "current": result.current,
        "kind": d.comparison.current.kind if d else None,
        "rules": {
            "metrics": list(rules.metrics) or None,
            "margin": rules.margin,
            "alpha": rules.alpha,
            "power": rules.power,
            "on_inconclusive": rules.on_inconclusive,
            "weigh": rules.weigh,
        },
        "metrics": [_metric(m) for m in d.measured] if d else [],
        "items": len(d.comparison.ids) if d else None,
        "outputs_changed": d.comparison.changed if d else None,
        "people": _by_people(d.by_people) if d and d.by_people else None,
        "subject": [_difference(x) for x in d.comparison.subject] if d else [],
        "fingerprints": [_difference(x) | {"ignored": d is not None} for x in result.differences],
        "missing": list(result.missing),
        "added": list(result.added),
        "notes": list(d.notes) if d else [],
        "stopping": result.stopped.counts() if result.stopped else None,
        "worst": [
            {
                "id": c.id,
                "category": c.category,
                "baseline": c.before,
                "current": c.after,
                "texts": {title: text[:LONGEST] for title, text in c.texts.items()},
            }
            for c in result.worst
        ],
    }


def as_json(result: GateResult) -> str:
    """The text of gate.json (`document`)."""
    return json.dumps(document(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def markdown(result: GateResult, limit: int = COMMENT_LIMIT) -> str:
    """The decision for a pull request, at most `limit` bytes: as many of the worst changes as fit, with their texts."""
    first, _, rest = headline(result).partition(": ")
    parts = [f"<!-- arena-rm gate -->\n### arena-rm gate: {first}", safe_line(rest)]
    if result.decision:
        parts.append(_table(result))
    parts += [f"- {line}" for line in map(safe_line, _beside(result))]
    text = "\n\n".join(parts[:3]) + ("\n\n" + "\n".join(parts[3:]) if parts[3:] else "") + "\n"
    for k, change in enumerate(result.worst):
        title = "\n#### What got worst\n\n" if k == 0 else "\n" * bool(change.texts)
        more = f"\nand {len(result.worst) - k} more, see gate.json\n"
        block = title + _change(change)
        if len((text + block + more).encode("utf-8")) > limit:
            return text + more
        text += block
    return text


def safe_line(text: str) -> str:
    """A sentence that quotes somebody's text, as Markdown."""
    return "".join(safe(part) if part.strip() else part for part in re.split(r"(\s+)", text))


def _measured(result: GateResult) -> Iterable[Measured]:
    return result.decision.measured if result.decision else ()


def _remark(m: Measured) -> str:
    if m.role == DECIDES:
        return f"  decides, margin {m.margin:g}"
    return "  a drop" if m.state == State.REGRESSION else ""


def _beside(result: GateResult) -> list[str]:
    """What to know beside the numbers, a sentence each."""
    d, lines = result.decision, []
    if d is None:
        lines += [f"only in the baseline: {_names(result.missing)}"] if result.missing else []
        return lines + ([f"only in the current run: {_names(result.added)}"] if result.added else [])
    if result.stopped:
        lines.append(stopped(result.stopped.counts()))
    for m in [] if result.stopped else d.deciding:
        said = f"(one-sided alpha {d.rules.alpha:.2g}; {m.test.method})"
        power = f"with a power of {d.rules.power:.0%}"
        if math.isfinite(m.smallest_drop):
            lines.append(f"{m.name}: {power}, this comparison reports a drop of {m.smallest_drop:.4f} or more {said}")
        elif m.test.n > 1 and m.test.stderr > 0:
            lines.append(f"{m.name}: {power}, this comparison can report no drop, however large {said}")
    if any(m.low < 0 < m.high and m.p_holm <= d.rules.alpha for m in d.deciding):
        lines.append(P_DECIDES)
    if d.comparison.changed is not None:
        lines.append(f"{d.comparison.changed} of {len(d.comparison.ids)} outputs changed")
    lines += _people(d.by_people)
    lines += [f"under test: {x}" for x in d.comparison.subject]
    lines += [f"different, but ignored: {x}" for x in result.differences]
    lines += [f"only in the baseline: {_names(result.missing)}"] if result.missing else []
    lines += [f"only in the current run: {_names(result.added)}"] if result.added else []
    return lines + list(d.notes)


def _people(found: ByPeople | None) -> list[str]:
    """What the decision for people rests on."""
    if found is None:
        return []
    by = f", by {found.annotators} annotators" if found.annotators > 1 else ""
    said = f"people judged {found.labels} of the {found.changed} answers that changed{by}"
    if found.judge_weight:
        said += f"; with the judge these labels are worth {found.worth:.0f} (correlation {found.correlation:.2f})"
    elif found.correlation < 0:
        said += f"; the judge contradicts people (correlation {found.correlation:.2f}), so the labels alone decide"
    else:
        said += "; the labels alone decide"
    if found.equal:
        said += "; all changed answers are assumed to be labelled with one probability (no column sampling_probability)"
    lines = [said]
    if found.unused:
        lines.append(
            f"{found.unused} of {counted(found.voted, 'battle')} with votes do not count: they are joined by the exact "
            "texts, and these are not of an answer that changed, or the other one of its two battles has no vote"
        )
    if not found.known:
        return [*lines, "the labels are all the same, so they do not say how many would be enough"]
    enough = "not even all answers that changed" if found.needed is None else f"about {found.needed} labels"
    return [*lines, f"{enough} would be enough to tell a drop of the margin from no change"]


def _names(ids: tuple[str, ...]) -> str:
    return listed(ids, NAMED)


def _level(result: GateResult) -> str:
    """Each end of an interval is one-sided at alpha."""
    return f"{100 * (1 - 2 * result.rules.alpha):.4g}%"


def _value(value: float) -> str:
    return number(value, SHOWN) if math.isfinite(value) else "-"


def _levels(m: Measured) -> str:
    """Before and after; empty where only the change is known."""
    return f" ({_value(m.before)} -> {_value(m.after)})" if math.isfinite(m.before) else ""


def _interval(m: Measured) -> str:
    if not math.isfinite(m.low) or not math.isfinite(m.high):
        return "-"
    return f"[{signed(m.low)}, {signed(m.high)}]"


def _p(p: float) -> str:
    return "-" if math.isnan(p) else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _table(result: GateResult) -> str:
    head = ["metric", "baseline", "current", "change", f"{_level(result)} interval", "p (Holm)", "n", ""]
    rows = []
    for m in _measured(result):
        name = safe(m.name) + ("" if m.higher_is_better else " (lower is better)")
        numbers = [_value(m.before), _value(m.after), signed(m.difference), _interval(m), _p(m.p_holm)]
        title = f"category {name}" if m.role == CATEGORY else name
        rows.append([title, *numbers, str(m.test.n), _remark(m).strip()])
    return table(head, rows)


def _change(change: Change) -> str:
    """A change with its texts in fences that the texts cannot close."""
    category = f", {safe(change.category)}" if change.category else ""
    title = f"<code>{safe(change.id)}</code>{category}: {_value(change.before)} -> {_value(change.after)}"
    if not change.texts:
        return f"- {title}\n"
    parts = [f"<details><summary>{title}</summary>\n"]
    for title, text in change.texts.items():
        shown = visible(text[:START])
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
        length = f" (the first {START} of {len(text)} characters)" if len(text) > START else ""
        parts.append(f"{safe(title)}{length}:\n\n{fence}text\n{shown}\n{fence}\n")
    return "\n".join([*parts, "</details>\n"])


def visible(text: str) -> str:
    """The text with every character that could hide or reorder others written out, such as \\u202e."""
    text = text.replace("\r\n", "\n")
    return "".join(c if c.isprintable() or c in KEPT else c.encode("unicode_escape").decode() for c in text)


def _metric(m: Measured) -> dict[str, Any]:
    t, decides = m.test, m.role == DECIDES
    numbers = {
        **m.numbers,
        "p": t.p,
        "p_mid": t.p_mid,
        "difference_by_prompts": m.turned(t.by_clusters),
        "difference_by_items": m.turned(t.by_items),
    }
    verdict = str(m.state) if decides else "drop" if m.state == State.REGRESSION else None
    return {
        "name": m.name,
        "role": m.role,
        "higher_is_better": m.higher_is_better,
        **{name: rounded_or_none(value, DIGITS) for name, value in numbers.items()},
        "margin": m.margin,
        "prompts": t.n,
        "items": t.n_items,
        "better": t.better,
        "worse": t.worse,
        "method": t.method,
        "verdict": verdict,
    }


def _by_people(found: ByPeople) -> dict[str, Any]:
    return {
        "labels": found.labels,
        "changed": found.changed,
        "labels_worth": rounded_or_none(found.worth, DIGITS),
        "correlation": rounded_or_none(found.correlation, DIGITS),
        "judge_weight": rounded_or_none(found.judge_weight, DIGITS),
        "probabilities": "equal" if found.equal else "given",
        "annotators": found.annotators or None,
        "labels_needed": found.needed,
        "battles_with_votes": found.voted,
        "battles_unused": found.unused,
    }


def _difference(x) -> dict[str, Any]:
    return {"name": x.name, "baseline": x.before, "current": x.after}
