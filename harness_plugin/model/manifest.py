"""`arena_rm.json`: what an adapter needs to be used as it was trained, and what it was measured to do.

A folder without one (such as the reference card's) is used with the card's settings.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness_plugin.errors import ModelError, UsageError
from harness_plugin.files import atomic_write
from harness_plugin.files.rows import parse_unique
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.spec import KINDS, PAIR, POINTWISE
from harness_plugin.prompt import MAX_LENGTH, PROMPT_VERSION, TEMPLATE, TRUNCATIONS

MANIFEST_FILE = "arena_rm.json"
POSITIVE_MEANS = "response_b"
# The settings of a pointwise model of which its file says nothing.
UNSAID: dict[str, Any] = {"template": None, "max_length": None, "truncation": "budget"}


@dataclass(frozen=True)
class Manifest:
    """Fields of `arena_rm.json`; unknown ones in a file are refused, since they may change what scores mean.

    `kind`: "pair" for a judge that reads two responses in the text `template`; "pointwise" for a reward model that
    reads one, in the chat template `template` (None: the tokenizer's own) and at most `max_length` tokens (None: as
    many as the model takes, up to `reading.LONGEST`).
    """

    schema: int = 1
    kind: str = PAIR
    base: str | None = None
    base_revision: str | None = None
    base_fingerprint: str | None = None
    template: str | None = TEMPLATE
    prompt_version: int = PROMPT_VERSION
    max_length: int | None = MAX_LENGTH
    truncation: str = "card"
    positive_means: str = POSITIVE_MEANS
    num_labels: int = 1
    calibration: dict | None = None  # the fields of a `Calibration`, and how they were fitted
    training: dict = field(default_factory=dict)  # recipe, data file hashes, counts, seed
    metrics: dict = field(default_factory=dict)  # on held-out data, each with n
    versions: dict = field(default_factory=dict)
    found: bool = field(default=True, metadata={"stored": False})  # False: the card's settings stand in

    def calibrated(self) -> Calibration | None:
        if self.calibration is None:
            return None
        c = self.calibration
        surface = float(c.get("surface_worth") or 0.0)
        return Calibration(float(c["temperature"]), float(c["tie_nu"]), surface_worth=surface)

    def length_worth(self) -> float | None:
        """What length alone is worth to the judge, as in `Calibration`; None where it was not measured."""
        worth = (self.calibration or {}).get("length_worth")
        return None if worth is None else Calibration(length_worth=float(worth)).length_worth

    def save(self, folder: Path) -> None:
        data = {
            f.name: v
            for f, v in zip(fields(self), asdict(self).values(), strict=True)
            if f.metadata.get("stored", True)
        }
        with atomic_write(Path(folder) / MANIFEST_FILE) as out:
            out.write(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The folder's manifest, checked; the card's settings where there is none. Raises ModelError."""
    path = Path(folder) / MANIFEST_FILE
    if not path.is_file():
        return Manifest(found=False)
    try:
        data = parse_unique(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as e:
        raise ModelError(
            f"{path} cannot be read ({e})", "it says how to use the adapter", "restore or delete it"
        ) from e
    known = {f.name for f in fields(Manifest) if f.metadata.get("stored", True)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ModelError(
            f"{path}: unknown field {', '.join(unknown)}", "a newer version may have written it", "upgrade"
        )
    try:
        manifest = Manifest(**{**UNSAID, **data} if data.get("kind") == POINTWISE else data)
        manifest.calibrated()
        manifest.length_worth()
    except (TypeError, KeyError, ValueError, OverflowError, AttributeError, UsageError) as e:
        raise ModelError(f"{path}: {e}", "a field is missing or malformed", "restore the file") from e
    _check(manifest, path)
    return manifest


def _check(m: Manifest, path: Path) -> None:
    texts = [n for n in ("base", "base_revision", "base_fingerprint") if not isinstance(getattr(m, n), str | None)]
    objects = [n for n in ("training", "metrics", "versions") if not isinstance(getattr(m, n), dict)]
    wrong = [
        (
            texts + objects,
            f"{', '.join(texts + objects)} of another type",
            "no version writes such",
            "restore the file",
        ),
        (m.schema != 1, f"schema {m.schema!r}", "this version reads 1", "upgrade"),
        (m.kind not in KINDS, f"kind {m.kind!r}", "there is no such kind of judge", f"one of {', '.join(KINDS)}"),
        (
            m.prompt_version != PROMPT_VERSION,
            f"prompt_version {m.prompt_version!r}",
            f"here it is {PROMPT_VERSION}",
            "use the version it was trained with",
        ),
        (
            m.positive_means != POSITIVE_MEANS,
            f"positive_means {m.positive_means!r}",
            f"here it is {POSITIVE_MEANS!r}",
            "retrain or convert the adapter",
        ),
        *(_wrong_of_pointwise(m) if m.kind == POINTWISE else _wrong_of_pair(m)),
    ]
    for bad, found, why, do in wrong:
        if bad:
            raise ModelError(f"{path}: {found}", why, do)


def _wrong_of_pair(m: Manifest) -> list[tuple[bool, str, str, str]]:
    return [
        (
            m.template != TEMPLATE,
            "another template",
            "its scores mean something else",
            "use the version it was trained with",
        ),
        (m.num_labels not in (1, 3), f"num_labels {m.num_labels!r}", "a head has 1 or 3 logits", "use such an adapter"),
        (m.truncation not in TRUNCATIONS, f"truncation {m.truncation!r}", "no such policy", f"one of {TRUNCATIONS}"),
        (
            not isinstance(m.max_length, int) or m.max_length < 1,
            f"max_length {m.max_length!r}",
            "no such length",
            "a whole number",
        ),
    ]


def _wrong_of_pointwise(m: Manifest) -> list[tuple[bool, str, str, str]]:
    return [
        (
            not isinstance(m.template, str | None),
            f"template {m.template!r}",
            "it is a chat template",
            "restore the file",
        ),
        (
            m.num_labels != 1,
            f"num_labels {m.num_labels!r}",
            "a pointwise reward model has one logit",
            "use such a model",
        ),
        (
            m.truncation != "budget",
            f"truncation {m.truncation!r}",
            "the head of a pointwise reward model reads the last token, so the end cannot be cut off",
            "write budget",
        ),
        (
            m.max_length is not None and (type(m.max_length) is not int or m.max_length < 1),
            f"max_length {m.max_length!r}",
            "no such length",
            "a whole number",
        ),
    ]
