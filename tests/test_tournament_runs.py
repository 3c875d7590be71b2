"""`arena-rm judge` as a user runs it, with a real if tiny judge: what it leaves, what a second run costs, what a kill
loses."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest
import tiny

from harness_plugin.cli import main

FILES = {"verdicts.jsonl", "judged_answers.jsonl", "leaderboard.json", "leaderboard.csv", "report.md", "report.html"}
MODELS = ("heron", "ibis", "stork")
PROMPTS = [tiny.words(5, n) for n in range(6)]


@pytest.fixture
def options(tiny_base, tiny_adapter):
    """A judge whose calibration has ties."""
    names = ["--pretrained", tiny_base("gemma"), "--peft", tiny_adapter("gemma", manifest=True)]
    return [*names, "--dtype", "float32", "--device", "cpu"]


@pytest.fixture
def arena(capsys):
    """arena(*args) -> (exit code, stdout, stderr) of arena-rm in this process."""

    def run(*args):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in args])
        out = capsys.readouterr()
        assert not stop.value.code or "Traceback" not in out.err
        return stop.value.code, out.out, out.err

    return run


@pytest.fixture
def judge(arena, options, tmp_path):
    """judge(*args) -> (verdicts, leaderboard.json, stdout, stderr) of a run into tmp_path/out that ended well, with a
    cache of this test's own and without pictures."""

    def run(*args):
        own = ["--cache-file", tmp_path / "cache.sqlite"] if "--no-cache" not in args else []
        code, out, err = arena("judge", *options, *own, "--no-plots", "-o", tmp_path / "out", *args)
        assert code == 0, err
        assert {f.name for f in (tmp_path / "out").iterdir()} == FILES
        board = json.loads((tmp_path / "out" / "leaderboard.json").read_text("utf-8"), parse_constant=pytest.fail)
        return verdicts_in(tmp_path / "out"), board, out, err

    return run


@pytest.fixture
def asked(monkeypatch):
    """Every presentation that the engine is asked to score from here on."""
    from harness_plugin.engine import Engine

    seen, real = [], Engine.logits

    def logits(self, sequences, done=None):
        seen.extend(map(tuple, sequences))
        return real(self, sequences, done)

    monkeypatch.setattr(Engine, "logits", logits)
    return seen


@pytest.fixture
def answers(tmp_path):
    """answers(model, prompts=PROMPTS, answer=None) -> a file of its answers in tmp_path/answers."""
    (tmp_path / "answers").mkdir()

    def write(model, prompts=PROMPTS, answer=None):
        rows = [
            {
                "instruction": p,
                "output": said_by(model, n) if answer is None else answer,
                "generator": model,
                "dataset": ("coding", "chat")[n % 2],
            }
            for n, p in enumerate(prompts)
        ]
        path = tmp_path / "answers" / f"{len(list((tmp_path / 'answers').iterdir()))}.json"
        path.write_text(json.dumps(rows), "utf-8")
        return path

    return write


def said_by(model, n):
    """Three to nineteen words, always the same for a model and the place of its prompt."""
    return tiny.words(3 + n * len(model) % 17, sum(ord(c) * 31**k for k, c in enumerate(model)) * 100 + n)


@pytest.fixture
def three(answers):
    return [answers(model) for model in MODELS]


def verdicts_in(folder):
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text("utf-8").split("\n")[:-1]]


def bytes_in(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir()}


# -- what a run leaves ------------------------------------------------------------------------------------------------


def test_a_run_leaves_verdicts_and_a_leaderboard_that_rest_on_the_judges_own_scores(
    judge, three, arena, options, tmp_path
):
    verdicts, board, out, err = judge(*three)
    assert len(verdicts) == 18 == board["battles"] and "3 models, 6 prompts: 18 battles to judge" in err
    pairs = tmp_path / "pairs.jsonl"
    texts = {(m, p): a for m, f in zip(MODELS, three, strict=True) for p, a in said_in(f)}
    rows = [
        {"id": f"{a} {b} {p}", "prompt": p, "response_a": texts[a, p], "response_b": texts[b, p]}
        for a, b in (("heron", "ibis"), ("heron", "stork"), ("ibis", "stork"))
        for p in PROMPTS
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    scored = {row["key"]: row for row in map(json.loads, arena("score", pairs, *options)[1].splitlines())}
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


def test_against_a_baseline_only_its_battles_are_judged_and_it_is_on_the_leaderboard(judge, three, asked):
    verdicts, board, out, _ = judge(*three, "--baseline", "stork")
    assert {(v["model_a"], v["model_b"]) for v in verdicts} == {("stork", "heron"), ("stork", "ibis")}
    assert len(asked) == 2 * 12 and "at equal length" in out
    stork = next(row for row in board["models"] if row["model"] == "stork")
    assert board["baseline"] == "stork" and stork["win_rate"] == 0.5 and stork["rating"] == 1000
    for row in board["models"]:
        mine = [v["p_b"] + v["p_tie"] / 2 for v in verdicts if v["model_b"] == row["model"]] or [0.5]
        assert row["win_rate"] == pytest.approx(sum(mine) / len(mine), abs=1e-4)


def test_the_same_command_leaves_the_same_bytes_whatever_the_order_of_the_files(judge, three, tmp_path, asked):
    def bytes_afresh(*args):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        *_, err = judge(*args)
        return bytes_in(tmp_path / "out"), err

    first, _ = bytes_afresh(*three, "--no-cache")
    assert bytes_afresh(tmp_path / "answers", "--no-cache")[0] == first
    assert bytes_afresh(*three[::-1])[0] == first and len(asked) == 3 * 36
    again, err = bytes_afresh(*three, "--round-robin")
    assert again == first and len(asked) == 3 * 36 and "36 of 36 presentations came from" in err
    judge(tmp_path / "answers", "--no-cache")
    assert bytes_in(tmp_path / "out") == first and len(asked) == 3 * 36, "a folder that has all verdicts asks nothing"


# -- what a second run costs ------------------------------------------------------------------------------------------


def test_one_more_model_costs_its_own_battles_and_leaves_the_other_verdicts_as_they_were(judge, three, answers, asked):
    before, *_ = judge(*three)
    assert len(asked) == 2 * 18
    after, board, *_ = judge(*three, answers("crane"))
    assert len(asked) == 2 * 36 and len(after) == 36 and len(board["models"]) == 4
    assert [v for v in after if "crane" not in (v["model_a"], v["model_b"])] == before
    judge(*three, "--baseline", "stork")
    assert len(asked) == 2 * 36, "a baseline asks what the round robin knows already"


def test_one_more_model_costs_its_own_battles_without_a_cache_too(judge, three, answers, asked, tmp_path):
    before, *_ = judge(*three, "--no-cache")
    crane = answers("crane")
    after, _, _, err = judge(*three, crane, "--no-cache")
    assert len(asked) == 2 * 36 and "18 verdicts of an earlier run in" in err
    assert [v for v in after if "crane" not in (v["model_a"], v["model_b"])] == before
    fewer, *_ = judge(*three, "--no-cache", "--prompts", 2)
    assert len(fewer) == 6 and len(asked) == 2 * 36 and {v["id"] for v in fewer} < {v["id"] for v in before}


def test_what_a_smaller_run_has_no_use_for_stays_in_the_cache(judge, three, answers, asked, tmp_path):
    crane = answers("crane")
    before, *_ = judge(*three, crane)
    bytes_of_four = (tmp_path / "out" / "verdicts.jsonl").read_bytes()
    fewer, *_ = judge(*three, "--prompts", 2)
    assert len(fewer) == 6 and len(asked) == 2 * 36 and {v["id"] for v in fewer} < {v["id"] for v in before}
    judge(*three, crane)
    assert len(asked) == 2 * 36, "what a smaller run had no use for was kept"
    assert (tmp_path / "out" / "verdicts.jsonl").read_bytes() == bytes_of_four


def test_a_kill_before_the_verdicts_are_in_their_place_loses_none(
    judge, three, arena, options, monkeypatch, asked, tmp_path
):
    judge(*three)
    args = ["judge", *options, "--cache-file", tmp_path / "cache.sqlite", "--no-plots", "-o", tmp_path / "out", *three]

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
    judge, three, arena, options, tmp_path, asked
):
    judge(*three)
    before, cost = bytes_in(tmp_path / "out"), len(asked)
    args = ["judge", *options, "--no-cache", "-o", tmp_path / "out", *three]
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
def test_damaged_verdicts_are_judged_again_and_said(judge, three, arena, options, tmp_path, asked, damage):
    judge(*three)
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
    code, _, err = arena("judge", *options, "--no-cache", "-o", tmp_path / "out", *three)
    assert code == 0 and "1 rows of" in err and "are damaged and are judged again" in err
    rows = [list(map(json.loads, text.splitlines())) for text in (whole, verdicts.read_text("utf-8"))]
    assert [r["id"] for r in rows[0]] == [r["id"] for r in rows[1]] and rows[0][1:] == rows[1][1:] and len(asked) > cost
    assert rows[0][0]["z_ab"] == pytest.approx(rows[1][0]["z_ab"], abs=1e-5)


def test_a_draw_of_prompts_stays_when_a_model_comes(judge, three, answers, asked):
    before, *_ = judge(*three, "--prompts", 2)
    drawn = {v["prompt_key"] for v in before}
    assert len(drawn) == 2 and len(asked) == 2 * 2 * 3
    after, *_ = judge(*three, answers("crane", [*PROMPTS, "of crane alone", "this too"]), "--prompts", 2)
    assert {v["prompt_key"] for v in after} == drawn and len(asked) == 2 * 2 * 6


def test_equal_answers_are_even_without_the_judge_and_equal_texts_are_judged_once(judge, answers, asked):
    files = [answers(model, PROMPTS[:3], "the same") for model in MODELS]
    verdicts, board, *_ = judge(*files)
    assert asked == [] and len(verdicts) == 9 and all(v["identical"] and v["score"] == 0 for v in verdicts)
    assert all(v["p_a"] == v["p_b"] == pytest.approx(0.4) and v["p_tie"] == pytest.approx(0.2) for v in verdicts)
    assert board["identical"] == 9 and {row["win_rate"] for row in board["models"]} == {0.5}
    verdicts, board, *_ = judge(*files, answers("crane", PROMPTS[:3], "not the same"))
    assert len(asked) == 2 * 3, "three models with one text are one battle against crane"
    assert len(verdicts) == 18 and board["identical"] == 9 and len({v["id"] for v in verdicts}) == 18
    rates = {row["model"]: row["win_rate"] for row in board["models"]}
    places = [(v["model_a"], v["model_b"], v["id"]) for v in verdicts]
    assert places == sorted(places), "equal answers stand among the others"
    assert rates["heron"] == rates["ibis"] == rates["stork"] != rates["crane"]


# -- what a kill loses ------------------------------------------------------------------------------------------------

KILLED = """
import os, signal
import harness_plugin.judges.presentations as scoring
from harness_plugin.files.journal import Journal
scoring.CHUNK, add = 4, Journal.add
def killing(self, row, added=[]):
    added.append(row)
    start = add(self, row)
    if len(added) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return start
Journal.add = killing
from harness_plugin.cli import main
main()
"""


@pytest.fixture
def killed(options, three, tmp_path):
    """The .part of a run that was killed with nine of its eighteen battles judged, and in the middle of a line."""
    args = ["judge", *options, "--no-cache", "-o", tmp_path / "out", *three]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, args)], capture_output=True, timeout=240)
    part = tmp_path / "out" / "verdicts.jsonl.part"
    assert done.returncode == -9 and [f.name for f in (tmp_path / "out").iterdir()] == [part.name], done.stderr
    with open(part, "ab") as file:
        file.write(b'{"key": "ha')
    assert part.read_bytes().count(b"\n") == 1 + 9
    return part


@pytest.mark.slow
def test_a_killed_run_continues_and_judges_only_what_is_left(killed, judge, three, asked, tmp_path):
    verdicts, board, _, err = judge(*three, "--no-cache")
    assert len(asked) == 2 * 9 and "continuing: 9 verdicts were given before" in err
    shutil.rmtree(tmp_path / "out")
    whole, expected, *_ = judge(*three, "--no-cache")
    assert len(asked) == 2 * 9 + 2 * 18 and [v["id"] for v in verdicts] == [v["id"] for v in whole]
    assert [v["score"] for v in verdicts] == pytest.approx([v["score"] for v in whole], abs=1e-5)
    assert [r["model"] for r in board["models"]] == [r["model"] for r in expected["models"]]


@pytest.mark.slow
def test_the_rest_of_another_judge_or_of_a_run_that_still_writes_is_left_alone(killed, arena, options, three, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    before = killed.read_bytes()
    args = ["judge", *options, "--no-cache", "-o", tmp_path / "out", *three]
    code, out, err = arena(*args, "--temperature", "3")
    assert code == 3 and not out and "was begun with other settings (temperature: 1.5 then, 3.0 now)" in err
    with open(killed, "rb") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        code, out, err = arena(*args)
    assert code == 2 and not out and "verdicts.jsonl.part is in use; another run is writing it" in err
    assert killed.read_bytes() == before and [f.name for f in (tmp_path / "out").iterdir()] == [killed.name]


def test_a_run_that_fails_leaves_the_last_one_as_it_was(judge, three, arena, options, tmp_path):
    judge(*three)
    before = bytes_in(tmp_path / "out")
    (tmp_path / "answers" / "more.json").write_text('[{"instruction": "Hi", "output": 3}]', "utf-8")
    code, out, err = arena("judge", *options, "-o", tmp_path / "out", tmp_path / "answers")
    assert code == 3 and not out and "more.json row 1: field output is 3" in err
    assert bytes_in(tmp_path / "out") == before


# -- odd answers ------------------------------------------------------------------------------------------------------


def test_names_that_want_to_be_more_than_text_stay_text_everywhere(judge, answers, tmp_path):
    names = ["=HYPERLINK(1)", "../up|and\naway", "<b>bold</b>", "w" * 3000]
    verdicts, board, out, _ = judge(*[answers(name, PROMPTS[:2]) for name in names], "--baseline", names[1])
    assert {row["model"] for row in board["models"]} == set(names) and board["baseline"] == names[1]
    assert {v["model_b"] for v in verdicts} == set(names) - {names[1]}
    table = out.split("\n")[:-1]
    assert len(table) == 2 + 4 and {line.count("|") for line in table} == {7} and "<b>" not in out
    text = (tmp_path / "out" / "leaderboard.csv").read_bytes().decode()
    assert {row["model"] for row in csv.DictReader(io.StringIO(text, newline=""))} == {"'" + names[0], *names[1:]}
    assert {p.name.partition("-")[0] for p in tmp_path.iterdir()} == {"answers", "out", "cache.sqlite"}


def test_answers_that_are_missing_empty_or_declined_are_counted_and_no_loss(judge, answers):
    files = [
        answers("heron"),
        answers("ibis", PROMPTS[:4]),
        answers("stork", PROMPTS, "I'm sorry."),
        answers("crane", PROMPTS, ""),
    ]
    verdicts, board, *_ = judge(*files)
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


def test_conversations_and_one_prompt_of_two_models(judge, tmp_path):
    """The least that makes a leaderboard: values, and a dash or null for each error."""
    asked = tmp_path / "question.jsonl"
    asked.write_text(json.dumps({"question_id": "q", "turns": ["Hi", "And now?"], "category": "chat"}) + "\n", "utf-8")
    for model, said in (("heron", ["Hello.", "Bye."]), ("ibis", ["Good day.", "More?"])):
        row = {"question_id": "q", "model_id": model, "choices": [{"turns": said}]}
        (tmp_path / f"{model}.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    verdicts, board, out, _ = judge(tmp_path / "heron.jsonl", tmp_path / "ibis.jsonl", "--questions", asked)
    assert len(verdicts) == 1 and verdicts[0]["category"] == "chat" and verdicts[0]["length_b"] == 14
    for row in board["models"]:
        assert row["rating"] is not None and row["rating_low"] is row["win_rate_low"] is None
        assert (row["rank_low"], row["rank_high"]) == (1, 2)
    assert "nan" not in out.lower() and board["smallest_difference"] is None


def test_battles_whose_texts_were_cut_are_counted(judge, answers, tmp_path):
    short, long = answers("heron", PROMPTS[:3]), answers("ibis", PROMPTS[:2], tiny.words(900, 1))
    verdicts, board, *_ = judge(short, long, answers("stork", PROMPTS[:3]))
    assert [v["truncated"] for v in verdicts] == ["ibis" in (v["model_a"], v["model_b"]) for v in verdicts]
    assert board["truncated"] == 4
    assert "In 4 of the battles a text was cut" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_a_judge_of_three_logits_ranks_too(arena, tiny_base, tiny_adapter, three, tmp_path):
    names = ["--pretrained", tiny_base("gemma"), "--peft", tiny_adapter("gemma", num_labels=3), "--dtype", "float32"]
    code, _, err = arena("judge", *names, "--no-cache", "-o", tmp_path / "out", *three)
    assert code == 0, err
    assert all(len(v["z_ab"]) == 3 and v["p_tie"] > 0 for v in verdicts_in(tmp_path / "out"))


BAD = [
    (["ONE"], 2, "answers of heron only"),
    (["THREE", "--baseline", "nobody"], 2, "the answers of the baseline; it is one of heron, ibis, stork"),
    (["THREE", "--baseline", ""], 2, "baseline ''"),
    (["THREE", "--baseline", "ibis", "--round-robin"], 2, "--baseline and --round-robin"),
    (["THREE", "--prompts", "0"], 2, "--prompts"),
    (["THREE", "nowhere.json"], 3, "nowhere.json"),
    (["THREE", "EMPTY"], 2, "holds no file of answers"),
    (["THREE", "--no-cache", "--cache-file", "x"], 2, "--no-cache with --cache-file"),
    (["THREE", "--peft", "no/such"], 3, "no/such"),
    ([], 2, "Missing argument"),
]


@pytest.mark.parametrize(("args", "code", "says"), BAD, ids=[" ".join(a) for a, _, _ in BAD])
def test_a_mistake_is_one_line_before_anything_is_paid_for(args, code, says, arena, options, three, tmp_path, asked):
    (tmp_path / "empty").mkdir()
    places = {"ONE": three[:1], "THREE": three, "EMPTY": [tmp_path / "empty"]}
    given = [word for arg in args for word in places.get(arg, [arg])]
    model = options if "--peft" not in args else []
    found, out, err = arena("judge", *model, "-o", tmp_path / "out", *given)
    assert found == code and says in err and not out and not asked
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_place_that_is_a_file_is_refused(arena, options, three, tmp_path):
    (tmp_path / "out").write_text("mine", "utf-8")
    code, _, err = arena("judge", *options, "-o", tmp_path / "out", *three)
    assert code == 2 and "out is a file; a run leaves several; name a folder" in err
    assert (tmp_path / "out").read_text("utf-8") == "mine"
