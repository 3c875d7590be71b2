"""Other people's tasks under `arena_rm`, and what lm-eval's response cache may give back."""

import itertools
import json

import lm_runs
import numpy as np
import pytest
from lm_runs import evaluate, lls, one_line, presentations

from harness_plugin.engine import Engine
from harness_plugin.errors import HarnessError
from harness_plugin.judges import presentations as scoring_presentations
from harness_plugin.pairs import Pair, read_pairs

judge, lm, battles, scored = lm_runs.judge, lm_runs.lm, lm_runs.battles, lm_runs.scored

FOREIGN = """
import json
from pathlib import Path

from datasets import Dataset

ROWS = [
    {"prompt": f"Name a thing {n}.", "response_a": f"a {'lamp ' * n}", "response_b": f"the {'rain ' * (4 - n)}", "n": n}
    for n in range(4)
]

def pairs(**_):
    return {"test": Dataset.from_list(ROWS)}

def questions(**_):
    return {"test": Dataset.from_list([{"question": "2 + 2 = ?", "answer": 1}] * 2)}

def said_b(doc, results):
    return {"said_b": float(results[1][0] > results[0][0]), "n_results": float(len(results))}
"""
CHOICE = """
output_type: multiple_choice
test_split: test
metadata: {version: 1.0}
"""
CONTEXT = "{{prompt}} A: {{response_a}} B: {{response_b}}"
PAIR = f"""{CHOICE}
custom_dataset: !function foreign.pairs
doc_to_text: "{CONTEXT}"
doc_to_target: 0
"""
SAID_B = """
process_results: !function foreign.said_b
metric_list:
  - {metric: said_b, aggregation: mean, higher_is_better: true}
  - {metric: n_results, aggregation: mean, higher_is_better: true}
"""
QUESTION = """
test_split: test
custom_dataset: !function foreign.questions
doc_to_text: "{{question}}"
metadata: {version: 1.0}
"""
FOREIGN_TASKS = {
    "foreign_pairs": f'{PAIR}{SAID_B}doc_to_choice: ["A", "B"]\nrepeats: 2\n',
    "foreign_short": f'{PAIR}{SAID_B}doc_to_choice: ["A", "B"]\n'.replace(CONTEXT, "Which?"),
    "foreign_words": f'{PAIR}{SAID_B}doc_to_choice: ["first", "second"]\n',
    "no_pairs": f'{CHOICE}{QUESTION}doc_to_choice: ["A", "B"]\ndoc_to_target: answer\n',
    "writing": f"{QUESTION}output_type: generate_until\ndoc_to_target: answer\n",
    "rolling": f'{QUESTION}output_type: loglikelihood_rolling\ndoc_to_target: "{{{{question}}}}"\n'
    "metric_list: [{metric: word_perplexity}]\n",
}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A user's own folder of tasks."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "foreign.py").write_text(FOREIGN, encoding="utf-8")
    for name, text in FOREIGN_TASKS.items():
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{text}", encoding="utf-8")
    return folder


# Other people's tasks


def test_a_foreign_task_of_pairs_is_judged(lm, foreign, scored):
    found, values = evaluate(lm, "foreign_pairs", foreign, log_samples=True)
    assert scored == [4]  # two choices and two repeats of four documents
    assert values["n_results"] == 2
    rows = {s["doc"]["n"]: s["doc"] for s in found["samples"]["foreign_pairs"]}
    texts = ("prompt", "response_a", "response_b")
    z = Engine(lm.judge.model).logits(
        [lm.judge.model.renderer.render(Pair(*(d[t] for t in texts))).ids for d in rows.values()]
    )
    assert values["said_b"] == float((z > 0).mean())


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("foreign_words", "'first'"),
        ("no_pairs", "of task no_pairs have no field prompt, response_a, response_b"),
        ("writing", "writes none"),
        ("rolling", "the likelihood of a text"),
    ],
)
def test_a_task_that_cannot_be_judged_is_refused_in_a_sentence(lm, foreign, scored, task, said):
    with pytest.raises(HarnessError) as error:
        evaluate(lm, task, foreign)
    assert said in one_line(error) and "arena_pairs" in one_line(error)
    assert scored == []


@pytest.mark.parametrize("template", [True, "default"])
def test_a_chat_template_is_refused(lm, battles, template):
    with pytest.raises(HarnessError, match="drop --apply_chat_template") as error:
        evaluate(lm, data=battles, limit=2, apply_chat_template=template)
    one_line(error)


# --use_cache


def cached(args, cache, battles, **options):
    found, values = evaluate(args, data=battles, log_samples=True, use_cache=str(cache), **options)
    return lls(found), values


def test_a_warm_cache_gives_the_same_numbers_without_scoring(judge, battles, tmp_path, scored):
    cold = cached(judge(), tmp_path / "cache", battles)
    paid = len(scored)
    warm = cached(judge(), tmp_path / "cache", battles)
    assert len(scored) == paid > 0
    assert warm[0] == cold[0]
    assert warm[1] == cold[1] or json.dumps(warm[1]) == json.dumps(cold[1])  # NaN equals no NaN


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"tie_nu": 0.9}, {"order": "both"}, {"max_length": 64}, {"kind": "gemma2"}]
)
def test_another_judge_is_not_given_the_first_ones_scores(judge, battles, tmp_path, scored, other):
    cached(judge(), tmp_path / "cache", battles, limit=4)
    with pytest.raises(HarnessError, match="holds another judge's scores") as error:
        cached(judge(**other), tmp_path / "cache", battles, limit=4)
    assert "another path" in one_line(error)
    assert len(scored) == 1


def test_a_cache_of_another_model_is_refused_and_left_as_it_was(judge, battles, tmp_path):
    from sqlitedict import SqliteDict

    file = str(tmp_path / "cache_rank0.db")
    with SqliteDict(file, autocommit=True) as db:
        db["0" * 64] = (-1.0, True)
    with pytest.raises(HarnessError, match="holds another judge's scores"):
        cached(judge(), tmp_path / "cache", battles)
    with SqliteDict(file, flag="r") as db:
        assert list(db) == ["0" * 64]


def test_a_killed_run_continues_from_its_cache(judge, battles, tmp_path, monkeypatch, scored):
    monkeypatch.setattr(scoring_presentations, "CHUNK", 16)
    counting, calls = Engine.logits, itertools.count()

    def killed(self, sequences, done=None):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return counting(self, sequences, done)

    monkeypatch.setattr(Engine, "logits", killed)
    with pytest.raises(KeyboardInterrupt):
        cached(judge(), tmp_path / "cache", battles)
    assert scored == [16]
    again, _ = cached(judge(), tmp_path / "cache", battles)
    assert sum(scored) == presentations(read_pairs(battles).pairs)
    fresh, _ = cached(judge(), tmp_path / "another", battles)
    assert again == {name: pytest.approx(row, abs=1e-5) for name, row in fresh.items()}


def test_a_cache_does_not_mix_up_pairs_whose_contexts_are_the_same_text(lm, judge, foreign, tmp_path):
    """lm-eval's key of a response is the context and the choice; this task's context is the same for every pair."""
    straight, _ = evaluate(lm, "foreign_short", foreign, log_samples=True)
    options = {"log_samples": True, "use_cache": str(tmp_path / "cache")}
    answers = lambda found: [s["filtered_resps"] for s in found["samples"]["foreign_short"]]  # noqa: E731
    assert len({str(a) for a in answers(straight)}) == 4
    try:
        evaluate(judge(), "foreign_short", foreign, **options)
        warm, _ = evaluate(judge(), "foreign_short", foreign, **options)
    except HarnessError as error:
        assert "use_cache" in str(error)  # refusing is as good as keeping them apart
    else:
        assert np.array(answers(warm)) == pytest.approx(np.array(answers(straight)), abs=1e-5)
