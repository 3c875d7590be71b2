"""Documents, judging prompts and loading, without lm-eval; the metrics' side is test_taskdocs_metrics.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pair_rows import numbered as pair

from harness_plugin import harness
from harness_plugin.errors import ArenaError, DataError, HarnessError
from harness_plugin.harness.documents import to_dataset
from harness_plugin.pairs import Pair

ROOT = Path(__file__).resolve().parents[1]


def some_pairs(count=60):
    winners, names = ("model_a", "model_b", "tie"), harness.CATEGORIES
    return [
        pair(i, winners[i % 3 if i % 7 else 1], prompt=f"question {i // 2}", category=names[i % len(names)])
        for i in range(count)
    ]


# Documents


def test_each_pair_becomes_two_adjacent_documents_with_everything_that_has_a_side_exchanged():
    one, other = harness.pair_documents(
        [pair(4, "model_b", category="math", p_b=0.75, meta={"difficulty": "hard", "decides": ["fact"]})], "a file"
    )
    assert one == {
        "pair_id": "p004",
        "swapped": False,
        "prompt": ["question 4"],
        "response_a": ["yesyesyesyesyes"],
        "response_b": ["no no "],
        "winner": "model_b",
        "category": "math",
        "difficulty": "hard",
        "decides": None,
        "prompt_key": pair(4).prompt_key,
        "length_a": 15,
        "length_b": 6,
        "p_b": 0.75,
        "reported": ["category", "difficulty"],
    }
    changed = {"swapped": True, "winner": "model_a", "p_b": 0.25, "length_a": 6, "length_b": 15}
    assert other == one | changed | {"response_a": one["response_b"], "response_b": one["response_a"]}


@pytest.mark.parametrize(
    "original",
    [
        pair(2, "tie"),
        pair(1, category="safety", p_b=0.1),
        Pair(("hello", "and then?"), ("hi", ""), ("good day", "nothing"), id="turns", winner="model_b"),
        Pair(("System: be brief", "Human: a"), "one", "two", id="history", winner="tie"),
        Pair("\x00 <eos>\u2028", "🙂 łódź", "", id="odd", winner="model_a"),
    ],
)
def test_a_document_gives_its_pair_back_in_the_order_it_presents_also_after_arrow_and_json(original):
    for docs in (harness.pair_documents([original], "x"), list(dataset_of(original))):
        assert [harness.document_pair(doc) for doc in docs] == [original, original.swap()]
        assert [harness.document_pair(json.loads(json.dumps(doc))) for doc in docs] == [original, original.swap()]


def dataset_of(*pairs):
    return to_dataset(harness.pair_documents(pairs, "x"))


def test_an_unknown_winner_follows_from_p_b():
    pairs = [pair(i, None, p_b=p_b) for i, p_b in enumerate((0.51, 0.49, 0.5))]
    docs = harness.pair_documents(pairs, "x")
    assert [doc["winner"] for doc in docs] == ["model_b", "model_a", "model_a", "model_b", "tie", "tie"]
    assert [harness.target(doc) for doc in docs] == [1, 0, 0, 1, 2, 2]


def test_pairs_that_nobody_judged_are_refused_with_their_number():
    pairs = [pair(0), pair(1, None), pair(2, None), pair(3, None, p_b=0.2)]
    with pytest.raises(DataError, match=r"2 of 4 rows of votes\.csv have no known winner \(the first: id 'p001'\)"):
        harness.pair_documents(pairs, "votes.csv")
    with pytest.raises(HarnessError, match=r"empty\.csv holds no pairs"):
        harness.pair_documents([], "empty.csv")


def test_documents_that_are_no_pairs_are_refused_by_the_names_of_their_missing_fields():
    with pytest.raises(HarnessError, match="documents of task hellaswag have no field prompt, response_b") as caught:
        harness.document_pair({"response_a": "x", "query": "y"}, task="hellaswag")
    assert "\n" not in str(caught.value)
    with pytest.raises(HarnessError, match="no field prompt, response_a, response_b"):
        harness.document_pair("just text")
    with pytest.raises(HarnessError, match="is no pair: field prompt is 7"):
        harness.document_pair({"prompt": 7, "response_a": "x", "response_b": "y"})
    with pytest.raises(HarnessError, match="field response_a has 1 turn, and response_b has 2"):
        harness.document_pair({"prompt": ["p", "q"], "response_a": ["x"], "response_b": ["y", "z"]})


def test_documents_of_other_tasks_need_three_texts_only():
    doc = {"prompt": "p", "response_a": ["a"], "response_b": "b", "winner": "B wins", "category": 3, "p_b": "0.4"}
    assert harness.document_pair(doc) == Pair("p", "a", "b")


# The judging prompt


def test_the_judging_prompt_shows_everything_once_and_ends_before_the_letter():
    doc, other = harness.pair_documents([Pair("QUESTION?", "FIRST.", "SECOND.", winner="tie")], "x")
    text = harness.judge_text(doc)
    assert [text.count(part) for part in ("QUESTION?", "FIRST.", "SECOND.")] == [1, 1, 1]
    assert text.index("QUESTION?") < text.index("FIRST.") < text.index("SECOND.")
    assert text.endswith("Answer:")
    exchanged = text.replace("FIRST", "3RD").replace("SECOND", "FIRST").replace("3RD", "SECOND")
    assert harness.judge_text(other) == exchanged


def test_turns_are_shown_in_the_order_in_which_they_were_spoken():
    talk = Pair(("System: rules", "q1", "q2"), ("a1", "a2"), ("b1", "b2"), winner="tie")
    history = Pair(("Human: h1", "Assistant: h2", "Human: h3"), "a1", "b1", winner="tie")
    orders = (["rules", "q1", "a1", "b1", "q2", "a2", "b2"], ["h1", "h2", "h3", "a1", "b1"])
    for text_pair, parts in zip((talk, history), orders, strict=True):
        text = harness.judge_text(harness.pair_documents([text_pair], "x")[0])
        places = [text.index(part) for part in parts]
        assert places == sorted(places)
        assert all(text.count(part) == 1 for part in parts)


# Loading


def write(path, *pairs, **fields):
    lines = [json.dumps({**p.to_dict(), **fields}) for p in pairs]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_a_users_file_takes_the_place_of_the_tasks_own_pairs(tmp_path):
    file = write(tmp_path / "mine.jsonl", *some_pairs(6))
    docs = harness.load(arena_bundled="no/such/file", arena_data=file, pretrained="x", version=1.0, config_source="y")
    assert docs["test"].to_list() == harness.pair_documents(some_pairs(6), "x")
    family = {"arena_hub": "a/b", "arena_split": "c", "arena_reader": "arena_55k"}
    with pytest.raises(DataError, match="JSON list"):  # a family's own format is taken for a copy of its data
        harness.load(arena_data=file, **family)
    assert len(harness.load(arena_data=file, arena_format="canonical", **family)["test"]) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arena_data": "missing.jsonl"}, "missing.jsonl"),
        ({"arena_data": "bad.jsonl"}, "bad.jsonl row 2: field winner is 'me'"),
        ({"arena_data": "open.jsonl"}, "1 of 2 rows of .*open.jsonl have no known winner"),
        ({"arena_data": "open.jsonl", "arena_format": "nonsense"}, "format 'nonsense' is unknown"),
        ({"arena_dat": "open.jsonl"}, "--metadata arena_dat is unknown; .*; known: arena_data, arena_format"),
        ({"arena_bundled": "arena_pairs/none.jsonl"}, "the installation is incomplete"),
        ({}, "the task names no pairs"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    write(Path("open.jsonl"), pair(0), pair(1, None))
    lines = [pair(0).to_dict(), pair(1).to_dict() | {"winner": "me"}]
    Path("bad.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(ArenaError, match=message) as caught:
        harness.load(**options)
    assert "\n" not in str(caught.value)


def test_columns_of_a_users_file_can_be_named_and_left_alone(tmp_path):
    row = {"ask": "Hi", "response_a": "a", "response_b": "b", "label": 2, "context": ["no", 1]}
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps({**row, "ask": "Bye", "label": 0}) + "\n", encoding="utf-8")
    named = {"arena_fields": {"prompt": "ask", "winner": "label"}, "arena_ignore": "context"}
    words = {"2": "model_b", "0": "none"}
    with pytest.raises(DataError, match=r"1 of 2 rows of .* have no known winner"):
        harness.load(arena_data=str(file), arena_winner_map=words, **named)
    words["0"] = "tie"
    docs = harness.load(arena_data=str(file), arena_winner_map=words, **named)["test"]
    assert [(doc["prompt"], doc["winner"]) for doc in docs][::2] == [(["Hi"], "model_b"), (["Bye"], "tie")]
    for wrong in ({"arena_fields": "prompt=ask"}, {"arena_winner_map": {"2": 1}}, {"arena_ignore": 3}):
        (name,) = wrong
        with pytest.raises(ArenaError, match=rf"--metadata {name} is .*; write the metadata as JSON"):
            harness.load(arena_data=str(file), **{**named, **wrong})


def test_bad_rows_are_left_out_and_counted_only_when_asked(tmp_path, caplog):
    lines = [pair(0).to_dict(), {"winner": "tie"}, pair(2).to_dict()]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    docs = harness.load(arena_data=str(file), arena_skip_bad_rows="true")["test"]
    assert [doc["pair_id"] for doc in docs] == ["p000", "p000", "p002", "p002"]
    assert "1 bad row(s) left out" in caplog.text
    with pytest.raises(DataError, match="row 2"):
        harness.load(arena_data=str(file))


def test_task_functions_load_neither_torch_nor_the_harness():
    code = "import sys, harness_plugin.harness; print({'torch', 'lm_eval', 'datasets', 'pandas'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "set()"


def test_every_part_of_a_documents_prompt_is_read():
    doc = {"prompt": "Sort.", "response_a": "x", "response_b": "y", "input": "b a", "system": "Be kind."}
    assert harness.document_pair(doc).prompt == ("System: Be kind.", "Human: Sort.\n\nb a")
    with pytest.raises(HarnessError, match=r"a document of task t is no pair: field context is 3"):
        harness.document_pair({**doc, "context": 3}, task="t")
