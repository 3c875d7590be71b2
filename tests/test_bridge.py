"""The start-up hook: lm-eval finds our model and our tasks. Each test runs in a fresh interpreter."""

import importlib.util
import os
from pathlib import Path

import pytest
from bridge_runs import PLUG, ROOT, TASKS_FOLDER, answer, python


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("", id="nothing"),
        pytest.param("import lm_eval.models", id="lm_eval.models", marks=pytest.mark.slow),
        pytest.param("import harness_plugin.harness.lm", id="our model", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("order", [["arena_rm", "hf"], ["hf", "arena_rm"]], ids="-".join)
def test_arena_rm_and_the_built_in_models_are_found(tmp_path, first, order):
    code = f"""
{first}
from lm_eval.api.registry import get_model, model_registry
classes = {{name: get_model(name) for name in {order}}}
show({{name: f"{{c.__module__}}:{{c.__name__}}" for name, c in classes.items()}}, len(model_registry), bridge.active())
"""
    classes, count, active = answer(code, tmp_path)
    assert classes == {"arena_rm": "harness_plugin.harness.lm:ArenaRM", "hf": "lm_eval.models.huggingface:HFLM"}
    assert count > 10, "lm-eval's own models are gone"
    assert active


def test_the_hook_may_come_after_lm_eval_was_loaded(tmp_path):
    code = """
from lm_eval.api.registry import model_registry
show("arena_rm" in model_registry, lm_eval.tasks.TaskManager.__init__._has_arena_rm, bridge._Finder in sys.meta_path)
"""
    before = "import lm_eval.models, lm_eval.tasks" + PLUG
    # -S: no start-up files, so that lm_eval really is first; its place is put on the path by hand
    place = Path(importlib.util.find_spec("lm_eval").origin).parents[1]
    assert answer(code, tmp_path, place, before=before, flags=["-S"]) == [True, True, False]


@pytest.fixture(scope="module")
def task_files(tmp_path_factory):
    """A user's folder, and where `arena_pairs` comes from: as installed, with that folder, without lm-eval's tasks."""
    folder = tmp_path_factory.mktemp("user")
    text = "task: arena_pairs\ndataset_path: json\noutput_type: multiple_choice\n"
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    code = f"""
from lm_eval.tasks import TaskManager
def where(**arguments):
    index = TaskManager(**arguments).task_index
    return index["arena_pairs"].yaml_path if "arena_pairs" in index else None, len(index)
show(where(), where(include_path={str(folder)!r}), where(include_defaults=False))
"""
    return folder, *answer(code, folder)


@pytest.mark.slow
def test_the_installed_lm_eval_finds_our_task_without_include_path(task_files):
    _, (file, count), _, _ = task_files
    assert Path(file) == ROOT / "tasks" / "arena_pairs" / "arena_pairs.yaml"
    assert count > 1000, "lm-eval's own tasks are gone"


def test_a_users_include_path_overrides_our_task(task_files):
    folder, _, (file, count), _ = task_files
    assert Path(file) == folder / "mine.yaml"
    assert count > 1000, "lm-eval's own tasks are gone"


def test_a_task_manager_without_defaults_does_not_get_our_tasks(task_files):
    assert task_files[-1] == [None, 0]


def test_our_tasks_refer_to_no_task_of_lm_eval(tmp_path):
    code = """
from lm_eval.tasks import TaskManager
index = TaskManager(include_path=bridge.tasks_dir(), include_defaults=False).task_index
parts = [part for entry in index.values() for part in (entry.cfg or {}).get("task", []) if entry.kind.name == "GROUP"]
show("arena_pairs" in index, [part for part in parts if part not in index])
"""
    assert answer(code, tmp_path) == [True, []]


def test_our_folder_comes_first_whatever_form_the_users_paths_have(stand_in, tmp_path):
    relative = os.path.relpath(TASKS_FOLDER, tmp_path)
    code = f"""
from pathlib import Path
from lm_eval.tasks import TaskManager as T
given = [
    T(), T(include_path="mine"), T(None, ["mine", "more"]), T(include_path=(Path("mine"),)), T(include_path=[]),
    T("INFO", "mine", False), T(include_path=bridge.tasks_dir()), T(include_path=["mine", {relative!r}]),
]
show(*(manager.include_path for manager in given))
"""
    ours = TASKS_FOLDER
    first = [[ours], [ours, "mine"], [ours, "mine", "more"], [ours, "mine"], [ours]]
    assert answer(code, tmp_path, stand_in()) == [*first, "mine", ours, ["mine", relative]]


def test_arguments_that_lm_eval_does_not_take_are_refused_in_its_own_words(tmp_path, stand_in):
    done = python("import lm_eval.tasks\nlm_eval.tasks.TaskManager(path='x')", tmp_path, stand_in())
    assert done.stderr.splitlines()[-1].endswith("__init__() got an unexpected keyword argument 'path'")


def test_the_finder_stays_until_both_hooks_have_run_and_then_removes_itself(tmp_path, stand_in):
    code = """
seen = []
for name in ("lm_eval", "lm_eval.models", "lm_eval.tasks"):
    bridge.install()
    seen.append(sys.meta_path.count(bridge._Finder))
    __import__(name)
bridge.install()
show(*seen, sys.meta_path.count(bridge._Finder), bridge.active())
"""
    assert answer(code, tmp_path, stand_in()) == [1, 1, 1, 0, True]
