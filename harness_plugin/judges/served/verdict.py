"""From the text of a chat model, and from the log probabilities of its tokens, to a verdict.

The verdict is the whole last line after the end of the reasoning, such as `A`, `Verdict: B` or `[[C]]`; the end of a
code block does not count as a line. A letter anywhere else decides nothing: not in the reasoning, not in a quotation of
a response, not at the start of a sentence.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness_plugin.judges.served.dialect import Values
from harness_plugin.judges.served.states import (
    CUT,
    EMPTY,
    FILTERED,
    REFUSED,
    UNLIKELY,
    UNPARSEABLE,
    Malformed,
    Unusable,
)

# Where models that write their reasoning into the answer begin and end it.
REASONING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
)
AROUND = r"[\s*_#>`\"'()\[\]{}.!]*"  # Markdown, brackets and quotes that may stand around a verdict
VERDICT = re.compile(
    rf"{AROUND}(?:(?:(?:my|the|final)\s+)*(?:verdict|answer|winner|choice|decision|judge?ment){AROUND}(?:is\b|[:=])*)?{AROUND}"
    rf"(?:(?:response|answer|assistant|model)\s+)?{AROUND}([ABC]|tie){AROUND}",
    re.IGNORECASE,
)
CERTAIN = 0.8  # P of a verdict of which only the letter is known; the rest is shared by the others
FLOOR = 0.5  # the smallest total probability of the legal letters
ABSENT = -9000.0  # a log probability below this says that a token is outside the list: vLLM writes -9999
TOO_MUCH = 0.02  # what probabilities may add up to beyond one: servers round them
SMALLEST = 1e-6
NEAR = 1e-3  # log probabilities of one token, written twice, that differ by no more
LONGEST_LINE = 200  # characters of a line that may be a verdict
FENCE = re.compile(r"\n *(```+|~~~+)$")  # of the end of a code block, in which some models put their verdict
# A token that some servers list after the answer: the mark of the end of a text or a turn, or the end of a code block.
MARK = re.compile(r"\s*(?:[<\[][^\s<>\[\]]{1,40}[>\]]|`{3,}|~{3,})?\s*")
ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "tool_calls", "function_call", "none", "")


def text_of(answer: Mapping[str, Any]) -> str:
    """The text of the only choice of a chat completion. Raises Unusable where the model refused, was stopped by a
    filter, said nothing or did not end, and Malformed for another shape."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise Malformed("a completion without a choice")
    choice, message = choices[0], choices[0].get("message")
    if not isinstance(message, Mapping):
        raise Malformed("a completion without a message")
    text, reason = _joined(message.get("content")), str(choice.get("finish_reason")).lower()
    if message.get("refusal"):
        raise Unusable(REFUSED, str(message["refusal"]))
    if reason in ("content_filter", "safety", "refusal"):
        raise Unusable(FILTERED, f"finish_reason {reason}")
    if reason in ("length", "max_tokens"):
        raise Unusable(CUT, f"finish_reason {reason}; allow longer answers with answer_tokens")
    if reason not in ENDED:
        raise Malformed(f"finish_reason {reason!r}")
    if not text.strip():
        raise Unusable(EMPTY, f"no content, finish_reason {reason}")
    return text


def _joined(content: Any) -> str:
    """The text of a content, which may be a list of parts."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str))
    raise Malformed("a content that is no text")


def letter_in(text: str, letters: str) -> tuple[str, int]:
    """(the verdict, the position of its first character in the text). Raises Unusable where the reasoning does not end
    or the last line is not one legal verdict."""
    start = 0
    for begin, end in REASONING:
        last = text.rfind(end)
        if last >= 0:
            start = max(start, last + len(end))
        if text.rfind(begin) > last:
            raise Unusable(CUT, f"reasoning that does not end ({begin} without {end})")
    kept = FENCE.sub("", text.rstrip()).rstrip()
    line_start = max(start, kept.rfind("\n") + 1)
    found = VERDICT.fullmatch(kept, line_start) if 0 < len(kept) - line_start <= LONGEST_LINE else None
    letter = found and ("C" if found[1].lower() == "tie" else found[1].upper())
    if found is None or letter is None or letter not in letters:
        raise Unusable(UNPARSEABLE, f"the last line is {kept[line_start:][-80:]!r}")
    return letter, found.start(1)


def smoothed(letter: str, letters: str) -> list[float]:
    """P of each letter where only the letter is known: CERTAIN for it, and the rest in equal parts."""
    rest = (1 - CERTAIN) / (len(letters) - 1)
    return [CERTAIN if each == letter else rest for each in letters]


def likelihoods(answer: Mapping[str, Any], text: str, position: int, letters: str) -> list[float] | None:
    """P of each letter, adding up to one, from the log probabilities at the verdict's position in the text; None where
    the server gives none.

    All spellings of a letter count (`A`, ` A`, `a`, `**A`). A letter that is not listed gets the largest probability
    that it can have: what the listed ones leave over, and no more than the smallest of them. Raises Unusable where the
    letters together have less than FLOOR.
    """
    listed = listed_tokens(answer)
    if not listed:
        return None
    entry = _at(listed, text, position)
    if entry is None:
        raise Unusable(UNPARSEABLE, "the log probabilities are not those of the answer's text")
    if _letter(entry["token"]) not in tuple(letters):  # a verdict of several tokens, such as "tie"
        return None
    entries = _entries(entry)
    found = dict.fromkeys(letters, 0.0)
    for token, logprob in entries:
        if (letter := _letter(token)) in found:
            found[letter] += math.exp(logprob)
    mass = sum(found.values())
    if mass < FLOOR:
        raise Unusable(UNLIKELY, f"the letters {', '.join(letters)} have {mass:.3f} of the probability")
    listed_at = [math.exp(logprob) for _, logprob in entries]
    left = 1.0 - sum(listed_at)
    if left < -TOO_MUCH:
        raise Malformed("log probabilities that add up to more than one")
    unlisted = max(min(left, min(listed_at)), SMALLEST)
    weights = [max(found[letter] or unlisted, SMALLEST) for letter in letters]
    return [weight / sum(weights) for weight in weights]


def listed_tokens(answer: Mapping[str, Any]) -> list[Any]:
    """The tokens of a completion with their log probabilities; none where the server lists none, those of the chosen
    tokens alone, or in a shape of its own."""
    logprobs = answer["choices"][0].get("logprobs")
    listed = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(listed, list) or not any(isinstance(e, Mapping) and e.get("top_logprobs") for e in listed):
        return []
    return listed


def _letter(token: str) -> str:
    return re.sub(r"[^a-z]", "", token.lower()).upper()


def _at(listed: Sequence[Any], text: str, position: int) -> Mapping[str, Any] | None:
    """The entry of the token at the position in the text; None where the tokens are not those of the text's end. The
    text's last line is looked for from the end, because some servers list the tokens of the hidden reasoning before it,
    and marks of the end after it. White space does not count: tokens that are decoded one by one lose it."""
    if not all(isinstance(entry, Mapping) and isinstance(entry.get("token"), str) for entry in listed):
        raise Malformed("a list of log probabilities without tokens")
    tokens = [_dense(entry["token"]) for entry in listed]
    before = _dense(text[text.rfind("\n", 0, position) + 1 : position])
    line = before + _dense(text[position:].partition("\n")[0])
    while not "".join(tokens).endswith(line):
        if not tokens or not MARK.fullmatch(listed[len(tokens) - 1]["token"]):
            return None
        tokens.pop()
    place = sum(map(len, tokens)) - len(line) + len(before)
    for entry, token in zip(listed, tokens, strict=False):
        if place < len(token):
            return entry
        place -= len(token)
    return None


def _dense(text: str) -> str:
    """The text without white space, and without the mark of it that some tokens have."""
    return "".join(text.replace("\u2581", " ").split())


def _entries(entry: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The listed tokens at a position with their log probabilities, without those that stand for an absent token.
    Different tokens may be written in the same way. The chosen one is among those at the top, or beside them."""
    tops = entry.get("top_logprobs")
    found: list[tuple[str, float]] = []
    for row in [*(tops if isinstance(tops, list) else []), entry]:
        value: Any = row.get("logprob") if isinstance(row, Mapping) else None
        if type(value) not in (int, float) or not isinstance(row.get("token"), str) or value > TOO_MUCH:
            raise Malformed("a log probability that is no log probability")
        if value <= ABSENT or value != value:
            continue
        one = row["token"], min(float(value), 0.0)
        if row is not entry or not any(_is_same(one, other) for other in found):
            found.append(one)
    if not found:
        raise Unusable(UNLIKELY, f"no log probability at {entry['token']!r}")
    return found


def _is_same(one: tuple[str, float], other: tuple[str, float]) -> bool:
    return one[0] == other[0] and abs(one[1] - other[1]) < NEAR


def log_weights(probabilities: Sequence[float]) -> Values:
    """Log weights of A, B and a tie, or for a judge without ties the log odds of B."""
    logs = [math.log(p) for p in probabilities]
    return tuple(logs) if len(logs) > 2 else (logs[1] - logs[0],)
