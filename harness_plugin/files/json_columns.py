"""A JSON file that is one object: a row, or columns of lists as tables are sometimes written. Columns become rows; what
could be either is refused.
"""

from typing import Any

from harness_plugin.files.checked import RowError


def rows_of_object(value: dict[str, Any], name: str, is_json: bool) -> list[dict[str, Any]]:
    """The rows of the only object of a file: lists or {index: value} of equal length under each name are columns, and
    one list of objects is that list; any other object is one row, such as one whose lists all hold objects: messages.

    `is_json`: whether the file's name promises one JSON value (.json) and not lines. Raises RowError for an
    object that may be columns or one row whose texts have several turns.
    """
    columns = list(value.values())
    if len(columns) > 1 and all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns):
        indices = list(columns[0])
        if indices and all(index.isdigit() for index in indices):
            return [{key: value[key][index] for key in value} for index in indices]
    lists = [column for column in columns if isinstance(column, list)]
    if is_json and len(columns) == len(lists) == 1 and all(isinstance(entry, dict) for entry in lists[0]):
        return lists[0]
    several = len(lists) > 1 and len({len(column) for column in lists}) == 1 and len(lists[0]) > 1
    if several and all(isinstance(entry, dict) for column in lists for entry in column):
        return [value]
    if several and len(lists) == len(columns) and is_json:
        return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if several and (is_json or len(lists) == len(columns)):
        raise RowError(
            f"{name} is one object whose lists all have {len(lists[0])} entries",
            "they may be the columns of a table, or the turns of one row",
            "write the rows as a JSON array, [{...}, ...], or the one row with an id into a .jsonl file",
        )
    return [value]
