"""How texts that are too long are cut: one policy for everything that a judge reads.

Knows token ids by their number only, and no tokenizer.
"""

from dataclasses import dataclass
from itertools import accumulate

from harness_plugin.pairs import Text

MAX_LENGTH = 512
PROMPT_SHARE = 0.3  # of the tokens beside the template; what the prompt does not need the responses get, and vice versa
# Of a field that is longer than two ends, only the ends are tokenized: what is between them is cut anyway, and 10 MB
# would take minutes. An end has at least TOKEN_CHARACTERS for each token of max_length; no token has as many.
END_CHARACTERS, TOKEN_CHARACTERS = 100_000, 64


@dataclass(frozen=True)
class Kept:
    """How many tokens of a field are in the ids, and how many the field had (an estimate for a field of more than
    2 * END_CHARACTERS, whose middle is not tokenized)."""

    kept: int
    original: int

    @property
    def is_cut(self) -> bool:
        return self.kept < self.original


def prompt_quota(prompt: int, responses: int, budget: int) -> int:
    """How many of `budget` tokens a prompt of `prompt` tokens gets beside responses of `responses` tokens."""
    return min(prompt, max(int(budget * PROMPT_SHARE), budget - responses))


def water_fill(a: int, b: int, budget: int) -> tuple[int, int]:
    """How many of `budget` tokens two fields of `a` and `b` tokens get.

    The shorter field gets all that it needs, up to one half; the longer field gets the rest. If both need more than one
    half and the budget is odd, one token stays unused: the sides are treated alike, so water_fill(b, a) is
    water_fill(a, b) exchanged.
    """
    half = budget // 2
    if a + b <= budget:
        return a, b
    if a <= half:
        return a, budget - a
    if b <= half:
        return budget - b, b
    return half, half


def cut_turns(turns: list[list[int]], budget: int) -> list[list[int]]:
    """At most `budget` ids of the turns of a field. The last turns are kept, and of the first turn that does not fit,
    its beginning and its end; of turns before that, nothing."""
    kept: list[list[int]] = []
    for turn in reversed(turns):
        left = budget - sum(map(len, kept))
        tail = left // 2
        fits = len(turn) <= left
        kept.insert(0, turn if fits else turn[: left - tail] + (turn[len(turn) - tail :] if tail else []))
    return kept


def cut(turns: list[list[int]], budget: int) -> list[int]:
    """`cut_turns`, joined."""
    return [i for turn in cut_turns(turns, budget) for i in turn]


def end_of(max_length: int) -> int:
    """How many characters of either end of a text are tokenized for `max_length` tokens."""
    return max(END_CHARACTERS, TOKEN_CHARACTERS * max_length)


def ends(text: Text, end: int) -> tuple[Text, float]:
    """(the first and the last `end` characters of a field, how many times as long the field is). A field that is not
    longer than both is left as it is. Of several turns, whole ones between the ends are left out."""
    whole = len(text) if isinstance(text, str) else sum(map(len, text))
    if whole <= 2 * end:
        return text, 1.0
    if isinstance(text, str):
        return text[:end] + text[-end:], whole / (2 * end)
    turns = [str(ends(turn, end)[0]) for turn in text]
    *starts, total = accumulate(map(len, turns), initial=0)
    kept = [t for t, start in zip(turns, starts, strict=True) if start < end or start + len(t) > total - end]
    return tuple(kept), whole / sum(map(len, kept))
