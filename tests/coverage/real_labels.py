"""Draws labels from battles that people judged completely, again and again: how far the numbers for people are from
those of all labels. The table of docs/anchor.md.

    python tests/coverage/real_labels.py scores.jsonl --labels 50 100 200 --draws 500

The file is that of `arena-rm score` on pairs with winners and named models.
"""

import argparse

import numpy as np

from harness_plugin.files.rows import whole_rows
from harness_plugin.scoring.judgement import read_judgements
from harness_plugin.stats import round_robin_win_rates
from harness_plugin.stats.ratings import bradley_terry_ratings
from harness_plugin.tournament.labels import Labels
from harness_plugin.tournament.leaderboard import leaderboard
from harness_plugin.tournament.people import for_people

WAYS = {"labels and judge": "_people", "labels alone": "_labels_alone", "judge alone": ""}
SHARE = {"model_a": 0.0, "tie": 0.5, "model_b": 1.0}


def truths(verdicts, shares) -> dict[str, dict[str, float]]:
    """Win rate and rating of each model by all labels."""
    names = sorted({name for v in verdicts for name in (v.model_a, v.model_b)})
    i, j = (np.array([names.index(getattr(v, side)) for v in verdicts]) for side in ("model_a", "model_b"))
    prompts, models = np.array([v.prompt_key for v in verdicts]), len(names)
    rates = [rate.soft.value for rate in round_robin_win_rates(i, j, np.array(shares), prompts, models)]
    ratings = bradley_terry_ratings(i, j, np.array(shares), clusters=prompts, models=models).rating
    return {"win_rate": dict(zip(names, rates, strict=True)), "rating": dict(zip(names, ratings.tolist(), strict=True))}


def drawn(rng, verdicts, shares, labels: int, board: dict) -> dict:
    """The leaderboard with so many of the labels."""
    chosen = set(rng.choice(len(verdicts), labels, replace=False).tolist())
    some = [share if k in chosen else None for k, share in enumerate(shares)]
    return for_people(board, verdicts, Labels(some, [0.0] * len(some), None, 0), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores")
    parser.add_argument("--labels", type=int, nargs="+", default=[100])
    parser.add_argument("--draws", type=int, default=500)
    options = parser.parse_args()
    verdicts = [v for v in read_judgements(whole_rows(options.scores)) if v.winner is not None]
    shares = [SHARE[str(v.winner)] for v in verdicts]
    true, board, rng = truths(verdicts, shares), leaderboard(verdicts), np.random.default_rng(0)
    print("| labels | by | win rate: holds the truth | half-width | mean error | rating: holds | half-width | worth |")
    print("|---|---|---|---|---|---|---|---|")
    for count in options.labels:
        boards = [drawn(rng, verdicts, shares, count, board) for _ in range(options.draws)]
        worth = np.mean([b["people"]["labels_worth"] for b in boards if b["people"]["labels_worth"] is not None])
        for way, ending in WAYS.items():
            cells = []
            for number in ("win_rate", "rating"):
                rows = [(m, true[number][m["model"]]) for b in boards for m in b["models"]]
                ends = [(m[f"{number}{ending}_low"], m[f"{number}{ending}_high"], t) for m, t in rows]
                ends = [(low, high, t) for low, high, t in ends if low is not None]
                cells.append(f"{np.mean([low <= t <= high for low, high, t in ends]):.3f}")
                cells.append(f"{np.mean([(high - low) / 2 for low, high, _ in ends]):.3g}")
                if number == "win_rate":
                    cells.append(f"{np.mean([abs(m[f'{number}{ending}'] - t) for m, t in rows]):.3f}")
            said = f"{worth:.0f}" if way == "labels and judge" else str(count) if ending else "-"
            print(f"| {count} | {way} | {' | '.join(cells)} | {said} |", flush=True)


if __name__ == "__main__":
    main()
