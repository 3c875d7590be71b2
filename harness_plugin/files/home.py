"""The folder for what is made once and used by every run: converted weights, the cache of scores, compiled kernels."""

import os
from pathlib import Path


def home() -> Path:
    """$ARENA_RM_HOME, else arena-rm in the user's cache folder."""
    given = os.environ.get("ARENA_RM_HOME")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arena-rm"
