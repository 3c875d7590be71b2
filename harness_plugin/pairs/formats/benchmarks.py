"""Benchmarks and sets of votes with two answers in a row and words of their own for the better one: JudgeBench, LLMBar,
PPE, HelpSteer2, HelpSteer3, MultiPref, PKU-SafeRLHF, SHP, and OpenAI's comparisons of WebGPT's answers and summaries.

As in `battle`, the words of each are a closed table: a word that is not in it is an error, never a guess.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from harness_plugin.files.checked import is_absent, number, optional_id, optional_text, required, text, wrong_value
from harness_plugin.pairs.formats import arena
from harness_plugin.pairs.formats.columns import Fields, answer_of, rest
from harness_plugin.pairs.formats.prompt_columns import prompt_of
from harness_plugin.pairs.formats.two_conversations import Words, outcome
from harness_plugin.pairs.pair import Pair, Text, Winner

_JUDGEBENCH: Words = {"A>B": (Winner.MODEL_A, None), "B>A": (Winner.MODEL_B, None), "A=B": (Winner.TIE, None)}
_PPE: Words = {**arena.WORDS, "model_1": (Winner.MODEL_A, None), "model_2": (Winner.MODEL_B, None)}
_LLMBAR = {1: Winner.MODEL_A, 2: Winner.MODEL_B}
_PKU = {0: Winner.MODEL_A, 1: Winner.MODEL_B}
_SHP = {1: Winner.MODEL_A, 0: Winner.MODEL_B}
_SUMMARIES = {0: Winner.MODEL_A, 1: Winner.MODEL_B}
_REDDIT = "SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
"""The query of a post (Stiennon et al. 2020, appendix B)."""
_ARTICLE = "{article}\n\nTL;DR:"
_VOTES = {
    "A-is-clearly-better": Winner.MODEL_A,
    "A-is-slightly-better": Winner.MODEL_A,
    "Tie": Winner.TIE,
    "B-is-slightly-better": Winner.MODEL_B,
    "B-is-clearly-better": Winner.MODEL_B,
}
_ANNOTATORS = ("normal_worker_annotations", "expert_worker_annotations")
_STRONGEST = 3


def judgebench(row: Fields) -> Pair:
    """A row of JudgeBench: `label` is A>B or B>A, and `source` the category."""
    answers = answer_of(row, "response_A"), answer_of(row, "response_B")
    winner, _ = outcome("label", row.get("label"), _JUDGEBENCH)
    return _pair(
        row, "question", answers, ("response_A", "response_B", "label", "pair_id", "source"),
        id=optional_id(row, "pair_id"), winner=winner, category=optional_text(row, "source"),
    )  # fmt: skip


def llmbar(row: Fields) -> Pair:
    """A row of LLMBar: `input` is the instruction, `label` the number of the better output."""
    answers = answer_of(row, "output_1"), answer_of(row, "output_2")
    winner, category = _number(row, "label", _LLMBAR), optional_text(row, "category")
    used = ("output_1", "output_2", "label", "category")
    return _pair(row, "input", answers, used, winner=winner, category=category)


def ppe(row: Fields) -> Pair:
    """A row of PPE's human preferences: `winner` names a model or a tie; the first model is `model_a` or `model_1`."""
    answers = answer_of(row, "response_1"), answer_of(row, "response_2")
    winner, flag = outcome("winner", row.get("winner"), _PPE)
    names = [[name for name in both if name in row] for both in (("model_a", "model_1"), ("model_b", "model_2"))]
    model_a, model_b = (optional_text(row, given[0]) if given else None for given in names)
    used = ("response_1", "response_2", "winner", "model_a", "model_b", "model_1", "model_2", "question_id")
    found = {flag: True} if flag else {}
    return _pair(
        row, "prompt", answers, used, found,
        id=optional_id(row, "question_id"), winner=winner, model_a=model_a, model_b=model_b,
    )  # fmt: skip


def helpsteer2(row: Fields) -> Pair:
    """A row of HelpSteer2's preferences: `preference_strength` goes from -3 (response_1 is much better) over 0 to 3."""
    answers = answer_of(row, "response_1"), answer_of(row, "response_2")
    winner = _stronger(row, "preference_strength")
    return _pair(row, "prompt", answers, ("response_1", "response_2"), winner=winner)


def helpsteer3(row: Fields) -> Pair:
    """A row of HelpSteer3's preferences: `context` is the conversation, `domain` the category, and
    `overall_preference` goes from -3 (response1 is much better) over 0 (about the same) to 3."""
    answers = answer_of(row, "response1"), answer_of(row, "response2")
    winner, category = _stronger(row, "overall_preference"), optional_text(row, "domain")
    return _pair(row, "context", answers, ("response1", "response2", "domain"), winner=winner, category=category)


def _stronger(row: Fields, name: str) -> Winner | None:
    """The side that a number from -3 (the first) to 3 (the second) favours; 0 is a tie."""
    if is_absent(row.get(name)):
        return None
    return Winner.favoured(number(row, name, low=-_STRONGEST, high=_STRONGEST))


def pku_saferlhf(row: Fields) -> Pair:
    """A row of PKU-SafeRLHF: `better_response_id` is 0 or 1, the number of the answer that helps more. Which one is
    safer stands in another column."""
    answers = answer_of(row, "response_0"), answer_of(row, "response_1")
    winner = _number(row, "better_response_id", _PKU)
    return _pair(row, "prompt", answers, ("response_0", "response_1", "better_response_id"), winner=winner)


def shp(row: Fields) -> Pair:
    """A row of SHP: `history` is the post, and `labels` is 1 where people prefer the comment A, 0 where they prefer B;
    `domain` is the category."""
    answers = answer_of(row, "human_ref_A"), answer_of(row, "human_ref_B")
    winner, category = _number(row, "labels", _SHP), optional_text(row, "domain")
    used = ("human_ref_A", "human_ref_B", "labels", "domain")
    return _pair(row, "history", answers, used, winner=winner, category=category)


def webgpt(row: Fields) -> Pair:
    """A row of WebGPT's comparisons: the answer with the higher score is preferred, and equal scores are a tie;
    `question` is an object with `full_text`, the prompt, and `dataset`, the category."""
    answers = answer_of(row, "answer_0"), answer_of(row, "answer_1")
    (question,) = required(row, "question")
    if not isinstance(question, Mapping):
        raise wrong_value("question", question, "an object with full_text")
    asked = {**row, "question": text(question, "full_text", "question")}
    winner, category = None, optional_text(question, "dataset", "question")
    if not is_absent(row.get("score_0")) and not is_absent(row.get("score_1")):
        winner = Winner.favoured(number(row, "score_1") - number(row, "score_0"))
    used = ("answer_0", "answer_1", "score_0", "score_1")
    return _pair(asked, "question", answers, used, winner=winner, category=category)


def summaries(row: Fields) -> Pair:
    """A row of OpenAI's summarize_from_feedback: `info` holds a post of Reddit or an article, `summaries` two objects
    with `text` and the `policy` that wrote it, and `choice` is 0 or 1, the number of the better one. The prompt of a
    post is the one that people and models were given; that of an article is its text, and what is asked of it."""
    info, both = required(row, "info", "summaries")
    if not isinstance(info, Mapping):
        raise wrong_value("info", info, "an object with post, or with article")
    if not isinstance(both, (list, tuple)) or len(both) != 2 or not all(isinstance(entry, Mapping) for entry in both):
        raise wrong_value("summaries", both, "a list of two objects with text")
    names = [f"summaries[{at}]" for at in range(2)]
    a, b = (answer_of({f"{n}.text": entry.get("text")}, f"{n}.text") for n, entry in zip(names, both, strict=True))
    models = [optional_text(entry, "policy", name) for name, entry in zip(names, both, strict=True)]
    form, parts = (
        (_REDDIT, ("subreddit", "title", "post")) if is_absent(info.get("article")) else (_ARTICLE, ("article",))
    )
    asked = {**row, "info": form.format(**{name: text(info, name, "info") for name in parts})}
    winner = _number(row, "choice", _SUMMARIES)
    return _pair(asked, "info", (a, b), ("summaries", "choice"), winner=winner, model_a=models[0], model_b=models[1])


def multipref(row: Fields) -> Pair:
    """A row of MultiPref: what most annotators say of `overall_pref` wins, and where no side has more votes than any
    other outcome it is a tie; p_b is the share of the votes for B, half of the ties among them."""
    answers = answer_of(row, "completion_a"), answer_of(row, "completion_b")
    votes = Counter(vote for name in _ANNOTATORS for vote in _votes(name, row.get(name)))
    winner, p_b = None, None
    if votes:
        first, *others = votes.most_common()
        winner = Winner.TIE if others and others[0][1] == first[1] else first[0]
        p_b = (votes[Winner.MODEL_B] + votes[Winner.TIE] / 2) / votes.total()
    used = ("completion_a", "completion_b", "model_a", "model_b", "category", "comparison_id", *_ANNOTATORS)
    return _pair(
        row, "text", answers, used, {"votes": votes.total()},
        id=optional_id(row, "comparison_id"), winner=winner, p_b=p_b, category=optional_text(row, "category"),
        model_a=optional_text(row, "model_a"), model_b=optional_text(row, "model_b"),
    )  # fmt: skip


def _pair(
    row: Fields,
    prompt: str,
    answers: tuple[Text, Text],
    used: tuple[str, ...],
    found: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Pair:
    """The pair of the answers to the prompt in that column; what is in none of the columns that are `used` goes into
    `meta`, beside what was `found`."""
    meta = {**rest(row, prompt, *used), **(found or {})}
    return Pair(prompt_of(row, prompt, answers), *answers, meta=meta, **fields)


def _number(row: Fields, name: str, winners: Mapping[int, Winner]) -> Winner | None:
    value = row.get(name)
    if is_absent(value):
        return None
    number = int(value) if isinstance(value, str) and value.strip().isdigit() else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number not in winners:
        raise wrong_value(name, value, f"{' or '.join(map(str, winners))}, or null where nobody judged")
    return winners[int(number)]


def _votes(name: str, annotations: Any) -> list[Winner]:
    if is_absent(annotations):
        return []
    if not isinstance(annotations, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in annotations):
        raise wrong_value(name, annotations, "a list of annotations, each with overall_pref")
    return [vote for n, entry in enumerate(annotations) if (vote := _vote(f"{name}[{n}]", entry)) is not None]


def _vote(name: str, annotation: Mapping[str, Any]) -> Winner | None:
    (word,) = required(annotation, "overall_pref", where=name)
    if is_absent(word):
        return None
    if not isinstance(word, str) or word not in _VOTES:
        raise wrong_value(f"{name}.overall_pref", word, ", ".join(map(repr, _VOTES)) + ", or null")
    return _VOTES[word]
