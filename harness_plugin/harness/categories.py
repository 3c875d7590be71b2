"""Which groups of pairs a task reports: the bundled battles' own, and the parts of published benchmarks' scores.

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

REWARDBENCH2_SUBSETS = {
    "Factuality": "factuality",
    "Precise IF": "precise_if",
    "Math": "math",
    "Safety": "safety",
    "Focus": "focus",
    "Ties": "ties",
}
"""Each subset of RewardBench 2 and the name of its score; the published score is the mean of the six."""

RM_BENCH_DOMAINS = {"chat": 1.0, "code": 1.0, "math": 1.0, "safety-refuse": 0.5, "safety-response": 0.5}
"""Each domain of RM-Bench and its weight; the two of safety count as one, so that four domains count alike."""
RM_BENCH_LEVELS = ("easy", "normal", "hard")


def _rm_bench_sections() -> Sections:
    def weights(*domains: str, levels: tuple[str, ...] = RM_BENCH_LEVELS) -> tuple[tuple[str, float], ...]:
        return tuple((f"{name}/{level}", RM_BENCH_DOMAINS[name]) for name in domains for level in levels)

    by_level = [(f"acc_{level}", weights(*RM_BENCH_DOMAINS, levels=(level,))) for level in RM_BENCH_LEVELS]
    by_domain = [(f"acc_{name}", weights(name)) for name in ("chat", "code", "math")]
    safety = ("acc_safety", weights("safety-refuse", "safety-response"))
    return (*by_level, *by_domain, safety, ("acc_macro", weights(*RM_BENCH_DOMAINS)))


RM_BENCH_SECTIONS: Sections = _rm_bench_sections()
"""The published scores: each level of difficulty over the domains, each domain over the levels, and over everything."""

JUDGEBENCH_PARTS = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
"""How a source of JudgeBench begins, and the part of the benchmark that it belongs to."""

LLMBAR_PARTS = ("natural", "neighbor", "gptinst", "gptout", "manual")
LLMBAR_SECTIONS: Sections = (("acc_adversarial", tuple((name, 1.0) for name in LLMBAR_PARTS[1:])),)
"""LLMBar's own average over its four adversarial sets."""

HELPSTEER3_DOMAINS = ("general", "code", "stem", "multilingual")

_CATEGORIES = frozenset((*CATEGORIES, *REWARDBENCH_SUBSETS, *LLMBAR_PARTS, *HELPSTEER3_DOMAINS))


def is_reported(mark: str, value: str | None) -> bool:
    """Whether some task reports the pairs whose mark (of `pairs.MARKS`) has this value by themselves."""
    if mark == "category":
        return value in _CATEGORIES or judgebench_part(value) is not None
    return value in BUNDLED_GROUPS.get(mark, ())


def judgebench_part(source: str | None) -> str | None:
    """The part of JudgeBench that a source belongs to; None for any other category."""
    return next((part for start, part in JUDGEBENCH_PARTS.items() if (source or "").startswith(start)), None)
