"""Files of answers become battles, and verdicts a leaderboard: joined by prompt, nothing missing is a loss, and nothing
unknown is a number. No model runs here."""

import gzip
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from tournament_rows import PROMPTS, alpaca, answers_of, season, three_files, verdict

from harness_plugin.errors import DataError, UsageError
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, content_id
from harness_plugin.report.board_markdown import table_markdown
from harness_plugin.report.board_plots import FILES as PICTURES
from harness_plugin.scoring.judgement import judged_identical
from harness_plugin.tournament import battles, find_files, folder, gather, leaderboard


@pytest.fixture
def files(tmp_path):
    return three_files(tmp_path)


def met(found):
    return [(p.model_a, p.model_b, p.prompt) for p in found.pairs]


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_folder_stands_for_its_files_of_answers_and_not_for_what_runs_leave_beside_them(tmp_path, files):
    left = ["verdicts.jsonl", "verdicts.jsonl.part", "red_team.jsonl"]
    left += [folder.BOARD_FILE, folder.TABLE_FILE, folder.REPORT_FILE, folder.PAGE_FILE, *PICTURES]
    for name in (*left, "results_2026-01-01.json", "question.jsonl", ".hidden.json", "notes.txt"):
        (tmp_path / name).write_text("{", "utf-8")
    (tmp_path / "inside.json").mkdir()
    assert find_files([str(tmp_path)]) == files == find_files([files[2], str(tmp_path), *files])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty holds no file of answers.*name the files"):
        find_files([str(tmp_path / "empty")])


@pytest.mark.parametrize("text", ['[{"colour": "red"}]', "[{", '{"id": 3}', "", "\0"])
def test_a_foreign_file_in_a_folder_is_named_and_nothing_is_judged_without_it(tmp_path, files, text):
    (tmp_path / "foreign.json").write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"foreign\.json"):
        gather(find_files([str(tmp_path)]))


def test_a_file_that_names_no_model_is_named_by_itself_or_by_the_folder_of_a_tool(tmp_path):
    for place, name in (("crane", "samples_chat_2026-01-01.json"), ("egret", "model_outputs.json")):
        (tmp_path / place).mkdir()
        alpaca(tmp_path / place, None, {"Hi": place}, name)
    alpaca(tmp_path, None, {"Hi": "x"}, "heron-7b.v2.json")
    packed = tmp_path / "ibis.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"instruction": "Hi", "output": "y"}\n'))
    alpaca(tmp_path, "named", {"Hi": "z"}, "file.json")
    found = gather([str(p) for p in tmp_path.rglob("*.*") if p.is_file()])
    assert list(found.by_model) == ["crane", "egret", "heron-7b.v2", "ibis", "named"]


def test_the_order_and_the_number_of_times_that_files_are_given_do_not_matter(tmp_path, files, caplog):
    tagged = [alpaca(tmp_path, "heron", [(PROMPTS[0], answers_of("heron")[PROMPTS[0]])], dataset=d) for d in "ba"]
    one, two = gather([*files, *tagged]), gather([*tagged[::-1], *files[::-1], files[0]])
    assert one == two and list(one.by_model) == list(two.by_model) and one.categories == {content_id(PROMPTS[0]): "a"}
    assert "the files give several categories to 1 prompt, of which the first by alphabet counts (such as a or b)" in (
        caplog.messages
    )
    assert met(battles(one)) == met(battles(two)) and battles(one, "ibis", 3) == battles(two, "ibis", 3)


def test_answers_of_one_model_only_are_refused(files):
    with pytest.raises(UsageError, match=r"answers of heron only; a battle needs two models"):
        gather(files[:1])


# -- who meets whom ---------------------------------------------------------------------------------------------------


def test_all_meet_all_or_all_meet_the_baseline_on_every_prompt(files):
    found = battles(gather(files))
    assert len(found.pairs) == 3 * 8 == len({p.id for p in found.pairs})
    assert {(p.model_a, p.model_b) for p in found.pairs} == {("heron", "ibis"), ("heron", "stork"), ("ibis", "stork")}
    for p in found.pairs:
        assert p.response_a == answers_of(p.model_a)[p.prompt] and p.response_b == answers_of(p.model_b)[p.prompt]
    against = battles(gather(files), "stork")
    assert {(p.model_a, p.model_b) for p in against.pairs} == {("stork", "heron"), ("stork", "ibis")}
    assert len(against.pairs) == 16 and against.models == ["heron", "ibis", "stork"] and not against.missing
    with pytest.raises(UsageError, match=r"baseline 'stor' has no answers here; .*; it is one of heron, ibis, stork"):
        battles(gather(files), "stor")


def test_a_missing_answer_is_listed_for_its_model_and_makes_no_battle(tmp_path):
    heron, ibis = answers_of("heron"), answers_of("ibis")
    del heron[PROMPTS[2]], ibis[PROMPTS[5]]
    ibis["only ibis"] = "here"
    found = battles(gather([alpaca(tmp_path, "heron", heron), alpaca(tmp_path, "ibis", ibis)]))
    assert {p.prompt for p in found.pairs} == set(PROMPTS) - {PROMPTS[2], PROMPTS[5]}
    lacking = {"heron": sorted(map(content_id, [PROMPTS[2], "only ibis"])), "ibis": [content_id(PROMPTS[5])]}
    assert found.missing == lacking and found.counts["missing"] == {"heron": 2, "ibis": 1}


def test_prompts_are_joined_by_their_exact_text_and_none_in_common_is_refused(tmp_path):
    files = [alpaca(tmp_path, "heron", {"Hi": "a"}), alpaca(tmp_path, "ibis", {"Hi ": "b"})]
    with pytest.raises(DataError, match=r"no prompt was answered by both sides"):
        battles(gather(files))
    files.append(alpaca(tmp_path, "stork", {"Hi": "c"}))
    assert met(battles(gather(files))) == [("heron", "stork", "Hi")]
    with pytest.raises(DataError, match=r"no prompt was answered by both sides"):
        battles(gather(files), "ibis")


def test_equal_empty_and_declining_answers_are_counted_apart(tmp_path):
    heron = {"p0": "same", "p1": "", "p2": "I'm sorry, but no.", "p3": "I cannot do that.", "p4": "fine"}
    ibis = {"p0": "same", "p1": " \n", "p2": "I\u2019m sorry.", "p3": "Sorry, no.", "p4": "Not that I'm sorry"}
    found = battles(gather([alpaca(tmp_path, "heron", heron), alpaca(tmp_path, "ibis", ibis)]))
    assert [p.prompt for p in found.identical] == ["p0"] and len(found.pairs) == 4
    assert found.empty == {"heron": 1, "ibis": 1} and found.refusals == {"heron": 2, "ibis": 2}


def test_a_model_that_answers_one_prompt_twice_is_refused_unless_it_says_the_same(tmp_path):
    heron, ibis = alpaca(tmp_path, "heron", {"p": "a", "q": "b"}), alpaca(tmp_path, "ibis", {"p": "c", "q": "d"})
    again = alpaca(tmp_path, "heron", {"p": "a"})
    assert gather([heron, ibis, again]) == gather([heron, ibis])
    other = alpaca(tmp_path, "heron", {"p": "not a"})
    with pytest.raises(
        DataError,
        match=r"heron answers one prompt twice, differently, in .*\('p'\); it is not clear which of the two answers to "
        r"judge",
    ):
        gather([heron, ibis, other])
    doubled = alpaca(tmp_path, "heron", [("p", "a"), ("q", "b"), ("p", "a"), ("q", "b")])
    assert gather([doubled, ibis]) == gather([heron, ibis])
    wavering = alpaca(tmp_path, "heron", [("p", "a"), ("p", "b")])
    with pytest.raises(DataError, match=r"heron answers one prompt twice, differently, in one file"):
        gather([wavering, ibis])


def test_a_prompt_that_a_benchmark_repeats_makes_a_battle_for_each_time_and_one_cluster(tmp_path):
    heron = alpaca(tmp_path, "heron", [("p", "a1"), ("q", "b"), ("p", "a2")])
    ibis = alpaca(tmp_path, "ibis", [("p", "c1"), ("p", "c2"), ("q", "d")])
    stork = alpaca(tmp_path, "stork", [("p", "e"), ("q", "f")])
    found = battles(gather([heron, ibis, stork]))
    texts = [(p.response_a, p.response_b) for p in found.pairs if p.model_a + p.model_b == "heronibis"]
    assert sorted(texts) == [("a1", "c1"), ("a2", "c2"), ("b", "d")]
    assert len(found.pairs) == 7 == len({p.id for p in found.pairs}) and len({p.prompt_key for p in found.pairs}) == 2
    assert found.missing == {"stork": [f"{content_id('p')}-2"]}


def test_a_draw_of_prompts_stays_when_a_model_comes_and_grows_with_its_size(tmp_path, files):
    def drawn(n, more=(), baseline=None):
        return list(battles(gather([*files, *more]), baseline, n).prompts)

    five = drawn(5)
    assert len(five) == 5 and set(drawn(3)) < set(five) < set(drawn(8)) == set(map(content_id, PROMPTS))
    assert drawn(99) == drawn(8) and drawn(5, baseline="ibis") == five
    same = alpaca(tmp_path, "crane", answers_of("crane"))
    own = {f"of crane alone {n}": "x" for n in range(50)}
    more = alpaca(tmp_path, "crane", own)
    assert drawn(5, [same]) == five == drawn(5, [same, more]) == drawn(5, [same, more], "crane")
    assert battles(gather([*files, same, more]), None, 5).missing == {}, "prompts outside the draw are not missed"


def test_conversations_meet_as_conversations(tmp_path):
    turns = [{"question_id": "q1", "turns": ["Hi", "And now?"], "category": "chat"}]
    questions = tmp_path / "asked.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in turns), "utf-8")
    for model, said in (("heron", ["Hello.", "I'm sorry."]), ("ibis", ["Good day.", ""])):
        row = {"question_id": "q1", "model_id": model, "choices": [{"turns": said}]}
        (tmp_path / f"{model}.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    found = battles(gather([str(tmp_path / f"{m}.jsonl") for m in ("heron", "ibis")], str(questions)))
    (pair,) = found.pairs
    assert pair.prompt == ("Hi", "And now?") and pair.response_b == ("Good day.", "") and pair.category == "chat"
    assert not found.empty and not found.refusals, "the answer as a whole is neither"


# -- the leaderboard --------------------------------------------------------------------------------------------------


def by_name(board):
    return {row["model"]: row for row in board["models"]}


def strict(board):
    return json.loads(json.dumps(board, allow_nan=False))


def test_win_rates_are_the_mean_probabilities_against_the_baseline_which_is_among_the_models():
    shown = [("p1", 0.9, 0.0), ("p2", 0.2, 0.2), ("p3", 0.7, 0.0)]
    verdicts = [verdict("base", "x", p, b, tie) for p, b, tie in shown]
    verdicts += [verdict("y", "base", p, b) for p, b in (("p1", 0.9), ("p2", 0.8))]
    board = strict(leaderboard(verdicts, "base"))
    rows = by_name(board)
    assert board["schema"] == 1 and board["baseline"] == "base" and [r["rank"] for r in board["models"]] == [1, 2, 3]
    assert [r["model"] for r in board["models"]] == ["x", "base", "y"]
    assert rows["x"]["win_rate"] == pytest.approx((0.9 + 0.3 + 0.7) / 3, abs=1e-4)
    assert rows["y"]["win_rate"] == pytest.approx(0.15) and rows["base"]["win_rate"] == 0.5
    assert rows["x"]["win_rate_hard"] == pytest.approx(2 / 3, abs=1e-4)
    assert (rows["x"]["wins"], rows["x"]["ties"], rows["x"]["losses"]) == (2, 0, 1)
    assert rows["base"]["rating"] == rows["base"]["rating_low"] == 1000 and rows["base"]["win_rate_low"] is None
    assert rows["x"]["rating"] > 1000 > rows["y"]["rating"]
    assert (rows["x"]["battles"], rows["x"]["prompts"], rows["base"]["battles"]) == (3, 3, 5)
    assert "rating_davidson" in rows["x"] and "win_rate_length_controlled" in rows["x"]
    assert board["battles"] == 5 and board["prompts"] == 3


@pytest.mark.parametrize("baseline", [None, "m1"])
def test_a_clear_order_is_found_with_intervals_tests_and_ranks_that_agree(baseline):
    models = [f"m{k}" for k in range(5)]
    pairs = None if baseline is None else [(1, k) for k in (0, 2, 3, 4)]
    board = strict(leaderboard(season(models, 120, pairs=pairs), baseline))
    assert [r["model"] for r in board["models"]] == models and not board["concerns"]
    for r in board["models"]:
        assert r["rank_low"] <= r["rank"] <= r["rank_high"]
        if r["model"] != baseline:
            assert r["win_rate_low"] < r["win_rate"] < r["win_rate_high"]
            assert r["rating_low"] < r["rating"] < r["rating_high"]
    assert len(board["tests"]) == 10
    for t in board["tests"]:
        assert t["low"] < t["difference"] < t["high"] and 0 < t["p"] <= t["p_holm"] <= 1
    assert board["tests"][3]["p_holm"] < 1e-6, "a small p is not rounded to nothing"
    assert board["differences_of"] == ("rating" if baseline is None else "win_rate")
    assert 0 < board["smallest_difference"] < (200 if baseline is None else 0.3)


def test_two_chatbots_that_a_nearly_certain_judge_always_prefers_are_not_surely_alike():
    verdicts = [verdict("base", m, f"p{k}", 0.999 - k / 1e5) for m in ("x", "y") for k in range(10)]
    verdicts += [verdict("base", "z", f"p{k}", 0.001) for k in range(10)]
    tests = {(t["model"], t["other"]): t for t in strict(leaderboard(verdicts, "base"))["tests"]}
    alike, apart = tests["x", "y"], tests["x", "z"]
    assert alike["difference"] == 0 and alike["p"] == 1 and alike["low"] == -alike["high"] < -0.2
    assert 0.5 < apart["low"] < apart["difference"] < apart["high"] == 1 and apart["p_holm"] < 0.01


@pytest.mark.parametrize("baseline", [None, "b"])
def test_neither_the_order_of_the_verdicts_nor_which_side_was_a_matters(baseline):
    verdicts = season(["a", "b", "c"], 20, tie=0.1, pairs=[(0, 1), (1, 2)])
    whole = leaderboard(verdicts, baseline)
    shuffled = random.Random(3).sample(verdicts, len(verdicts))
    assert leaderboard(shuffled, baseline) == whole
    mirrored = leaderboard([v.swapped() for v in verdicts], baseline)
    for one, two in zip(whole["models"], mirrored["models"], strict=True):
        assert one["model"] == two["model"]
        assert all(one[k] == pytest.approx(two[k], abs=2e-4) for k in one if isinstance(one[k], float))


def test_a_model_that_misses_prompts_loses_nothing_by_it_and_one_without_a_battle_is_listed_without_numbers():
    verdicts = season(["a", "b", "c"], 60)
    rows = by_name(leaderboard(verdicts))
    fewer = [v for v in verdicts if not (v.model_b == "c" and v.prompt_key > "p3")]
    board = strict(leaderboard(fewer, models=["a", "b", "c", "absent"], counts={"missing": {"c": 31, "absent": 60}}))
    less = by_name(board)
    assert abs(less["c"]["win_rate"] - rows["c"]["win_rate"]) < 0.1 and less["c"]["prompts"] < 40
    assert [r["missing"] for r in board["models"]] == [0, 0, 31, 60] and board["models"][-1]["model"] == "absent"
    assert less["absent"]["win_rate"] is less["absent"]["rating"] is less["absent"]["mean_length"] is None
    assert (less["absent"]["rank_low"], less["absent"]["rank_high"], less["absent"]["battles"]) == (1, 4, 0)
    (concern,) = [c for c in board["concerns"] if c["kind"] == "uncompared"]
    assert concern == {"kind": "uncompared", "models": ["absent"], "meaning": "no battle"}
    absent = by_name(leaderboard(season(["a", "b"], 40), "a", models=["a", "b", "absent"]))["absent"]
    assert absent["win_rate"] is absent["win_rate_length_controlled"] is absent["rating"] is None


@pytest.mark.parametrize("baseline", [None, "a"])
def test_one_prompt_gives_values_and_no_errors(baseline):
    board = strict(leaderboard([verdict("a", "b", "p", 0.7, category="c")], baseline))
    b = by_name(board)["b"]
    assert b["win_rate"] == 0.7 and b["rating"] is not None and board["categories"] == {}
    assert all(
        b[f"{name}_{end}"] is None for name in ("win_rate", "win_rate_hard", "rating") for end in ("low", "high")
    )
    assert board["smallest_difference"] is None and board["tests"][0]["p"] is board["tests"][0]["p_holm"] is None
    assert (b["rank_low"], b["rank_high"]) == (1, 2) and board["concerns"][0]["kind"] == "few_clusters"
    assert "| 1-2 | b | 0.700 | " in table_markdown(board) and "nan" not in table_markdown(board).lower()


def test_who_always_wins_or_always_loses_is_said_and_has_no_made_up_interval():
    verdicts = [
        v
        for n in range(40)
        for v in (
            verdict("low", "mid", f"p{n}", 1.0),
            verdict("mid", "top", f"p{n}", 1.0),
            verdict("mid", "even", f"p{n}", 0.3 + n / 100),
        )
    ]
    board = strict(leaderboard(verdicts))
    said = {c["kind"]: c["models"] for c in board["concerns"]}
    assert said["unbeaten"] == ["top"] and said["winless"] == ["low"]
    assert by_name(board)["top"]["rating_low"] is None and board["models"][0]["model"] == "top"
    apart = season(["a", "b"], 40) + [replace(v, model_a="c", model_b="d") for v in season(["a", "b"], 40, 1)]
    apart = strict(leaderboard(apart))
    assert {c["kind"]: c["models"] for c in apart["concerns"]}["disconnected"] == ["c", "d"]
    assert by_name(apart)["c"]["rating"] is None and by_name(apart)["c"]["win_rate"] is not None


def test_equal_answers_count_as_even_and_say_nothing_of_position():
    even = verdict("a", "b", "p0", 0.5, bias=None)
    board = leaderboard([even])
    assert by_name(board)["a"]["win_rate"] == 0.5 and board["position"].pop("n") == 0
    assert set(board["position"].values()) == {None}
    known = [("p1", 0.9, 0.5), ("p2", 0.6, -1.5), ("p3", 0.8, 0.4)]
    board = leaderboard([even, *(verdict("a", "b", prompt, p_b, bias=bias) for prompt, p_b, bias in known)])
    position = board["position"]
    assert (position["bias"], position["order_agreement"], position["n"]) == (-0.2, 0.6667, 3)
    assert position["bias_low"] < -0.2 < position["bias_high"] and position["order_agreement_high"] < 1
    assert by_name(board)["b"]["win_rate"] == pytest.approx((0.5 + 0.9 + 0.6 + 0.8) / 4, abs=1e-4)


def test_ties_have_a_rating_of_their_own_only_where_the_judge_has_ties():
    assert "rating_davidson" in leaderboard(season(["a", "b", "c"], tie=0.2))["models"][0]
    assert "rating_davidson" not in leaderboard(season(["a", "b", "c"]))["models"][0]


def test_categories_are_leaderboards_of_their_prompts():
    verdicts = [*season(["a", "b", "c"], 30), verdict("a", "b", "lone", 0.5, category="one prompt")]
    found = leaderboard(verdicts)["categories"]
    assert list(found) == ["c0", "c1", "c2"]
    alone = by_name(leaderboard([v for v in verdicts if v.category == "c1"]))
    for model, row in found["c1"].items():
        assert row["win_rate"] == alone[model]["win_rate"] and row["win_rate_high"] == alone[model]["win_rate_high"]
        assert row["n"] == 20


def test_lengths_are_of_each_answer_once_and_a_judge_of_length_is_told():
    verdicts = [verdict("a", "b", f"p{n}", 0.5 + n / 30, lengths=(100, 100 + n)) for n in range(10)]
    board = leaderboard(verdicts, "a")
    assert by_name(board)["a"]["mean_length"] == 100 and by_name(board)["b"]["mean_length"] == 104.5
    assert board["length_correlation"] == 1.0
    assert board["length_correlation_low"] is None, "ten prompts that all agree have no interval, not one of width 0"
    assert board["longer_preferred"] == 1.0, "answers of equal length do not count"
    even = verdict("a", "b", "p", 0.5, lengths=(1, 9))
    assert leaderboard([*verdicts, even], "a")["longer_preferred"] == 0.95, "an even verdict is half a preference"
    b = by_name(board)["b"]
    assert b["win_rate_length_controlled"] < b["win_rate"]
    assert by_name(leaderboard(verdicts))["b"]["rating_length_controlled"] is None, "ten battles say too little"
    board = leaderboard([verdict("a", "b", f"p{n}", 0.5 + n / 600, lengths=(100, 100 + n)) for n in range(200)])
    b, a = by_name(board)["b"], by_name(board)["a"]
    assert b["rating"] - a["rating"] > b["rating_length_controlled"] - a["rating_length_controlled"]
    assert board["length_slope"]["value"] > 0.5 and "win_rate_length_controlled" not in b


def test_even_verdicts_are_ties_whatever_the_tie_mass():
    """Where P(B) and half of P(tie) are added, a quarter of all tie masses makes such verdicts wins or losses."""
    pairs = [Pair("?", "same", "same", model_a="a", model_b="b", id=str(n)) for n in range(40)]
    masses = np.round(np.geomspace(0.05, 5, 40), 6)
    verdicts = [judged_identical(p, Calibration(tie_nu=float(nu)), "j") for p, nu in zip(pairs, masses, strict=True)]
    for row in leaderboard(verdicts)["models"]:
        assert (row["wins"], row["ties"], row["losses"], row["win_rate_hard"]) == (0, 40, 0, 0.5)


def test_the_correlation_with_length_does_not_depend_on_the_names_of_the_models():
    """The names decide which side is the first. All answers are longer than the baseline's, and preferred for it."""
    verdicts = [verdict("a", "b", f"p{n}", 0.9 - n % 3 / 10, lengths=(100, 200 + n)) for n in range(40)]
    found = [leaderboard([v.swapped() if n % k else v for n, v in enumerate(verdicts)], "a") for k in (1, 2, 3)]
    assert len({board["length_correlation"] for board in found}) == 1
    assert found[0]["length_correlation"] > 0.6 and found[0]["longer_preferred"] == 1.0


def test_each_pair_that_met_has_its_own_win_rate_from_the_better_models_side():
    models = ["a", "b", "c", "d"]
    verdicts = season(models, 40, pairs=[(0, 1), (0, 2), (2, 1), (3, 0)])
    board = strict(leaderboard(verdicts))
    order = [row["model"] for row in board["models"]]
    found = {(h["model"], h["other"]): h for h in board["head_to_head"]}
    met = {frozenset((v.model_a, v.model_b)) for v in verdicts}
    assert {frozenset(pair) for pair in found} == met and len(found) == 4
    assert list(found) == sorted(found, key=lambda pair: [order.index(m) for m in pair])
    for (one, two), h in found.items():
        assert order.index(one) < order.index(two)
        own = [
            v.win_b if v.model_b == one else v.swapped().win_b for v in verdicts if {v.model_a, v.model_b} == {one, two}
        ]
        assert h["win_rate"] == pytest.approx(sum(own) / 40, abs=1e-4) and h["n"] == 40
        assert h["win_rate_low"] < h["win_rate"] < h["win_rate_high"]


def test_ratings_are_set_beside_the_mean_lengths():
    lengths = {"a": 30, "b": 20, "c": 10}
    rows = [
        verdict(m, o, f"p{n}", 0.3, lengths=(lengths[m], lengths[o]))
        for n in range(5)
        for m, o in (("a", "b"), ("b", "c"), ("a", "c"))
    ]
    assert leaderboard(rows)["length_rating_correlation"] == 1.0
    two = [v for v in rows if "c" not in (v.model_a, v.model_b)]
    assert leaderboard(two)["length_rating_correlation"] is None, "two models always lie on a line"


def test_nothing_to_rank_is_refused():
    with pytest.raises(DataError, match="no verdicts"):
        leaderboard([], models=["a", "b"])
