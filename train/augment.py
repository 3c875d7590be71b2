"""New pairs made from others, in which one response is worse for a known reason.

This module knows no tokens and no model.
"""

import bisect
import math
import re
from collections.abc import Callable

from harness_plugin.pairs import Pair, text_length
from harness_plugin.train.split import draw, label_of

MISMATCHED, DEGRADED = "mismatched", "degraded"  # the sources of the pairs made here
SURE = 0.95  # the probability, as a label, that the better response is preferred
REPEATS = 4  # how often a degraded response repeats its last sentence at most
LEAST_BEGINNING = 20  # characters; a shorter beginning is a heading or the number of a list
LEAST_WORDS = 12  # of a response that is degraded; of a shorter one, too little is left when it is cut


def mismatch(pairs: list[Pair], share: float, seed: int) -> list[Pair]:
    """New pairs, `share` times as many as `pairs`: the preferred response against a response to another prompt.

    The other response is the one with the most similar length. In half of the pairs, only the beginning of the
    preferred response is used. Only the prompt says which response is better, so a judge learns to read the prompt.
    """
    pool = _answers(pairs, seed)

    def other(pair: Pair, good: str) -> str | None:
        found = _nearest(pool, good, pair.prompt_key) if good.strip() else None
        return None if found == good else found

    return _new(MISMATCHED, pairs, share, seed, other)


def _nearest(pool: list[tuple[int, str, str]], text, prompt_key: str) -> str | None:
    """The response to another prompt that has the most similar length, or None. `pool`: as from `_answers`."""
    length = text_length(text)
    right = bisect.bisect_left(pool, (length,))
    left = right - 1
    while left >= 0 or right < len(pool):
        near_left = left >= 0 and (right == len(pool) or length - pool[left][0] < pool[right][0] - length)
        _, other, key = pool[left] if near_left else pool[right]
        if key != prompt_key and other != text:
            return other
        left, right = (left - 1, right) if near_left else (left, right + 1)
    return None


def degrade(pairs: list[Pair], share: float, seed: int) -> list[Pair]:
    """New pairs, `share` times as many as `pairs`: the preferred response against a degraded copy of itself.

    In half of the pairs the copy is cut off in the middle, in a quarter it repeats its last sentence, and in a quarter
    it goes on with the response to another prompt. In half of the pairs, only the beginning of the preferred response
    is used. The worse response is the longer one about as often as the shorter one, so a judge learns to read to the
    end instead of preferring a length.
    """
    pool = _answers(pairs, seed)

    def worse(pair: Pair, good: str) -> str | None:
        if len(good.split()) < LEAST_WORDS:
            return None
        how, where = draw("how", seed, pair.key), draw("where", seed, pair.key)
        return _worse(good, how, where, _nearest(pool, good, pair.prompt_key))

    return _new(DEGRADED, pairs, share, seed, worse)


def _new(
    source: str, pairs: list[Pair], share: float, seed: int, made_worse: Callable[[Pair, str], str | None]
) -> list[Pair]:
    """New pairs, `share` times as many as `pairs`, drawn by their content: the preferred response, or its beginning,
    against what `made_worse` gives for it; those for which it gives None are passed over."""
    out: list[Pair] = []
    for pair in sorted({p.key: p for p in pairs}.values(), key=lambda p: draw(source, seed, p.key)):
        if len(out) >= round(share * len(pairs)):
            break
        good = _beginning(_preferred(pair), draw("beginning", seed, pair.key))
        if isinstance(good, str) and (worse := made_worse(pair, good)) is not None:
            out.append(_made(source, seed, pair, good, worse))
    return out


def _worse(good: str, how: float, where: float, other: str | None) -> str | None:
    """The response made worse. `how` (which change) and `where` (how far) are random numbers from 0 to 1; `other` is a
    response to another prompt. None if `other` is needed and missing."""
    if how < 0.5:
        return good[: max(1, int(len(good) * (0.2 + 0.5 * where)))].rstrip()
    if how < 0.75:
        sentences = [s for s in good.replace("\n", ". ").split(". ") if s.strip()]
        return good + f" {sentences[-1].strip()}" * (1 + int(where * REPEATS))
    return None if other is None else f"{good}\n\n{other[: max(40, int(len(other) * where))]}"


def _beginning(text, where: float):
    """The text itself if the random number `where` is below one half, else its first sentences, few more often than
    many. Without such beginnings, a judge trained on long responses fails on short ones."""
    if where < 0.5 or not isinstance(text, str):
        return text
    ends = [m.end() for m in re.finditer(r"[.!?](?=\s)|\n(?=\n)|$", text.rstrip())]
    ends = [end for end in ends if len(text[:end].strip()) >= LEAST_BEGINNING]
    if not ends:
        return text
    return text[: ends[math.ceil(len(ends) * (2 * where - 1) ** 2) - 1 if where > 0.5 else 0]].rstrip()


def _answers(pairs: list[Pair], seed: int) -> list[tuple[int, str, str]]:
    """(length, text, key of its prompt) of every response of one turn and of their beginnings, sorted by length."""
    texts = {(t, p.prompt_key) for p in pairs for t in (p.response_a, p.response_b) if isinstance(t, str)}
    texts |= {(_beginning(t, draw("beginning of any", seed, t)), key) for t, key in texts}
    return sorted((text_length(t), t, key) for t, key in texts if t.strip())


def _preferred(pair: Pair):
    return pair.response_b if label_of(pair) >= 0.5 else pair.response_a


def _made(source: str, seed: int, pair: Pair, good, worse) -> Pair:
    """The new pair, with its sides in a random order that depends on its content."""
    first = draw("side", seed, source, pair.key) < 0.5
    return Pair(
        prompt=pair.prompt,
        response_a=good if first else worse,
        response_b=worse if first else good,
        p_b=1 - SURE if first else SURE,
        meta={"source": source},
    )
