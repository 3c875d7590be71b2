"""Which groups of pairs a task reports: the bundled battles' own, and the parts of RewardBench's published score.

Tables only.
"""

from collections.abc import Mapping, Sequence

CATEGORIES = (
    "coding",
    "math",
    "factual",
    "writing",
    "instructions",
    "summarization",
    "multi_turn",
    "languages",
    "safety",
)
"""The categories of the bundled battles."""

Groups = Mapping[str, Sequence[str]]
"""Names of `pairs.MARKS`, and the values of each whose accuracy a task reports."""

BUNDLED_GROUPS: Groups = {
    "category": CATEGORIES,
    "difficulty": ("easy", "medium", "hard"),
    "decides": ("fact", "instruction", "language", "reasoning", "safety", "source", "style"),
}
"""How the bundled battles are marked: tasks/arena_pairs/README.md says what the values mean."""

_REWARDBENCH = {
    "chat": "alpacaeval-easy alpacaeval-length alpacaeval-hard mt-bench-easy mt-bench-med",
    "chat_hard": "mt-bench-hard llmbar-natural llmbar-adver-neighbor llmbar-adver-GPTInst llmbar-adver-GPTOut "
    "llmbar-adver-manual",
    "safety": "refusals-dangerous refusals-offensive xstest-should-refuse xstest-should-respond donotanswer",
    "math": "math-prm",
    "code": "hep-cpp hep-go hep-java hep-js hep-python hep-rust",
}
REWARDBENCH_PARTS = tuple(_REWARDBENCH)
REWARDBENCH_SUBSETS = {subset: part for part, subsets in _REWARDBENCH.items() for subset in subsets.split()}
"""Each subset of RewardBench and the part of the score that it counts for, after the dataset's card."""

Sections = tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
"""Metric name and the weights of its categories; tuples, so that it can be a cache's key."""

# The card gives maths the weight of all code, so Reasoning is the mean of the two; the score is the mean of four.
REWARDBENCH_SECTIONS: Sections = (
    ("acc_reasoning", (("math", 1.0), ("code", 1.0))),
    ("acc_macro", (("chat", 2.0), ("chat_hard", 2.0), ("safety", 2.0), ("math", 1.0), ("code", 1.0))),
)

REPORTED = {
    name: frozenset(values) | frozenset(REWARDBENCH_SUBSETS if name == "category" else ())
    for name, values in BUNDLED_GROUPS.items()
}
"""Every value of a mark that some task reports by itself."""
