"""`arena-rm judge` that is killed, or is given odd answers: nothing is lost, and nothing is judged twice."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest
import tiny
from commands import KILLED
from tournament_command import PROMPTS, bytes_in, verdicts_in

# -- what a kill loses ------------------------------------------------------------------------------------------------


@pytest.fixture
def killed(judge_options, three_answers, tmp_path):
    """The .part of a run that was killed with nine of its eighteen battles judged, and in the middle of a line."""
    args = ["judge", *judge_options, "--no-cache", "-o", tmp_path / "out", *three_answers]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, args)], capture_output=True)
    part = tmp_path / "out" / "verdicts.jsonl.part"
    assert done.returncode == -9 and [f.name for f in (tmp_path / "out").iterdir()] == [part.name], done.stderr
    with open(part, "ab") as file:
        file.write(b'{"key": "ha')
    assert part.read_bytes().count(b"\n") == 1 + 9
    return part


@pytest.mark.slow
def test_a_killed_run_continues_and_judges_only_what_is_left(killed, judged, three_answers, asked, tmp_path):
    verdicts, board, _, err = judged(*three_answers, "--no-cache")
    assert len(asked) == 2 * 9 and "continuing: 9 verdicts were given before" in err
    shutil.rmtree(tmp_path / "out")
    whole, expected, *_ = judged(*three_answers, "--no-cache")
    assert len(asked) == 2 * 9 + 2 * 18 and [v["id"] for v in verdicts] == [v["id"] for v in whole]
    assert [v["score"] for v in verdicts] == pytest.approx([v["score"] for v in whole], abs=1e-5)
    assert [r["model"] for r in board["models"]] == [r["model"] for r in expected["models"]]


@pytest.mark.slow
def test_the_rest_of_another_judge_or_of_a_run_that_still_writes_is_left_alone(
    killed, arena, judge_options, three_answers, tmp_path
):
    fcntl = pytest.importorskip("fcntl")
    before = killed.read_bytes()
    args = ["judge", *judge_options, "--no-cache", "-o", tmp_path / "out", *three_answers]
    code, out, err = arena(*args, "--temperature", "3")
    assert code == 3 and not out and "was begun with other settings (temperature: 1.5 then, 3.0 now)" in err
    with open(killed, "rb") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        code, out, err = arena(*args)
    assert code == 2 and not out and "verdicts.jsonl.part is in use; another run is writing it" in err
    assert killed.read_bytes() == before and [f.name for f in (tmp_path / "out").iterdir()] == [killed.name]


def test_a_run_that_fails_leaves_the_last_one_as_it_was(judged, three_answers, arena, judge_options, tmp_path):
    judged(*three_answers)
    before = bytes_in(tmp_path / "out")
    (tmp_path / "answers" / "more.json").write_text('[{"instruction": "Hi", "output": 3}]', "utf-8")
    code, out, err = arena("judge", *judge_options, "-o", tmp_path / "out", tmp_path / "answers")
    assert code == 3 and not out and "more.json row 1: field output is 3" in err
    assert bytes_in(tmp_path / "out") == before


# -- odd answers ------------------------------------------------------------------------------------------------------


def test_names_that_want_to_be_more_than_text_stay_text_everywhere(judged, answer_file, tmp_path):
    names = ["=HYPERLINK(1)", "../up|and\naway", "<b>bold</b>", "w" * 3000]
    verdicts, board, out, _ = judged(*[answer_file(name, PROMPTS[:2]) for name in names], "--baseline", names[1])
    assert {row["model"] for row in board["models"]} == set(names) and board["baseline"] == names[1]
    assert {v["model_b"] for v in verdicts} == set(names) - {names[1]}
    table = out.split("\n")[:-1]
    assert len(table) == 2 + 4 and {line.count("|") for line in table} == {7} and "<b>" not in out
    text = (tmp_path / "out" / "leaderboard.csv").read_bytes().decode()
    assert {row["model"] for row in csv.DictReader(io.StringIO(text, newline=""))} == {"'" + names[0], *names[1:]}
    assert {p.name.partition("-")[0] for p in tmp_path.iterdir()} == {"answers", "out", "cache.sqlite"}


def test_answers_that_are_missing_empty_or_declined_are_counted_and_no_loss(judged, answer_file):
    files = [
        answer_file("heron"),
        answer_file("ibis", PROMPTS[:4]),
        answer_file("stork", PROMPTS, "I'm sorry."),
        answer_file("crane", PROMPTS, ""),
    ]
    verdicts, board, _, said = judged(*files)
    assert "prompts that a model did not answer, and has no battle on: ibis 2\n" in said
    rows = {row["model"]: row for row in board["models"]}
    assert Counter(v["model_a"] for v in verdicts) + Counter(v["model_b"] for v in verdicts) == {
        "crane": 16,
        "heron": 16,
        "stork": 16,
        "ibis": 12,
    }
    assert {m: (r["missing"], r["empty"], r["refusals"], r["battles"]) for m, r in rows.items()} == {
        "heron": (0, 0, 0, 16),
        "ibis": (2, 0, 0, 12),
        "stork": (0, 0, 6, 16),
        "crane": (0, 6, 0, 16),
    }
    assert len(board["missing_prompts"]["ibis"]) == 2 and rows["crane"]["mean_length"] == 0


def test_conversations_and_one_prompt_of_two_models(judged, tmp_path):
    """The least that makes a leaderboard: values, and a dash or null for each error."""
    asked = tmp_path / "question.jsonl"
    asked.write_text(json.dumps({"question_id": "q", "turns": ["Hi", "And now?"], "category": "chat"}) + "\n", "utf-8")
    for model, said in (("heron", ["Hello.", "Bye."]), ("ibis", ["Good day.", "More?"])):
        row = {"question_id": "q", "model_id": model, "choices": [{"turns": said}]}
        (tmp_path / f"{model}.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    verdicts, board, out, _ = judged(tmp_path / "heron.jsonl", tmp_path / "ibis.jsonl", "--questions", asked)
    assert len(verdicts) == 1 and verdicts[0]["category"] == "chat" and verdicts[0]["length_b"] == 14
    for row in board["models"]:
        assert row["rating"] is not None and row["rating_low"] is row["win_rate_low"] is None
        assert (row["rank_low"], row["rank_high"]) == (1, 2)
    assert "nan" not in out.lower() and board["smallest_difference"] is None


def test_battles_whose_texts_were_cut_are_counted(judged, answer_file, tmp_path):
    short, long = answer_file("heron", PROMPTS[:3]), answer_file("ibis", PROMPTS[:2], tiny.words(900, 1))
    verdicts, board, *_ = judged(short, long, answer_file("stork", PROMPTS[:3]))
    assert [v["truncated"] for v in verdicts] == ["ibis" in (v["model_a"], v["model_b"]) for v in verdicts]
    assert board["truncated"] == 4
    assert "In 4 of the battles a text was cut" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_a_judge_of_three_logits_ranks_too(arena, tiny_base, tiny_adapter, three_answers, tmp_path):
    names = ["--pretrained", tiny_base("gemma"), "--peft", tiny_adapter("gemma", num_labels=3), "--dtype", "float32"]
    code, _, err = arena("judge", *names, "--no-cache", "-o", tmp_path / "out", *three_answers)
    assert code == 0, err
    assert all(len(v["z_ab"]) == 3 and v["p_tie"] > 0 for v in verdicts_in(tmp_path / "out"))


BAD = [
    (["ONE"], 2, "answers of heron only"),
    (["THREE", "--baseline", "nobody"], 2, "the answers of the baseline; it is one of heron, ibis, stork"),
    (["THREE", "--baseline", ""], 2, "is empty; a variable of the shell may not be set"),
    (["THREE", "--baseline", "ibis", "--round-robin"], 2, "--baseline and --round-robin"),
    (["THREE", "--prompts", "0"], 2, "--prompts"),
    (["THREE", "nowhere.json"], 3, "nowhere.json"),
    (["THREE", "EMPTY"], 2, "holds no file of answers"),
    (["THREE", "--no-cache", "--cache-file", "x"], 2, "--no-cache with --cache-file"),
    (["THREE", "--peft", "no/such"], 3, "no/such"),
    ([], 2, "Missing argument"),
]


@pytest.mark.parametrize(("args", "code", "says"), BAD, ids=[" ".join(a) for a, _, _ in BAD])
def test_a_mistake_is_one_line_before_anything_is_paid_for(
    args, code, says, arena, judge_options, three_answers, tmp_path, asked
):
    (tmp_path / "empty").mkdir()
    places = {"ONE": three_answers[:1], "THREE": three_answers, "EMPTY": [tmp_path / "empty"]}
    given = [word for arg in args for word in places.get(arg, [arg])]
    model = judge_options if "--peft" not in args else []
    found, out, err = arena("judge", *model, "-o", tmp_path / "out", *given)
    assert found == code and says in err and not out and not asked
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_place_that_is_a_file_is_refused(arena, judge_options, three_answers, tmp_path):
    (tmp_path / "out").write_text("mine", "utf-8")
    code, _, err = arena("judge", *judge_options, "-o", tmp_path / "out", *three_answers)
    assert code == 2 and "out is a file; a run writes several files; name a folder" in err
    assert (tmp_path / "out").read_text("utf-8") == "mine"
