"""Runs of the recipe `distill`, which learns from another judge's scores; how they are read: test_train_teacher.py."""

import json

import numpy as np
import pytest
from training_runs import lesson, rows_of, settings

from harness_plugin.engine import Engine
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.pairs import read_pairs, write_pairs

pytestmark = pytest.mark.slow


def test_distill_learns_the_mixture_of_the_teachers_and_the_datas_labels(
    tiny_base, tiny_adapter, lesson_file, tmp_path, arena, watched
):
    teacher, out = tmp_path / "teacher.jsonl", tmp_path / "mine"
    judge = ["--pretrained", tiny_base("gemma3"), "--peft", tiny_adapter("gemma3"), "--dtype", "float32"]
    assert arena("score", lesson_file, *judge, "--tie-nu", 0.5, "-o", teacher)[0] == 0
    options = ["--data", lesson_file, "-o", out, *settings(tiny_base("gemma"))]
    code, _, err = arena("train", "distill", *options, "--teacher", teacher)
    assert code == 0, err

    own = {p.id: p for p in read_pairs(lesson_file).pairs}
    theirs = {row["id"]: row["p_b"] + row["p_tie"] / 2 for row in rows_of(teacher.read_text(encoding="utf-8"))}
    training, validation = watched["training"], watched["validation"]
    assert {p.id for p in training.pairs}.isdisjoint(p.id for p in validation.pairs)
    turned = 0
    for i, pair in enumerate(training.pairs):
        y = 0.7 * theirs[pair.id] + 0.3 * own[pair.id].p_b
        side = [tuple(ids) for ids in training.ids[i]].index(training[i]["input_ids"])
        turned += side
        assert training[i]["labels"] == pytest.approx([y, 1 - y] if side else [1 - y, y], abs=1e-9)
    assert 0 < turned < len(training)
    far = [abs(theirs[p.id] - own[p.id].p_b) for p in training.pairs]
    assert np.mean(far) > 0.1, "a teacher that says the same as the data shows nothing"

    # validation, while training and after it, is by the data's own labels
    labels = [row["labels"][1] for row in map(validation.__getitem__, range(len(validation)))]
    assert labels == [own[p.id].p_b for p in validation.pairs]
    manifest = json.loads((out / "arena_rm.json").read_text(encoding="utf-8"))
    assert manifest["training"]["teacher"]["name"] == "teacher.jsonl"
    model = load_model(ModelSpec(peft=str(out), dtype="float32", device="cpu"))
    views = [tuple(ids) for both in validation.ids for ids in both]
    z = Engine(model).logits(views)[:, 0]
    s = (z[::2] - z[1::2]) / 2
    by = [
        float(np.mean(np.logaddexp(0, s) - np.array(y) * s)) for y in (labels, [theirs[p.id] for p in validation.pairs])
    ]
    assert manifest["metrics"]["validation"]["soft_log_loss"] == pytest.approx(by[0], abs=1e-3)
    assert abs(by[0] - by[1]) > 1e-2


@pytest.mark.parametrize(
    ("others", "words"),
    [(lesson(60)[40:], "40 of 48 pairs have no row in the teacher's scores"), (lesson(48, seed=1), "other texts")],
    ids=["other ids", "other texts under the ids"],
)
def test_scores_of_other_pairs_are_no_teacher(tiny_base, tiny_adapter, lesson_file, tmp_path, arena, others, words):
    write_pairs(tmp_path / "others.jsonl", others)
    judge = ["--pretrained", tiny_base("gemma3"), "--peft", tiny_adapter("gemma3"), "--dtype", "float32"]
    assert arena("score", tmp_path / "others.jsonl", *judge, "-o", tmp_path / "scores.jsonl")[0] == 0
    options = ["--data", lesson_file, "-o", tmp_path / "mine", *settings(tiny_base("gemma"))]
    code, out, err = arena("train", "distill", *options, "--teacher", tmp_path / "scores.jsonl")
    (line,) = [line for line in err.splitlines() if line.startswith("arena-rm: ")]
    assert (code, out) == (3, "") and words in line and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["others.jsonl", "scores.jsonl"]
