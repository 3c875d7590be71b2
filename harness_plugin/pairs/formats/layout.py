"""What formats of pairs and of answers share: which columns a format reads, and for what."""

from functools import cached_property


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
