"""Pairs made from others, in which one side is worse for a known reason. Knows no tokens and no model."""

import bisect
import math
import re

from harness_plugin.pairs import Pair, text_length
from harness_plugin.train.split import draw

MISMATCHED, DEGRADED = "mismatched", "degraded"  # the sources of the pairs made here
SURE = 0.95  # that the better side is preferred
REPEATS = 4  # times that a degraded answer says its last sentence again
LEAST_BEGINNING = 20  # characters: less is a heading or the number of a list
LEAST_WORDS = 12  # of an answer that is degraded: of fewer, too little is left when half is cut


def mismatch(pairs: list[Pair], share: float, seed: int) -> list[Pair]:
    """New pairs, `share` as many: the preferred answer to a prompt against the answer to another prompt whose length is
    nearest, in half of them only its beginning. Nothing but the prompt tells the two apart, so they teach a judge to
    read it."""
    pool = _answers(pairs, seed)
    out = []
    for pair in sorted({p.key: p for p in pairs}.values(), key=lambda p: draw(MISMATCHED, seed, p.key)):
        if len(out) >= round(share * len(pairs)):
            break
        good = _beginning(_preferred(pair), draw("beginning", seed, pair.key))
        if not isinstance(good, str) or not good.strip():
            continue
        other = _nearest(pool, good, pair.prompt_key)
        if other is None or other == good:
            continue
        out.append(_made(MISMATCHED, seed, pair, good, other))
    return out


def _nearest(pool: list[tuple[int, str, str]], text, prompt_key: str) -> str | None:
    """The text of another prompt whose length is nearest."""
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
    """New pairs, `share` as many: the preferred answer to a prompt, in half of them only its beginning, against that
    made worse: in half of them cut off in the middle, in a quarter with its last sentence over and over, in a quarter
    going on with the answer to another prompt. The worse side is the longer one as often as not, so they teach a judge
    to read to the end and not to count."""
    pool = _answers(pairs, seed)
    out = []
    for pair in sorted({p.key: p for p in pairs}.values(), key=lambda p: draw(DEGRADED, seed, p.key)):
        if len(out) >= round(share * len(pairs)):
            break
        good = _beginning(_preferred(pair), draw("beginning", seed, pair.key))
        if not isinstance(good, str) or len(good.split()) < LEAST_WORDS:
            continue
        worse = _worse(
            good, draw("how", seed, pair.key), draw("where", seed, pair.key), _nearest(pool, good, pair.prompt_key)
        )
        if worse is not None:
            out.append(_made(DEGRADED, seed, pair, good, worse))
    return out


def _worse(good: str, how: float, where: float, other: str | None) -> str | None:
    """`how`, `where`: uniform draws from 0 to 1."""
    if how < 0.5:
        return good[: max(1, int(len(good) * (0.2 + 0.5 * where)))].rstrip()
    if how < 0.75:
        sentences = [s for s in good.replace("\n", ". ").split(". ") if s.strip()]
        return good + f" {sentences[-1].strip()}" * (1 + int(where * REPEATS))
    return None if other is None else f"{good}\n\n{other[: max(40, int(len(other) * where))]}"


def _beginning(text, where: float):
    """The text itself where the draw `where` is below a half, else its first sentences, a few likelier than many:
    without them a judge trained on long answers is lost on short ones."""
    if where < 0.5 or not isinstance(text, str):
        return text
    ends = [m.end() for m in re.finditer(r"[.!?](?=\s)|\n(?=\n)|$", text.rstrip())]
    ends = [end for end in ends if len(text[:end].strip()) >= LEAST_BEGINNING]
    if not ends:
        return text
    return text[: ends[math.ceil(len(ends) * (2 * where - 1) ** 2) - 1 if where > 0.5 else 0]].rstrip()


def _answers(pairs: list[Pair], seed: int) -> list[tuple[int, str, str]]:
    """(length, text, key of its prompt) of every answer of one turn and of their beginnings, in order of length."""
    known = {(t, p.prompt_key) for p in pairs for t in (p.response_a, p.response_b) if isinstance(t, str)}
    known |= {(_beginning(t, draw("beginning of any", seed, t)), key) for t, key in known}
    return sorted((text_length(t), t, key) for t, key in known if t.strip())


def _preferred(pair: Pair):
    return pair.response_b if pair.soft_label >= 0.5 else pair.response_a


def _made(source: str, seed: int, pair: Pair, good, worse) -> Pair:
    """A pair of the two, in an order drawn from its content."""
    first = draw("side", seed, source, pair.key) < 0.5
    return Pair(
        prompt=pair.prompt,
        response_a=good if first else worse,
        response_b=worse if first else good,
        p_b=1 - SURE if first else SURE,
        meta={"source": source},
    )
