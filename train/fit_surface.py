"""Fits the baseline of surface features (`scoring.surface`) to the pairs that a judge is trained on.

    python -m harness_plugin.train.fit_surface --data PAIRS ... --keep-out VALIDATION ... -o surface.json

The same pairs give the same file.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness_plugin.files import atomic_write
from harness_plugin.pairs import Pair, read_pairs
from harness_plugin.scoring.surface import FEATURES, feature_differences
from harness_plugin.train.split import evaluation_prompts, label_of, overlap_key, remove_duplicates

RIDGE = 1e-4  # of the weights for differences of one standard deviation: keeps features that nearly agree apart
DIGITS = 6


def fit_surface(pairs: Sequence[Pair]) -> dict[str, float]:
    """The weights of FEATURES, by name, that minimise the cross-entropy of the pairs' soft labels, with a ridge."""
    from scipy.optimize import minimize

    x = np.array([feature_differences(pair) for pair in pairs])  # (n, features)
    y = np.array([label_of(pair) for pair in pairs])  # (n,)
    scale = np.maximum(np.sqrt((x**2).mean(axis=0)), 1e-12)  # about 0, since sides may be exchanged
    x = x / scale

    def loss(weights):
        z = x @ weights
        slope = (1 / (1 + np.exp(-z)) - y) @ x / len(y) + 2 * RIDGE * weights
        return (np.logaddexp(0, z) - y * z).mean() + RIDGE * weights @ weights, slope

    weights = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x / scale
    return {name: round(float(w), DIGITS) for name, w in zip(FEATURES, weights, strict=True)}


def tie_mass(logits: np.ndarray, share: float) -> float:
    """Davidson's tie mass with which the mean probability of a tie is `share`; `logits`: (n,)."""
    from scipy.optimize import brentq

    sides = 2 * np.cosh(logits / 2)

    def surplus(log_nu: float) -> float:
        return float((np.exp(log_nu) / (np.exp(log_nu) + sides)).mean()) - share

    return round(float(np.exp(brentq(surplus, -20, 20))), DIGITS)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: reads its options from the command line."""
    parser = argparse.ArgumentParser(description="Fit the baseline of surface features, and write its weights as JSON.")
    parser.add_argument("--data", action="append", required=True, help="labelled pairs; may be given several times")
    parser.add_argument("--keep-out", action="append", default=[], help="a file whose prompts are left out")
    parser.add_argument("--ties", type=float, default=0.2, help="the stated share of ties")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    options = parser.parse_args(arguments)
    out = {key for file in options.keep_out for key in evaluation_prompts(file)}
    pairs, _ = remove_duplicates([pair for file in options.data for pair in read_pairs(file).pairs])
    pairs = sorted((p for p in pairs if overlap_key(p.prompt) not in out), key=lambda p: p.key)
    weights = fit_surface(pairs)
    logits = np.array([feature_differences(pair) for pair in pairs]) @ np.array(list(weights.values()))
    content = {
        "weights": weights,
        "tie_nu": tie_mass(logits, options.ties),
        "ties": options.ties,
        "pairs": len(pairs),
        "prompts": len({pair.prompt_key for pair in pairs}),
        "data_sha256": [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in options.data],
    }
    with atomic_write(options.output) as file:
        file.write(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
