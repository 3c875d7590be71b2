"""People's files as the commands read them: what was read is said on stderr, and what decides a verdict is not lost."""

import json

import pytest

from harness_plugin.cli import main


@pytest.fixture
def arena(tiny_base, tiny_adapter, tmp_path, capsys):
    """arena(command, *args) -> (exit code, stdout, stderr), with a tiny judge and a cache of this test's own."""

    def run(*args):
        model = ["--pretrained", tiny_base("gemma3"), "--peft", tiny_adapter("gemma3"), "--dtype", "float32"]
        own = ["--no-plots", "--cache-file", tmp_path / "cache.sqlite", "-o", tmp_path / "out"]
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in (*args, *model, *(own if args[0] == "judge" else []))])
        out = capsys.readouterr()
        return stop.value.code, out.out, out.err

    return run


@pytest.fixture
def write(tmp_path):
    """write(name, *rows) -> the file of these rows, a line for each, or for .json an array."""

    def written(name, *rows):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name).write_text(json.dumps(rows) if name.endswith(".json") else lines, "utf-8")
        return tmp_path / name

    return written


PAIR = {"prompt": "Name a tool.", "response_a": "marteau", "response_b": "hammer"}


def test_a_system_prompt_is_shown_to_the_judge_and_said(arena, write):
    row = {"system": "Only French.", "prompt": "Name a tool.", "chosen": "marteau", "rejected": "hammer"}
    for file in (write("a.jsonl", row), write("b.jsonl", {"system_prompt": "Only French.", **PAIR})):
        code, out, err = arena("show", file)
        assert code == 0 and "System: Only French." in out and "Human: Name a tool." in out
        assert err.count("read as") == 1 and " + prompt" in err


def test_a_label_that_is_not_read_is_named_and_its_words_can_be_said(arena, write):
    file = write("a.jsonl", {**PAIR, "label": "A>B"}, {**PAIR, "prompt": "Name a bolt.", "label": "A=B"})
    code, _, err = arena("score", file)
    assert code == 0 and "no winner was read, and label looks like a label" in err and "acc " not in err
    code, out, err = arena("score", file, "--field", "winner=label", "--winner-map", "A>B=model_a,A=B=tie")
    assert code == 0 and [json.loads(line)["winner"] for line in out.splitlines()] == ["model_a", "tie"]
    assert "acc " in err and "winner = label" in err
    code, _, err = arena("score", file, "--field", "winner=label")
    assert code == 3 and "field label is 'A>B'" in err and '--winner-map "WORD=model_a,..."' in err
    for wrong in ("A>B", "=model_a", "A>B=left"):
        assert arena("score", file, "--winner-map", wrong)[0] == 2
    code, _, err = arena("score", file, "--winner-map", "A>B=model_a", "--winner-map", "A>B=model_b,A=B=tie")
    assert code == 2 and "--winner-map A>B=model_a and A>B=model_b; each name has one value" in err


def test_a_field_has_one_column(arena, write):
    file = write("a.jsonl", {**PAIR, "q": "Name a tool."})
    code, _, err = arena("score", file, "--field", "prompt=prompt", "--field", "prompt=q")
    assert code == 2 and "--field prompt=prompt and prompt=q" in err
    code, _, err = arena("judge", file, file, "-o", "out", "--field", "prompt=prompt", "--prompt-field", "q")
    assert code == 2 and "--field prompt=prompt and prompt=q" in err


def test_the_column_of_a_field_is_named_with_its_spaces(arena, write):
    row = {"prompt": "Name a tool.", " answer": "hammer", "answer ": "spoon", "a = b": "model_a"}
    file = write("a.jsonl", row)
    named = ["--field", "response_a= answer", "--field", "response_b=answer ", "--field", "winner=a = b"]
    code, out, err = arena("score", file, *named)
    (scored,) = map(json.loads, out.splitlines())
    assert code == 0 and (scored["length_a"], scored["length_b"], scored["winner"]) == (6, 5, "model_a")
    code, _, err = arena("score", file, *named, "--field", "prompt = q")
    assert code == 2 and "field 'prompt ' is unknown" in err
    answers = [write(f"{m}.jsonl", {"prompt": "Name a tool.", " said": m}) for m in ("heron", "ibis")]
    code, _, err = arena("judge", *answers, "-o", "out", "--response-field", " said")
    assert code == 0 and "response =  said" in err


def test_a_column_can_be_left_alone(arena, write):
    file = write("a.jsonl", {**PAIR, "context": {"page": 1}})
    code, _, err = arena("show", file)
    assert code == 3 and "--ignore context" in err
    assert arena("show", file, "--ignore", "context")[0] == 0


def test_a_missing_answer_and_other_inputs_in_a_leaderboard(arena, write, tmp_path):
    asked = [{"instruction": "Sort.", "input": "b a"}, {"instruction": "Sort.", "input": "d c"}, {"instruction": "Hi"}]
    heron = write("heron.json", *({**row, "output": f"h{n}", "generator": "heron"} for n, row in enumerate(asked)))
    said = ["s0", "s1", None]
    rows = [{**row, "output": text, "generator": "stork"} for row, text in zip(asked, said, strict=True)]
    stork = write("stork.json", *rows[::-1])
    code, _, err = arena("judge", heron, stork)
    assert code == 0 and "stork.json: 1 of 3 answers missing: row 1" in err
    assert "prompt = instruction + input, response = output, model = generator" in err
    judged = [json.loads(line) for line in (tmp_path / "out" / "judged_answers.jsonl").read_text("utf-8").splitlines()]
    assert {row["prompt"]: row["answers"] for row in judged} == {
        "Sort.\n\nb a": {"heron": "h0", "stork": "s0"},
        "Sort.\n\nd c": {"heron": "h1", "stork": "s1"},
    }
    assert "stork did not answer 1 prompt" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_labels_of_other_battles_are_an_error_before_anything_is_judged(arena, write, tmp_path):
    files = [write(f"{m}.jsonl", {"q": "Hi", "response": f"{m} says hi"}) for m in ("heron", "stork")]
    people = {"prompt": "Hi", "response_a": "stork says hi", "response_b": "heron says hi", "winner": "model_a"}
    other = write("other.jsonl", {**people, "prompt": "Bye"})
    code, out, err = arena("judge", *files, "--field", "prompt=q", "--labels", other)
    assert code == 3 and not out and "1 pair with a winner, and none is a battle of these answers" in err
    assert not (tmp_path / "out").exists()
    code, _, err = arena("judge", *files, "--field", "prompt=q", "--labels", write("people.jsonl", people))
    assert code == 0 and "1 of 1 judgements are of battles here" in err
    own = write("own.jsonl", {**people, "winner": None, "vote": "A"})
    named = ("--field", "winner=vote", "--winner-map", "A=model_a")
    code, _, err = arena("judge", *files, "--field", "prompt=q", "--labels", own, *named)
    assert code == 0 and "1 of 1 judgements are of battles here" in err
    assert arena("judge", *files, "--field", "prompt=q", *named[2:])[0] == 2
