"""A judge: whatever says of pairs which response people would prefer; and how the one on this machine is opened.

`open_judge` is the only place that loads weights, makes an engine and binds the store of scores to it. Another kind of
judge (a server, a cluster, another kind of reward model) is a class with the attributes of `Judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness_plugin.files.journal import Journal
from harness_plugin.model import ModelSpec
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import identity_hash, judge_identity, logit_identity
from harness_plugin.scoring.judgement import Judgement, judged, sound_judgements
from harness_plugin.scoring.presentations import check_order, score_pairs
from harness_plugin.scoring.store import ScoreCache

if TYPE_CHECKING:
    from harness_plugin.engine import Engine
    from harness_plugin.model import RewardModel

Done = Callable[[int], Any]
"""Called with k as k more pairs are judged."""


class Judge(Protocol):
    """What `tournament`, the command line and the tasks ask for verdicts.

    `identity`: everything that decides a judgement, JSON-able (`scoring.identity` says what counts); `hash`: a short
    hash of it, which every judgement carries; `calibration`: what turns the logits into probabilities.
    """

    @property
    def identity(self) -> dict[str, Any]: ...

    @property
    def hash(self) -> str: ...

    @property
    def calibration(self) -> Calibration: ...

    def judge(self, pairs: Sequence[Pair], done: Done | None = None) -> Iterator[Judgement]:
        """A judgement of each pair, in any order: `Judgement.key` says of which texts. Raises ScoreError where a pair
        cannot be judged."""
        ...


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

    @property
    def calibration(self) -> Calibration:
        return self.model.calibration

    def judge(self, pairs: Sequence[Pair], done: Done | None = None) -> Iterator[Judgement]:
        """As `Judge.judge`, in the order of the pairs. The ScoreError names pairs whose logits are not finite."""
        renderer = self.model.renderer
        for part in score_pairs(self._engine, renderer, pairs, self.order, done, self.store):
            yield from judged(part.pairs, part.z_ab, part.z_ba, self.calibration, self.hash, part.reading)


def open_judge(
    spec: ModelSpec | None = None,
    *,
    order: str = "both",
    batch_size: int | None = None,
    store: ScoreCache | str | Path | None = None,
    **settings: Any,
) -> LocalJudge:
    """The judge that `spec`, or the fields of one as `settings`, name: without either the embedded one.

    `order`: "both" judges each pair in both orders and averages them, "ab" only as it stands. `batch_size`: most
    sequences in a batch; None leaves it to a budget of tokens. `store`: a store of scores, or the path of one, from
    which known scores come and to which new ones go; a store that is given open stays open. Raises UsageError for
    settings that are unknown, ModelError for weights that are missing, damaged or unsuitable, DataError for a file that
    is no store of scores.

        with open_judge() as judge:
            for judgement in judge.judge([Pair("Name a prime.", "9", "7")]):
                print(judgement.p_b)
    """
    check_order(order)
    chosen = spec or ModelSpec.from_args(settings)
    with ExitStack() as opened:
        if isinstance(store, (str, Path)):  # before the weights: a file that is no store is refused at once
            store = opened.enter_context(ScoreCache(store))
        from harness_plugin.engine import Engine  # imports torch, as load_model does
        from harness_plugin.model import load_model

        model = load_model(chosen)
        judge = LocalJudge(model, Engine(model, batch_size), order, store)
        judge._open = opened.pop_all()
    return judge


def judgements_in(journal: Journal) -> dict[str, Judgement]:
    """What an earlier run into the journal's file has judged, by the keys of the texts. Rows that are damaged are left
    out, so that they are judged again."""
    rows = ((f"{journal.part}, the record {key}", row) for key, row in journal.rows.items())
    return {judgement.key: judgement for judgement in sound_judgements(rows, str(journal.part))}
