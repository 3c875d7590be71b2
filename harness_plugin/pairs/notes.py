"""What is said about a file that was read: which columns were used for what, which were not, and what was left out. It
goes to the package's log, which the command line prints on stderr.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness_plugin.files.checked import is_absent
from harness_plugin.files.printable import counted
from harness_plugin.files.rows import Row
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import PROMPT_PARTS, json_turns
from harness_plugin.pairs.formats.format import Layout
from harness_plugin.pairs.pair import Pair, Text, Winner

log = logging.getLogger("lm_eval.arena_rm")

_SHOWN = 20
_NOBODY = frozenset(  # as programs write a missing value into a text, and Excel what it took for a wrong formula
    (
        "nan",
        "none",
        "null",
        "<na>",
        "n/a",
        "#n/a",
        "#name?",
        "#value!",
        "#ref!",
        "#error!",
        "#num!",
        "#null!",
        "#div/0!",
    )
)
_LARGEST_OF_EXCEL = 32_767
_ANSWERS = ("response", "response_a", "response_b", "better", "worse")
_LABEL = re.compile(
    r"labels?|winners?|wins?|won|prefer|preferred|preferences?|votes?|voted|verdict|choices?|chosen|better|best"
    r"|judge?ments?|annotations?|ratings?|scores?|rank|ranking|gold|accept|accepted|selected|selection|picked|decision"
    r"|outcome|prob|probability"
)
_PART = re.compile(
    r"system|sys|developer|prompts?|instructions?|questions?|query|inputs?|contexts?|history|conversations?|dialogues?"
    r"|dialogs?|messages?|documents?|passages?|articles?|background|preamble|persona|tools|functions|attachments?"
)
_OPTIONS = {  # a word in the name of a part -> the field that it may be named for, instead of context
    **dict.fromkeys(("system", "sys", "developer", "preamble", "persona"), "system"),
    **dict.fromkeys(("history", "conversation", "conversations", "dialogue", "dialog", "messages"), "messages"),
    **dict.fromkeys(("input", "inputs"), "input"),
}
_NO_TEXT = re.compile(  # words of columns that say something about a text, and hold none
    r"ids?|uuid|hash|tokens?|length|len|counts?|num|number|sources?|types?|meta|metadata|categor(?:y|ies)|languages?|lang"
    r"|index|names?|tags?|dates?|time|tstamp|urls?|version|kwargs|format|style|difficulty|domain|topic|template"
)
_THOUGHTS = re.compile(r"\s*<(?:think|thinking|thought|reasoning)>")
_MEASURE = re.compile(r"scores?|ratings?|rewards?")


def listed(items: Sequence[str]) -> str:
    """The items with commas between them; of many the first twenty, and how many more there are."""
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def looks_like_label(column: str) -> bool:
    """Whether a word in the name of a column says that somebody's judgement stands in it."""
    return column == "p_a" or any(map(_LABEL.fullmatch, _words(column)))


def looks_like_part(column: str) -> bool:
    """Whether the name of a column says that a part of the prompt stands in it."""
    words = _words(column)
    return any(map(_PART.fullmatch, words)) and not any(map(_NO_TEXT.fullmatch, words))


def _words(column: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower())


class ColumnNotes:
    """The columns of a file as its rows come by, by the names that the file gives them.

    `format` and `fields` (our name -> the file's column) say what they are used for.
    """

    def __init__(self, format: Layout, fields: Mapping[str, str]):
        self._format = format
        self._ours = {column: format.column_of(ours) for ours, column in fields.items()}
        self._shadowed = set(self._ours.values()) - set(self._ours)
        self._seen: dict[str, bool] = {}
        self._answers = {n for role in _ANSWERS for names in format.roles.get(role, []) for n in names}
        self._empty: list[str] = []
        self._nobody: list[str] = []
        self._full: list[str] = []
        self._apart: dict[str, bool | None] = {}
        self._turned: dict[str, list[str]] = {}

    def add(self, row: Row) -> None:
        """Notes the columns of a row, as the file has it."""
        seen = self._seen
        for column, value in row.value.items():
            if not seen.get(column):
                seen[str(column)] = not is_absent(value) and value not in ("", [], {})
        answers = [value for column, value in row.value.items() if self._name(column) in self._answers]
        if row.container == "csv" and not all(answers):
            self._empty.append(row.place)
        if any(isinstance(value, str) and value.strip().lower() in _NOBODY for value in answers):
            self._nobody.append(row.place)
        if row.container == "csv" and any(len(cell) == _LARGEST_OF_EXCEL for cell in row.value.values()):
            self._full.append(row.place)
        self._add_parts(row.value)
        if "better" in self._format.roles:
            self._add_measures(row)

    def _add_parts(self, row: Mapping[str, Any]) -> None:
        """Notes columns that look like a part of the prompt and hold a text that no column which is read repeats."""
        read = {*self._format.used, *PROMPT_PARTS}
        for column, value in row.items():
            if column not in self._apart:
                self._apart[column] = False if looks_like_part(column) and self._name(column) is not None else None
            if self._apart[column] is False:
                others = (cell for other, cell in row.items() if other != column and self._name(other) in read)
                known = [text for cell in others for text in _texts(cell)]
                self._apart[column] = any(all(text not in one for one in known) for text in _texts(value))

    def _add_measures(self, row: Row) -> None:
        """Notes a row whose better answer has no higher score, of those in two columns such as score_chosen and
        score_rejected."""
        for column, value in row.value.items():
            if "chosen" in column and any(map(_MEASURE.fullmatch, _words(column))):
                other = column.replace("chosen", "rejected")
                high, low = _number(value), _number(row.value.get(other))
                if high is not None and low is not None and high <= low:
                    self._turned.setdefault(f"{column} and {other}", []).append(row.place)

    def used(self) -> dict[str, list[str]]:
        """What was read (`prompt`, `winner` and so on) -> the columns from which it was."""
        found: dict[str, list[str]] = {}
        for role, choices in self._format.roles.items():
            columns = [self._first_of(choice) for choice in choices]
            if any(columns):
                found[role] = [column for column in columns if column]
        parts = self._parts()
        if parts:
            after = [column for column in parts if self._name(column) == "input"]
            found["prompt"] = [*(c for c in parts if c not in after), *found.get("prompt", []), *after]
        return found

    def _first_of(self, choices: Sequence[str]) -> str | None:
        """The column, of several that may hold the same thing the first that has a value."""
        columns = [column for name in choices for column in self._seen if self._name(column) == name]
        return next((column for column in columns if self._seen[column]), columns[0] if columns else None)

    def _name(self, column: str) -> str | None:
        """What the format calls a column of the file; None for one whose place another was named for."""
        return self._ours.get(column, None if column in self._shadowed else column)

    def _parts(self) -> list[str]:
        named = {self._name(column): column for column, holds in self._seen.items() if holds}
        return [named[part] for part in PROMPT_PARTS if part in named and part not in self._format.used]

    def unread(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a row has in columns that nothing is read from."""
        read = {*self._format.used, *PROMPT_PARTS}
        return {column: value for column, value in row.items() if self._name(column) not in read}

    def unused(self) -> list[str]:
        """The columns that nothing was read from."""
        used = {column for columns in self.used().values() for column in columns}
        return [column for column in self._seen if column not in used and self._name(column) not in PROMPT_PARTS]

    def say(self, name: str, what: str) -> None:
        """Logs the one line about a file, and what may be missing answers: empty cells of a CSV file, and words such as
        None; `what`: how many of what the file holds."""
        shown = [
            role if columns == [role] else f"{role} = {' + '.join(columns)}" for role, columns in self.used().items()
        ]
        unused = ", ".join(self.unused()) or "none"
        log.info(
            "%s: %s, read as %s: %s; columns not used: %s", name, what, self._format.name, ", ".join(shown), unused
        )
        self._say_parts(name)
        for columns, places in self._turned.items():
            why = "the answers stay as the columns chosen and rejected have them"
            _say_rows(name, f"by {columns}, the chosen answer is no better", places, why)
        why = "a CSV file cannot say whether an answer is empty or missing; they count as empty"
        _say_rows(name, "no text in the cell of an answer", self._empty, why)
        why = "such a word counts as an answer; where it stands for a missing one, write null in its place, as JSON"
        _say_rows(name, "an answer is only nan, None or the like", self._nobody, why)
        why = "its text may have been cut off"
        _say_rows(name, f"a cell of {_LARGEST_OF_EXCEL:,} characters, the most that Excel keeps,", self._full, why)

    def _say_parts(self, name: str) -> None:
        """Logs a warning that names columns that look like a part of the prompt and were not read."""
        left = [column for column in self.unused() if self._apart.get(column)]
        if left:
            option = next((_OPTIONS[word] for word in _words(left[0]) if word in _OPTIONS), "context")
            log.warning(
                "%s: by %s, %s may hold a part of the prompt, which is not read; name such a column (--field %s=%s), "
                "or leave it alone (--ignore %s)",
                name,
                "its name" if len(left) == 1 else "their names",
                listed(left),
                option,
                left[0],
                left[0],
            )


def _say_rows(name: str, what: str, places: Sequence[str], why: str) -> None:
    if places:
        log.warning("%s: %s in %s (%s); %s", name, what, counted(len(places), "row"), listed(places), why)


def _texts(value: Any) -> list[str]:
    """The texts that a value holds, however deep, without white space around them; of messages only what they say."""
    if isinstance(value, str):
        return [value.strip()] if value.strip() not in ("", "[]", "{}", "null") else []
    if isinstance(value, Mapping):
        spoken = [name for name in ("content", "value") if name in value] if chat.is_message(value) else []
        return [text for name in spoken or value for text in _texts(value[name])]
    return [text for entry in value for text in _texts(entry)] if isinstance(value, (list, tuple)) else []


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None


def say_lists(name: str, prompts: Iterable[Text], answers: Iterable[Text | None]) -> None:
    """Logs a warning where prompts, or all answers, are lists of turns or of messages that somebody wrote into a text,
    since the judge reads them as they stand."""
    count = sum(map(_is_written_list, prompts))
    if count:
        what = "prompt is a list" if count == 1 else "prompts are lists"
        log.warning("%s: %d %s written as text, read as it stands; write real lists for turns", name, count, what)
    given = [answer for answer in answers if answer]
    if given and all(map(_is_written_list, given)):
        why = "read as they stand; take the texts out of them if they are answers or turns"
        log.warning("%s: all answers are lists written as text, %s", name, why)


def _is_written_list(text: Text) -> bool:
    if not isinstance(text, str) or not text.lstrip().startswith("["):
        return False
    return chat.message_list(text) is not None or json_turns(text) is not None


def say_thoughts(name: str, answers: Iterable[Text | None]) -> None:
    """Logs a warning where answers hold the thoughts that a model wrote before them."""
    turns = ((answer,) if isinstance(answer, str) else answer for answer in answers if answer)
    count = sum(any("</think>" in text or _THOUGHTS.match(text) for text in texts) for texts in turns)
    if count:
        what = "answer has" if count == 1 else "answers have"
        why = "the judge reads it as part of the answer; take it out if people do not see it"
        log.warning("%s: %d %s a text of thoughts (<think>) in front; %s", name, count, what, why)


def say_contradictions(name: str, pairs: Iterable[Pair]) -> None:
    """Logs a warning where the winner and `p_b` name different sides."""
    sides = {Winner.MODEL_A: -0.5, Winner.MODEL_B: 0.5}
    apart = [p.id for p in pairs if p.p_b is not None and p.winner in sides and (p.p_b - 0.5) * sides[p.winner] < 0]
    if apart:
        log.warning(
            "%s: winner and p_b name different sides in %s (id %s); the winner counts where a judge is measured, and "
            "p_b where one is trained. p_b is the probability that B is preferred",
            name,
            counted(len(apart), "pair"),
            listed(apart),
        )


class RepeatedPrompts:
    """Prompts that a file of answers repeats: their answers meet those of other files by their order alone, so that a
    part of the prompt in a column that is not read would go unnoticed."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str | None], Mapping[str, Any]] = {}
        self._count = 0
        self._differ: dict[str, None] = {}

    def add(self, prompt: tuple[str, str | None], unread: Mapping[str, Any]) -> None:
        """`prompt`: the id of a row's prompt and the model; `unread`: what the row has in columns that nothing is read
        from."""
        first = self._first.setdefault(prompt, unread)
        if first is not unread:
            self._count += 1
            self._differ |= dict.fromkeys(name for name, value in unread.items() if value != first.get(name))

    def say(self, name: str) -> None:
        """Logs a warning where the file repeats prompts."""
        if not self._count:
            return
        differ = list(self._differ)
        said = (
            f"{counted(self._count, 'answer')} to a prompt that the file has already answered; such answers meet those "
        )
        said += "of other files in their order"
        if differ:
            said += f"; their rows differ in {listed(differ)}, which is not read: if it is part of the prompt, name it "
            said += f"(--field context={differ[0]})"
        log.warning("%s: %s", name, said)
