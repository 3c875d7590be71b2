"""Simulates every interval and every test that is printed, and prints how often each holds: `docs/coverage.md`.

    python tests/coverage/table.py --draws 400

With --draws N each cell of the intervals has N draws and each of the tests 4 N, half as many of 800 prompts. The error
of a coverage of 0.95 is about 0.2 / sqrt(N).
"""

import argparse
import math
import zlib

import chatbots
import early
import gates
import judges
import numpy as np
import people
import styles

SIZES, TRUTHS = (5, 20, 100, 800), (0.5, 0.9, 0.97)
INTERVALS = {
    "share": judges.share(),
    "share, clusters": judges.share(clustered=True),
    "share, ties": judges.share(ties=True),
    "share, clusters and ties": judges.share(True, True),
    "acc_length_balanced": judges.length_balanced(),
    "acc_length_balanced, clusters": judges.length_balanced(True),
    "section accuracy": judges.section,
    "score of Ties (RewardBench 2)": judges.tied,
    "auc": judges.area(),
    "auc, clusters": judges.area(True),
    "brier": judges.score("brier"),
    "log_loss": judges.score("log_loss"),
    "log_loss, clusters": judges.score("log_loss", True),
    "length_corr": judges.length_correlation,
    "difference of two judges' accuracy": judges.accuracy_difference(),
    "difference of two judges' accuracy, clusters": judges.accuracy_difference(True),
    "difference of two judges' log loss, clusters": judges.loss_difference,
    "effective number of judges, clusters": judges.independent_judges,
    "disagreement of judges, clusters": judges.disagreeing,
    "win rate, probabilities": chatbots.soft_win_rate,
    "win rate, certain judge": chatbots.certain_win_rate,
    "win rate, round robin": chatbots.hard_win_rate,
    "difference of two win rates, probabilities": chatbots.soft_difference,
    "difference of two win rates, nearly certain judge": chatbots.certain_difference(),
    "difference of two win rates, nearly certain judge, ties": chatbots.certain_difference(0.2),
    "win rate at equal length": chatbots.at_equal_length,
    "win rate, stopped when clear, 5 looks": early.stopped_win_rate(5),
    "win rate, stopped when clear, any time": early.stopped_win_rate(None),
    "rating": chatbots.rating(),
    "rating, ties (Davidson)": chatbots.rating(True),
    "win rate for people, good judge": people.rate(0.8),
    "win rate for people, poor judge": people.rate(0.3),
    "win rate for people, adversarial judge": people.rate(-0.8),
    "win rate for people, good judge, ties": people.rate(0.8, True),
    "win rate for people, good judge, clusters": people.clustered_rate(0.8),
    "win rate for people, good judge, unequal probabilities": people.unequal_rate(0.8),
    "difference of two win rates for people, good judge": people.rate_difference(0.8),
    "difference of two win rates for people, poor judge": people.rate_difference(0.3),
    "judge's error, good judge": people.rate(0.8, error=True),
    "agreement of two annotators (alpha)": people.alpha((0.4, 0.4, 0.2)),
    "agreement of two annotators (alpha), mostly for A": people.alpha((0.85, 0.1, 0.05)),
    "rating for people, good judge": people.rating(1.0),
    "rating for people, adversarial judge": people.rating(-1.0),
    "rating for people, good judge, ties (Davidson)": people.rating(1.0, True),
}
ALONE = {  # their truth is not a share
    "position_bias": judges.position_bias,
    **{
        f"{what}, {share:.0%} of the style within pairs": styles.controlled(share, slopes)
        for what, slopes in (("rating at equal style", False), ("worth of style", True))
        for share in (0.6, 0.2, 0.05, 0.01)
    },
    "ece of a calibrated judge": judges.calibration_error(0.0),
    "ece, 0.1 too confident": judges.calibration_error(0.1),
    "ece, nearly certain, 0.05 too confident": judges.certain_error,
    "difference of two judges' accuracy, uneven prompts": judges.uneven_difference,
    "win rate for people, poor judge, uneven prompts": people.uneven_rate(0.3),
}
# How often something happens that should happen in at most 5 % of all cases.
ERRORS = {
    "pass at a drop of the margin 0.02: 5% of the items change, right and wrong": gates.passed(
        0.02, gates.binary(0.05, 0.02)
    ),
    "pass at a drop of the margin 0.05: 20% change, right and wrong": gates.passed(0.05, gates.binary(0.2, 0.05)),
    "pass at a drop of the margin 0.05: 20% change, probabilities": gates.passed(0.05, gates.sparse(0.2, 0.05)),
    "pass at a drop of the margin 0.02: rare losses of everything": gates.passed(0.02, gates.rare(0.02)),
    "pass at a drop of the margin 0.02: every value changes": gates.passed(0.02, gates.dense(0.1, 0.02)),
    "pass at a drop of the margin 0.02: clusters of 1 to 8 items": gates.passed(0.02, gates.clustered(0.02)),
    "regression without a change: right and wrong": gates.failed(gates.binary(0.2, 0.0)),
    "regression without a change: probabilities": gates.failed(gates.sparse(0.2, 0.0)),
    "regression without a change: every value changes": gates.failed(gates.dense(0.1, 0.0)),
    "duel, 5 looks: pass at a drop of the margin 0.02": early.passed(5),
    "duel, any time: pass at a drop of the margin 0.02": early.passed(None),
    "duel, 5 looks: regression without a change": early.failed(5),
    "duel, any time: regression without a change": early.failed(None),
    "one of three models is clear without a difference, 5 looks": early.any_clear(5),
    "one of three models is clear without a difference, any time": early.any_clear(None),
    "duel for people, good judge: pass at a drop of the margin 0.05": people.passed(0.05, 0.8),
    "duel for people, poor judge: pass at a drop of the margin 0.05": people.passed(0.05, 0.3),
    "duel for people, adversarial judge: pass at a drop of the margin 0.05": people.passed(0.05, -0.8),
    "duel for people, good judge: regression without a change": people.failed(0.8),
    "two of four equal models differ (Holm): win rates": lambda rng, n: chatbots.equal_win_rates(rng, n) <= 0.05,
    "two of four equal models differ (Holm): ratings": lambda rng, n: chatbots.equal_ratings(rng, n) <= 0.05,
    "two of four equal models differ for people (Holm): win rates": lambda rng, n: (
        people.equal_rates(0.8)(rng, n) <= 0.05
    ),
    "two of four equal models differ for people (Holm): win rates of 0.95": (
        lambda rng, n: people.equal_rates(0.8, 0.95)(rng, n) <= 0.05
    ),
    "two of four equal models differ for people (Holm): ratings": lambda rng, n: (
        people.equal_ratings(1.0)(rng, n) <= 0.05
    ),
    "a judge that abstains errs more often than 0.2": judges.over_the_error(0.2),
    "a cascade agrees more rarely than 0.9": judges.below_the_agreement(0.9),
    "two of four equal judges differ (Holm): accuracy": lambda rng, n: judges.equal_judges(rng, n) <= 0.05,
}
# How often something happens that is said to happen in 80 % of all cases.
POWERS = {
    "the gate reports the smallest drop, margin 0.02, every value changes": gates.reported(0.02, gates.dense, 0.1),
    "the gate reports the smallest drop, margin 0.1, every value changes": gates.reported(0.1, gates.dense, 0.1),
    "the gate reports the smallest drop, margin 0.02, 20% change": gates.reported(0.02, gates.binary, 0.2),
    "the gate reports the smallest drop, margin 0.05, 10% change": gates.reported(0.05, gates.binary, 0.1),
    "a leaderboard of ten detects its smallest difference": chatbots.detected,
}
EARLY = (
    "| drop or difference | ties | n | looks | duel passes | duel is a regression | prompts used | win rate is clear | "
    "prompts used |"
)
# Many fits for each interval: fewer draws.
SLOW = ("win rate at equal length", *(name for name in INTERVALS if name.startswith("rating for people")))
FLIPS = ("every value", "probabilities", "clusters of", "duel")
FITTED = (  # a search or several fits each
    *("a judge that abstains errs more often than 0.2", "a cascade agrees more rarely than 0.9"),
    *(name for name in ERRORS if "for people (Holm)" in name),
)
FLIPPED = 20  # prompts, at which the gate counts a million flips of signs: fewer draws
# Which simulation stands for each number that lm-eval's tasks, the leaderboard and a comparison of judges print.
STANDS_FOR = {
    "share": (
        *("acc", "acc_3way", "order_agreement", "first_position_rate", "longer_wins"),
        *("longer_rate", "cut_rate", "empty_rate", "win_rate_hard", "surface_acc", "acc_sure_half"),
        *("left preferred", "two votes agree"),
    ),
    "acc_length_balanced": ("acc_length_balanced",),
    "auc": ("auc",),
    "brier": ("brier",),
    "log_loss": ("log_loss", "prior_log_loss", "surface_log_loss"),
    "length_corr": ("length_corr", "length_ratio"),
    "position_bias": ("position_bias",),
    "ece of a calibrated judge": ("ece",),
    "difference of two judges' accuracy": ("difference of acc",),
    "difference of two judges' log loss, clusters": ("difference of log_loss",),
    "effective number of judges, clusters": ("effective_judges",),
    "disagreement of judges, clusters": ("disagreement",),
    "share, clusters": ("handed_on", "agreement", "coverage", "error"),
    "win rate, probabilities": ("win_rate",),
    "win rate, stopped when clear, 5 looks": ("win_rate",),
    "difference of two win rates, nearly certain judge": ("difference of win_rate",),
    "win rate at equal length": ("win_rate_length_controlled", "win_rate_style_controlled"),
    "rating at equal style, 20% of the style within pairs": ("rating_length_controlled", "rating_style_controlled"),
    "worth of style, 20% of the style within pairs": ("length_slope", "style_slopes"),
    "win rate for people, good judge": ("win_rate_people", "win_rate_labels_alone"),
    "difference of two win rates for people, good judge": ("difference of win_rate_people",),
    "score of Ties (RewardBench 2)": ("ties",),
    "agreement of two annotators (alpha)": ("alpha",),
    "judge's error, good judge": ("judge_error",),
    "rating for people, good judge": ("rating_people", "rating_labels_alone"),
    "rating for people, good judge, ties (Davidson)": ("rating_davidson_people",),
}


def generator(*key) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def draws_of(n: int, draws: int, name: str = "") -> int:
    """How many draws a cell has: fewer where each takes long."""
    early_flips = name.startswith("duel") and n == 5 * FLIPPED  # at the first of five looks
    if name in SLOW or name in FITTED or early_flips:
        draws //= 4
    elif n == FLIPPED and name in ERRORS | POWERS and any(part in name for part in FLIPS):
        draws //= 8
    return draws // 2 if n >= 800 else draws


def coverage(name: str, n: int, truth: float, draws: int) -> float:
    """The share of intervals that hold the truth; NaN where no more than half of the draws have an interval."""
    draw, rng, inside, count = (INTERVALS | ALONE)[name], generator(name, n, truth), [], 0
    for _ in range(draws_of(n, draws, name)):
        for found, true in draw(rng, n, truth):
            count += 1
            if not math.isnan(found.low):
                inside.append(found.low - 1e-12 <= true <= found.high + 1e-12)
    return float(np.mean(inside)) if len(inside) > count / 2 else math.nan


def frequency(name: str, n: int, draws: int) -> float:
    """How often it happens; NaN where nothing is said to happen."""
    happens, rng = (ERRORS | POWERS)[name], generator(name, n)
    found = [happens(rng, n) for _ in range(draws_of(n, draws, name))]
    return math.nan if None in found else float(np.mean(found))


def shown(x: float) -> str:
    return "-" if math.isnan(x) else f"{round(x, 3) + 0.0:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    draws = parser.parse_args().draws
    head = " | ".join(f"n={n}" for n in SIZES)
    print(f"| interval | truth | {head} |\n|---|---|{'---|' * len(SIZES)}")
    for name in INTERVALS:
        for truth in TRUTHS:
            row = " | ".join(shown(coverage(name, n, truth, draws)) for n in SIZES)
            print(f"| {name} | {truth} | {row} |", flush=True)
    for name in ALONE:
        print(f"| {name} | | {' | '.join(shown(coverage(name, n, 0.5, draws)) for n in SIZES)} |", flush=True)
    for title, rows in (("error, at most 0.05", ERRORS), ("power, said to be 0.80", POWERS)):
        print(f"\n| {title} | {head} |\n|---|{'---|' * len(SIZES)}")
        for name in rows:
            print(f"| {name} | {' | '.join(shown(frequency(name, n, 4 * draws)) for n in SIZES)} |", flush=True)
    print("\n| true drop | n | pass | inconclusive | regression |\n|---|---|---|---|---|")
    for n in (50, 100, 200, 400, 805, 2000):
        for drop in (0.0, 0.01, 0.02, 0.04, 0.08):
            decided = gates.decisions(generator("curve", n, drop), n, drop, draws)
            print(f"| {drop:g} | {n} | {' | '.join(map(shown, decided))} |", flush=True)
    print(f"\n{EARLY}\n|{'---|' * 9}", *early.table(generator, draws), sep="\n")


if __name__ == "__main__":
    main()
