"""The new answers against the old ones, judged directly. This takes half the verdicts that two runs against a third
chatbot take, and usually detects smaller drops.

Files of answers and verdicts become two runs that `decide` compares like any others: the old one has a win rate of 0.5
everywhere, by definition. Knows no model: whoever calls has the battles judged.
"""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from harness_plugin.errors import UsageError
from harness_plugin.files.printable import readable
from harness_plugin.gate.compare import check_missing, compare
from harness_plugin.gate.decide import State, decide
from harness_plugin.gate.readers.tournament import METRICS
from harness_plugin.gate.rules import Rules
from harness_plugin.gate.stored_run import JUDGE, Item, JudgedBattle, Run, Texts, as_stored, items_of
from harness_plugin.pairs import Text, content_id
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.tournament import Answers, Battles, Part, find_files, joined, read_files

OLD, NEW = "old", "new"


def duel_answers(old: str, new: str, questions: str | None = None) -> Answers:
    """One chatbot's new answers and its old ones, the models called OLD and NEW. Each side: a file of answers or a
    folder of them. Raises DataError as `gather`, UsageError where a side holds answers of several."""
    sides = {name: find_files([place]) for name, place in ((OLD, old), (NEW, new))}
    if {Path(file).resolve() for file in sides[OLD]} & {Path(file).resolve() for file in sides[NEW]}:
        raise UsageError(f"{old} and {new} share a file", "a duel has two sides", "name two files of answers")
    read = read_files(sorted((*sides[OLD], *sides[NEW])), questions)
    for place, files in ((old, sides[OLD]), (new, sides[NEW])):
        models = {answer.model for file in files for answer in read[file] if answer.model is not None}
        if len(models) > 1:
            raise UsageError(
                f"{place} has answers of {', '.join(sorted(models)[:9])}",
                "each side is one chatbot",
                "name a file with one",
            )
    names = {file: name for name, files in sides.items() for file in files}
    return joined(read, names)


def check_answered(found: Battles, max_missing: float) -> None:
    """Raises NotComparable where more than the share `max_missing` of the prompts is answered by one side only: before
    anything is judged."""
    both = [pair.meta["prompt_id"] for pair in (*found.pairs, *found.identical)]
    check_missing(both, found.missing.get(NEW, []), found.missing.get(OLD, []), max_missing)


def duel_is_clear(part: Part, verdicts: Sequence[Judgement], rules: Rules) -> bool:
    """Whether the gate passes or fails on what is judged. Answers that are all the same so far decide nothing."""
    comparison = compare(*duel_runs(part.battles, verdicts), max_missing=1.0)
    return comparison.changed != 0 and decide(comparison, rules, part.look).state != State.INCONCLUSIVE


def duel_runs(found: Battles, verdicts: Sequence[Judgement]) -> tuple[Run, Run]:
    """(old, new) of judged battles: P(the new answer is preferred), a tie half, and one half for the old."""
    by_battle = {v.id: v for v in verdicts}
    old, new = [], []
    for pair in sorted((*found.pairs, *found.identical), key=lambda p: p.id):
        verdict, key = by_battle[pair.id], pair.meta["prompt_id"]
        win = as_stored(verdict.win_b if pair.model_b == NEW else verdict.swapped().win_b)
        values = {"win_rate": win, "win_rate_hard": (win > 0.5) + (win == 0.5) / 2}
        same = pair.response_a == pair.response_b
        battle = JudgedBattle(pair.key, pair.model_b == NEW, same)
        itself = JudgedBattle("", True, True)  # the old answer meets itself
        even, made = dict.fromkeys(METRICS, 0.5), pair.key if same else f"{pair.key} {NEW}"
        old.append(Item(key, pair.prompt_key, even, made=pair.key, category=pair.category, battle=itself))
        new.append(Item(key, pair.prompt_key, values, made=made, category=pair.category, battle=battle))
    return (_run(found, OLD, [*old, *_alone(found, NEW)]), _run(found, NEW, [*new, *_alone(found, OLD)]))


def _alone(found: Battles, absent: str) -> list[Item]:
    """Items for prompts that the other side did not answer: they are missing there, as in any two runs."""
    return [Item(key, content_id(found.prompts[key]), {}, made="-") for key in found.missing.get(absent, [])]


def _run(found: Battles, side: str, items: list[Item]) -> Run:
    return Run(JUDGE, side, METRICS, {}, {}, items_of(items, side), texts=partial(_texts, found, side))


def _texts(found: Battles, side: str, ids: Collection[str]) -> Texts:
    shown: Texts = {}
    for pair in (*found.pairs, *found.identical):
        key = pair.meta["prompt_id"]
        if key in ids:
            answer: Text = pair.response_a if pair.model_a == side else pair.response_b
            shown[key] = {"prompt": readable(pair.prompt), "answer": readable(answer)}
    return shown
