"""The file that says which battles were to be labelled, and with which probability each could have been drawn.

It is written before the page that people vote on, so before any label exists, and is never replaced by another design:
a probability that is changed afterwards is worth nothing.
"""

import hashlib
import json
from pathlib import Path

from harness_plugin.errors import UsageError
from harness_plugin.files import atomic_write
from harness_plugin.label.design import Design, counts

SCHEMA = 1
ENDING = ".design.jsonl"


def design_path(page: Path) -> Path:
    """Where the design of a page is: labels.html -> labels.design.jsonl."""
    return page.with_name(page.name.removesuffix(".html") + ENDING)


def design_text(design: Design) -> str:
    """JSON lines: a line about the draw (design, seed, the judge's hash, counts by stratum), then a line for every
    battle that could have been drawn, sorted by content."""
    head = {
        "arena_rm_design": SCHEMA,
        "design": design.kind,
        "seed": design.seed,
        "judge": design.judge,
        "battles": len(design.battles),
        "drawn": len(design.drawn),
        "strata": counts(design),
    }
    rows = [
        {
            "key": battle.key,
            "id": battle.pair.id,
            "model_a": battle.pair.model_a,
            "model_b": battle.pair.model_b,
            "prompt_key": battle.pair.prompt_key,
            "stratum": battle.stratum,
            "sampling_probability": battle.probability,
            "drawn": battle.drawn,
            "first": battle.first,
        }
        for battle in design.battles
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (head, *rows))


def design_hash(design: Design) -> str:
    """16 hex digits that name the design: the SHA-256 of its file begins with them."""
    return hashlib.sha256(design_text(design).encode("utf-8")).hexdigest()[:16]


def store(design: Design, path: Path) -> None:
    """Writes the design. Raises UsageError where the file holds another one, since labels may exist that were drawn by
    it."""
    text = design_text(design)
    if path.exists():
        if path.read_bytes() == text.encode("utf-8"):
            return
        raise UsageError(
            f"{path} holds another design",
            "people may have labelled battles that were drawn by it, and their probabilities would be lost",
            "choose another -o, or delete the file if nobody has voted yet",
        )
    with atomic_write(path) as out:
        out.write(text)
