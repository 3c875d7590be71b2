"""What a run of `arena-rm judge` leaves: leaderboard.json, leaderboard.csv and report.md. Numbers and names in, text
out; the verdicts themselves are written by `verdicts`.

Names of models are whatever the files of answers said: leaderboard.json has them exactly, the other two so that neither
a spreadsheet nor Markdown takes them for more than text.
"""

import csv
import io
import json
import re
from pathlib import Path

from harness_plugin.judge.match import CSV_FILE, JSON_FILE, REPORT_FILE, Battles
from harness_plugin.pairs import Text, atomic_write

SHOWN = 10  # pairs of models, prompts or categories that the report lists
LONGEST = 80  # characters of a name in the report
# A cell that a spreadsheet would compute: ' in front makes it text.
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")  # noqa: RUF001 - some read the wide signs as the narrow ones
MARKUP = re.compile(r"[|`<>&*\[\]\\~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def counts(battles: Battles) -> dict[str, dict[str, int]]:
    """Per model, what `leaderboard` says beside its numbers."""
    missing = {model: len(keys) for model, keys in battles.missing.items()}
    return {"missing": missing, "empty": battles.empty, "refusals": battles.refusals}


def write_run(folder: Path, board: dict, battles: Battles, judge: dict) -> None:
    """Writes the three files into `folder`. `judge`: the judge's identity and its `hash`."""
    board = board | {"judge": judge, "identical": len(battles.identical), "missing_prompts": battles.missing}
    with atomic_write(folder / JSON_FILE) as out:
        out.write(json.dumps(board, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    with atomic_write(folder / CSV_FILE) as out:
        out.write(table_csv(board))
    with atomic_write(folder / REPORT_FILE) as out:
        out.write(report(board, battles))


def table_csv(board: dict) -> str:
    """One line per model, best first, every number of leaderboard.json; a name that a spreadsheet would take for a
    formula has ' in front."""
    text = io.StringIO()
    rows = [row | {"model": _cell(row["model"])} for row in board["models"]]
    # Quoting all text: some versions of csv leave a bare carriage return without quotes.
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _cell(name: str) -> str:
    return f"'{name}" if FORMULA.match(name) else name


def report(board: dict, battles: Battles) -> str:
    """report.md: the table, what it rests on, which differences are real, what was left out."""
    against = f"against {_safe(board['baseline'])}" if board["baseline"] is not None else "round robin"
    parts = [f"# Leaderboard: {len(board['models'])} models, {against}", table_markdown(board), _basis(board)]
    parts += [_differences(board), _categories(board), _notes(board, battles)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table_markdown(board: dict) -> str:
    """The leaderboard as a Markdown table: values with their 95% intervals, "-" for what cannot be known."""
    controlled = board["baseline"] is not None
    head = ["rank", "model", "win rate", *(["at equal length"] if controlled else []), "rating", "answers' length"]
    rows = []
    for m in board["models"]:
        ranks = f"{m['rank_low']}" if m["rank_low"] == m["rank_high"] else f"{m['rank_low']}-{m['rank_high']}"
        middle = [_interval(m, "win_rate_length_controlled", 3)] if controlled else []
        rows.append([ranks, _safe(m["model"]), _interval(m, "win_rate", 3), *middle, _interval(m, "rating", 0),
                     _number(m["mean_length"], 0)])  # fmt: skip
    return _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _basis(board: dict) -> str:
    position = board["position"]
    lines = [
        f"{_many(board['battles'], 'battle')} on {_many(board['prompts'], 'prompt')}, both orders averaged; judge "
        f"`{board['judge']['hash']}`. In {board['truncated']} of the battles a text was cut to the judge's length. "
        "Intervals are 95%, clustered by prompt; rank ranges hold together for all models (Holm).",
        _power(board),
        f"The judge's score goes with the difference in length by a rank correlation of "
        f"{_number(board['length_correlation'], 2)}. Both orders name the same side in "
        f"{_number(position['order_agreement'], 2)} of the battles; standing second is worth "
        f"{_number(position['bias'], 2)} logits.",
    ]
    for c in board["concerns"]:
        some = c["models"] if len(c["models"]) < len(board["models"]) else []
        lines.append(f"Note: {c['meaning']}{': ' if some else ''}{', '.join(map(_safe, some))}.")
    return "\n\n".join(lines)


def _power(board: dict) -> str:
    smallest, points = board["smallest_difference"], board["differences_of"] == "rating"
    if smallest is None:
        return "Too few prompts to say which difference this run could have seen."
    shown = f"{_number(smallest, 0)} points of rating" if points else f"{_number(smallest, 3)} in win rate"
    return f"This run could have seen a difference of {shown} between two models (power 80%, two-sided 5%)."


def _differences(board: dict) -> str:
    digits = 0 if board["differences_of"] == "rating" else 3
    near = [t for t in board["tests"] if t["p_holm"] is None or t["p_holm"] > 0.05]
    told = len(board["tests"]) - len(near)
    text = "## Which differences are real\n\n"
    text += f"{told} of {_many(len(board['tests']), 'pair')} of models differ (Holm-adjusted p at most 0.05)."
    if near:
        text += " Not told apart, the better ranked first:\n"
    for t in near[:SHOWN]:
        text += f"\n- {_safe(t['model'])} and {_safe(t['other'])}: {_interval(t, 'difference', digits)}"
    return text + (f"\n- and {len(near) - SHOWN} more pairs, see {JSON_FILE}" if near[SHOWN:] else "")


def _categories(board: dict) -> str:
    """Win rates by category, without their intervals; empty without categories."""
    found = board["categories"]
    if not found:
        return ""
    names = list(found)[:SHOWN]
    rows = [[_safe(m["model"]), *(_number(found[name].get(m["model"], {}).get("win_rate"), 3) for name in names)]
            for m in board["models"]]  # fmt: skip
    more = f" {len(found) - SHOWN} more categories are there." if found.keys() - names else ""
    table = _table(["model", *map(_safe, names)], rows)
    return f"## Win rate by category\n\n{table}\n\nTheir intervals are in {JSON_FILE}.{more}"


def _notes(board: dict, battles: Battles) -> str:
    lines = []
    if battles.identical:
        lines.append(f"- {_many(len(battles.identical), 'battle')} of identical answers: even, without the judge.")
    for model, keys in battles.missing.items():
        openings = ", ".join(f"{key} ({_safe(_opening(battles.prompts[key]))})" for key in keys[:SHOWN])
        more = f" and {len(keys) - SHOWN} more" if keys[SHOWN:] else ""
        lines.append(f"- {_safe(model)} did not answer {_many(len(keys), 'prompt')}, no battle there: {openings}{more}")
    for what, count in (("empty answers", battles.empty), ("answers that open like a refusal", battles.refusals)):
        if count:
            lines.append(f"- {what}, judged as they are: {', '.join(f'{_safe(m)} {n}' for m, n in count.items())}")
    return "## Left out and counted apart\n\n" + "\n".join(lines) if lines else ""


def _opening(prompt: Text) -> str:
    return (prompt if isinstance(prompt, str) else " / ".join(prompt))[:40]


def _interval(row: dict, name: str, digits: int) -> str:
    """A value with its interval; the interval of a difference stands under low and high alone."""
    value = row[name]
    low, high = (row[k] for k in (("low", "high") if name == "difference" else (f"{name}_low", f"{name}_high")))
    if low is None or high is None or low == high:
        return _number(value, digits)
    return f"{_number(value, digits)} [{_number(low, digits)}, {_number(high, digits)}]"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _safe(text: str) -> str:
    """Somebody's text in Markdown: one line of readable length, and nothing in it that is markup."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * LONGEST]).split())
    if len(line) > LONGEST or len(text) > 4 * LONGEST:
        line = f"{line[: LONGEST - 20]} ... {len(text)} characters"
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", line) or "(blank)"
