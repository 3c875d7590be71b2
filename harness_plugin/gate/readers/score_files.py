"""`arena-rm score` files with labels -> a run: how right a judge is about each pair.

The judge is under test, so it may differ between two runs; the pairs and their labels may not. Knows the fields of a
score file.
"""

from collections.abc import Callable, Collection
from functools import partial

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.checked import remedy
from harness_plugin.files.opening import open_binary
from harness_plugin.files.printable import readable
from harness_plugin.files.rows import whole_rows
from harness_plugin.gate.stored_run import PAIRS, Item, Run, Texts, as_stored, items_of
from harness_plugin.scoring.judgement import Judgement, read_judgements
from harness_plugin.scoring.judgement_arrays import judgement_arrays
from harness_plugin.stats import TIE, B, measures
from harness_plugin.stats.preference_metrics import THREE_WAY, knows_ties, shared_credit, sign_credit

# The first decides. It is a proper score: a judge cannot gain by being more certain of the same verdicts. It uses
# probabilities and not only right and wrong, so fewer pairs are needed. It is bounded, so one pair cannot decide. It
# needs no calibration for ties.
METRICS = {"brier_2way": False, "acc": True, "p_right": True, "brier": False, "log_loss": False, "acc_3way": True}


@remedy("score the pairs again")
def read_scores(path: str, pairs: str | None = None) -> Run:
    """`pairs`: the file that was scored, for the texts. Raises DataError for anything but a whole file of scores of
    labelled pairs, all in the same orders and by one judge, and for `pairs` that cannot be read."""
    if pairs is not None:
        with open_binary(pairs):  # it is read when texts are shown: a wrong name is said now
            pass
    judgements = list(read_judgements(whole_rows(path)))
    judged = [j for j in judgements if not j.abstained]
    labelled = [j for j in judged if j.winner is not None]
    if not labelled:
        raise DataError(
            f"{path} has no pair with a winner",
            "a judge can only be measured where it is known who won",
            "score a file with winners",
        )
    orders, judges = {j.orders for j in labelled}, sorted({j.judge for j in labelled})
    if len(orders) > 1 or len(judges) > 1:
        raise DataError(
            f"{path} mixes {'orders' if len(orders) > 1 else f'judges {judges[:3]}'}",
            "scores of several judges or orders in one file cannot be compared with another run",
            "score the file in one run",
        )
    return pairs_run(
        path,
        labelled,
        {"orders": orders.pop()},
        {"judge": judges[0]},
        {"without a winner": len(judged) - len(labelled), "the judge abstained": len(judgements) - len(judged)},
        partial(_pair_texts, pairs) if pairs else lambda sources: {},
    )


def pairs_run(
    place,
    judgements: list[Judgement],
    fixed: dict,
    subject: dict,
    left_out: dict,
    texts: Callable[[Collection[str]], Texts],
) -> Run:
    """The run of judged pairs with labels. `texts`: content ids of pairs to their texts, by content id."""
    # Equal texts may have several labels. They are sorted, since their order in the file may change from run to run.
    judgements = sorted(judgements, key=lambda j: (j.key, j.winner))
    c = judgement_arrays(judgements)
    values, metrics = pair_values(c.score, c.p, c.winners)
    items = items_of(
        (
            Item(j.key, j.prompt_key, v, {"label": str(j.winner)}, category=j.category, source=j.key)
            for j, v in zip(judgements, values, strict=True)
        ),
        str(place),
    )

    def of_items(ids: Collection[str]) -> Texts:
        by_pair = texts({items[id].source for id in ids})
        return {id: by_pair[items[id].source] for id in ids if items[id].source in by_pair}

    counts = {reason: n for reason, n in left_out.items() if n}
    return Run(PAIRS, str(place), metrics, fixed, subject, items, counts, of_items)


def pair_values(s, p, winners) -> tuple[list[dict[str, float]], dict[str, bool]]:
    """(the values of each pair, the metrics that there are). s: (n,), p: (n, 3), winners: (n,) of A, B, TIE.

    p_right: P(right side), given that there is no tie; brier_2way: (1 - p_right)^2; acc: 1, 0 or a half. They are for
    decisive pairs. brier, log_loss and acc_3way as in the table of metrics, for all pairs, where the judge knows ties.
    """
    s, p, winners = np.asarray(s, dtype=float), np.asarray(p, dtype=float).reshape(-1, 3), np.asarray(winners)
    sides = np.maximum(p[:, :TIE].sum(axis=1), measures.SMALLEST_P)
    right = p[np.arange(len(p)), np.minimum(winners, B)] / sides
    columns = {"brier_2way": (1 - right) ** 2, "acc": sign_credit(s, winners), "p_right": right}
    if knows_ties(p):
        columns |= {
            "brier": measures.brier(p, winners),
            "log_loss": measures.log_loss(p, winners),
            "acc_3way": shared_credit(p, winners),
        }
    decisive = (winners != TIE).tolist()
    found: list[dict[str, float]] = [{} for _ in decisive]
    for name, column in columns.items():
        for values, value, is_decisive in zip(found, column.tolist(), decisive, strict=True):
            if is_decisive or name in THREE_WAY:
                values[name] = as_stored(value)
    return found, {name: METRICS[name] for name in METRICS if name in columns}


def _pair_texts(file: str, keys: Collection[str]) -> Texts:
    from harness_plugin.pairs import read_pairs

    return {
        p.key: {
            "prompt": readable(p.prompt),
            "response A": readable(p.response_a),
            "response B": readable(p.response_b),
        }
        for p in read_pairs(file, skip_bad_rows=None).pairs
        if p.key in keys
    }
