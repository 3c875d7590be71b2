"""The names of judges that are made of others: a panel, whose members vote together, and a cascade, in which a small
judge hands what it is unsure of to a bigger one."""

import re
from dataclasses import dataclass, replace

from harness_plugin.errors import UsageError
from harness_plugin.model.naming import CASCADE, PANEL, is_several
from harness_plugin.model.spec import ModelSpec

SETTINGS = re.compile(r"[a-z_]+=")  # how settings in lm-eval's style begin; an address has a colon before any =
FORM = {PANEL: f"{PANEL}:JUDGE+JUDGE+...", CASCADE: f"{CASCADE}:SMALL+BIG@CONFIDENCE"}


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
            f"judge={spec.judge}",
            f"a {kind} has {'two' if kind == CASCADE else 'several'} judges, each once",
            f"write {FORM[kind]}",
        )
    alone = replace(spec, judge=None)
    return Several(kind, {name: judge_spec(name, alone, ";") for name in names}, confidence)


def judge_spec(name: str, common: ModelSpec, separator: str = ",") -> ModelSpec:
    """What a judge's name means, or its settings in lm-eval's style (`pretrained=DIR,dtype=float32`); `common`: the
    settings where its own say nothing, as far as they have an effect on it. Raises UsageError for settings that are
    unknown."""
    if not SETTINGS.match(name):
        return replace(common, judge=name).with_effect()
    settings = dict(item.partition("=")[::2] for item in name.split(separator))
    own = vars(ModelSpec.from_args(dict(settings)))
    said = {field: own[field] for field in settings}
    return replace(replace(common, **said).with_effect(), **said)


def _confidence(judge: str, said: str) -> float:
    try:
        confidence = float(said)
    except ValueError:
        confidence = -1.0
    if not 0.5 <= confidence <= 1:
        raise UsageError(
            f"judge={judge}",
            "a cascade needs the confidence from which the small judge decides, from 0.5 to 1",
            f"write {FORM[CASCADE]}, such as @0.8",
        )
    return confidence
