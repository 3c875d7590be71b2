"""`arena-rm score` files with labels -> a run: how right a judge is about each pair.

The judge is under test, so it may differ between two runs; the pairs and their labels may not. Knows the fields of a
score file.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.checked import number, optional_text, text, wrong_value
from harness_plugin.files.printable import readable
from harness_plugin.files.rows import whole_rows
from harness_plugin.gate.run import PAIRS, Item, Run, Texts, items_of, kept
from harness_plugin.pairs import Winner
from harness_plugin.stats import TIE, B, scores
from harness_plugin.stats.preference import shared_credit, sign_credit

WINNERS = [str(winner) for winner in Winner]
# The first decides. A proper score, so that a judge does not pass by being more certain of the same verdicts; soft, so
# that fewer pairs will do; bounded, so that one pair cannot decide; and it needs no calibration for ties.
METRICS = {"brier_2way": False, "acc": True, "p_right": True, "brier": False, "log_loss": False, "acc_3way": True}
THREE_WAY = ("brier", "log_loss", "acc_3way")


def read_scores(path: str, pairs: str | None = None) -> Run:
    """`pairs`: the file that was scored, for the texts. Raises DataError for anything but a whole file of scores of
    labelled pairs, all in the same orders and by one judge."""
    rows, unlabelled = [], 0
    for where, row in whole_rows(path):
        if row.get("winner") is None:
            unlabelled += 1
        else:
            rows.append(_checked(row, where))
    if not rows:
        raise DataError(
            f"{path} has no pair with a winner",
            "a judge can only be measured where it is known who won",
            "score a file with winners",
        )
    # Equal texts with several labels: sorted, since their order in the file is nobody's promise.
    rows.sort(key=lambda r: (r["key"], r["winner"]))
    orders, judges = {r["orders"] for r in rows}, sorted({r["judge"] for r in rows})
    if len(orders) > 1 or len(judges) > 1:
        raise DataError(
            f"{path} mixes {'orders' if len(orders) > 1 else f'judges {judges[:3]}'}",
            "what it says of a judge is unknown",
            "score the file in one run",
        )
    return pairs_run(
        path,
        rows,
        {"orders": orders.pop()},
        {"judge": judges[0]},
        {"without a winner": unlabelled},
        partial(_pair_texts, pairs) if pairs else lambda ids: {},
    )


def _checked(row: dict, where: str) -> dict:
    p = [number(row, name, where, 0, 1) for name in ("p_a", "p_b", "p_tie")]
    if abs(sum(p) - 1) > 1e-6:
        raise wrong_value("p_a + p_b + p_tie", sum(p), "1", where)
    winner = text(row, "winner", where)
    if winner not in WINNERS:
        raise wrong_value("winner", winner, ", ".join(WINNERS), where)
    return {
        "key": text(row, "key", where),
        "cluster": text(row, "prompt_key", where),
        "winner": winner,
        "p": p,
        "s": number(row, "score", where),
        "judge": text(row, "judge", where),
        "category": optional_text(row, "category", where) or None,
        "orders": "ab" if row.get("z_ba") is None else "both",
    }


def pairs_run(place, rows: list[dict], fixed: dict, subject: dict, left_out: dict, texts) -> Run:
    """The run of judged pairs with labels. Rows: key, cluster, winner, category, s (debiased logit, positive: B), p (of
    A, B, tie)."""
    winners = [Winner(r["winner"]).class_index for r in rows]
    values, metrics = pair_values([r["s"] for r in rows], [r["p"] for r in rows], winners)
    items = (
        Item(r["key"], r["cluster"], v, {"label": r["winner"]}, category=r["category"])
        for r, v in zip(rows, values, strict=True)
    )
    return Run(
        PAIRS,
        str(place),
        metrics,
        fixed,
        subject,
        items_of(items, str(place)),
        {reason: n for reason, n in left_out.items() if n},
        texts,
    )


def pair_values(s, p, winners) -> tuple[list[dict[str, float]], dict[str, bool]]:
    """(the values of each pair, the metrics that there are). s: (n,), p: (n, 3), winners: (n,) of A, B, TIE.

    p_right: P(right side), given that there is no tie; brier_2way: (1 - p_right)^2; acc: 1, 0 or a half. They are for
    decisive pairs. brier, log_loss and acc_3way as in the table of metrics, for all pairs, where the judge knows ties.
    """
    s, p, winners = np.asarray(s, dtype=float), np.asarray(p, dtype=float).reshape(-1, 3), np.asarray(winners)
    sides = np.maximum(p[:, :TIE].sum(axis=1), scores.SMALLEST_P)
    right = p[np.arange(len(p)), np.minimum(winners, B)] / sides
    columns = {"brier_2way": (1 - right) ** 2, "acc": sign_credit(s, winners), "p_right": right}
    if p[:, TIE].any():
        columns |= {
            "brier": scores.brier(p, winners),
            "log_loss": scores.log_loss(p, winners),
            "acc_3way": shared_credit(p, winners),
        }
    decisive = (winners != TIE).tolist()
    found: list[dict[str, float]] = [{} for _ in decisive]
    for name, column in columns.items():
        for values, value, is_decisive in zip(found, column.tolist(), decisive, strict=True):
            if is_decisive or name in THREE_WAY:
                values[name] = kept(value)
    return found, {name: METRICS[name] for name in METRICS if name in columns}


def _pair_texts(file: str, ids: Collection[str]) -> Texts:
    from harness_plugin.pairs import read_pairs

    wanted = {id.partition("-")[0] for id in ids}
    known = {
        p.key: {
            "prompt": readable(p.prompt),
            "response A": readable(p.response_a),
            "response B": readable(p.response_b),
        }
        for p in read_pairs(Path(file)).pairs
        if p.key in wanted
    }
    return {id: known[id.partition("-")[0]] for id in ids if id.partition("-")[0] in known}
