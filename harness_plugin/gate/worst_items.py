"""The items that lost most between two runs, with the texts that a person must read to see why."""

from dataclasses import dataclass

from harness_plugin.gate.compare import Comparison
from harness_plugin.gate.stored_run import PAIRS, Run

WORST = 20


@dataclass(frozen=True)
class Change:
    """One item that got worse in the deciding metric. `texts`: title -> text, as far as the runs have them; the title
    says whether it is the baseline's."""

    id: str
    category: str | None
    before: float
    after: float
    texts: dict[str, str]


def worst_changes(comparison: Comparison, metric: str) -> list[Change]:
    """The WORST items that lost most in the metric, worst first; fewer where fewer lost anything."""
    c, up = comparison, comparison.baseline.metrics[metric]
    lost = []
    for id in c.ids:
        before, after = (run.items[id].values.get(metric) for run in (c.baseline, c.current))
        if before is not None and after is not None and (after < before if up else after > before):
            lost.append((-abs(after - before), id, before, after))
    lost = sorted(lost)[:WORST]
    ids = [id for _, id, _, _ in lost]
    old, new = (_texts(run, ids) for run in (c.baseline, c.current))
    return [
        Change(id, c.current.items[id].category, before, after, _shown(c, id, old.get(id, {}), new.get(id, {})))
        for _, id, before, after in lost
    ]


def _texts(run: Run, ids: list[str]) -> dict[str, dict[str, str]]:
    return run.texts(ids) if ids else {}


def _shown(c: Comparison, id: str, old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """Of labelled pairs the texts are the same in both runs, and the label is what counts; of a chatbot the answer is
    what changed."""
    if c.current.kind == PAIRS:
        texts = new or old
        return texts and texts | {"preferred": c.current.items[id].fixed.get("label", "")}
    names: tuple[str, ...] = ("prompt", "target")
    found = {name: given[name] for given in (old, new) for name in names if name in given}
    for which, given in (("baseline's", old), ("current", new)):
        if "answer" in given:
            found[f"{which} answer"] = given["answer"]
    return found
