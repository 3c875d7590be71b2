"""The task files in lm-eval itself: every file loads with its functions, and whole evaluations give known numbers."""

import json
import math
from collections import Counter
from pathlib import Path

import datasets
import lm_eval
import pytest
import yaml
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from pair_rows import ROWS as PUBLISHED

from harness_plugin import harness
from harness_plugin.errors import HarnessError
from harness_plugin.harness import documents
from harness_plugin.pairs import Pair, Winner
from harness_plugin.scoring.probabilities import IMPOSSIBLE

TASKS = Path(__file__).resolve().parents[1] / "tasks"
BATTLES = TASKS / "arena_pairs" / "battles.jsonl"
HUB = ("55k", "100k", "140k", "mt_bench", "rewardbench", "rewardbench2", "rm_bench", "judgebench", "helpsteer3")
HUB += ("multipref", "ppe", "llmbar")
NAMES = ["arena_pairs", *sorted(f"arena_pairs_{name}" for name in HUB)]


def talk(*turns, parts=False, **more):
    """Messages as the arena's datasets hold them: alternating user and assistant."""
    roles = ("user", "assistant")
    wrap = (lambda text: [{"type": "text", "text": text, "image": None, "mimeType": None}]) if parts else str
    return [{"role": roles[i % 2], "content": wrap(turn), **more} for i, turn in enumerate(turns)]


def arena(winner, a, b, **more):
    return {"model_a": "m1", "model_b": "m2", "winner": winner, "conversation_a": a, "conversation_b": b, **more}


COUNTED = Pair(("Human: Hi", "Assistant: Hello.", "Human: Count."), "1 2", "1, 2, 3")

# Rows with the published columns, and the documents (in the original order) that they must become.
ROWS = {
    "55k": [
        {
            "id": 30192,
            "model_a": "gpt-4-1106-preview",
            "model_b": "gpt-4-0613",
            "prompt": '["first?", "second?"]',
            "response_a": '["a1", ""]',
            "response_b": '["b1", "b2"]',
            "winner_model_a": 0,
            "winner_model_b": 1,
            "winner_tie": 0,
        }
    ],
    "100k": [
        arena(
            "tie (bothbad)",
            talk("hi", "a1", num_tokens=3),
            talk("hi", "b1", num_tokens=4),
            question_id="q77",
            turn=1,
            anony=True,
            language="English",
            tstamp=1718000000.5,
            conv_metadata={"sum_user_tokens": 3},
            is_code=False,
            is_refusal=False,
            dedup_tag={"high_freq": False, "sampled": True},
            category_tag={"math_v0.1": {"math": False}},
            judge_hash="abc",
        )
    ],
    "140k": [
        arena(
            "both_bad",
            talk("hi", "a1", parts=True),
            talk("hi", "b1", parts=True, num_tokens=4),
            id="e-1",
            evaluation_session_id="s-1",
            evaluation_order=2,
            full_conversation=[{"user": talk("earlier", parts=True)[0]}],
            conv_metadata={"context_a_tokens": 3},
            category_tag={"math_v0.1": {"math": False}},
            language="en",
            is_code=False,
            timestamp="2025-04-17",
        )
    ],
    "mt_bench": [
        arena(
            "model_a", talk("q1", "a1", "q2", "a2"), talk("q1", "b1", "q2", "b2"), question_id=81, judge="e_1", turn=1
        )
    ],
    "rewardbench": [
        {
            "prompt": "How?",
            "chosen": "So.",
            "chosen_model": "m1",
            "rejected": "No idea.",
            "rejected_model": "m2",
            "subset": "alpacaeval-easy",
            "id": 5,
        }
    ],
    **{name: [PUBLISHED[name]] for name in HUB[5:]},
}
EXPECTED = {
    "55k": (Pair(("first?", "second?"), ("a1", ""), ("b1", "b2")), "model_b", "30192"),
    "100k": (Pair("hi", "a1", "b1"), "tie", "q77"),
    "140k": (Pair(("Human: earlier", "hi"), "a1", "b1"), "tie", "e-1"),
    "mt_bench": (Pair("q1", "a1", "b1"), "model_a", Pair("q1", "a1", "b1").key),
    "rewardbench": (Pair("How?", "So.", "No idea."), "model_a", "alpacaeval-easy:5"),
    "rewardbench2": (Pair("Hi", "Hello.", "Go."), "model_a", "4/1of1-1of3"),
    "rm_bench": (Pair("Hi", "Hello.", "Go."), "model_a", "chat:7/1of3-1of3"),
    "judgebench": (Pair("What is 3 times 3?", "9", "6"), "model_a", "j-1"),
    "helpsteer3": (COUNTED, "model_b", COUNTED.key),
    "multipref": (Pair("Hi", "Hello.", "Yes?"), "model_a", "c-1"),
    "ppe": (Pair("Hi", "Hello.", "Yes?"), "model_b", "p-1"),
    "llmbar": (Pair("Hi", "Go.", "Hello."), "model_b", f"natural:{Pair('Hi', 'Go.', 'Hello.').key}"),
}
SOURCES = {
    "55k": ("lmarena-ai/arena-human-preference-55k", "train"),
    "100k": ("lmarena-ai/arena-human-preference-100k", "train"),
    "140k": ("lmarena-ai/arena-human-preference-140k", "train"),
    "mt_bench": ("lmsys/mt_bench_human_judgments", "human"),
    "rewardbench": ("allenai/reward-bench", "filtered"),
    "rewardbench2": ("allenai/reward-bench-2", "test"),
    "rm_bench": ("THU-KEG/RM-Bench", "train"),
    "judgebench": ("ScalerLab/JudgeBench", "gpt"),
    "helpsteer3": ("nvidia/HelpSteer3", "validation"),
    "multipref": ("allenai/multipref", "train"),
    "ppe": ("lmarena-ai/PPE-Human-Preference-V1", "test"),
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub's datasets by their published ids, each with its row, and a file with LLMBar's row in the place of its
    repository's."""
    tables = {source: datasets.Dataset.from_list(ROWS[name]) for name, source in SOURCES.items()}
    monkeypatch.setattr(datasets, "load_dataset", lambda path, split: tables[path, split])
    (tmp_path / "dataset.json").write_text(json.dumps(ROWS["llmbar"]), "utf-8")
    read = documents.read_pairs
    here = "https://raw.githubusercontent.com/princeton-nlp/LLMBar/main/Dataset/LLMBar/"
    monkeypatch.setattr(
        documents,
        "read_pairs",
        lambda path, **options: read(tmp_path / "dataset.json" if str(path).startswith(here) else path, **options),
    )


@pytest.fixture(scope="module")
def battles(tmp_path_factory):
    """A file of pairs with every category, outcome and kind of text; each prompt has two pairs."""
    winners, names = list(Winner), harness.CATEGORIES
    difficulties, decides = harness.BUNDLED_GROUPS["difficulty"], harness.BUNDLED_GROUPS["decides"]
    rows = []
    for i in range(54):
        turns = names[i % 9] == "multi_turn"
        texts = [f"question {i // 2}?", "yes " * (i % 11 + 1), "no\n" * (i % 5 + 1)]
        texts = [[text, f"{text} more"] for text in texts] if turns else texts
        marks = {"difficulty": difficulties[i % 3], "decides": decides[i % 7]}
        found = Pair(*texts, id=f"b{i:02}", winner=winners[i // 9 % 3], category=names[i % 9], meta=marks)
        rows.append(found.to_dict())
    file = tmp_path_factory.mktemp("data") / "battles.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(file)


def manager(**metadata):
    return TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)


class Judge(LM):
    """Answers from the document: `opinion` gives the log-likelihoods of A, B and tie."""

    def __init__(self, opinion):
        super().__init__()
        self.opinion = opinion

    def loglikelihood(self, requests):
        assert [request.args[1] for request in requests[:3]] == [" A", " B", " C"]
        return [(self.opinion(request.doc)[request.idx], False) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


def right(doc):
    return [1.5 if i == harness.target(doc) else -1.5 for i in range(3)]


def first(doc):
    return [-0.1, -3.1, -9.0]


def evaluate(opinion, file, task="arena_pairs", **options):
    found = lm_eval.simple_evaluate(Judge(opinion), tasks=[task], task_manager=manager(arena_data=file), **options)
    values = {name.removesuffix(",none"): value for name, value in found["results"][task].items()}
    return found, values


# Files


def test_every_task_file_is_found_and_the_shared_one_is_no_task():
    found = manager()
    assert found.all_subtasks == sorted(["arena_judge", *NAMES])
    assert found.all_tags == ["arena_pairs_all"]
    assert found.all_groups == []
    named = {f.stem for f in TASKS.rglob("*.yaml")}
    assert named == {*NAMES, "arena_judge", "_arena_pairs_base"}


@pytest.mark.parametrize("name", HUB)
def test_a_family_reads_its_published_rows(hub, name):
    task = manager().load([f"arena_pairs_{name}"])["tasks"][f"arena_pairs_{name}"]
    pair, winner, pair_id = EXPECTED[name]
    docs = {doc["swapped"]: doc for doc in reversed(task.eval_docs.to_list())}  # of several pairs the first
    presented = harness.document_pair(docs[False])
    drawn = name in ("rewardbench", "rewardbench2", "rm_bench")  # the texts decide which side is A
    if drawn and presented.response_a != pair.response_a:
        pair, winner = pair.swap(), "model_b"
    assert (presented.prompt, presented.response_a, presented.response_b) == (
        pair.prompt,
        pair.response_a,
        pair.response_b,
    )
    assert (docs[False]["winner"], docs[False]["pair_id"], docs[True]["pair_id"]) == (winner, pair_id, pair_id)
    assert harness.document_pair(docs[True]) == presented.swap()


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_what_lm_eval_needs(hub, battles, name):
    task = manager(**({"arena_data": battles} if name == "arena_pairs" else {})).load([name])["tasks"][name]
    version = 2.0 if name == "arena_pairs" else 1.0
    assert (task.OUTPUT_TYPE, task.config.num_fewshot, task.VERSION) == ("multiple_choice", 0, version)
    assert task.config.target_delimiter == " "
    doc = task.eval_docs[0]
    assert task.doc_to_choice(doc) == ["A", "B", "C"]
    assert task.doc_to_target(doc) in (0, 1, 2)
    assert task.doc_to_text(doc) == harness.judge_text(doc)
    returned = task.process_results(doc, [(-1.0, False), (-2.0, True), (-3.0, False)])
    assert sorted(returned) == sorted(task.aggregation()) == sorted(task.higher_is_better())
    assert all(isinstance(f([returned[metric]]), (int, float)) for metric, f in task.aggregation().items())
    json.dumps(task.dump_config(), default=str)


def test_the_tag_loads_all_tasks(hub, battles, monkeypatch):
    monkeypatch.setattr("harness_plugin.harness.documents.bundled_file", lambda name: battles)
    assert sorted(manager().load(["arena_pairs_all"])["tasks"]) == NAMES


def test_task_and_metadata_options_cannot_collide():
    for file in TASKS.rglob("*.yaml"):
        config = yaml.load(file.read_text(encoding="utf-8"), Loader=loader_without_functions())
        assert not set(config.get("dataset_kwargs", {})) & {"arena_data", "arena_format", "arena_skip_bad_rows"}
        assert not set(config.get("dataset_kwargs", {})) & {"version", "config_source", "pretrained", "revision"}


def loader_without_functions():
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    return loader


def test_a_hub_that_does_not_answer_is_one_sentence_with_a_way_out(monkeypatch):
    def fail(path, split):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(
        HarnessError, match=r"arena-human-preference-55k .* cannot be loaded: ConnectionError"
    ) as caught:
        manager().load(["arena_pairs_55k"])
    assert "--metadata arena_data=FILE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_local_copy_of_a_familys_data_is_read_in_its_format(tmp_path):
    file = tmp_path / "copy.jsonl"
    file.write_text(json.dumps(ROWS["100k"][0]), encoding="utf-8")
    task = manager(arena_data=str(file)).load(["arena_pairs_100k"])["tasks"]["arena_pairs_100k"]
    assert task.eval_docs[0]["pair_id"] == "q77"


def test_documents_are_the_same_each_time_and_orders_are_neighbours(battles):
    task = manager(arena_data=battles).load(["arena_pairs"])["tasks"]["arena_pairs"]
    docs = task.eval_docs.to_list()
    assert (
        docs
        == task.eval_docs.to_list()
        == manager(arena_data=battles).load("arena_pairs")["tasks"]["arena_pairs"].eval_docs.to_list()
    )
    assert [doc["pair_id"] for doc in docs] == [f"b{i:02}" for i in range(54) for _ in range(2)]
    assert [doc["swapped"] for doc in docs] == [False, True] * 54


def test_the_bundled_battles_are_there_and_balanced():
    docs = manager().load(["arena_pairs"])["tasks"]["arena_pairs"].eval_docs.to_list()[::2]
    assert Counter(doc["winner"] for doc in docs) == {"model_a": 100, "model_b": 100, "tie": 100}
    decisive = [doc for doc in docs if doc["winner"] != "tie"]
    assert all(doc["length_a"] != doc["length_b"] for doc in decisive)
    longer = sum((doc["length_b"] > doc["length_a"]) == (doc["winner"] == "model_b") for doc in decisive)
    assert longer == 100
    assert len({doc["prompt_key"] for doc in docs}) == len(docs)
    assert all((len(doc["prompt"]) > 1) == (doc["category"] == "multi_turn") for doc in docs)


@pytest.mark.parametrize(("mark", "values"), harness.BUNDLED_GROUPS.items())
def test_every_bundled_battle_has_each_mark_and_every_value_has_decisive_battles_for_both_sides(mark, values):
    rows = [json.loads(line) for line in BATTLES.read_text(encoding="utf-8").splitlines()]
    assert {row[mark] for row in rows} == set(values)
    sides = Counter((row[mark], row["winner"]) for row in rows)
    for value in values:
        a, b, tie = (sides[value, str(winner)] for winner in Winner)
        assert min(a, b) >= 5, value
        assert tie and max(a, b) <= 1.5 * min(a, b), value


def test_bundled_battles_are_sorted_and_say_why():
    rows = [json.loads(line) for line in BATTLES.read_text(encoding="utf-8").splitlines()]
    assert rows == sorted(rows, key=lambda row: (row["category"], row["id"]))
    counts = Counter(row["category"] for row in rows)
    assert [row["id"] for row in rows] == [f"{c}-{i:02}" for c in sorted(counts) for i in range(1, counts[c] + 1)]
    assert all(len(row["reason"]) > 30 for row in rows)


def test_the_readme_of_the_bundled_battles_counts_what_is_in_the_file():
    rows = [json.loads(line) for line in BATTLES.read_text(encoding="utf-8").splitlines()]
    readme = (TASKS / "arena_pairs" / "README.md").read_text(encoding="utf-8").splitlines()
    for mark, values in harness.BUNDLED_GROUPS.items():
        for value in values:
            of_value = [row for row in rows if row[mark] == value]
            counts = Counter(row["winner"] for row in of_value)
            figures = [len(of_value), *(counts[str(winner)] for winner in Winner)]
            (line,) = [line for line in readme if line.startswith(f"| {value} |") and f"| {figures[0]} |" in line]
            assert f"| {' | '.join(map(str, figures))} |" in line, line


# Evaluations


def test_a_perfect_judge_in_lm_eval(battles):
    found, values = evaluate(right, battles, log_samples=True)
    for name in (
        "acc",
        "acc_3way",
        "auc",
        "acc_length_balanced",
        "acc_math",
        "acc_difficulty_hard",
        "acc_decides_fact",
    ):
        assert values[name] == 1.0, name
    assert values["order_agreement"] == (36 + 18 / 2) / 54
    assert (values["n_pairs"], values["n_decisive"], values["n_unpaired"], values["n_math"]) == (54, 36, 0, 4)
    assert values["log_loss"] == pytest.approx(math.log(1 + 2 * math.exp(-3)))
    assert values["longer_wins_stderr"] > 0
    assert found["n-samples"]["arena_pairs"] == {"original": 108, "effective": 108}
    assert found["higher_is_better"]["arena_pairs"]["log_loss"] is False
    json.dumps(found["samples"], allow_nan=False, default=str)
    samples = found["samples"]["arena_pairs"]
    assert samples[0]["target"] == 0
    assert len(str(samples[0]["acc"])) < 150


def test_a_judge_that_names_the_first_in_lm_eval(battles):
    _, values = evaluate(first, battles)
    assert (values["acc"], values["order_agreement"], values["first_position_rate"]) == (0.5, 0.0, 1.0)


def test_an_odd_limit_counts_whole_pairs_only(battles):
    _, values = evaluate(right, battles, limit=7)
    assert (values["n_pairs"], values["n_unpaired"], values["acc"]) == (3, 1, 1.0)


def test_predict_only_runs(battles):
    found, _ = evaluate(right, battles, predict_only=True, log_samples=True, limit=4)
    assert len(found["samples"]["arena_pairs"]) == 4


def test_a_judge_without_ties_warns_once_in_a_whole_run(battles, caplog):
    found, values = evaluate(lambda doc: [*right(doc)[:2], IMPOSSIBLE], battles, log_samples=True)
    heard = [r.getMessage() for r in caplog.records if r.name == "lm_eval.arena_rm" and r.levelname == "WARNING"]
    assert values["acc"] == 1.0
    assert all(math.isnan(values[name]) for name in ("acc_3way", "log_loss", "brier"))
    assert len(heard) == 1
    assert "calibration" in heard[0]
    json.dumps(found["samples"], allow_nan=False, default=str)


def test_log_likelihoods_that_are_not_numbers_stop_the_evaluation(battles):
    with pytest.raises(HarnessError, match=r"pair b00 \(original order\) got log-likelihoods"):
        evaluate(lambda doc: [math.nan, 0.0, 0.0], battles)
