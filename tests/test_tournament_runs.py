"""`arena-rm judge` as a user runs it, with a real if tiny judge: what it leaves, and what a second run costs."""

import json
import shutil

import pytest
from tournament_command import FILES, MODELS, PROMPTS, bytes_in, verdicts_in

# -- what a run leaves ------------------------------------------------------------------------------------------------


def test_a_run_leaves_verdicts_and_a_leaderboard_that_rest_on_the_judges_own_scores(
    judged, three_answers, arena, judge_options, tmp_path
):
    verdicts, board, out, err = judged(*three_answers)
    assert len(verdicts) == 18 == board["battles"] and "3 models, 6 prompts: 18 battles to judge" in err
    pairs = tmp_path / "pairs.jsonl"
    texts = {(m, p): a for m, f in zip(MODELS, three_answers, strict=True) for p, a in said_in(f)}
    rows = [
        {"id": f"{a} {b} {p}", "prompt": p, "response_a": texts[a, p], "response_b": texts[b, p]}
        for a, b in (("heron", "ibis"), ("heron", "stork"), ("ibis", "stork"))
        for p in PROMPTS
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    scored = {row["key"]: row for row in map(json.loads, arena("score", pairs, *judge_options)[1].splitlines())}
    for v in verdicts:
        plain = scored[v["key"]]
        assert plain["id"].startswith(f"{v['model_a']} {v['model_b']} ") and plain["judge"] == v["judge"]
        assert all(v[k] == pytest.approx(plain[k], abs=1e-5) for k in ("z_ab", "z_ba", "score", "p_a", "p_b", "p_tie"))
        assert v["length_a"] == len(texts[v["model_a"], plain["id"].split(" ", 2)[2]])
    assert board["schema"] == 1 and {"model", "win_rate", "rating"} <= set(board["models"][0])
    assert {row["model"] for row in board["models"]} == set(MODELS) and board["judge"]["hash"] == verdicts[0]["judge"]
    assert board["judge"]["order"] == "both" and board["judge"]["tie_nu"] == 0.5
    assert set(board["categories"]) == {"coding", "chat"} and "rating_davidson" in board["models"][0]
    assert [line.split(" | ")[1] for line in out.splitlines()[2:]] == [row["model"] for row in board["models"]]
    assert out.strip() in (tmp_path / "out" / "report.md").read_text("utf-8")


def said_in(file):
    return [(row["instruction"], row["output"]) for row in json.loads(file.read_text("utf-8"))]


def test_against_a_baseline_only_its_battles_are_judged_and_it_is_on_the_leaderboard(judged, three_answers, asked):
    verdicts, board, out, _ = judged(*three_answers, "--baseline", "stork")
    assert {(v["model_a"], v["model_b"]) for v in verdicts} == {("stork", "heron"), ("stork", "ibis")}
    assert len(asked) == 2 * 12 and "at equal length" in out
    stork = next(row for row in board["models"] if row["model"] == "stork")
    assert board["baseline"] == "stork" and stork["win_rate"] == 0.5 and stork["rating"] == 1000
    for row in board["models"]:
        mine = [v["p_b"] + v["p_tie"] / 2 for v in verdicts if v["model_b"] == row["model"]] or [0.5]
        assert row["win_rate"] == pytest.approx(sum(mine) / len(mine), abs=1e-4)


def test_the_same_command_leaves_the_same_bytes_whatever_the_order_of_the_files(judged, three_answers, tmp_path, asked):
    def bytes_afresh(*args):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        *_, err = judged(*args)
        return bytes_in(tmp_path / "out"), err

    first, _ = bytes_afresh(*three_answers, "--no-cache")
    assert bytes_afresh(tmp_path / "answers", "--no-cache")[0] == first
    assert bytes_afresh(*three_answers[::-1])[0] == first and len(asked) == 3 * 36
    again, err = bytes_afresh(*three_answers, "--round-robin")
    assert again == first and len(asked) == 3 * 36 and "36 of 36 presentations came from" in err
    judged(tmp_path / "answers", "--no-cache")
    assert bytes_in(tmp_path / "out") == first and len(asked) == 3 * 36, "a folder that has all verdicts asks nothing"


# -- what a second run costs ------------------------------------------------------------------------------------------


def test_one_more_model_costs_its_own_battles_and_leaves_the_other_verdicts_as_they_were(
    judged, three_answers, answer_file, asked
):
    before, *_ = judged(*three_answers)
    assert len(asked) == 2 * 18
    after, board, *_ = judged(*three_answers, answer_file("crane"))
    assert len(asked) == 2 * 36 and len(after) == 36 and len(board["models"]) == 4
    assert [v for v in after if "crane" not in (v["model_a"], v["model_b"])] == before
    judged(*three_answers, "--baseline", "stork")
    assert len(asked) == 2 * 36, "a baseline asks what the round robin knows already"


def test_one_more_model_costs_its_own_battles_without_a_cache_too(judged, three_answers, answer_file, asked, tmp_path):
    before, *_ = judged(*three_answers, "--no-cache")
    crane = answer_file("crane")
    after, _, _, err = judged(*three_answers, crane, "--no-cache")
    assert len(asked) == 2 * 36 and "18 verdicts of an earlier run in" in err
    assert [v for v in after if "crane" not in (v["model_a"], v["model_b"])] == before
    fewer, *_ = judged(*three_answers, "--no-cache", "--prompts", 2)
    assert len(fewer) == 6 and len(asked) == 2 * 36 and {v["id"] for v in fewer} < {v["id"] for v in before}


def test_what_a_smaller_run_has_no_use_for_stays_in_the_cache(judged, three_answers, answer_file, asked, tmp_path):
    crane = answer_file("crane")
    before, *_ = judged(*three_answers, crane)
    bytes_of_four = (tmp_path / "out" / "verdicts.jsonl").read_bytes()
    fewer, *_ = judged(*three_answers, "--prompts", 2)
    assert len(fewer) == 6 and len(asked) == 2 * 36 and {v["id"] for v in fewer} < {v["id"] for v in before}
    judged(*three_answers, crane)
    assert len(asked) == 2 * 36, "what a smaller run had no use for was kept"
    assert (tmp_path / "out" / "verdicts.jsonl").read_bytes() == bytes_of_four


def test_a_kill_before_the_verdicts_are_in_their_place_loses_none(
    judged, three_answers, arena, judge_options, monkeypatch, asked, tmp_path
):
    judged(*three_answers)
    args = [
        "judge",
        *judge_options,
        "--cache-file",
        tmp_path / "cache.sqlite",
        "--no-plots",
        "-o",
        tmp_path / "out",
        *three_answers,
    ]

    def killed(self, rows):
        raise KeyboardInterrupt

    for command in (["--prompts", 2], ["--prompts", 3], []):
        with monkeypatch.context() as patch:
            patch.setattr("harness_plugin.files.journal.Journal.finish_lines", killed)
            assert arena(*args, *command)[0] == 130
        assert arena(*args, *command)[0] == 0
    assert len(asked) == 2 * 18 and len(verdicts_in(tmp_path / "out")) == 18
    assert {f.name for f in (tmp_path / "out").iterdir()} == FILES


def test_another_judges_verdicts_and_a_file_that_holds_none_are_left_alone(
    judged, three_answers, arena, judge_options, tmp_path, asked
):
    judged(*three_answers)
    before, cost = bytes_in(tmp_path / "out"), len(asked)
    args = ["judge", *judge_options, "--no-cache", "-o", tmp_path / "out", *three_answers]
    code, out, err = arena(*args, "--temperature", "3")
    assert code == 3 and not out and "verdicts.jsonl holds verdicts of another judge (" in err
    assert "choose another -o, or delete the file" in err
    assert bytes_in(tmp_path / "out") == before and len(asked) == cost
    verdicts = tmp_path / "out" / "verdicts.jsonl"
    whole = verdicts.read_text("utf-8")
    judge_of = json.loads(whole.split("\n")[0])["judge"]
    for text in (
        "[]\n",
        "{",
        '{"key": "x"}\n',
        whole.replace('"score"', '"scare"'),
        f'{{"judge": "{judge_of}"}}\n',
        "\0",
    ):
        verdicts.write_text(text, "utf-8")
        code, out, err = arena(*args)
        assert code == 3 and not out and "verdicts.jsonl holds no verdict" in err, text
        assert verdicts.read_text("utf-8") == text and len(asked) == cost
    verdicts.write_bytes(b"\xff\xfe")
    assert arena(*args)[0] == 3 and verdicts.read_bytes() == b"\xff\xfe"
    verdicts.write_bytes(whole.replace("\n", "\r\n").encode())
    assert arena(*args)[0] == 0 and len(asked) == cost, "Windows' line ends are no difference"


@pytest.mark.parametrize("damage", ["half a line", "an edited winner", "an edited probability", "another line"])
def test_damaged_verdicts_are_judged_again_and_said(
    judged, three_answers, arena, judge_options, tmp_path, asked, damage
):
    judged(*three_answers)
    verdicts = tmp_path / "out" / "verdicts.jsonl"
    whole, cost = verdicts.read_text("utf-8"), len(asked)
    first, *others = whole.splitlines(keepends=True)
    row = json.loads(first)
    edits = {
        "half a line": first[: len(first) // 2] + "\n",
        "an edited winner": json.dumps(row | {"z_ab": -row["z_ab"], "z_ba": -row["z_ba"]}) + "\n",
        "an edited probability": json.dumps(row | {"p_a": 0.99, "p_b": 0.01}) + "\n",
        "another line": "[]\n",
    }
    verdicts.write_text("".join([edits[damage], *others]), "utf-8")
    code, _, err = arena("judge", *judge_options, "--no-cache", "-o", tmp_path / "out", *three_answers)
    assert code == 0 and "1 rows of" in err and "are damaged and are judged again" in err
    rows = [list(map(json.loads, text.splitlines())) for text in (whole, verdicts.read_text("utf-8"))]
    assert [r["id"] for r in rows[0]] == [r["id"] for r in rows[1]] and rows[0][1:] == rows[1][1:] and len(asked) > cost
    assert rows[0][0]["z_ab"] == pytest.approx(rows[1][0]["z_ab"], abs=1e-5)


def test_a_draw_of_prompts_stays_when_a_model_comes(judged, three_answers, answer_file, asked):
    before, *_ = judged(*three_answers, "--prompts", 2)
    drawn = {v["prompt_key"] for v in before}
    assert len(drawn) == 2 and len(asked) == 2 * 2 * 3
    after, *_ = judged(*three_answers, answer_file("crane", [*PROMPTS, "of crane alone", "this too"]), "--prompts", 2)
    assert {v["prompt_key"] for v in after} == drawn and len(asked) == 2 * 2 * 6


def test_equal_answers_are_even_without_the_judge_and_equal_texts_are_judged_once(judged, answer_file, asked):
    files = [answer_file(model, PROMPTS[:3], "the same") for model in MODELS]
    verdicts, board, *_ = judged(*files)
    assert asked == [] and len(verdicts) == 9 and all(v["identical"] and v["score"] == 0 for v in verdicts)
    assert all(v["p_a"] == v["p_b"] == pytest.approx(0.4) and v["p_tie"] == pytest.approx(0.2) for v in verdicts)
    assert board["identical"] == 9 and {row["win_rate"] for row in board["models"]} == {0.5}
    verdicts, board, *_ = judged(*files, answer_file("crane", PROMPTS[:3], "not the same"))
    assert len(asked) == 2 * 3, "three models with one text are one battle against crane"
    assert len(verdicts) == 18 and board["identical"] == 9 and len({v["id"] for v in verdicts}) == 18
    rates = {row["model"]: row["win_rate"] for row in board["models"]}
    places = [(v["model_a"], v["model_b"], v["id"]) for v in verdicts]
    assert places == sorted(places), "equal answers stand among the others"
    assert rates["heron"] == rates["ibis"] == rates["stork"] != rates["crane"]
