"""A leaderboard as Markdown."""

from harness_plugin.report import board_words as words
from harness_plugin.report.board_words import SHOWN, interval
from harness_plugin.report.markdown_syntax import safe, table
from harness_plugin.report.numbers import number
from harness_plugin.tournament import Battles


def report(board: dict, battles: Battles) -> str:
    """report.md: a summary, the table, what it rests on, which differences are real, how easily the judge is
    influenced, what was left out."""
    summary = "\n".join(f"- {about}: {text}" for about, text in words.summary(board, safe).items())
    parts = [f"# {words.title(board, safe)}", summary, table_markdown(board), _basis(board)]
    parts += [_people(board), _differences(board), _categories(board), _red_team(board), _left_out(board, battles)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table_markdown(board: dict) -> str:
    """The leaderboard as a Markdown table: values with their 95% intervals, "-" for what cannot be known."""
    against = board["baseline"] is not None
    what, digits = ("win_rate", 3) if against else ("rating", 0)
    equal = {f"at equal {n}": f"{what}_{n}_controlled" for n in ("length", "style")}
    equal = {title: name for title, name in equal.items() if name in board["models"][0]}
    head = ["win rate", *equal, "rating"] if against else ["win rate", "rating", *equal]
    rows = []
    for m in board["models"]:
        ranks = f"{m['rank_low']}" if m["rank_low"] == m["rank_high"] else f"{m['rank_low']}-{m['rank_high']}"
        controlled = [interval(m, name, digits) for name in equal.values()]
        rate, rating = interval(m, "win_rate", 3), interval(m, "rating", 0)
        shown = [rate, *controlled, rating] if against else [rate, rating, *controlled]
        if board["people"]:
            shown += [interval(m, "win_rate_people", 3), interval(m, "rating_people", 0)]
        rows.append([ranks, safe(m["model"]), *shown, number(m["mean_length"], 0)])
    head += ["win rate for people", "rating for people"] if board["people"] else []
    return table(["rank", "model", *head, "answers' length"], rows)


def _basis(board: dict) -> str:
    lines = [f"{words.basis(board)} The judge is `{board['judge']['hash']}`.", words.power(board)]
    lines += [
        words.length(board),
        words.style(board),
        words.position(board),
        words.calibration(board),
        words.agreement(board),
    ]
    return "\n\n".join([line for line in lines if line] + [f"Note: {w}" for w in words.warnings(board, safe)])


def _people(board: dict) -> str:
    """What people prefer, by labels and judge together and by the labels alone, and the judge's error."""
    if board["people"] is None:
        return ""
    head = ["model", "ranks", "labels", "worth", "win rate", "by the labels alone", "judge's error", "rating"]
    head.append("by the labels alone")
    rows = []
    for m in board["models"]:
        low, high = m["rank_people_low"], m["rank_people_high"]
        ranks = "-" if low is None else f"{low}" if low == high else f"{low}-{high}"
        shares = [interval(m, name, 3) for name in ("win_rate_people", "win_rate_labels_alone", "judge_error")]
        ratings = [interval(m, name, 0) for name in ("rating_people", "rating_labels_alone")]
        counts = [str(m["labels"]), number(m["labels_worth"], 0)]
        rows.append([safe(m["model"]), ranks, *counts, *shares, *ratings])
    return f"## What people prefer\n\n{words.people(board)}\n\n{table(head, rows)}"


def _differences(board: dict) -> str:
    digits = 0 if board["differences_of"] == "rating" else 3
    near = [t for t in board["tests"] if not words.differ(t)]
    text = f"## Which differences are real\n\n{words.differences(board)}"
    if near:
        text += " There is no clear difference between these, the better ranked first:\n"
    for t in near[:SHOWN]:
        text += f"\n- {safe(t['model'])} and {safe(t['other'])}: {interval(t, 'difference', digits)}"
    return text + (f"\n- and {len(near) - SHOWN} more pairs, see leaderboard.json" if near[SHOWN:] else "")


def _categories(board: dict) -> str:
    """Win rates by category; empty without categories."""
    found = board["categories"]
    if not found:
        return ""
    names = list(found)[:SHOWN]
    rows = [[safe(m["model"]), *(_of_category(found[name].get(m["model"])) for name in names)] for m in board["models"]]
    more = f"\n\n{len(found) - SHOWN} more categories are in leaderboard.json." if found.keys() - names else ""
    return f"## Win rate by category\n\n{table(['model', *map(safe, names)], rows)}{more}"


def _of_category(rate: dict | None) -> str:
    return "-" if rate is None else f"{interval(rate, 'win_rate', 3)}, n={rate['n']}"


def _red_team(board: dict) -> str:
    if board["red_team"] is None:
        return ""
    head = ["attack", "what was done", "win rate", "finding", "position bias", "length", "battles"]
    rows = [
        [
            r["attack"],
            r["does"],
            interval(r, "win_rate", 3),
            r["finding"],
            interval(r, "position_bias", 2),
            "-" if r["length_ratio"] is None else f"x {number(r['length_ratio'], 2)}",
            str(r["battles"]),
        ]
        for r in board["red_team"]["attacks"]
    ]
    return f"## How easily the judge is influenced\n\n{words.red_team(board, safe)}\n\n{table(head, rows)}"


def _left_out(board: dict, battles: Battles) -> str:
    lines = [f"- {line}" for line in words.left_out(board, battles, safe)]
    return "\n".join(["## Left out or counted separately\n", *lines]) if lines else ""
