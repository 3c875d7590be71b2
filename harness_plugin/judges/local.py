"""A reward model in this process, as a judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness_plugin.judges.judge import Done
from harness_plugin.judges.presentations import check_order, score_answers, score_pairs
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.spec import POINTWISE
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import identity_hash, judge_identity, logit_identity
from harness_plugin.scoring.judgement import Judgement, judged
from harness_plugin.scoring.store import ScoreCache

if TYPE_CHECKING:
    from harness_plugin.engine import Engine
    from harness_plugin.model import RewardModel


class LocalJudge:
    """A reward model in this process. Made by `open_judge`; it is a context manager, which closes the store."""

    def __init__(self, model: RewardModel, engine: Engine, order: str = "both", store: ScoreCache | None = None):
        self.model, self.order, self.store = model, check_order(order), store
        self._engine = engine
        self._open = ExitStack()
        if store is not None:
            store.bind(logit_identity(model, engine), model.num_labels)
        self.identity = judge_identity(model, order)
        self.hash = identity_hash(self.identity)

    def __enter__(self) -> LocalJudge:
        return self

    def __exit__(self, *exc) -> None:
        self._open.close()

    def keep_open(self, opened: ExitStack) -> None:
        """Closes with the judge what was opened for it."""
        self._open = opened

    @property
    def calibration(self) -> Calibration:
        return self.model.calibration

    @property
    def limit(self) -> str:
        renderer = self.model.renderer
        return f"{renderer.max_length} tokens ({renderer.truncation})"

    def judge(self, pairs: Sequence[Pair], done: Done | None = None) -> Iterator[Judgement]:
        """As `Judge.judge`, in the order of the pairs. The ScoreError names pairs whose logits are not finite."""
        score = score_answers if self.model.kind == POINTWISE else score_pairs
        for part in score(self._engine, self.model.renderer, pairs, self.order, done, self.store):
            yield from judged(part.pairs, part.z_ab, part.z_ba, self.calibration, self.hash, part.reading)
