"""What is said about the columns of a file that was read: which were used for what, and which may have been meant.

It goes to the package's log, which the command line prints on stderr.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from harness_plugin.files.checked import is_absent
from harness_plugin.files.printable import counted, listed
from harness_plugin.files.rows import Row
from harness_plugin.pairs.cells import CellNotes
from harness_plugin.pairs.column_names import (
    looks_like_answer,
    looks_like_judgement,
    looks_like_label,
    looks_like_model,
    looks_like_part,
    part_option,
    side_free,
)
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import PROMPT_PARTS
from harness_plugin.pairs.formats.format import Layout
from harness_plugin.pairs.formats.naming import Naming
from harness_plugin.pairs.pair import Pair

log = logging.getLogger("lm_eval.arena_rm")

_SIDES = ("response_a", "response_b")
_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+|https?://\S+")


class ColumnNotes:
    """The columns of a file as its rows come by, by the names that the file gives them.

    `format` and `fields` (our name -> the file's column) say what they are used for; `beside`: further columns that the
    caller uses.
    """

    def __init__(self, format: Layout, fields: Mapping[str, str], beside: Collection[str] = ()):
        self._format, self._beside = format, beside
        self._ours = {column: format.column_of(ours) for ours, column in fields.items()}
        self._shadowed = set(self._ours.values()) - set(self._ours)
        self._read = {*format.used, *PROMPT_PARTS}
        self._seen: dict[str, bool] = {}
        self._taken: set[str] = set()
        self._choices = [names for columns in format.roles.values() for names in columns if len(names) > 1]
        self._apart: dict[str, bool | None] = {}
        self._inside: dict[str, None] = {}
        self._labels: dict[str, None] = {}
        self._unlabelled: list[str] = []
        self._cells = CellNotes(format, self._name)

    def add(self, row: Row) -> None:
        """Notes the columns of a row, as the file has it."""
        seen = self._seen
        for column, value in row.value.items():
            if not seen.get(column):
                seen[str(column)] = _says_something(value)
        self._take(row.value)
        self._cells.add(row)
        self._add_texts(row.value)

    def _take(self, row: Mapping[str, Any]) -> None:
        """Notes, of columns that may hold the same thing, the one that the row has it in."""
        if self._choices:
            by_name = {self._name(column): column for column, value in row.items() if _says_something(value)}
            for names in self._choices:
                self._taken.update([by_name[name] for name in names if name in by_name][:1])

    def _add_texts(self, row: Mapping[str, Any]) -> None:
        """Notes columns that look like a part of the prompt or like an answer and hold a text that no column which is
        read repeats, and such parts within an object."""
        for column, value in row.items():
            if column not in self._apart:
                looks = looks_like_part(column) or looks_like_answer(column)
                self._apart[column] = False if looks and self._name(column) is not None else None
            if self._apart[column] is False:
                self._apart[column] = self._is_new(row, column, value)
            elif isinstance(value, Mapping) and self._may_hold_parts(column):
                for name in filter(looks_like_part, map(str, value)):
                    place = f"{column}.{name}"
                    if place not in self._inside and self._is_new(row, column, value.get(name)):
                        self._inside[place] = None

    def _may_hold_parts(self, column: str) -> bool:
        name = self._name(column)
        return (name not in self._read or name == "meta") and not looks_like_judgement(column)

    def _is_new(self, row: Mapping[str, Any], column: str, value: Any) -> bool:
        """Whether the value, of that column, holds a text that no other column which is read repeats. The address of a
        person or of a page is none."""
        texts = [text for text in _texts(value) if not _ADDRESS.fullmatch(text)]
        if not texts:
            return False
        others = (cell for other, cell in row.items() if other != column and self._name(other) in self._read)
        known = [text for cell in others for text in _texts(cell)]
        return any(all(text not in one for one in known) for text in texts)

    def add_pairs(self, row: Row, pairs: Sequence[Pair]) -> None:
        """Notes a row whose pairs have no winner although a column that is not read looks like a label."""
        if pairs and all(pair.verdict is None for pair in pairs):
            labels = [
                column
                for column, value in row.value.items()
                if looks_like_label(column) and self._name(column) not in self._read and _says_something(value)
            ]
            self._labels |= dict.fromkeys(labels)
            if labels:
                self._unlabelled.append(row.place)

    def used(self) -> dict[str, list[str]]:
        """What was read (`prompt`, `winner` and so on) -> the columns from which it was."""
        found: dict[str, list[str]] = {}
        for role, choices in self._format.roles.items():
            columns = [column for choice in choices for column in self._columns_of(choice)]
            if columns:
                found[role] = columns
        read = {column for columns in found.values() for column in columns}
        parts = [column for column in self._parts() if column not in read]
        if parts:
            after = [column for column in parts if self._name(column) == "input"]
            found["prompt"] = [*(c for c in parts if c not in after), *found.get("prompt", []), *after]
        return found | {column: [column] for column in self._beside if column in self._seen and column not in read}

    def _columns_of(self, choice: Sequence[str]) -> list[str]:
        """The columns of something that was read: of several that may hold the same thing, those that a row had it in,
        or the first where none did."""
        columns = [column for name in choice for column in self._seen if self._name(column) == name]
        return [column for column in columns if column in self._taken] or columns[:1]

    def _name(self, column: str) -> str | None:
        """What the format calls a column of the file; None for one whose place another was named for."""
        return self._ours.get(column, None if column in self._shadowed else column)

    def _parts(self) -> list[str]:
        named = {self._name(column): column for column, holds in self._seen.items() if holds}
        return [named[part] for part in PROMPT_PARTS if part in named]

    def unread(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a row has in columns that nothing is read from."""
        return {column: value for column, value in row.items() if self._name(column) not in self._read}

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
        self._say_answers(name)
        self._cells.say(name)

    def say_models(self, name: str) -> None:
        """Logs a warning where columns that are not read name several models; for a file in which no row names one."""
        self._cells.say_models(name)

    def say_labels(self, name: str, pairs: Sequence[Pair]) -> None:
        """Logs a warning about columns that look like a label, where no winner was read: in the whole file, or in some
        of its rows."""
        if all(pair.verdict is None for pair in pairs):
            labels, where = [column for column in self.unused() if looks_like_label(column)], ""
            self._say_better(name)
        else:
            labels = list(self._labels)
            where = f" in {counted(len(self._unlabelled), 'row')} ({listed(self._unlabelled)})"
        if labels:
            sides = [side_free(column) for column in labels]
            each = "; if each of them is about one answer, make one column of them that says who won"
            log.warning(
                "%s: no winner was read%s, and %s like a label; name its column (--field winner=%s), and say what its "
                "words mean if they are not model_a, model_b and tie (--winner-map)%s",
                name,
                where,
                f"{listed(labels)} {'looks' if len(labels) == 1 else 'look'}",
                labels[0],
                each if len(set(sides)) < len(sides) else "",
            )

    def _say_better(self, name: str) -> None:
        """Logs a warning where a column that is named for one side is by its own name the better answer, or such."""
        answers = [column for side in _SIDES for column in self.used().get(side, [])]
        named = [column for column in answers if column in self._ours and looks_like_label(column)]
        if named:
            log.warning(
                "%s: no winner was read, and by its name %s says which answer is better; if it does, name the answers "
                "by that (--field better=%s --field worse=%s)",
                name,
                named[0],
                named[0],
                next(column for column in answers if column != named[0]),
            )

    def _say_parts(self, name: str) -> None:
        """Logs a warning that names columns that look like a part of the prompt and were not read."""
        left = [column for column in self.unused() if self._apart.get(column) and looks_like_part(column)]
        if left:
            log.warning(
                "%s: by %s, %s may hold a part of the prompt, which is not read; name such a column (--field %s=%s), "
                "or leave it alone (--ignore %s)",
                name,
                _names(left),
                listed(left),
                part_option(left[0]),
                left[0],
                left[0],
            )
        if self._inside:
            log.warning(
                "%s: by %s, %s may hold a part of the prompt, which is not read; write it into a column of its own if "
                "it is one",
                name,
                _names(self._inside),
                listed(list(self._inside)),
            )

    def _say_answers(self, name: str) -> None:
        """Logs a warning that names columns that look like an answer and were not read."""
        left = [column for column in self.unused() if self._apart.get(column) and not looks_like_part(column)]
        if left:
            if "response" in self._format.roles:
                what = f"if it is the answer to be judged, name it (--field response={left[0]})"
            else:
                what = "a pair has two: write others into rows of their own"
            log.warning(
                "%s: by %s, %s may hold an answer, which is not read; %s", name, _names(left), listed(left), what
            )


def _names(columns: Collection[str]) -> str:
    return "its name" if len(columns) == 1 else "their names"


def _says_something(value: Any) -> bool:
    return not is_absent(value) and value not in ("", [], {})


def _texts(value: Any) -> list[str]:
    """The texts that a value holds, however deep, without white space around them; of messages only what they say."""
    found, left = [], [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            found.append(one.strip())
        elif isinstance(one, Mapping):
            spoken = [name for name in ("content", "value") if name in one] if chat.is_message(one) else []
            left.extend(one[name] for name in spoken or one)
        elif isinstance(one, (list, tuple)):
            left.extend(one)
    return [text for text in found if text not in ("", "[]", "{}", "null")]


def cleaned(rows: Iterator[Row], name: str, naming: Naming) -> Iterator[Row]:
    """The rows without the columns that are to be left alone. Logs a warning about one that no row has; of several
    files another one may have it."""
    unseen = set(naming.ignored)
    for row in rows:
        unseen -= row.value.keys()
        yield naming.cleaned(row)
    if unseen:
        log.warning("%s: no row has %s, which was to be left alone; check its name", name, listed(sorted(unseen)))


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
            texts = {name: value for name, value in unread.items() if not isinstance(value, (int, float))}
            differ = (name for name, value in texts.items() if value != first.get(name))
            self._differ |= dict.fromkeys(name for name in differ if not looks_like_model(name))

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
