"""Packages that need not be installed, imported where they are needed."""

import importlib
from typing import Any

from harness_plugin.errors import DataError


def optional_module(module: str, package: str, found: str) -> Any:
    """The imported module of a package that need not be installed. Raises DataError, which begins with `found` and says
    what to install, where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"{found}, and the Python package {package} is not installed",
            "without it the file cannot be read or written",
            f"run: pip install {package}",
        ) from error
