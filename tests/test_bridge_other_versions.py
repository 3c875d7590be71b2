"""The start-up hook with versions of lm-eval that do not exist yet, are broken or are loaded in unusual ways."""

import json
import zipfile

import pytest
from bridge_runs import DISCOVERY, MODELS, TASKS, TASKS_FOLDER, answer, python


def test_an_lm_eval_that_discovers_entry_points_keeps_its_own(tmp_path, stand_in):
    code = """
import lm_eval.models as m
show({name: type(target).__name__ for name, target in m.model_registry.items()})
"""
    assert answer(code, tmp_path, stand_in(MODELS + DISCOVERY)) == [{"hf": "str", "arena_rm": "EntryPoint"}]


def test_a_task_manager_without_include_path_brings_a_warning_and_works(tmp_path, stand_in):
    tasks = "class TaskManager:\n    def __init__(self, verbosity=None):\n        self.fine = True\n"
    code = """
import lm_eval.models as m, lm_eval.tasks as t
show(t.TaskManager().fine, *sorted(m.model_registry))
"""
    done = python(code, tmp_path, stand_in(tasks=tasks))
    assert json.loads(done.stdout) == [True, "arena_rm", "hf"], done.stderr
    warning = "RuntimeWarning: arena_rm could not plug itself into lm_eval.tasks: TypeError('TaskManager takes no"
    assert warning in done.stderr and "Traceback" not in done.stderr


def test_a_registry_that_is_not_there_brings_a_warning_and_lm_eval_works(tmp_path, stand_in):
    code = "import lm_eval.models as m, lm_eval.tasks as t\nshow(m.names, *t.TaskManager().include_path)"
    done = python(code, tmp_path, stand_in(models="names = ['hf']", registry=""))
    assert json.loads(done.stdout) == [["hf"], TASKS_FOLDER], done.stderr
    assert "RuntimeWarning: arena_rm could not plug itself into lm_eval.models: ImportError" in done.stderr


def test_a_module_that_fails_to_load_is_hooked_when_it_loads_at_last(tmp_path, stand_in):
    folder = stand_in(tasks="import not_there_yet\n" + TASKS)
    code = f"""
import importlib, pathlib
try:
    import lm_eval.tasks
except ImportError as error:
    missing = error.name
pathlib.Path({str(folder)!r}, "not_there_yet.py").touch()
importlib.invalidate_caches()
import lm_eval.tasks
show(missing, lm_eval.tasks.TaskManager().include_path)
"""
    assert answer(code, tmp_path, folder) == ["not_there_yet", [TASKS_FOLDER]]


def test_looking_for_lm_eval_without_importing_it_changes_nothing(tmp_path, stand_in):
    code = """
import importlib.util
found = [importlib.util.find_spec(name) is not None for name in ("lm_eval.tasks", "lm_eval.absent")]
loaded = "lm_eval.tasks" in sys.modules
import lm_eval.tasks
show(*found, loaded, lm_eval.tasks.TaskManager().include_path)
"""
    assert answer(code, tmp_path, stand_in()) == [True, False, False, [TASKS_FOLDER]]


def test_a_missing_lm_eval_is_missed_as_ever(tmp_path):
    done = python("import lm_eval.tasks", tmp_path, flags=["-S"])
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'lm_eval'"


@pytest.mark.parametrize("place", ["0", "1", "len(sys.meta_path)"])
def test_another_finder_that_asks_the_others_is_no_endless_loop(tmp_path, stand_in, place):
    code = f"""
class Asking:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "lm_eval.tasks":
            found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not Asking)
            return next((spec for spec in found if spec), None)
sys.meta_path.insert({place}, Asking)
import lm_eval.tasks
show(lm_eval.tasks.TaskManager().include_path)
"""
    assert answer(code, tmp_path, stand_in()) == [[TASKS_FOLDER]]


def test_an_lm_eval_in_a_zip_file_is_hooked_too(tmp_path, stand_in):
    folder = stand_in()
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in sorted(folder.rglob("*.py")):
            archive.write(file, file.relative_to(folder))
    code = """
import lm_eval.models as m, lm_eval.tasks as t
show("all.zip" in t.__file__, sorted(m.model_registry), t.TaskManager().include_path)
"""
    assert answer(code, tmp_path, tmp_path / "all.zip") == [True, ["arena_rm", "hf"], [TASKS_FOLDER]]
