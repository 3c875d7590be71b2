"""Files: opened whatever their compression, written whole or not at all, read row by row, their values checked.

`opening`, `compression` and `writing` know bytes; `systems` reaches other file systems, and `remote` copies a run's
files from and to them; `rows` knows containers (JSON lines, JSON, CSV, parquet; `json_array` and `json_columns` are two
kinds of JSON); `written_lists` reads lists in the cells of a table; `checked` checks the values of a row; `printable`
makes somebody's text fit for a file or a terminal, and `rounding` a number; `journal` is the file that a long run
appends to; `home` is the folder of what is made once; `optional` imports packages that need not be there. Nothing here
knows what a pair is.
"""

from harness_plugin.files.writing import atomic_write

__all__ = ["atomic_write"]
