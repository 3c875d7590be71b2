"""Files as such: opened whatever their compression, written whole or not at all, read row by row, checked, remote.

`opening` and `writing` know bytes, `rows` knows containers (JSON lines, JSON, CSV, parquet), `checked` words the errors
of a row's values, `journal` is the file that a long run appends to, `remote` reaches other file systems, `home` is the
folder of what is made once. Nothing here knows what a pair is.
"""

from harness_plugin.files.writing import atomic_write

__all__ = ["atomic_write"]
