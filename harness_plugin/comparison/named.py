"""The judges of a comparison as a user names them: a judge to be opened, or a place where judgements are stored."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness_plugin.errors import UsageError
from harness_plugin.gate.readers import lm_eval_files
from harness_plugin.model.naming import CASCADE, EMBEDDED, PANEL
from harness_plugin.model.several import SETTINGS, judge_spec, members_of, settings_in
from harness_plugin.model.spec import ModelSpec

STORED = re.compile(r"(samples|task)=")


@dataclass(frozen=True)
class Named:
    """One judge. `name`: as the user gave it; `label`: what it is called in the results; `spec`: what is opened, or
    None where `place` is a file or a folder of stored judgements, of which `task` is the one of lm-eval's tasks."""

    name: str
    label: str
    spec: ModelSpec | None = None
    place: Path | None = None
    task: str | None = None

    def is_called(self, name: str) -> bool:
        """Whether the user may mean this judge by a name: its own, its label, or that of its weights."""
        spec = self.spec
        return name in (self.name, self.label) or (
            spec is not None and name in (spec.judge, spec.peft, spec.pretrained)
        )


def named_judges(names: Sequence[str], common: ModelSpec) -> list[Named]:
    """The judges that the names mean, each with a label of its own: the last part of its name, and the whole name where
    two would be the same, or the same as that of a panel or a cascade.

    A name is settings in lm-eval's style (`pretrained=DIR,dtype=float32`), a file or a folder of stored judgements, or
    a judge as `--judge` takes it. `common`: the settings of every judge that is opened; a name's own settings go before
    them. Raises UsageError for settings that are unknown, and for a judge that is named twice.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"{name} is named {count} times", "a judge is compared with others", "name it once")
    judges = [_named(name, common) for name in names]
    counts = Counter([PANEL, CASCADE, *(judge.label for judge in judges)])  # the table may have these two itself
    return [
        judge if counts[judge.label] == 1 else replace(judge, label=name)
        for judge, name in zip(judges, names, strict=True)
    ]


def check_there(judges: Sequence[Named]) -> None:
    """Raises ModelError for a judge to be opened that is neither here nor on the hub: before others are asked, which
    may cost something."""
    for spec in (judge.spec for judge in judges):
        if spec is not None:
            for one in members_of(spec):
                one.resolved()


def _named(name: str, common: ModelSpec) -> Named:
    if SETTINGS.match(name):
        return _stored_samples(name) if STORED.match(name) else _with_settings(name, common)
    place = Path(name)
    if _is_stored(place):
        return _stored(place)
    return Named(name, _last(name), spec=judge_spec(name, common))


def _with_settings(name: str, common: ModelSpec) -> Named:
    spec = judge_spec(name, common)
    return Named(name, _last(spec.judge or spec.peft or spec.pretrained or EMBEDDED), spec=spec)


def _stored_samples(name: str) -> Named:
    """The samples of one of several tasks that lm-eval ran at once: `samples=PLACE,task=NAME`."""
    settings = settings_in(name)
    unknown = sorted(settings.keys() - {"samples", "task"})
    if unknown:
        raise UsageError(
            f"{name}: unknown setting {unknown[0]}",
            "stored samples have the settings samples and task only",
            "remove it",
        )
    if not settings.get("samples"):
        raise UsageError(
            f"{name}: no samples are named", "a task is chosen among stored samples", "write samples=PLACE,task=NAME"
        )
    return replace(_stored(Path(settings["samples"])), name=name, task=settings.get("task"))


def _stored(place: Path) -> Named:
    return Named(str(place), place.stem if place.is_file() else place.resolve().name, place=place)


def _last(name: str) -> str:
    """The last part of a path, or of a hub id; of anything else, the whole name."""
    return name if ":" in name else Path(name).name or name


def _is_stored(place: Path) -> bool:
    """Whether judgements are stored there, and not a model: any file, or a folder of lm-eval's results."""
    return place.is_file() or (place.is_dir() and lm_eval_files.has_results(place))
