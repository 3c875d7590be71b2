"""A user's own task files that include ours, and what lm-eval's cache of requests gives back.

Nothing that would make a number mean something else goes by in silence. No judge is loaded.
"""

import lm_eval
import pytest
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from lm_runs import TASKS, evaluate, one_line
from pair_rows import numbered as pair

from harness_plugin import harness
from harness_plugin.errors import HarnessError
from harness_plugin.pairs import write_pairs


class SecondWins(LM):
    """Always prefers the response that is shown second."""

    def loglikelihood(self, requests):
        return [(-0.1 if request.args[1] == " B" else -3.0, False) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


@pytest.fixture
def file_of(tmp_path):
    """file_of(name, numbers) -> a file of pairs with these numbers."""

    def write(name, numbers):
        write_pairs(tmp_path / name, [pair(i) for i in numbers])
        return str(tmp_path / name)

    return write


@pytest.fixture
def own(tmp_path, file_of):
    """own(settings, include) -> the task "mine" of a file with these settings, which includes one of ours."""
    data = file_of("mine.jsonl", range(4))

    def load(settings="", include="arena_pairs/arena_pairs.yaml"):
        folder = tmp_path / "tasks"
        folder.mkdir(exist_ok=True)
        name = include if include.startswith("own") else f"{TASKS}/{include}"
        text = f"include: {name}\ntask: mine\ntag: my_tag\nmetadata: {{arena_data: {data}}}\n{settings}\n"
        (folder / "mine.yaml").write_text(text, encoding="utf-8")
        manager = TaskManager(include_path=[TASKS, str(folder)], include_defaults=False)
        return manager.load(["mine"])["tasks"]["mine"]

    return load


def test_a_file_that_names_its_pairs_is_a_task_of_them(own):
    task = own('task_alias: "my votes"\ndescription: "Be fair."\nrepeats: 2')
    assert [doc["pair_id"] for doc in task.eval_docs] == [f"p00{i // 2}" for i in range(8)]
    found = lm_eval.evaluate(SecondWins(), {"tasks": {"mine": task}, "groups": {}})
    assert (found["results"]["mine"]["n_pairs,none"], found["results"]["mine"]["order_agreement,none"]) == (4, 0.0)


OWN_METRIC = "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("dataset_path: json", "sets dataset_path='json'; lm-eval does not read it beside the custom_dataset"),
        (OWN_METRIC, "has a metric_list of its own, and the process_results of our task"),
        ("num_fewshot: 2", "sets num_fewshot=2; the examples would be taken from what is measured"),
        ("doc_to_choice: [B, A, C]", r"sets doc_to_choice=\['B', 'A', 'C'\]; the metrics take the choices for A, B"),
        ("doc_to_choice: [A, B]", r"sets doc_to_choice=\['A', 'B'\]"),
    ],
)
def test_a_setting_that_cannot_mean_what_it_seems_to_is_refused_before_anything_is_judged(own, settings, said):
    with pytest.raises(HarnessError, match=said) as error:
        own(settings)
    one_line(error)


def test_a_setting_of_a_file_between_the_users_and_ours_counts(own, tmp_path):
    (tmp_path / "tasks").mkdir()
    between = f"include: {TASKS}/arena_pairs/arena_pairs.yaml\ndataset_path: json\n"
    (tmp_path / "tasks" / "own_base.yaml").write_text(between, encoding="utf-8")
    with pytest.raises(HarnessError, match="dataset_path"):
        own(include="own_base.yaml")


def test_metrics_and_examples_of_the_users_own_are_theirs(own, tmp_path):
    (tmp_path / "tasks").mkdir()
    code = "def mine(doc, results):\n    return {'acc': 1.0}\n\ndef some():\n    return []\n"
    (tmp_path / "tasks" / "my_code.py").write_text(code, encoding="utf-8")
    own(f"process_results: !function my_code.mine\n{OWN_METRIC}")
    own("num_fewshot: 1\nfewshot_config: {sampler: first_n, samples: !function my_code.some}")
    own("metric_list: !function harness_plugin.harness.METRICS")
    own('doc_to_choice: ["1", "2", "3"]')


def test_a_task_without_pairs_is_told_how_to_name_them(own):
    with pytest.raises(HarnessError, match=r"the task names no pairs; .* arena_data: FILE") as error:
        own("metadata: {}", include="_arena_pairs_base.yaml")
    one_line(error)


def test_filters_of_arena_judge_that_judge_nothing_are_refused_before_anything_is_generated(own):
    plain = "filter_list:\n  - {name: none, filter: [{function: take_first}]}\n"
    with pytest.raises(HarnessError, match="has the filter none, which judges nothing") as error:
        own(plain, include="arena_judge/arena_judge.yaml")
    one_line(error)


# --cache_requests, whose keys name neither the data nor their version


@pytest.fixture
def requests_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path / "requests"))


@pytest.mark.parametrize("other", [range(4, 8), range(6)], ids=["other pairs", "more pairs"])
def test_requests_that_lm_eval_cached_for_other_pairs_are_refused(file_of, requests_kept, other):
    first = evaluate(SecondWins(), data=file_of("a.jsonl", range(4)), cache_requests=True)[1]
    assert evaluate(SecondWins(), data=file_of("a.jsonl", range(4)), cache_requests=True)[1] == pytest.approx(
        first, nan_ok=True
    )
    with pytest.raises(HarnessError, match="add --cache_requests refresh") as error:
        evaluate(SecondWins(), data=file_of("b.jsonl", other), cache_requests=True)
    one_line(error)


def test_answers_of_no_filter_of_ours_are_taken_as_they_are():
    doc = harness.pair_documents([pair(7)], "x")[0]
    answers = [(-1.0, True), (-2.0, False), (-3.0, False)]
    assert harness.process_results(doc, answers)["acc"].z_ab == (-1.0, -2.0, -3.0)
