"""The names of judges that are made of others: a panel, whose members vote together, and a cascade, in which a small
judge hands what it is unsure of to a bigger one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from harness_plugin.errors import UsageError
from harness_plugin.model.naming import CASCADE, PANEL, is_several, without_secrets
from harness_plugin.model.spec import ModelSpec

SETTINGS = re.compile(r"[a-z_]+=")  # how settings in lm-eval's style begin; an address has a colon before any =
FORM = {PANEL: f"{PANEL}:JUDGE+JUDGE", CASCADE: f"{CASCADE}:SMALL+BIG@CONFIDENCE"}


@dataclass(frozen=True)
class Several:
    """`kind`: PANEL or CASCADE; `members`: each name with what it names, in the order given; `confidence`: of a
    cascade, from which confidence the small judge decides."""

    kind: str
    members: dict[str, ModelSpec]
    confidence: float | None = None


def several_of(spec: ModelSpec) -> Several | None:
    """The members of a judge whose name is a panel's or a cascade's; None for any other. All members have the other
    settings of the spec, where their own do not say otherwise. Raises UsageError for a name that is not of the form."""
    if spec.judge is None or not is_several(spec.judge):
        return None
    kind, _, rest = spec.judge.partition(":")
    confidence = None
    if kind == CASCADE:
        rest, _, said = rest.rpartition("@")
        confidence = _confidence(spec.judge, said)
    names = rest.split("+")
    if len(set(names)) < 2 or len(set(names)) != len(names) or not all(names) or (kind == CASCADE and len(names) != 2):
        raise UsageError(
            f"judge={without_secrets(spec.judge)}",
            f"a {kind} has {'two' if kind == CASCADE else 'several'} judges, each once",
            f"write {FORM[kind]}",
        )
    alone = replace(spec, judge=None)
    return Several(kind, {name: judge_spec(name, alone, ";") for name in names}, confidence)


def members_of(spec: ModelSpec) -> list[ModelSpec]:
    """The judges that a spec stands for: the members of a panel or a cascade, else itself alone."""
    several = several_of(spec)
    return list(several.members.values()) if several else [spec]


def computes_here(spec: ModelSpec) -> bool:
    """Whether the judge, or one of those that it is made of, computes in this process."""
    return not all(judge.served for judge in members_of(spec))


def check_effect(settings: ModelSpec, judges: Sequence[ModelSpec], batch_size: int | None = None) -> None:
    """Raises UsageError for a setting that has no effect on any of the judges, which all have it: each a judge by
    itself, as `members_of` gives them. `batch_size`: as in `open_judge`; it is refused below 1 too, since an engine
    would make batches without a sequence and never end."""
    if batch_size is not None and batch_size < 1:
        raise UsageError(
            f"batch_size={batch_size}",
            "it is the largest number of sequences that are scored together",
            "give a number above 0, or leave it out",
        )
    idle = {name: getattr(settings, name) for name in sorted(settings.said) if not any(j.takes(name) for j in judges)}
    if batch_size is not None and all(judge.served for judge in judges):
        idle["batch_size"] = batch_size
    for name, value in idle.items():
        kinds = (
            f"a judge behind {judge.served.server}" if judge.served else "a judge on this machine" for judge in judges
        )
        raise UsageError(f"{name}={value}", f"it has no effect on {' or '.join(dict.fromkeys(kinds))}", "leave it out")


def with_effect(spec: ModelSpec) -> ModelSpec:
    """Without the settings that have no effect on this judge: for settings that several judges share."""
    judges = members_of(spec)
    idle = {name for name in spec.said if not any(judge.takes(name) for judge in judges)}
    defaults: dict[str, Any] = {f.name: f.default for f in fields(spec) if f.name in idle}
    return replace(spec, **defaults)


def judge_spec(name: str, common: ModelSpec, separator: str = ",") -> ModelSpec:
    """What a judge's name means, or its settings in lm-eval's style (`pretrained=DIR,dtype=float32`); `common`: the
    settings where its own say nothing, as far as they have an effect on it. Raises UsageError for settings that are
    unknown, and as `settings_in`."""
    if not SETTINGS.match(name):
        return with_effect(replace(common, judge=name))
    settings = settings_in(name, separator)
    own = vars(ModelSpec.from_args(dict(settings)))
    said = {field: own[field] for field in settings}
    return replace(with_effect(replace(common, **said)), **said)


def settings_in(name: str, separator: str = ",") -> dict[str, str]:
    """The settings of a judge's name in lm-eval's style, by name. Raises UsageError for a part that is no setting, and
    for a setting that is there twice."""
    settings: dict[str, str] = {}
    for item in name.split(separator):
        setting, equals, value = item.partition("=")
        if not (setting and equals):
            raise UsageError(
                f"judge {name!r}: {f'{item!r} is no setting' if item else f'no setting follows a {separator!r}'}",
                f"settings are NAME=VALUE, with {separator!r} between them",
                f"write for example dtype=float32{separator}device=cpu",
            )
        if setting in settings:
            raise UsageError(
                f"judge {name!r}: {setting} is there twice", "a judge has one value of each setting", "remove one"
            )
        settings[setting] = value
    return settings


def _confidence(judge: str, said: str) -> float:
    try:
        confidence = float(said)
    except ValueError:
        confidence = -1.0
    if not 0.5 <= confidence <= 1:
        raise UsageError(
            f"judge={without_secrets(judge)}",
            "a cascade needs the confidence from which the small judge decides, from 0.5 to 1",
            f"write {FORM[CASCADE]}, such as @0.8",
        )
    return confidence
