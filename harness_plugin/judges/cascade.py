"""A cascade: a small judge decides what it is sure of, and a bigger one judges the rest."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from harness_plugin.judges.judge import Done, Judge, judged_where_possible, unjudged
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.scoring.abstention import is_sure
from harness_plugin.scoring.identity import identity_hash, parts
from harness_plugin.scoring.judgement import Judgement, total_tokens

KIND = "cascade"
CHUNK = 512  # pairs that the small judge reads before the big one gets what is left of them


class CascadeJudge:
    """A judge made of two. Made by `open_judge`; it is a context manager, which closes both.

    `confidence`: from 0.5 to 1; what the small judge is at least as sure of (`is_sure`), it decides. Each
    judgement has its own judge's logits and calibration, and `stage`, the name of the judge that decided.
    """

    def __init__(
        self, small: tuple[str, Judge], big: tuple[str, Judge], confidence: float, opened: ExitStack | None = None
    ):
        self.small, self.big, self.confidence = small, big, confidence
        self._open = opened or ExitStack()
        self.identity = cascade_identity(small[1].identity, big[1].identity, confidence)
        self.hash = identity_hash(self.identity)

    def __enter__(self) -> "CascadeJudge":
        return self

    def __exit__(self, *exc) -> None:
        self._open.close()

    @property
    def calibration(self) -> Calibration:
        """The big judge's; each judgement has the one of the judge that decided."""
        return self.big[1].calibration

    @property
    def limit(self) -> str:
        return ", ".join(f"{judge.limit} by {name}" for name, judge in (self.small, self.big))

    def judge(self, pairs: Sequence[Pair], done: Done | None = None) -> Iterator[Judgement]:
        """As `Judge.judge`, in the order of the pairs. What the small judge cannot judge goes to the big one too. Pairs
        that the big one cannot judge are left out; after the others the ScoreError names them."""
        names, lost = (self.small[0], self.big[0]), list[Pair]()
        for start in range(0, len(pairs), CHUNK):
            part = list(pairs[start : start + CHUNK])
            first = {j.key: j for j in judged_where_possible(*self.small, part)}
            unsure = [p for p in part if p.key not in first or not is_sure(first[p.key], self.confidence)]
            second = {j.key: j for j in judged_where_possible(*self.big, unsure)} if unsure else {}
            handed_on = {pair.key for pair in unsure}
            for pair in part:
                if pair.key in handed_on and pair.key not in second:
                    lost.append(pair)
                    continue
                yield decided(first.get(pair.key), second.get(pair.key), names, self.hash).of_pair(pair)
            if done:
                done(len(part))
        if lost:
            raise unjudged(lost, f"{self.big[0]} could not judge them, and {self.small[0]} was not sure enough")


def cascade_identity(small: Mapping, big: Mapping, confidence: float) -> dict:
    """The identity of a cascade of judges with these identities."""
    return {"kind": KIND, "small": parts(small), "big": parts(big), "confidence": confidence}


def decided(first: Judgement | None, second: Judgement | None, names: tuple[str, str], judge: str) -> Judgement:
    """The cascade's judgement of a pair: the big judge's `second` where there is one, else the small one's `first`. It
    has the tokens that both have read. Raises ValueError without either."""
    if second is not None:
        read = [judgement for judgement in (first, second) if judgement is not None]
        return replace(second, judge=judge, stage=names[1], tokens=total_tokens(read))
    if first is None:
        raise ValueError("a cascade without a judgement")
    return replace(first, judge=judge, stage=names[0])
