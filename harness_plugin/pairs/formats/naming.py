"""What a user says about the columns of a file: which column is which field, which are left alone, and what the words
of its winners mean. It applies to every format, on top of the format's own columns.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import excerpt, is_absent, missing_field
from harness_plugin.files.rows import Row
from harness_plugin.pairs.formats.columns import PROMPT_PARTS, Fields
from harness_plugin.pairs.formats.format import Layout
from harness_plugin.pairs.pair import Winner, unknown_winner

NO_WINNER = "none"
AFTERWARDS = ("category", "difficulty", "decides", "id")
"""Fields that can be set on what any format read, also where the format has no column for them."""


@dataclass(frozen=True)
class Naming:
    """`fields`: our name of a field -> the file's column; `ignored`: columns that are left alone; `words`: a word in
    the column of winners -> what it means, None where it means that nobody won or judged."""

    fields: Mapping[str, str] = field(default_factory=dict)
    ignored: Collection[str] = ()
    words: Mapping[str, Winner | None] = field(default_factory=dict)

    def cleaned(self, row: Row) -> Row:
        """The row without the columns that are left alone."""
        if not self.ignored:
            return row
        return replace(row, value={name: value for name, value in row.value.items() if name not in self.ignored})

    def renamed(self, row: Fields, format: Layout) -> Fields:
        """The row with the named columns under the names by which the format reads them."""
        if not self.fields:
            return row
        named = {format.column_of(ours): row[column] for ours, column in self.fields.items() if column in row}
        return {**{name: value for name, value in row.items() if name not in self.fields.values()}, **named}

    def check(self, format: Layout) -> None:
        """Raises UsageError for a field or for winners' words that the format has no use for."""
        allowed = format.used | {*PROMPT_PARTS, *AFTERWARDS}
        for ours, column in self.fields.items():
            if format.column_of(ours) not in allowed:
                raise UsageError(
                    f"column {column} is named for {ours}, which files of format {format.name} do not have",
                    f"its columns are {', '.join(sorted(format.used))}",
                    "name another field, or another format",
                )
        if self.words and self.label_column(format) is None:
            raise UsageError(
                f"words for winners are given, and format {format.name} has no column of winners",
                "its rows say in another way who won",
                "leave the words out, or name another format",
            )

    def agrees_with(self, format: Layout) -> bool:
        """Whether the format has each of the named fields in the very column that is named for it."""
        return all(
            [column in names for names in format.roles.get(ours, [])] == [True] for ours, column in self.fields.items()
        )

    def label_column(self, format: Layout) -> str | None:
        """The column of the winner, as the format calls it, if it is one."""
        columns = format.roles.get("winner", [])
        return columns[0][0] if len(columns) == 1 else None

    def own_winner(self, row: Fields, format: Layout) -> tuple[Fields, Winner | None]:
        """The row without the word for its winner where the user says what it means, or where it is the name of one of
        the two models, and that meaning.

        Raises RowError for a word that neither the user nor a canonical pair has, if the user gave words.
        """
        column = self.label_column(format)
        value = row.get(column) if column is not None else None
        if column is None or is_absent(value):
            return row, None
        word = as_word(value)
        if (known := _alike(word)) in self.words:
            return {**row, column: None}, self.words[known]
        if (winner := _of_model(row, value, format)) is not None:
            return {**row, column: None}, winner
        if not self.words:
            return row, None
        if word in set(Winner):
            return {**row, column: None}, Winner(word)
        raise unknown_winner(self.fields.get("winner", column), value, self.words)

    def afterwards(self, row: Fields, format: Layout) -> dict[str, str]:
        """Values of named fields for which the format has no column, such as a category; `row` as the file has it."""
        named = [name for name in AFTERWARDS if name in self.fields and name not in format.roles]
        values = {name: row.get(self.fields[name]) for name in named}
        return {name: as_word(value) for name, value in values.items() if not is_absent(value)}

    def without_column(self, row: Fields) -> DataError | None:
        """The error for a row that lacks a named column, as the first row of a file must not."""
        for ours, column in self.fields.items():
            if column not in row:
                return DataError(
                    f"column {excerpt(column)} (for field {ours}) is missing",
                    f"columns found: {', '.join(sorted(map(str, row))) or 'none'}",
                    "name the column that holds it",
                )
        return None

    def require(self, row: Fields, *ours: str) -> None:
        """Raises RowError where the row lacks the column that was named for one of these fields."""
        for name in ours:
            if name in self.fields and self.fields[name] not in row:
                raise missing_field(self.fields[name], row)

    def in_words_of_the_file(self, error: DataError, format: Layout) -> DataError:
        """The same error with the name of the column as the file has it."""
        columns = {format.column_of(ours): column for ours, column in self.fields.items()}
        match = re.match(r"field (\w+)", error.found)
        if match is None or match[1] not in columns:
            return error
        named = type(error)(f"field {columns[match[1]]}{error.found[match.end() :]}", error.why, error.do)
        named.__cause__ = error
        return named


NOTHING_NAMED = Naming()


def _of_model(row: Fields, value: Any, format: Layout) -> Winner | None:
    """The side whose model, and whose alone, has the name `value`; None where that is no name of a model."""
    if not isinstance(value, str) or value in set(Winner):
        return None
    sides = {Winner.MODEL_A: "model_a", Winner.MODEL_B: "model_b"}
    columns = {side: [name for names in format.roles.get(role, []) for name in names] for side, role in sides.items()}
    named = [side for side, names in columns.items() if value in [row.get(name) for name in names]]
    return named[0] if len(named) == 1 else None


def as_word(value: Any) -> str:
    """A cell as the user writes it in an option: 1.0 is 1, True is true."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _alike(word: str) -> str:
    """The one spelling of words that programs write in several ways: 1.0 as 1, True as true."""
    if re.fullmatch(r"-?\d+\.0+", word):
        return word.partition(".")[0]
    return word.lower() if word.lower() in ("true", "false") else word


def winner_words(words: Mapping[str, str | None]) -> dict[str, Winner | None]:
    """Words of a file -> outcomes, checked: model_a, model_b, tie, or none. Raises UsageError for another outcome, and
    for two outcomes of one word."""
    found: dict[str, Winner | None] = {}
    for word, outcome in words.items():
        if outcome is not None and outcome != NO_WINNER and outcome not in set(Winner):
            raise UsageError(
                f"the word {excerpt(word)} is to mean {excerpt(outcome)}",
                f"outcomes: {', '.join(map(str, Winner))}, {NO_WINNER} (nobody won or judged)",
                "name one of them",
            )
        meant = None if outcome in (None, NO_WINNER) else Winner(outcome)
        if found.setdefault(_alike(word), meant) != meant:
            why = f"{_alike(word)} has another meaning already, and is the same word in a file"
            raise UsageError(f"the word {excerpt(word)} is to mean {excerpt(outcome)}", why, "leave one of them out")
    return found


def checked_fields(
    fields: Mapping[str, str] | None, own: Collection[str], others: Collection[str] = ()
) -> Mapping[str, str]:
    """The named fields: `own` ones, parts of the prompt, or `others`. Raises UsageError, which does not list the
    others, for one that is none of these."""
    for ours in sorted(fields or {}):
        if ours not in {*own, *PROMPT_PARTS, *others}:
            allowed = f"fields: {', '.join(own)}, and parts of the prompt: {', '.join(PROMPT_PARTS)}"
            raise UsageError(
                f"field {excerpt(ours)} is unknown", allowed, "name one of them, or a column of the format"
            )
    return fields or {}
