"""The baseline of surface features: antisymmetric, quick on any text, and what the fit gives."""

import json
import random
import time

import numpy as np
import pytest

from harness_plugin.pairs import Pair, write_pairs
from harness_plugin.scoring.judge_metrics import judge_metrics, surface_probabilities
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.surface import FEATURES, surface_logit, surface_model
from harness_plugin.train.fit_surface import fit_surface, main, tie_mass

LONG, SHORT = "# Answer\n\n- **One** thing\n- another\n\n" + "many different words follow here " * 9, "No."


def test_exchanging_the_sides_changes_the_sign_and_the_prompt_may_have_turns():
    pair = Pair(("Hi", "Hello", "List two things"), LONG, SHORT)
    assert surface_logit(pair) == -surface_logit(pair.swap()) < -0.5
    assert surface_logit(Pair("x", LONG, LONG)) == 0
    assert set(surface_model().weights) == set(FEATURES)


@pytest.mark.parametrize("text", ["\n" * 10**6, "*" * 10**6, "a " * 10**6, "#" * 10**6, "9" * 10**6, "- " * 10**6])
def test_a_hostile_text_takes_no_time(text):
    start = time.process_time()
    assert np.isfinite(surface_logit(Pair(text, text, "b")))
    assert time.process_time() - start < 1


def test_the_metrics_hold_the_baselines_accuracy_and_log_loss():
    rows = []
    for n in range(8):
        pair = Pair(f"p{n}", LONG, SHORT, winner="tie" if n == 7 else "model_a" if n % 2 else "model_b")
        s = surface_logit(pair)
        rows.append(judgement(pair, s))
    found = judge_metrics(rows)
    assert found["surface_acc"].value == pytest.approx(3 / 7)
    p = surface_probabilities(np.array([j.surface for j in rows]))
    expected = -np.log(p[np.arange(8), [1, 0] * 3 + [1, 2]]).mean()
    assert found["surface_log_loss"].value == pytest.approx(expected)
    assert np.isnan(judge_metrics([judgement(Pair("p", "a", "b"), 0.0)], winners=[0])["surface_acc"].value)


def judgement(pair: Pair, score: float) -> Judgement:
    from harness_plugin.model.calibration import Calibration
    from harness_plugin.scoring.judgement import judged

    (made,) = judged([pair], [(score,)], [(-score,)], Calibration(), "0" * 16)
    assert Judgement.from_row(made.to_row()) == made and made.swapped().swapped() == made
    return made


def test_the_fit_finds_what_decides_and_the_tie_mass_gives_the_stated_share(tmp_path):
    rng = random.Random(0)
    pairs = []
    for n in range(400):
        lists = [rng.randint(0, 6) for _ in range(2)]
        a, b = ("".join(f"- point {k}\n" for k in range(count)) + "words " * rng.randint(5, 9) for count in lists)
        p = 1 / (1 + np.exp(-2.0 * (np.log1p(lists[1]) - np.log1p(lists[0]))))
        pairs.append(Pair(f"q{n}", a, b, p_b=round(float(p), 4)))
    weights = fit_surface(pairs)
    assert weights["list_items"] > 1
    logits = np.array([-1.0, 0.3, 2.0])
    nu = tie_mass(logits, 0.3)
    assert (nu / (nu + 2 * np.cosh(logits / 2))).mean() == pytest.approx(0.3, abs=1e-6)
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    write_pairs(tmp_path / "out.jsonl", pairs[:50])
    options = ["--data", str(tmp_path / "pairs.jsonl"), "--keep-out", str(tmp_path / "out.jsonl")]
    for name in ("one", "two"):
        main([*options, "-o", str(tmp_path / name)])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert json.loads((tmp_path / "one").read_text())["pairs"] == 350
