"""Two stored runs -> pass, regression, inconclusive, or the reason why they cannot be compared.

`read` finds the run at a path (`judge_runs`, `lm_eval_results`, `scores`, `baseline` know the formats, `runs` the
common shape), `compare` checks that only what is under test differs, `decide` tests, `changes` lists what got worst,
and `result` is all of it. `power` says how many prompts a margin needs, `simulate` how often the decision is wrong,
`duel` makes runs of direct battles. Comparing needs numpy alone. What a decision looks like on paper is `report`'s.
"""

from harness_plugin.gate.baseline import baseline_text
from harness_plugin.gate.changes import Change, worst_changes
from harness_plugin.gate.compare import Comparison, Difference, NotComparable, compare
from harness_plugin.gate.decide import Decision, Measured, Rules, State, decide
from harness_plugin.gate.readers.read import read_run
from harness_plugin.gate.result import GateResult, Reading, gate_runs, run_gate
from harness_plugin.gate.run import Item, Run

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
    "compare",
    "decide",
    "gate_runs",
    "read_run",
    "run_gate",
    "worst_changes",
]
