"""Two stored runs -> pass, regression, inconclusive, or the reason why they cannot be compared.

`readers` read the run at a path (score files, judged tournaments, lm-eval results, baselines), `stored_run` is the
shape that they share, `rules` is how to decide, with all defaults, `compare` checks that only what is under test
differs, `decide` tests, `people` does so by people's votes, `worst_items` lists the items that lost most, and `result`
puts it together. `power` says how many prompts a margin needs, `simulate` how often the decision is wrong, `duel` makes
runs of direct battles. Comparing needs numpy alone, which is loaded at the first use of a name. `baseline` is the file
that git keeps. `report` writes decisions for people.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness_plugin.gate.baseline import baseline_text
    from harness_plugin.gate.compare import Comparison, Difference, NotComparable
    from harness_plugin.gate.decide import Decision, Measured, State
    from harness_plugin.gate.readers.any_run import read_run
    from harness_plugin.gate.result import GateResult, gate_runs, run_gate
    from harness_plugin.gate.rules import Reading, Rules
    from harness_plugin.gate.stored_run import Item, Run
    from harness_plugin.gate.worst_items import Change, worst_changes

_MODULES = {
    "baseline": ["baseline_text"],
    "worst_items": ["Change", "worst_changes"],
    "compare": ["Comparison", "Difference", "NotComparable"],
    "decide": ["Decision", "Measured", "State"],
    "readers.any_run": ["read_run"],
    "result": ["GateResult", "gate_runs", "run_gate"],
    "rules": ["Reading", "Rules"],
    "stored_run": ["Item", "Run"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Change",
    "Comparison",
    "Decision",
    "Difference",
    "GateResult",
    "Item",
    "Measured",
    "NotComparable",
    "Reading",
    "Rules",
    "Run",
    "State",
    "baseline_text",
    "gate_runs",
    "read_run",
    "run_gate",
    "worst_changes",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
