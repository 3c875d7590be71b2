"""What a leaderboard says, in sentences: the same for report.md and for the page.

`name` is how the reader's format writes somebody's text, such as a model's name. Knows no format of its own.
"""

import math
from collections.abc import Callable

from harness_plugin.files.printable import counted, listed
from harness_plugin.pairs import Text
from harness_plugin.report.numbers import number, with_interval
from harness_plugin.stats.multiple import ALPHA
from harness_plugin.tournament import Battles

CHANCE = 0.5  # how often a judge that guesses agrees with people who prefer one of two answers
OF_THE_BOARD = ("few_clusters", "few_labels", "unbounded")  # concerns whose sentences need no names
SHOWN = 10  # prompts of a model, or pairs of models, that are listed
Name = Callable[[str], str]


def title(board: dict, name: Name) -> str:
    """How many models are ranked, and against whom."""
    against = f"against {name(board['baseline'])}" if board["baseline"] is not None else "round robin"
    return f"Leaderboard: {len(board['models'])} models, {against}"


def summary(board: dict, name: Name) -> dict[str, str]:
    """What a reader wants to know first, as heading -> a few plain sentences, in order; a heading with nothing to say
    is left out."""
    said = {
        "Who wins": lead(board, name),
        "How sure that is": certainty(board),
        "What the judge is worth": worth(board),
        "What people prefer": preferred(board, name),
    }
    return {about: text for about, text in said.items() if text}


def lead(board: dict, name: Name) -> str:
    """Who is first, and whether the difference from the second is more than chance."""
    first, second = board["models"][:2]
    what, digits = ("rating", 0) if board["baseline"] is None else ("win_rate", 3)
    if first[what] is None:
        return "No model could be ranked."
    said = f"{name(first['model'])} is first with a {what.replace('_', ' ')} of {interval(first, what, digits)}. "
    test = board["tests"][0]
    if test["p_holm"] is None:
        return said + f"There are too few prompts to say whether it is better than {name(second['model'])}."
    digits = 0 if board["differences_of"] == "rating" else 3
    how = "is not clearly better" if not differ(test) else "is better" if test["difference"] > 0 else "is worse"
    where = " on the prompts that both answered" if how == "is worse" else ""  # its rank is by all that it answered
    return said + f"It {how} than {name(second['model'])}{where}: difference {interval(test, 'difference', digits)}."


def certainty(board: dict) -> str:
    """How many pairs of models differ by more than chance, and what could have been missed."""
    told, all_pairs = sum(map(differ, board["tests"])), len(board["tests"])
    prompts = counted(board["prompts"], "prompt")
    if all_pairs == 1:
        said = f"The two models {'differ' if told else 'do not differ'} by more than chance on {prompts}."
    else:
        said = f"{told} of {all_pairs} pairs of models differ by more than chance on {prompts}."
    if board["stopping"] is not None:
        return f"{said} {stopped(board['stopping'])}"
    smallest = board["smallest_difference"]
    if smallest is None:
        return f"{said} These are too few to say which difference could have been missed."
    return f"{said} Differences below {_difference(board, smallest)} may have been missed."


def worth(board: dict) -> str:
    """How well the judge agrees with people, beside chance and beside taking the longer answer."""
    metrics = board["agreement"]
    if metrics is None:
        return (
            "Unknown: all of this is the judge's opinion. No votes of people were given (--labels), so how often "
            "people agree with it cannot be said. The command arena-rm label makes a page on which people can vote."
        )
    if not metrics["battles"]:
        return agreement(board)
    if metrics["acc"] is None:
        return f"People judged {counted(metrics['battles'], 'battle')} of these, and preferred neither answer in any."
    against = (
        "" if metrics["longer_wins"] is None else f"; the longer answer agrees in {number(metrics['longer_wins'], 2)}"
    )
    return (
        f"Where people preferred one of the two answers ({counted(metrics['acc_n'], 'battle')}), the judge agrees with "
        f"them in {interval(metrics, 'acc', 2)}; chance would agree in 0.50{against}.{_of_the_drawn(board)} "
        f"{_conclusion(metrics)}"
    )


def _conclusion(metrics: dict) -> str:
    """What the agreement with people means for somebody who relies on the judge."""
    low, high, longer = metrics["acc_low"], metrics["acc_high"], metrics["longer_wins"]
    if low is None:
        return "These are too few votes to say whether the judge is better than chance."
    if high < CHANCE:
        return "The judge prefers what people do not: do not rely on this ranking."
    if low <= CHANCE:
        return "It is not clearly better than chance: do not rely on this ranking alone."
    if longer is not None and metrics["acc"] <= longer:
        return "It is better than chance, but not better than taking the longer answer."
    return "It is better than chance."


def preferred(board: dict, name: Name) -> str:
    """Who is first for people, and what their labels are worth with the judge; empty without labels."""
    if board["people"] is None:
        return ""
    what, digits = ("rating_people", 0) if board["baseline"] is None else ("win_rate_people", 3)
    sure = [m for m in board["models"] if m[f"{what}_low"] is not None or m["model"] == board["baseline"]]
    ranked = sorted((m for m in sure if m[what] is not None), key=lambda m: -m[what])
    if len(ranked) < 2:
        return "The labels are too few to rank the models by what people prefer."
    first = ranked[0]
    alone = "No other model may be first." if first["rank_people_high"] == 1 else "Other models may be first as well."
    shown = f"{what.removesuffix('_people').replace('_', ' ')} of {interval(first, what, digits)}"
    said = f"For people, {name(first['model'])} is first with a {shown}. {alone}"
    return f"{said} {_worth(board['people'])}"


def _difference(board: dict, value: float) -> str:
    points = board["differences_of"] == "rating"
    return f"{number(value, 0)} points of rating" if points else f"{number(value, 3)} in win rate"


def differ(test: dict) -> bool:
    """Whether the difference between two models is more than chance, tested over all pairs together."""
    return test["p_holm"] is not None and test["p_holm"] <= ALPHA


def basis(board: dict) -> str:
    """What the numbers rest on: battles, prompts, cut texts, and what the intervals mean."""
    return (
        f"{counted(board['battles'], 'battle')} on {counted(board['prompts'], 'prompt')}, both orders averaged. "
        f"In {board['truncated']} of the battles a text was cut to the judge's length. Intervals are 95%, clustered by "
        "prompt; the ranges of ranks hold for all models at once (Holm)."
    )


def stopped(stopping: dict) -> str:
    """Where judging ended, of `Stopped.counts`."""
    looks = (
        f"look {stopping['look']} of {stopping['looks']}" if stopping["looks"] else counted(stopping["look"], "look")
    )
    saved = (
        f"{stopping['battles_saved']} of {counted(stopping['battles_saved'] + stopping['battles_judged'], 'battle')}"
    )
    if stopping["clear"]:
        judged = f"{stopping['prompts']} of {counted(stopping['prompts_planned'], 'prompt')}"
        said = f"Judging stopped when the result was clear, after {judged} ({looks}), and saved {saved}."
    else:
        said = (
            f"All {counted(stopping['prompts_planned'], 'prompt')} were judged ({looks}), and the result is not clear."
        )
    return f"{said} Intervals and p values allow for the looks before the end; the usual ones would be too narrow."


def power(board: dict) -> str:
    """Which difference between two models the run could have detected; where judging stopped early, where."""
    if board["stopping"] is not None:
        return stopped(board["stopping"])
    smallest = board["smallest_difference"]
    if smallest is None:
        return "There are too few prompts to say which difference this run could have detected."
    shown = _difference(board, smallest)
    said = f"power 80%, two-sided {ALPHA:.0%} over {counted(len(board['tests']), 'pair')} of models (Holm)"
    return f"This run could have detected a difference of {shown} between two models ({said})."


def differences(board: dict) -> str:
    """How many pairs of models differ by more than chance."""
    told = sum(map(differ, board["tests"]))
    return f"{told} of {counted(len(board['tests']), 'pair')} of models differ (Holm-adjusted p at most {ALPHA})."


def length(board: dict) -> str:
    """How the judge's preference goes with the length of the answers."""
    text = (
        f"The longer answer is preferred in {interval(board, 'longer_preferred', 2)} of the battles; the judge's score "
        f"and the difference in length have a rank correlation of {interval(board, 'length_correlation', 2)}."
    )
    along, slope = board["length_rating_correlation"], board["length_slope"]
    if along is not None:
        text += f" The rank correlation of the models' ratings and mean lengths is {number(along, 2)}."
    if slope["value"] is None:
        return f"{text} How much length itself counts for the judge cannot be estimated from these battles."
    worth = interval(slope, "value", 2)
    text += f" If two answers are otherwise equal, the judge gives {worth} logits more to one that is much longer"
    return f"{text} (three quarters of that for a difference of {number(board['length_scale'], 0)} characters)."


def style(board: dict) -> str:
    """What each feature of style is worth to the judge; empty where answers have none."""
    slopes = board["style_slopes"]
    if not slopes:
        return ""
    worth = ", ".join(f"{s['feature']} {interval(s, 'value', 2)}" for s in slopes)
    unknown = ' ("-": cannot be told apart from the others)' if any(s["value"] is None for s in slopes) else ""
    return (
        "What the judge gives for style, in logits, to an answer with much of it over one with none, the rest being "
        f'equal: {worth}{unknown}. "At equal style" holds all of these equal; that is not a truer quality, since a '
        "judge may like style for good reasons."
    )


def position(board: dict) -> str:
    """How much the order in which two answers are shown matters to the judge."""
    p = board["position"]
    return (
        f"The judge prefers the same answer in both orders in {interval(p, 'order_agreement', 2)} of the battles; its "
        f"position bias is {interval(p, 'bias', 2)} logits (positive: in favour of the answer shown second)."
    )


def calibration(board: dict) -> str:
    """Where the probabilities come from."""
    judge = board["judge"]
    scale, ties = judge.get("temperature"), judge.get("tie_nu")
    if scale is None:
        return ""
    tied = f"tie mass {number(ties, 2)}" if ties else "no ties"
    added = " The length, lists and headings of answers count in them." if judge.get("surface_worth") else ""
    return f"The judge's probabilities come from logits at temperature {number(scale, 2)}, {tied}.{added}"


def agreement(board: dict) -> str:
    """How the judge goes with people's labels; empty without any."""
    metrics = board["agreement"]
    if metrics is None:
        return ""
    if not metrics["battles"]:
        return "None of the labels is of a battle of this run: they are joined by the exact texts."
    return (
        f"People judged {counted(metrics['battles'], 'battle')} of these. Where they decided, the judge agrees in "
        f"{interval(metrics, 'acc', 2)} (n={metrics['acc_n']}), the longer answer in "
        f"{interval(metrics, 'longer_wins', 2)}; expected calibration error {interval(metrics, 'ece', 2)}."
        f"{_of_the_drawn(board)}"
    )


def _of_the_drawn(board: dict) -> str:
    """That the labelled battles are not like all battles, if they were drawn with unequal probabilities."""
    votes = board.get("people")
    unequal = votes is not None and votes["probabilities"] != "equal"
    return " This is of the battles that were drawn; of all battles it may be different." if unequal else ""


def people(board: dict) -> str:
    """What people's labels are worth together with the judge, and what the columns for people rest on; empty without
    labels."""
    votes = board["people"]
    if votes is None:
        return ""
    labelled, prompts = counted(votes["labels"], "battle"), counted(votes["prompts"], "prompt")
    by = f", by {counted(votes['annotators'], 'annotator')}" if votes["annotators"] else ""
    said = (
        f"People judged {labelled} of {votes['battles']}, on {prompts}{by}. {_worth(votes)} Win rates and ratings for "
        "people hold whatever the judge's errors, if the labelled battles were drawn at random"
    )
    if votes["probabilities"] == "equal":
        said += ", each with the same probability (the labels have no column sampling_probability)."
    else:
        said += " with the probabilities in the column sampling_probability."
    if board.get("stopping") is None:
        return said
    return f"{said} They do not allow for the looks at the judge's verdicts at which judging could stop."


def _worth(votes: dict) -> str:
    if votes["correlation"] is None or votes["labels_worth"] is None:
        return "These are too few labels to say what the judge is worth."
    correlation = (
        f"the correlation of its verdicts with people's, beyond the ratings, is {number(votes['correlation'], 2)}"
    )
    if not votes["judge_adds"]:
        clearly = 1 / math.sqrt(max(votes["labels"] - 2, 1))  # a smaller correlation may be chance
        against = "contradicts people" if votes["correlation"] < -clearly else "adds nothing to so many labels"
        return f"The judge {against}: {correlation}. Numbers for people rest on the labels alone."
    return (
        f"With the judge's verdicts on all battles these labels are worth {number(votes['labels_worth'], 0)} labels "
        f"without a judge: {correlation}, and its verdicts count with the weight {number(votes['judge_weight'], 2)}."
    )


def red_team(board: dict, name: Name) -> str:
    """What the rows of attacks are; empty without any."""
    attacks = board["red_team"]
    if attacks is None:
        return ""
    return (
        f"Answers of {name(attacks['model'])}, changed without making them better, against the answers as they were; "
        "both orders averaged. A win rate of 0.5 means that the change did not influence the judge; for a null model, "
        "whose answer says nothing, 0 is right. These battles are part of no other number."
    )


def warnings(board: dict, name: Name) -> list[str]:
    """What a reader must know before believing the numbers."""
    notes = []
    for c in (*board["concerns"], *(board["people"] or {"concerns": []})["concerns"]):
        whole = c["kind"] in OF_THE_BOARD and len(c["models"]) == len(board["models"])
        named = "" if whole or not c["models"] else f": {', '.join(map(name, c['models']))}"
        notes.append(f"{c['meaning']}{named}.")
    return notes + [_own_family(board, row, name) for row in board["own_family"]]


def _own_family(board: dict, row: dict, name: Name) -> str:
    """That a judge has models of its own family before it, and what labels say of it."""
    models = ", ".join(map(name, row["models"]))
    said = f"the judge ({name(row['judge'])}) is of the family {row['family']}, as {models}: "
    said += "judges tend to prefer answers of their own family"
    known = {m["model"]: m for m in board["models"] if m.get("judge_error") is not None}
    errors = [f"{name(m)} {interval(known[m], 'judge_error', 3)}" for m in row["models"] if m in known]
    if not errors:
        return f"{said}, and without votes of people on theirs it is not known whether this one does."
    return f"{said}. By people's votes the judge errs in their win rates by {', '.join(errors)} (positive: too kind)."


def left_out(board: dict, battles: Battles, name: Name) -> list[str]:
    """What made no battle, and what was judged but is counted separately."""
    lines = []
    if battles.identical:
        lines.append(f"{counted(len(battles.identical), 'battle')} of identical answers: a tie, and not judged.")
    for model, keys in battles.missing.items():
        openings = listed([f"{key} ({name(_opening(battles.prompts[key]))})" for key in keys], SHOWN)
        lines.append(f"{name(model)} did not answer {counted(len(keys), 'prompt')}, no battle there: {openings}")
    for what, count in (("empty answers", battles.empty), ("answers that open like a refusal", battles.refusals)):
        if count:
            lines.append(f"{what}, judged as they are: {', '.join(f'{name(m)} {n}' for m, n in count.items())}")
    return lines


def _opening(prompt: Text) -> str:
    return (prompt if isinstance(prompt, str) else " / ".join(prompt))[:40]


def interval(row: dict, name: str, digits: int) -> str:
    """A value with its interval; the interval of a difference stands under low and high alone."""
    low, high = (row[k] for k in (("low", "high") if name == "difference" else (f"{name}_low", f"{name}_high")))
    return number(row[name], digits) if low == high else with_interval(row[name], low, high, digits)
