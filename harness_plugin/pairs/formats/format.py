"""What an entry of the registry says: which columns a format reads, and for what; a format of pairs, one of answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.pair import Pair


class Layout:
    """The columns of a format. `uses` says for what each column is used, as in
    "prompt=instruction winner=winner_a+winner_b id=uid|id category": fields with the columns that they are read from,
    of which | names several that may hold the same thing, and a field alone is a column of that name. Without `uses`
    the columns that tell the format are what is used.
    """

    name: str
    columns: str
    uses: str

    @cached_property
    def roles(self) -> dict[str, list[list[str]]]:
        """Field -> the columns that it is read from, each a list of names that it may have."""
        entries = [entry.partition("=") for entry in self.uses.split() or [f"pair={'+'.join(self.columns.split())}"]]
        return {role: [one.split("|") for one in (columns or role).split("+")] for role, _, columns in entries}

    @cached_property
    def used(self) -> frozenset[str]:
        """All columns that the format reads, parts of the prompt (`PROMPT_PARTS`) aside."""
        return frozenset(name for columns in self.roles.values() for names in columns for name in names)

    def column_of(self, field: str) -> str:
        """The column from which the format reads a field of ours; the field's own name where there is no such one."""
        columns = self.roles.get(field, [])
        return columns[0][0] if len(columns) == 1 else field


def _always(row: Fields) -> bool:
    return True


def _none(pairs: Sequence[Pair]) -> str:
    return ""


@dataclass(frozen=True)
class PairFormat(Layout):
    """A format whose rows are pairs. Names of columns stand in one string, with spaces between them.

    `columns` and `without`: a row is of this format where it has all of the first and none of the second, and where
    `fits` accepts it. `pair`: a row to its pair or pairs, or to None where the row repeats another. `texts` and
    `numbers`: for CSV files, the columns in which an empty cell is an empty text, and those that hold numbers.
    `unique_ids`: False where the publisher's ids may repeat, so that a repeated one gets a suffix instead of an error.
    `first_of`: a column; only the rows count that have in it what the first row has. `doubt`: what may be wrong with
    the labels of all pairs together; empty if nothing. `uses`: as in `Layout`.
    """

    name: str
    columns: str
    pair: Callable[[Fields], Pair | list[Pair] | None]
    uses: str = ""
    without: str = ""
    fits: Callable[[Fields], bool] = _always
    texts: str = ""
    numbers: str = ""
    unique_ids: bool = True
    first_of: str | None = None
    doubt: Callable[[Sequence[Pair]], str] = _none

    def matches(self, row: Fields) -> bool:
        """Whether the row is of this format, as far as its columns tell."""
        return row.keys() >= set(self.columns.split()) and not row.keys() & set(self.without.split()) and self.fits(row)


@dataclass(frozen=True)
class AnswerFormat(Layout):
    """A format whose rows are single answers of one model; `columns`, `without`, `uses`, `texts`, `first_of` as in
    `PairFormat`.

    `answer`: a row and the questions that were given to its answer. `unique_ids`: True where an id names one question,
    so that a second answer to it is an error; else equal ids are prompts that the benchmark repeats, and are numbered.
    """

    name: str
    columns: str
    answer: Callable[[Fields, Questions], Answer]
    uses: str = ""
    without: str = ""
    texts: str = ""
    unique_ids: bool = False
    first_of: str | None = None

    def matches(self, row: Fields) -> bool:
        """Whether the row has the columns of this format, and none that it must not have."""
        return row.keys() >= set(self.columns.split()) and not row.keys() & set(self.without.split())
