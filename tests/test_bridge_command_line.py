"""What the start-up hook does where lm-eval's command line asks for our tasks or for our model."""

import pytest
from bridge_runs import answer

from harness_plugin import _bridge
from harness_plugin.waiting import ROUNDS


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["lm_eval", "--model", "arena_rm", "--tasks", "arena_pairs"], ["arena_pairs"]),
        (["/bin/lm-eval", "run", "--tasks", "arena_pairs,arena_pairs_100k", "more", "--limit", "4"], None),
        (["C/lm_eval.exe", "validate", "-t", "arena_pairs"], ["arena_pairs"]),
        (["/env/lm_eval/__main__.py", "run", "--tasks=arena_pairs", "--model", "arena_rm"], ["arena_pairs"]),
        (["/env/harness_plugin/__main__.py", "-t=arena_pairs"], ["arena_pairs"]),
        (["lm_eval", "ls", "tasks"], []),
        (["lm_eval", "--task", "arena_pairs"], []),
        (["lm_eval", "-tarena_pairs"], []),
        (["lm_eval", "--tasks", "arena_pairs", "-t", "hellaswag"], []),
        (["lm_eval", "--tasks"], []),
        (["my_script.py", "--tasks", "arena_pairs"], []),
        (["-c"], []),
        ([], []),
    ],
)
def test_which_tasks_a_command_line_asks_for(arguments, asked):
    several = ["arena_pairs", "arena_pairs_100k", "more"]
    assert sorted(_bridge._tasks_asked_for(arguments)) == (several if asked is None else asked)


INDEXED = """
class TaskManager:
    made = []
    def __init__(self, verbosity=None, include_path=None, include_defaults=True):
        self.all_tasks = ["arena_pairs"] + ["hellaswag"] * include_defaults
        self.made.append([include_path, include_defaults])
"""


@pytest.mark.parametrize(
    ("asked", "given", "indexed"),
    [
        ("arena_pairs", "", [False]),
        ("hellaswag,arena_pairs", "", [False, True]),
        ("no_such_task", "", [False, True]),
        ("arena_*", "", [False, True]),
        ("arena_pairs", "include_path='mine'", [True]),
        ("arena_pairs", "include_defaults=False", [False]),
    ],
)
def test_lm_evals_own_tasks_are_read_only_where_they_are_asked_for(tmp_path, stand_in, asked, given, indexed):
    code = f"""
sys.argv = ["lm_eval", "--tasks", {asked!r}]
from lm_eval.tasks import TaskManager
manager = TaskManager({given})
show([made[1] for made in TaskManager.made], manager.all_tasks[1:])
"""
    assert answer(code, tmp_path, stand_in(tasks=INDEXED)) == [indexed, ["hellaswag"] * indexed[-1]]


@pytest.mark.parametrize(
    ("arguments", "briefly"),
    [
        (["--model", "arena_rm"], True),
        (["run", "--model=arena_rm"], True),
        (["--model", "hf", "--tasks", "arena_pairs"], False),
        ([], False),
    ],
)
def test_threads_wait_briefly_only_where_the_command_line_names_the_model(tmp_path, stand_in, arguments, briefly):
    code = f"""
import os
sys.argv = ["lm_eval", *{arguments!r}]
before = os.environ.get("GOMP_SPINCOUNT")
import lm_eval
show(before, os.environ.get("GOMP_SPINCOUNT"))
"""
    assert answer(code, tmp_path, stand_in(), GOMP_SPINCOUNT="") == ["", ""], "the user's own setting stays"
    code = code.replace("import os", "import os\nos.environ.pop('GOMP_SPINCOUNT', None)")
    assert answer(code, tmp_path, stand_in()) == [None, ROUNDS if briefly else None]
