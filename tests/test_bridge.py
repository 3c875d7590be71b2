"""The start-up hook, each time in a fresh interpreter.

With the installed lm-eval, and with stand-ins for versions of it that do not exist yet or are broken.
"""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness_plugin import _bridge
from harness_plugin.waiting import ROUNDS

ROOT = Path(__file__).resolve().parents[1]
TASKS_FOLDER = str(ROOT / "tasks")
START_LINE = (ROOT / "harness_plugin" / "arena_rm_lm_eval.pth").read_text(encoding="utf-8")

PRELUDE = """
import json, sys
def show(*values): print(json.dumps(values, default=str))
"""
PLUG = """
import harness_plugin._bridge as bridge
bridge.install()
"""

REGISTRY = """
class Registry(dict):
    def register(self, name, target):
        assert name not in self
        self[name] = target
model_registry = Registry()
"""
MODELS = """
from lm_eval.api.registry import model_registry
model_registry.register("hf", "lm_eval.hf:HFLM")
"""
DISCOVERY = """
from importlib.metadata import EntryPoint
model_registry.register("arena_rm", EntryPoint("arena_rm", "harness_plugin.harness.lm:ArenaRM", "lm_eval.models"))
"""
TASKS = """
class TaskManager:
    def __init__(self, verbosity=None, include_path=None, include_defaults=True):
        self.include_path = include_path
"""


def python(code, folder, *first_on_path, flags=(), before=PLUG, **environment):
    """Run `before` and `code` in `folder` with the checkout importable; returns the finished process."""
    kept = {name: value for name, value in os.environ.items() if name not in ("ARENA_RM_NO_HOOK", "PYTHONWARNINGS")}
    kept["PYTHONPATH"] = os.pathsep.join([*map(str, first_on_path), str(ROOT)])
    command = [sys.executable, *flags, "-c", PRELUDE + before + code]
    kept |= environment
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, encoding="utf-8", timeout=240)


def answer(code, folder, *first_on_path, **more):
    """What `code` gives to show() last. It must end well; warnings are errors where lm-eval is a stand-in."""
    strict = ("-W", "error") if first_on_path else ()
    done = python(code, folder, *first_on_path, **{"flags": strict, **more})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def stand_in(tmp_path):
    """Write a package named lm_eval with the given texts of its modules; returns the folder to put on the path."""

    def write(models=MODELS, tasks=TASKS, registry=REGISTRY, main=""):
        texts = {"__init__": "", "__main__": main, "api/__init__": "", "api/registry": registry}
        for name, text in {**texts, "models/__init__": models, "tasks/__init__": tasks}.items():
            file = tmp_path / "stand_in" / "lm_eval" / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path / "stand_in"

    return write


# With the installed lm-eval


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


def test_our_tasks_refer_to_no_task_of_lm_eval(tmp_path):
    code = """
from lm_eval.tasks import TaskManager
index = TaskManager(include_path=bridge.tasks_dir(), include_defaults=False).task_index
parts = [part for entry in index.values() for part in (entry.cfg or {}).get("task", []) if entry.kind.name == "GROUP"]
show("arena_pairs" in index, [part for part in parts if part not in index])
"""
    assert answer(code, tmp_path) == [True, []]


# What the hook does to TaskManager's arguments and to the interpreter


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


@pytest.mark.parametrize(
    ("arguments", "briefly"),
    [
        (["--model", "arena_rm", "--model_args", "peft=folder"], True),
        (["run", "--model=arena_rm", "--model_args", "pretrained=folder"], True),
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


@pytest.mark.parametrize(
    ("arguments", "ahead"),
    [
        (["--model", "arena_rm", "--tasks", "arena_pairs", "--limit", "20"], True),
        (["run", "--model=arena_rm", "--model_args", "dtype=float32"], True),
        (["--model", "arena_rm", "--model_args", "pretrained=folder"], False),
        (["--model", "arena_rm", "--model_args", "dtype=float32", "peft=folder"], False),
        (["--model", "arena_rm", "--model_args", "judge=openai:http://localhost#name"], False),
        (["--model", "arena_rm", "--model_args", '{"judge": "openai:http://localhost#name"}'], False),
        (["--model", "hf", "--tasks", "arena_pairs"], False),
    ],
)
def test_the_base_is_converted_while_lm_eval_loads_only_where_the_embedded_judge_is_asked_for(
    tmp_path, stand_in, arguments, ahead
):
    code = f"""
import harness_plugin.model.embedded as embedded
sys.argv = ["lm_eval", *{arguments!r}]
begun = []
embedded.convert_ahead = lambda: begun.append(True)
import lm_eval
show(begun == [True] * {ahead})
"""
    assert answer(code, tmp_path, stand_in()) == [True]


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


# The off switch, the start-up files, `python -m harness_plugin`


@pytest.mark.parametrize(("value", "plugged"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_the_off_switch_is_on_for_anything_but_nothing_and_zero(tmp_path, stand_in, value, plugged):
    code = """
waits = bridge._Finder in sys.meta_path
import lm_eval.models as m, lm_eval.tasks as t
show(waits, "arena_rm" in m.model_registry, t.TaskManager().include_path is not None, bridge.active())
"""
    assert answer(code, tmp_path, stand_in(), ARENA_RM_NO_HOOK=value) == [plugged] * 4


def test_python_m_harness_plugin_is_lm_eval_even_where_the_hook_is_off(tmp_path, stand_in):
    main = """
import sys
def cli_evaluate():
    import lm_eval.models as m
    print(*m.model_registry, *sys.argv[1:])
"""
    code = "import runpy\nsys.argv[1:] = ['ls', 'tasks']\nrunpy.run_module('harness_plugin', run_name='__main__')"
    done = python(code, tmp_path, stand_in(main=main), before="", ARENA_RM_NO_HOOK="1")
    assert done.stdout == "hf arena_rm ls tasks\n", done.stderr


def test_the_start_up_line_installs_the_hook(tmp_path):
    assert START_LINE.startswith("import ") and START_LINE.count("\n") == 1  # site runs only single lines that begin so
    code = f"exec({START_LINE!r})\nimport harness_plugin._bridge as bridge\nshow(bridge.active())"
    assert answer(code, tmp_path, before="", flags=["-S"]) == [True]


def test_the_start_up_line_is_silent_where_the_package_is_gone(tmp_path):
    code = f"sys.path.remove({str(ROOT)!r})\nexec({START_LINE!r})\nprint('harness_plugin' in sys.modules)"
    done = python(code, tmp_path, before="", flags=["-S"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_the_start_file_names_a_function_that_installs_the_hook(tmp_path):
    text = (ROOT / "harness_plugin" / "arena_rm_lm_eval.start").read_text(encoding="utf-8")
    module, name = text.strip().split(":")
    code = f"import {module} as bridge\nbridge.{name}()\nshow(bridge.active())"
    assert answer(code, tmp_path, before="", flags=["-S"]) == [True]


def test_starting_up_loads_two_modules_and_no_other(tmp_path):
    # -S: without the environment's own start-up files, which may have loaded the hook and much else already
    before = "import os\nearlier = set(sys.modules)" + PLUG
    new = answer("show(*sorted(set(sys.modules) - earlier))", tmp_path, before=before, flags=["-S"])
    assert new == ["harness_plugin", "harness_plugin._bridge"]
