"""How a judge is opened. `open_judge` is the only place that loads weights, makes an engine and binds the store of
scores to it."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness_plugin.errors import UsageError
from harness_plugin.judges.local import LocalJudge
from harness_plugin.judges.presentations import check_order
from harness_plugin.model import ModelSpec
from harness_plugin.scoring.store import ScoreCache


def open_judge(
    spec: ModelSpec | None = None,
    *,
    order: str = "both",
    batch_size: int | None = None,
    store: ScoreCache | str | Path | None = None,
    **settings: Any,
) -> LocalJudge:
    """The judge that `spec`, or the fields of one as `settings`, name (`judge="embedded"`, a folder, a hub id): without
    any the embedded one.

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
    if chosen.served:
        raise UsageError(f"judge={chosen.judge}", "served judges are not yet supported", "name a model on this machine")
    with ExitStack() as opened:
        if isinstance(store, (str, Path)):  # before the weights: a file that is no store is refused at once
            store = opened.enter_context(ScoreCache(store))
        from harness_plugin.engine import Engine  # imports torch, as load_model does
        from harness_plugin.model import load_model

        model = load_model(chosen)
        judge = LocalJudge(model, Engine(model, batch_size), order, store)
        judge._open = opened.pop_all()
    return judge
