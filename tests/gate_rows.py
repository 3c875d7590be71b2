"""Stored runs for the tests of the gate: score files made up, folders of a judging written as the judge writes them."""

import json
import math
import random
from pathlib import Path

from harness_plugin.scoring.judgement_rows import row_checksum

WINNERS = ("model_a", "model_b", "tie")


def score_rows(count: int, worse: float = 0.0, seed: int = 0, judge: str = "aaaa") -> list[dict]:
    """Lines of `arena-rm score` on labelled pairs. The pairs depend on their number alone; `worse`: how much less the
    right side is preferred, in probability; `seed`: of this run's noise."""
    noise, rows = random.Random(f"noise {seed}"), []
    for n in range(count):
        pair = random.Random(n)
        winner = pair.choices(WINNERS, weights=(4, 4, 1))[0]
        right = min(0.97, max(0.03, pair.betavariate(5, 3) + noise.gauss(0, 0.05) - worse))
        rows.append(score_row(n, right if winner == "model_b" else 1 - right, winner) | {"judge": judge})
    return rows


def score_row(n: int, p_b: float, winner: str) -> dict:
    """One line of `arena-rm score`: pair n, with this probability of B given that there is no tie."""
    s, p_tie = math.log(p_b / (1 - p_b)), 1 - 0.9 * (1 - p_b) - 0.9 * p_b
    return {
        "schema": 2,
        "id": f"p{n}",
        "key": f"{n:016x}",
        "z_ab": s,
        "z_ba": -s,
        "score": s,
        "confidence": 1 / (1 + math.exp(-abs(s))),
        "position_bias": 0.0,
        "p_a": 0.9 * (1 - p_b),
        "p_b": 0.9 * p_b,
        "p_tie": p_tie,
        "temperature": 1.0,
        "tie_nu": p_tie / (0.9 * math.sqrt(p_b * (1 - p_b))),
        "tokens": 50,
        "truncated": False,
        "kept": {},
        "winner": winner,
        "category": f"c{n % 3}",
        "prompt_key": f"k{n // 2}",
        "judge": "aaaa",
    }


def write(file: Path, rows: list[dict]) -> str:
    """Writes the rows, each with the checksum of what it holds."""
    lines = [json.dumps(row | {"checksum": row_checksum(row)}) + "\n" for row in rows]
    file.write_text("".join(lines), encoding="utf-8")
    return str(file)


def scores(folder: Path, name: str, *args, **options) -> str:
    return write(folder / name, score_rows(*args, **options))


def score_files(folder):
    """name -> score file of the same 600 pairs: the judge again, a little worse, much worse, and another judge."""
    made = {"old": {}, "again": {"seed": 1}, "worse": {"worse": 0.15, "seed": 2}, "other": {"seed": 3, "judge": "bbbb"}}
    return {name: scores(folder, f"{name}.jsonl", 600, **options) for name, options in made.items()}
