"""What is said about single cells of a file: what may be a missing text, one that was cut off, or a contradiction.

It goes to the package's log, as what `notes` says about columns does.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness_plugin.files.checked import is_absent
from harness_plugin.files.printable import counted, listed
from harness_plugin.files.rows import Row
from harness_plugin.pairs.column_names import looks_like_measure, looks_like_model, looks_like_tie, tells_of_failure
from harness_plugin.pairs.formats.columns import PROMPT_PARTS
from harness_plugin.pairs.formats.format import Layout

log = logging.getLogger("lm_eval.arena_rm")

_MISSING = frozenset(  # as programs write a missing value into a text, and Excel what it took for a wrong formula
    (
        *("nan", "none", "null", "nat", "n/a", "<na>", "<null>", "(null)", "undefined", "$error$", "[error]"),
        *("#n/a", "#name?", "#value!", "#ref!", "#error!", "#num!", "#null!", "#div/0!"),
    )
)
_MISSING_IN_CAPITALS = ("NA", r"\N")  # R's, and that of database dumps; Na is sodium
_NO_FAILURE = ("", "false", "no", "0", "[]", "{}")
_LONGEST = 40
_TIES, _YES = ("tie", "tied", "equal"), ("true", "yes", "1", "1.0")
_LARGEST_OF_EXCEL = 32_767
ANSWERS = ("response", "response_a", "response_b", "better", "worse", "rejected_response")
"""The fields that hold answers."""


class CellNotes:
    """The cells of a file as its rows come by. `name`: what the format calls a column of the file."""

    def __init__(self, format: Layout, name: Callable[[str], str | None]):
        self._format, self._name = format, name
        self._answers = {n for role in ANSWERS for names in format.roles.get(role, []) for n in names}
        prompt = {n for names in format.roles.get("prompt", []) for n in names}
        self._prompt = (prompt | {*PROMPT_PARTS}) - self._answers
        self._rows: dict[str, list[str]] = {}
        self._worse: dict[str, list[str]] = {}
        self._models: dict[str, set[str]] = {}

    def add(self, row: Row) -> None:
        """Notes the cells of a row, as the file has it."""
        answers = {column: value for column, value in row.value.items() if self._name(column) in self._answers}
        prompt = (value for column, value in row.value.items() if self._name(column) in self._prompt)
        if row.container == "csv" and not all(answers.values()):
            self._note("empty cell", row)
        if any(map(_is_word_for_missing, answers.values())):
            self._note("missing answer", row)
        if any(map(_is_word_for_missing, prompt)):
            self._note("missing prompt", row)
        if row.container == "csv" and any(len(cell) == _LARGEST_OF_EXCEL for cell in row.value.values()):
            self._note("full cell", row)
        if any(value == "" for value in answers.values()) and any(map(_tells_of_failure, row.value.items())):
            self._note("failure", row)
        if "better" in self._format.roles:
            self._add_worse(row)
        elif "response" in self._format.roles:
            self._add_models(row.value)

    def _note(self, what: str, row: Row) -> None:
        self._rows.setdefault(what, []).append(row.place)

    def _add_worse(self, row: Row) -> None:
        """Notes a row whose better answer is not better by another column: one such as score_chosen that is not above
        score_rejected, or one that says that there was a tie."""
        for column, value in row.value.items():
            if "chosen" in column and looks_like_measure(column):
                other = column.replace("chosen", "rejected")
                high, low = _number(value), _number(row.value.get(other))
                if high is not None and low is not None and high <= low:
                    self._worse.setdefault(f"{column} and {other}", []).append(row.place)
            elif self._name(column) not in self._format.used and _says_tie(column, value):
                self._worse.setdefault(column, []).append(row.place)

    def _add_models(self, row: Mapping[str, Any]) -> None:
        for column, value in row.items():
            unread = looks_like_model(column) and self._name(column) not in self._format.used
            if unread and isinstance(value, str) and value:
                self._models.setdefault(column, set()).add(value)

    def say(self, name: str) -> None:
        """Logs a line for each kind of cell that was noted; `name`: of the file."""
        for columns, places in self._worse.items():
            why = "the answers stay as the columns chosen and rejected have them"
            _say_rows(name, f"by {columns}, the chosen answer is no better", places, why)
        for what, (found, why) in _SAID.items():
            _say_rows(name, found, self._rows.get(what, []), why)

    def say_models(self, name: str) -> None:
        """Logs a line about columns that seem to name several models, where no model was read."""
        for column, models in self._models.items():
            if len(models) > 1:
                log.warning(
                    "%s: no row names a model, so all answers are of one chatbot; %s has %d different names: if it "
                    "says whose the answers are, name it (--field model=%s)",
                    name,
                    column,
                    len(models),
                    column,
                )


_SAID = {
    "empty cell": (
        "no text in the cell of an answer",
        "a CSV file cannot say whether an answer is empty or missing; they count as empty",
    ),
    "missing answer": (
        "an answer is only nan, None or the like",
        "such a word counts as an answer; where it stands for a missing one, write null in its place, as JSON",
    ),
    "missing prompt": (
        "the prompt, or a part of it, is only nan, None or the like",
        "the judge reads it as it stands; where it stands for a missing text, leave it out",
    ),
    "full cell": (
        f"a cell of {_LARGEST_OF_EXCEL:,} characters, the most that Excel keeps,",
        "its text may have been cut off",
    ),
    "failure": (
        "an answer is empty, and another column tells of an error",
        "an empty answer counts as one; where it stands for a missing one, write null in its place, as JSON",
    ),
}


def _is_word_for_missing(value: Any) -> bool:
    """Whether a cell holds only a word by which programs write that there is no value."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return False
    return value.strip() in _MISSING_IN_CAPITALS or value.strip().lower() in _MISSING


def _tells_of_failure(item: tuple[str, Any]) -> bool:
    column, value = item
    if not tells_of_failure(column) or is_absent(value) or value in (False, [], {}):
        return False
    return not (isinstance(value, str) and (value.strip().lower() in _NO_FAILURE or _is_word_for_missing(value)))


def _says_tie(column: str, value: Any) -> bool:
    """Whether a cell is the word for a tie, or says yes in a column that is named for ties."""
    word = str(value).lower() if isinstance(value, (str, bool, int, float)) else ""
    return word in _TIES or (word in _YES and looks_like_tie(column))


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None


def _say_rows(name: str, what: str, places: Sequence[str], why: str) -> None:
    if places:
        log.warning("%s: %s in %s (%s); %s", name, what, counted(len(places), "row"), listed(places), why)
