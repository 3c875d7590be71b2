"""The judge that a stored run names -> fingerprints that the gate compares, by the definition in `scoring.identity`."""

import json
import math
from collections.abc import Mapping
from typing import Any

from harness_plugin.scoring.identity import parts


def judge_fingerprints(identity: Mapping[str, Any]) -> dict[str, str | int | float]:
    """The parts of a stored identity, each as one value that can be compared and shown. "none" stands for a part that
    is known to be absent, such as the adapter of a model that has none."""
    return {name: _plain(value) for name, value in sorted(parts(identity).items())}


def _plain(value: Any) -> str | int | float:
    if value is None:
        return "none"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # a damaged file has such a one: it is shown, and JSON has no number for it
    return value if isinstance(value, (str, int, float)) else json.dumps(value, sort_keys=True)
