"""Which battles people label: the draw and its probabilities, its file, the command that makes the page."""

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from commands import run
from label_rows import judged_folder, pair
from tournament_rows import alpaca, answers_of, three_files, verdict

from harness_plugin.errors import DataError, UsageError
from harness_plugin.label import (
    Candidate,
    candidates_of_folder,
    candidates_of_pairs,
    draw,
)
from harness_plugin.label.design import confidence_strata, inclusion_probabilities, systematic
from harness_plugin.label.design_file import design_hash
from harness_plugin.pairs import Pair
from harness_plugin.stats.anchored import anchored_mean
from harness_plugin.tournament import VERDICTS_FILE
from harness_plugin.tournament.kept_answers import read_verdicts


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "answers").mkdir()
    judged_folder(tmp_path / "judged", three_files(tmp_path / "answers"))
    return tmp_path / "judged"


def many(count=200, models=("heron", "ibis", "stork")):
    """Candidates with confidences from a wide range."""
    pairs = [(a, b) for k, a in enumerate(models) for b in models[k + 1 :]]
    found = [
        Candidate(pair(n, *pairs[n % len(pairs)]), (n * 37 % count) / count, "0123456789abcdef") for n in range(count)
    ]
    return sorted(found, key=lambda c: c.key)


@pytest.mark.parametrize("kind", ["uniform", "confidence"])
@pytest.mark.parametrize("n", [1, 17, 100, 199, 200, 500])
def test_a_draw_has_the_number_asked_for_and_its_probabilities_sum_to_it(kind, n):
    design = draw(many(), n, seed=3, kind=kind)
    p = np.array([battle.probability for battle in design.battles])
    assert len(design.drawn) == min(n, 200) and p.sum() == pytest.approx(min(n, 200)) and p.min() > 0 and p.max() <= 1
    if kind == "uniform":
        assert p == pytest.approx(min(n, 200) / 200)
    assert len({battle.key for battle in design.drawn}) == len(design.drawn)


@pytest.mark.parametrize("kind", ["uniform", "confidence"])
def test_over_seeds_every_battle_is_drawn_as_often_as_its_probability_says(kind):
    candidates, seeds = many(60), 300
    counts = np.zeros(60)
    for seed in range(seeds):
        counts += [battle.drawn for battle in draw(candidates, 12, seed, kind).battles]
    p = np.array([battle.probability for battle in draw(candidates, 12, 0, kind).battles])
    z = (counts - seeds * p) / np.sqrt(seeds * p * (1 - p))
    assert np.abs(z).max() < 4.5 and 0.7 < z.std() < 1.3


def test_close_battles_are_drawn_more_often_by_confidence_and_none_is_left_out():
    design = draw(many(), 40, kind="confidence")
    p = {battle.stratum: battle.probability for battle in design.battles}
    assert p[1] > p[2] > p[3] > p[4] >= 40 / 200 / 2
    u = {c.key: math.sqrt(c.win_b * (1 - c.win_b)) for c in many()}
    by = {h: np.mean([u[x.key] for x in design.battles if x.stratum == h]) for h in p}
    expected = 40 / 200 * (0.5 + 0.5 * by[1] / np.mean(list(u.values())))
    assert p[1] == pytest.approx(expected), "the formula of the docstring"


def test_a_judge_that_is_certain_of_everything_still_gives_a_uniform_draw():
    certain = [replace(c, win_b=float(k % 2)) for k, c in enumerate(many())]
    p = [battle.probability for battle in draw(certain, 50, kind="confidence").battles]
    assert p == pytest.approx([0.25] * 200)


def test_probabilities_above_one_become_one_and_the_others_grow():
    strata = np.array([1] * 2 + [2] * 98)
    p = inclusion_probabilities(60, strata, np.where(strata == 1, 0.5, 0.9999))
    assert (p[:2] == 1).all() and p.sum() == pytest.approx(60) and p[2:] == pytest.approx(58 / 98)


def test_the_draw_is_spread_over_pairs_of_models_and_over_confidence():
    for seed in range(5):
        drawn = draw(many(240), 60, seed).drawn
        models = Counter((x.pair.model_a, x.pair.model_b) for x in drawn)
        assert all(19 <= count <= 21 for count in models.values()) and len(models) == 3
        assert all(13 <= count <= 17 for count in Counter(x.stratum for x in drawn).values())


def test_systematic_drawing_is_exact():
    p = np.array([0.5, 0.25, 0.25, 1.0, 0.75, 0.25])
    for start, expected in ((0.0, [0, 0, 1, 1, 0, 1]), (0.6, [1, 0, 0, 1, 1, 0])):
        assert systematic(p, start).tolist() == [bool(x) for x in expected]


def test_equal_confidences_are_in_one_stratum():
    strata = confidence_strata(np.array([0.5, 0.5, 0.5, 0.3, 0.7, 0.9]))
    assert strata[0] == strata[1] == strata[2] == 1 and strata[3] == strata[4] < strata[5]


def test_a_draw_depends_on_seed_and_texts_and_on_nothing_else():
    one = draw(many(), 30, seed=1)
    assert draw(many(), 30, seed=1) == one
    assert {x.key for x in draw(many(), 30, seed=2).drawn} != {x.key for x in one.drawn}
    order = [x.key for x in one.drawn]
    assert order != sorted(order), "shown in an order of its own"
    firsts = Counter(x.first for x in draw(many(), 200).battles)
    assert min(firsts.values()) > 70


def test_the_draw_of_a_seed_is_the_same_in_every_version():
    design = draw(many(30), 5, seed=7, kind="confidence")
    assert design_hash(design) == "014f7b731a455463"


def test_battles_come_from_a_judged_folder_with_the_judges_confidence(folder, tmp_path):
    candidates = candidates_of_folder(folder)
    verdicts = {v.id: v for _, v in read_verdicts(folder)}
    assert len(candidates) == 24 and {c.judge for c in candidates} == {"0123456789abcdef"}
    for c in candidates:
        v = verdicts[c.pair.id]
        assert c.win_b == v.win_b and c.pair.key == v.key and (c.pair.model_a, c.pair.model_b) == (v.model_a, v.model_b)


def test_identical_answers_are_no_candidates_and_the_same_texts_are_one(tmp_path):
    said = answers_of("heron")
    (tmp_path / "answers").mkdir()
    files = [alpaca(tmp_path / "answers", name, said) for name in ("heron", "copy")]
    files.append(alpaca(tmp_path / "answers", "ibis", answers_of("ibis")))
    judged_folder(tmp_path / "judged", files)
    candidates = candidates_of_folder(tmp_path / "judged")
    assert len(candidates) == 8, "copy against ibis has the texts of heron against ibis"
    assert all("ibis" in (c.pair.model_a, c.pair.model_b) for c in candidates)


def test_folders_that_are_not_whole_are_refused(folder):
    answers = folder / "judged_answers.jsonl"
    text = answers.read_text("utf-8")
    answers.write_text(text.replace("one", "two"), "utf-8")
    with pytest.raises(DataError, match=r"does not hold the texts of the battle .*; run `arena-rm judge` again"):
        candidates_of_folder(folder)
    (folder / f"{VERDICTS_FILE}.part").write_text("", "utf-8")
    with pytest.raises(DataError, match="was not finished"):
        candidates_of_folder(folder)
    answers.unlink()
    with pytest.raises(DataError, match=r"holds no judged_answers\.jsonl; it is not the folder of a finished run"):
        candidates_of_folder(folder)


def test_pairs_are_joined_with_scores_in_either_order_and_need_them_all(tmp_path):
    pairs = [pair(0), pair(1), Pair("p", "same", "same")]
    scored = [replace(verdict("heron", "ibis", "p", 0.8), key=pairs[0].key)]
    scored.append(replace(verdict("ibis", "heron", "p", 0.9), key=pairs[1].swap().key))
    scores = tmp_path / "scores.jsonl"
    scores.write_text("".join(json.dumps(v.to_row()) + "\n" for v in scored), "utf-8")
    found = {c.pair.id: c.win_b for c in candidates_of_pairs(pairs, str(scores))}
    assert found == pytest.approx({pairs[0].id: 0.8, pairs[1].id: 0.1})
    assert [c.win_b for c in candidates_of_pairs(pairs)] == [None, None]
    with pytest.raises(DataError, match=r"1 of 3 pairs are not in .*scores\.jsonl, first: "):
        candidates_of_pairs([*pairs, pair(2)], str(scores))
    with pytest.raises(DataError, match="none of the 1 pairs has two different responses"):
        candidates_of_pairs(pairs[2:])


def test_confidence_needs_one_judge():
    with pytest.raises(UsageError, match="--design confidence without scores"):
        draw([Candidate(pair(0))], 1, kind="confidence")
    with pytest.raises(DataError, match="scores are of several judges"):
        draw([Candidate(pair(0), 0.5, "a" * 16), Candidate(pair(1), 0.5, "b" * 16)], 1)


def test_the_command_stores_the_design_then_the_page_and_never_another_design(folder, tmp_path, capsys):
    page = tmp_path / "out" / "vote.html"
    code, out, err = run(["label", folder, "--n", 10, "--seed", 5, "-o", page], capsys)
    assert code == 0 and out == "" and f"10 of 24 battles are on {page}" in err
    design = page.with_name("vote.design.jsonl")
    head, *rows = map(json.loads, design.read_text("utf-8").splitlines())
    assert head["battles"] == len(rows) == 24 and head["drawn"] == sum(row["drawn"] for row in rows) == 10
    assert head["judge"] == "0123456789abcdef" and head["seed"] == 5 and head["design"] == "uniform"
    assert {row["sampling_probability"] for row in rows} == {round(10 / 24, 12)} and {row["first"] for row in rows} == {
        "a",
        "b",
    }
    before = page.read_bytes(), design.read_bytes()
    assert run(["label", folder, "--n", 10, "--seed", 5, "-o", page], capsys)[0] == 0, "the same again changes nothing"
    code, _, err = run(["label", folder, "--n", 11, "--seed", 5, "-o", page], capsys)
    assert code == 2 and "holds another design" in err and (page.read_bytes(), design.read_bytes()) == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-o", "page.txt"], "the page is an HTML file"),
        (["--scores", "x.jsonl"], "--scores with a folder"),
        (["--format", "canonical"], "--format with a folder"),
        (["--merge", "--seed", "0"], "--seed with --merge; it has no effect there"),
        (["--merge", "--n", "5"], "--n with --merge"),
        (["--merge", "--design", "uniform"], "--design with --merge"),
        (["--merge", "--scores", "x.jsonl"], "--scores with --merge"),
        (["--merge", "--skip-bad-rows"], "--skip-bad-rows with --merge"),
        (["x.jsonl"], "2 files without --merge"),
    ],
)
def test_wrong_usage_is_refused(folder, capsys, more, said):
    code, _, err = run(["label", folder, *more], capsys)
    assert code == 2 and said in err


def test_a_file_of_pairs_without_scores_gives_a_page_too(tmp_path, capsys):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair(n).to_dict()) + "\n" for n in range(4)), "utf-8")
    code, _, err = run(["label", file, "-o", tmp_path / "p.html"], capsys)
    assert code == 0 and "4 of 4 battles" in err and "all are on the page" in err
    head = json.loads((tmp_path / "p.design.jsonl").read_text("utf-8").splitlines()[0])
    assert head["judge"] is None and [row["sampling_probability"] for row in head["strata"]] == [1.0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uniform", "confidence"])
@pytest.mark.parametrize(("worth", "scale"), [(1.0, 1.0), (1.0, 3.3), (0.0, 1.0)], ids=["good", "too sure", "useless"])
def test_intervals_of_what_people_prefer_hold_for_battles_that_were_drawn_like_this(kind, worth, scale):
    """The draw and `stats.anchored` together: 200 prompts of 5 battles, 100 labels, a judge that is biased besides."""
    rng, people = np.random.default_rng(1), lambda latent: np.where(np.abs(latent) < 0.2, 0.5, latent > 0)
    prompts, models = np.repeat(np.arange(200), 5), np.tile(np.arange(5), 200)
    truth = people(rng.normal(0.3, math.hypot(0.55, 0.84), 2_000_000)).mean()
    hits, errors = 0, []
    for _ in range(200):
        latent = 0.3 + rng.normal(0, 0.55, 200)[prompts] + rng.normal(0, 0.84, 1000)
        win_b = 1 / (1 + np.exp(-scale * (worth * latent + 0.3 + rng.normal(0, 0.8, 1000))))
        strata = confidence_strata(win_b)
        p = inclusion_probabilities(100, strata, win_b if kind == "confidence" else None)
        order, drawn = np.lexsort((rng.random(1000), strata, models)), np.zeros(1000, dtype=bool)
        drawn[order] = systematic(p[order], rng.random())
        found = anchored_mean(np.where(drawn, people(latent), np.nan), win_b, prompts, probability=p).estimate
        hits += found.low <= truth <= found.high
        errors.append(found.value - truth)
    assert hits / 200 > 0.905 and abs(np.mean(errors)) < 3.5 * np.std(errors) / math.sqrt(200)  # 0.95 less 3 errors


def test_labels_of_the_first_part_of_a_draw_give_the_estimate_of_a_smaller_draw():
    rng = np.random.default_rng(2)
    win_b, prompts = rng.random(500), np.repeat(np.arange(100), 5)
    p = np.where(win_b > 0.5, 0.4, 0.2)
    people = np.where(rng.random(500) < p, rng.random(500) < win_b, np.nan)
    all_of_it, half = (anchored_mean(people, win_b, prompts, probability=p * part).estimate for part in (1, 0.5))
    assert half == all_of_it, "a factor that all probabilities share changes nothing"
