"""How a judge is opened. `open_judge` is the only place that loads weights, makes an engine and binds the store of
scores to it; a judge behind a server is opened by `served.opening`."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness_plugin.errors import UsageError
from harness_plugin.judges.cascade import CascadeJudge
from harness_plugin.judges.judge import Judge, OpenJudge
from harness_plugin.judges.local import LocalJudge
from harness_plugin.judges.panel import PanelJudge
from harness_plugin.judges.presentations import check_order
from harness_plugin.model import ModelSpec
from harness_plugin.model.several import Several, check_effect, members_of, several_of
from harness_plugin.scoring.identity import Distinct
from harness_plugin.scoring.store import ScoreCache


def open_judge(
    spec: ModelSpec | None = None,
    *,
    order: str = "both",
    batch_size: int | None = None,
    store: ScoreCache | str | Path | None = None,
    **settings: Any,
) -> OpenJudge:
    """The judge that `spec`, or the fields of one as `settings`, name (`judge="embedded"`, a folder, a hub id, a served
    judge such as "openai:URL#MODEL"): without any the embedded one.

    `order`: "both" judges each pair in both orders and averages them, "ab" only as it stands. `batch_size`: most
    sequences in a batch; None leaves it to a budget of tokens. `store`: a store of scores, or the path of one, from
    which known scores come and to which new ones go; a store that is given open stays open, and a second judge opens
    its file anew. A served judge has one in any case. Raises UsageError for settings that are unknown or have no
    effect, ModelError for weights that are missing, damaged or unsuitable and for a server that is, DataError for a
    file that is no store of scores.

        with open_judge() as judge:
            for judgement in judge.judge([Pair("Name a prime.", "9", "7")]):
                print(judgement.p_b)
    """
    check_order(order)
    chosen = spec or ModelSpec.from_args(settings)
    check_effect(chosen, members_of(chosen), batch_size)
    if isinstance(store, ScoreCache) and store.is_bound:  # by another judge
        store = store.path
    if several := several_of(chosen):
        return _open_several(several, order, batch_size, store)
    if served := chosen.served:
        from harness_plugin.judges.served.opening import open_served  # imports requests

        return open_served(chosen, served, order, store)
    return open_local(chosen, order=order, batch_size=batch_size, store=store)


def open_local(
    spec: ModelSpec,
    *,
    order: str = "both",
    batch_size: int | None = None,
    store: ScoreCache | str | Path | None = None,
) -> LocalJudge:
    """As `open_judge`, of one model in this process: for those who need it. Raises UsageError too for a judge that is
    made of others."""
    with ExitStack() as opened:
        if isinstance(store, (str, Path)):  # before the weights: a file that is no store is refused at once
            store = opened.enter_context(ScoreCache(store))
        from harness_plugin.engine import Engine  # imports torch, as load_model does
        from harness_plugin.engine.threads import use_threads
        from harness_plugin.model import load_model

        use_threads(spec.threads)
        model = load_model(spec, whole=False)
        judge = LocalJudge(model, Engine(model, batch_size), order, store)
        judge.keep_open(opened.pop_all())
    return judge


def refuse_served(spec: ModelSpec) -> None:
    """Raises UsageError for a served judge in one of several processes: each would have a budget and a pace of its
    own."""
    if any(judge.served for judge in members_of(spec)):
        raise UsageError(
            f"judge={spec.judge} in several processes",
            "its server does the work, and each process would have a budget of its own",
            "use one process, with concurrency=N for more questions at once",
        )


def _open_several(several: Several, order: str, batch_size: int | None, store) -> PanelJudge | CascadeJudge:
    """A panel or a cascade with its members opened. Each has its own connection to the store, which knows one judge at
    a time."""
    place = store.path if isinstance(store, ScoreCache) else store
    with ExitStack() as opened:
        members, distinct = dict[str, Judge](), Distinct()
        for name, member in several.members.items():
            size = None if member.served else batch_size
            judge = opened.enter_context(open_judge(member, order=order, batch_size=size, store=place))
            distinct.add(name, judge.hash)
            members[name] = judge
        closing = opened.pop_all()
    members = _without_hosts(several.members, members)
    if several.confidence is None:
        return PanelJudge(members, closing)
    small, big = members.items()
    return CascadeJudge(small, big, several.confidence, closing)


def _without_hosts(specs: Mapping[str, ModelSpec], judges: dict[str, Judge]) -> dict[str, Judge]:
    """The judges by names that stay the same when a server moves to another address, where such names differ: votes and
    stages carry them into files."""
    names = {
        name: f"{served.server}:{judge.identity['served_model']}" if (served := specs[name].served) else name
        for name, judge in judges.items()
    }
    return {names[name]: judge for name, judge in judges.items()} if len(set(names.values())) == len(names) else judges
