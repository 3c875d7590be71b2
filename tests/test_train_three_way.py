"""The recipe `three_way`: a head with a logit for A, for B and for a tie."""

import json
import math

import numpy as np
import pytest
import tiny
import torch
from lm_runs import evaluate, lls
from safetensors.torch import load_file
from training_runs import CARD, HEAD, rows_of, settings

from harness_plugin.pairs import Pair, Winner, write_pairs
from harness_plugin.train.split import split

pytestmark = pytest.mark.slow

A_FIRST = [1, 0, 2]  # the columns A, B, tie after the sides are exchanged


def contest(n):
    """Pairs that can be learned: an answer that says "rain" beats one that says "sail"; where both do, it is a tie. One
    label in seven is another, so that certainty would be punished."""
    rows = []
    for i in range(n):
        ends, winner = [
            (("rain", "sail"), Winner.MODEL_A),
            (("sail", "rain"), Winner.MODEL_B),
            (("rain", "rain"), Winner.TIE),
        ][i % 3]
        answers = (f"{tiny.words(1 + (i + side) % 5, 50 * i + side)} {end}" for side, end in enumerate(ends))
        winner = list(Winner)[i % 2] if i % 7 == 6 else winner
        rows.append(Pair(f"{tiny.words(3, i)} {i}", *answers, id=f"t{i}", winner=winner))
    return rows


def three_logits(base, adapter, pairs):
    """(logits as they stand, logits of the exchanged sides), each of shape (n, 3), by transformers and PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        views = [(p.prompt, p.response_a, p.response_b) for q in pairs for p in (q, q.swap())]
        z = [model(**tokenizer(CARD.format(*v), return_tensors="pt")).logits[0].double().numpy() for v in views]
    return np.array(z[::2]), np.array(z[1::2])


def probabilities(z_ab, z_ba, temperature):
    first, second = (z / temperature - np.log(np.exp(z / temperature).sum(1, keepdims=True)) for z in (z_ab, z_ba))
    mean = np.exp((first + second[:, A_FIRST]) / 2)
    return mean / mean.sum(1, keepdims=True)


def test_three_way_learns_ties_and_its_own_p_tie_reaches_every_way_of_scoring(tiny_base, tmp_path, arena):
    base, out, file = tiny_base("gemma"), tmp_path / "mine", tmp_path / "contest.jsonl"
    pairs = contest(90)
    write_pairs(file, pairs)
    code, said, err = arena("train", "three_way", "--data", file, "-o", out, *settings(base, "epochs=4"))
    assert code == 0, err
    assert tuple(load_file(out / "adapter_model.safetensors")[HEAD].shape) == (3, 32)
    manifest = json.loads((out / "arena_rm.json").read_text(encoding="utf-8"))
    assert manifest["num_labels"] == 3 and json.loads(said)["calibration"] == manifest["calibration"]

    # the calibration is a temperature, fitted on the validation pairs
    temperature = manifest["calibration"]["temperature"]
    held = split(pairs, 0.25, 0)[1]
    worth = manifest["calibration"].pop("length_worth")
    assert abs(worth) < 1 and manifest["calibration"] == {"temperature": temperature, "tie_nu": 0.0, "n": len(held)}
    z, verdicts = three_logits(base, out, held), [p.winner.class_index for p in held]
    around = [-np.log(probabilities(*z, temperature * x)[range(len(held)), verdicts]).mean() for x in (0.7, 1, 1.4)]
    assert min(around) == around[1] and 0.1 < temperature < 10
    assert manifest["metrics"]["validation"]["log_loss"]["value"] == pytest.approx(around[1], abs=1e-3)

    # the command, in both orders, and the exact mirror image
    judge = ["--peft", out, "--dtype", "float32", "--device", "cpu"]
    code, text, err = arena("score", file, *judge)
    assert code == 0 and "acc_3way" in err, err
    rows = rows_of(text)
    p = np.array([[row[f"p_{name}"] for name in ("a", "b", "tie")] for row in rows])
    assert p == pytest.approx(probabilities(*three_logits(base, out, pairs), temperature), abs=1e-4)
    ties = np.array([pair.winner is Winner.TIE for pair in pairs])
    assert p[ties, 2].mean() > p[~ties, 2].mean() + 0.1, "it tells ties from the rest"
    write_pairs(tmp_path / "turned.jsonl", [pair.swap() for pair in pairs])
    mirror = rows_of(arena("score", tmp_path / "turned.jsonl", *judge)[1])
    for row, other in zip(rows, mirror, strict=True):
        assert (row["p_a"], row["p_b"], row["p_tie"]) == (other["p_b"], other["p_a"], other["p_tie"])
        assert (row["z_ab"], row["z_ba"], row["score"]) == (other["z_ba"], other["z_ab"], -other["score"])
        assert len(row["z_ab"]) == 3

    # lm-eval
    args = {"peft": str(out), "dtype": "float32", "device": "cpu", "order": "both"}
    found, values = evaluate(args, data=str(file), log_samples=True)
    for (name, swapped), row in lls(found).items():
        wanted = p[int(name[1:])][A_FIRST] if swapped else p[int(name[1:])]
        assert np.exp(row) == pytest.approx(wanted, abs=1e-5)
    assert values["n_pairs"] == 90 and math.isfinite(values["log_loss"])
    assert values["acc_3way"] == pytest.approx((p.argmax(1) == [q.winner.class_index for q in pairs]).mean())
