"""What the name of a column says of its content: a label, a part of the prompt, an answer, a measure of one.

Used for warnings alone: nothing is read from a column because of these words.
"""

import re
from functools import lru_cache

_LABEL = re.compile(
    r"labels?|winners?|winning|wins?|won|losers?|prefer|preferred|preferences?|prefs?|votes?|voted|verdicts?|choices?"
    r"|chosen|better|best|safer|judge?ments?|annotations?|ratings?|scores?|ranks?|ranking|gold|accept|accepted|selected"
    r"|selection|picks?|picked|decision"
    r"|outcome|prob|probability|targets?|results?|correct|truth|y"
)
_PART = re.compile(
    r"system|sys|developer|prompts?|instructions?|questions?|query|inputs?|contexts?|history|conversations?|dialogues?"
    r"|dialogs?|messages?|documents?|passages?|articles?|background|preamble|persona|tools|functions|attachments?"
    r"|titles?|posts?|paragraphs?|excerpts?|snippets?|premise|story|email|transcripts?|evidence|knowledge|schema"
)
_ANSWER = re.compile(
    r"responses?|answers?|outputs?|completions?|generations?|generated|predictions?|predicted|replies|reply|candidates?"
)
_QUOTED = re.compile(r"quotes?|citations?")  # what an answer refers to
_OPTIONS = {  # a word in the name of a part -> the field that it may be named for, instead of context
    **dict.fromkeys(("system", "sys", "developer", "preamble", "persona"), "system"),
    **dict.fromkeys(("history", "conversation", "conversations", "dialogue", "dialog", "messages"), "messages"),
    **dict.fromkeys(("input", "inputs"), "input"),
}
_NO_TEXT = re.compile(  # words of columns that say something about a text, and hold none
    r"ids?|uuid|hash|sha|md|tokens?|length|len|counts?|num|number|sources?|types?|meta|metadata|categor(?:y|ies)|languages?|lang"
    r"|index|names?|tags?|dates?|time|tstamp|urls?|version|kwargs|format|style|difficulty|domain|topic|template"
    r"|norm|normali[sz]ed|labell?ing"
)
_NO_ANSWER = re.compile(  # words of columns about answers, or with answers that nobody is to judge
    rf"{_NO_TEXT.pattern}|{_LABEL.pattern}|raw|filtered|incorrect|references?|golden|expected|ideal|judges?|critique|reasons?"
    r"|rationale|explanation|error"
)
_SIDES = ("a", "b", "first", "second", "left", "right")
_TIE = {"tie", "ties", "tied", "equal"}
_OF_A_TIE = {"is", "was", "are", "both", "winner", "label", "vote", "outcome", "result"}  # as in is_tie, winner_tie
_MODELS = ("model", "generator", "llm")
_TEMPLATED = ["model", "input"]  # WildBench's name for the prompt in the words of a chat template
_MEASURE = re.compile(r"scores?|ratings?|rewards?")


def words(column: str) -> list[str]:
    """The words of a name, in lower case: of chosenScore, chosen_score and "Chosen score" the same two."""
    return re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower())


@lru_cache
def looks_like_label(column: str) -> bool:
    """Whether a word in the name of a column says that somebody's judgement stands in it."""
    return column == "p_a" or any(map(_LABEL.fullmatch, words(column)))


@lru_cache
def looks_like_part(column: str) -> bool:
    """Whether the name of a column says that a part of the prompt stands in it."""
    return _says(column, _PART, _NO_TEXT) and words(column) != _TEMPLATED


@lru_cache
def looks_like_answer(column: str) -> bool:
    """Whether the name of a column says that an answer stands in it, one that may have been meant to be judged."""
    return _says(column, _ANSWER, _NO_ANSWER) and words(column)[-1] not in ("model", "models")


@lru_cache
def looks_like_measure(column: str) -> bool:
    """Whether the name of a column says that a number stands in it which tells how good an answer is."""
    return any(map(_MEASURE.fullmatch, words(column)))


@lru_cache
def looks_like_tie(column: str) -> bool:
    """Whether the name of a column says that it tells of a tie, and nothing else: equal_length and n_ties do not."""
    found = {*words(column)}
    return bool(_TIE & found) and found <= _TIE | _OF_A_TIE


@lru_cache
def looks_like_model(column: str) -> bool:
    """Whether the name of a column says that it names a model. In model_output and llm_prompt stand texts."""
    found = words(column)
    last = max((at for at, word in enumerate(found) if word in _MODELS), default=len(found))
    return last < len(found) and not any(_PART.fullmatch(word) or _ANSWER.fullmatch(word) for word in found[last:])


@lru_cache
def looks_like_judgement(column: str) -> bool:
    """Whether the name of a column says that it is about answers: what stands within it is no part of the prompt."""
    return any(form.fullmatch(word) for word in words(column) for form in (_ANSWER, _LABEL, _QUOTED))


@lru_cache
def tells_of_failure(column: str) -> bool:
    """Whether the name of a column says that it tells why there is no answer."""
    return bool({"error", "errors", "exception", "failure"} & {*words(column)})


def side_free(column: str) -> tuple[str, ...]:
    """The words of a name without those for a side: of score_a and score_b, and of score_1 and score_2, the same."""
    return tuple(word for word in words(column) if word not in _SIDES)


def part_option(column: str) -> str:
    """The field for which a column that looks like a part of the prompt may be named."""
    return next((_OPTIONS[word] for word in words(column) if word in _OPTIONS), "context")


def _says(column: str, some: re.Pattern[str], none: re.Pattern[str]) -> bool:
    found = words(column)
    return any(map(some.fullmatch, found)) and not any(map(none.fullmatch, found))
