"""Wheel and editable installs by the real pip into fresh virtual environments, and what they leave behind.

Nothing is fetched: the environments see the packages of the one that runs the tests, without any arena-rm that is
installed there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.install, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"harness_plugin": "harness_plugin", "tasks": "harness_plugin/tasks", "train": "harness_plugin/train"}
START_FILES = {"arena_rm_lm_eval.pth", "arena_rm_lm_eval.start"}
OURS = ("lm_eval_arena_rm", "harness_plugin", "arena_rm_lm_eval", "__editable__")
TASKS = "arena_pairs,arena_judge"
PIP = ["-m", "pip", "--disable-pip-version-check", "-q"]
BUILD = ["--no-index", "--no-deps", "--no-build-isolation"]


def run(python, *arguments, cwd, **environment):
    """Run `python` with the arguments in `cwd`, away from the checkout; returns what it printed. It must end well."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "ARENA_RM_NO_HOOK")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    command = [str(python), *map(str, arguments)]
    environment = {**kept, "HF_HUB_OFFLINE": "1", **environment}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment with its interpreter and its site-packages, and a folder to run things in."""

    python: Path
    site: Path
    away: Path

    def files(self) -> set[str]:
        """Everything in site-packages and in the folder of commands."""
        places = {"site": self.site, "bin": self.python.parent}
        return {f"{name}/{file.relative_to(top)}" for name, top in places.items() for file in top.rglob("*")}

    def run(self, *arguments, **environment) -> str:
        return run(self.python, *arguments, cwd=self.away, **environment)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what is built from, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file() and file.name != ".git":
            shutil.copy(file, copy)
    return copy


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder of links to the packages of the running environment, all but ours."""
    links = tmp_path_factory.mktemp("shared")
    for place in (Path(place) for place in sys.path if place.endswith(("site-packages", "dist-packages"))):
        for file in sorted(place.iterdir()):
            if not file.name.startswith(OURS) and not (links / file.name).exists():
                (links / file.name).symlink_to(file)
    return links


@pytest.fixture(scope="module")
def new_environment(tmp_path_factory, shared):
    def make() -> Environment:
        folder = tmp_path_factory.mktemp("venv")
        venv.create(folder, with_pip=False, symlinks=True)
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "shared.pth").write_text(f"{shared}\n", encoding="utf-8")
        away = tmp_path_factory.mktemp("away")
        return Environment(folder / "bin" / "python", site, away)

    return make


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    """The wheel, built where an earlier build left a task file that has been deleted since."""
    stale = tree / "build" / "lib" / "harness_plugin" / "tasks" / "deleted_since" / "deleted_since.yaml"
    stale.parent.mkdir(parents=True)
    stale.write_text("task: deleted_since\n", encoding="utf-8")
    return build_wheel(tree, tmp_path_factory.mktemp("dist"))


def build_wheel(source, folder):
    run(sys.executable, *PIP, "wheel", *BUILD, "-w", folder, source, cwd=folder)
    (file,) = folder.glob("*.whl")
    return file


def install(environment, mode, tree, wheel):
    what = [wheel] if mode == "wheel" else ["-e", tree]
    environment.run(*PIP, "install", *BUILD, *what)


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, new_environment, tree, wheel):
    """(mode, environment with arena-rm in it, the files that the installation added)"""
    environment = new_environment()
    before = environment.files()
    install(environment, request.param, tree, wheel)
    return request.param, environment, environment.files() - before


def test_the_wheel_holds_every_file_of_the_source_and_no_other(tree, wheel):
    files = {
        f"{target}/{file.relative_to(tree / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for file in (tree / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.name not in START_FILES
    }
    packed = zipfile.ZipFile(wheel)
    names = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert names == files | START_FILES
    for name in START_FILES:
        assert packed.read(name) == (ROOT / "harness_plugin" / name).read_bytes()


def test_the_wheel_states_its_licence_its_commands_and_its_model(wheel):
    packed = zipfile.ZipFile(wheel)
    texts = {name.split(".dist-info/")[1]: packed.read(name) for name in packed.namelist() if ".dist-info/" in name}
    assert texts["licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert texts["licenses/NOTICE"] == (ROOT / "NOTICE").read_bytes()
    assert texts["top_level.txt"].decode().split() == ["harness_plugin"]
    points = texts["entry_points.txt"].decode()
    assert "[console_scripts]\narena-rm = harness_plugin.cli:main\n" in points
    assert "[lm_eval.models]\narena_rm = harness_plugin.harness.lm:ArenaRM\n" in points
    assert "lm_eval.tasks" not in points
    assert "Name: lm-eval-arena-rm\n" in texts["METADATA"].decode()


def test_a_wheel_from_the_source_distribution_is_the_same(tree, wheel, tmp_path):
    code = f"import setuptools.build_meta as b; print(b.build_sdist({str(tmp_path)!r}))"
    name = run(sys.executable, "-c", code, cwd=tree).splitlines()[-1]
    with tarfile.open(tmp_path / name) as packed:
        packed.extractall(tmp_path, filter="data")
    again = build_wheel(tmp_path / name.removesuffix(".tar.gz"), tmp_path)
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_the_start_up_files_are_at_the_top_and_no_generic_name_is(installed):
    mode, environment, added = installed
    top = {name.split("/")[1] for name in added if name.startswith("site/")}
    editable = {name for name in top if name.startswith("__editable__")}
    info = {name for name in top if name.startswith("lm_eval_arena_rm-") and name.endswith(".dist-info")}
    assert top >= START_FILES
    assert len(info) == 1 and bool(editable) == (mode == "editable")
    assert top - START_FILES - editable - info == ({"harness_plugin"} if mode == "wheel" else {"__pycache__"})
    assert {name for name in added if name.startswith("bin/")} == {"bin/arena-rm"}
    code = "import importlib.util as u; print([n for n in ('tasks', 'train', 'tests', 'benchmarks') if u.find_spec(n)])"
    assert environment.run("-c", code) == "[]\n"


def test_the_package_comes_from_where_it_was_installed(installed, tree):
    mode, environment, _ = installed
    code = """
import json, harness_plugin, harness_plugin.tasks, harness_plugin.train, harness_plugin._bridge as bridge
files = [harness_plugin.__file__, harness_plugin.tasks.__file__, harness_plugin.train.__file__]
print(json.dumps([*files, bridge.tasks_dir()]))
"""
    package, tasks, train, found = map(Path, json.loads(environment.run("-c", code)))
    top = environment.site / "harness_plugin" if mode == "wheel" else tree
    assert package == (top if mode == "wheel" else top / "harness_plugin") / "__init__.py"
    assert (tasks, train, found) == (top / "tasks" / "__init__.py", top / "train" / "__init__.py", top / "tasks")


def test_the_hook_waits_in_every_interpreter_and_nothing_heavy_is_loaded(installed):
    _, environment, _ = installed
    code = """
import sys
bridge = sys.modules.get("harness_plugin._bridge")
print(bridge is not None and bridge.active(), {"torch", "numpy", "lm_eval", "click"} & set(sys.modules))
"""
    assert environment.run("-c", code) == "True set()\n"
    assert environment.run("-c", code, ARENA_RM_NO_HOOK="1") == "False set()\n"


def test_lm_eval_knows_the_model_beside_its_own(installed):
    _, environment, _ = installed
    code = """
import lm_eval.models
from lm_eval.api.registry import model_registry
print("arena_rm" in model_registry, "hf" in model_registry)
"""
    assert environment.run("-c", code) == "True True\n"


def test_lm_eval_lists_the_task_with_its_file(installed):
    _, environment, _ = installed
    listed = environment.run("-m", "lm_eval", "ls", "tasks", COLUMNS="300")
    for task in ("arena_pairs", "arena_judge"):
        assert re.search(rf"^\|{task} *\|.*{task}/{task}\.yaml", listed, re.MULTILINE)


def test_lm_eval_validates_the_task(installed):
    _, environment, _ = installed
    assert "All tasks found and valid" in environment.run("-m", "lm_eval", "validate", "--tasks", TASKS)


@pytest.mark.parametrize("mode", ["wheel", "editable"])
def test_uninstalling_leaves_no_file_behind(mode, new_environment, tree, wheel):
    environment = new_environment()
    before = environment.files()
    install(environment, mode, tree, wheel)
    environment.run("-c", "import harness_plugin.pairs, harness_plugin.stats, harness_plugin.train")
    assert environment.files() > before
    environment.run(*PIP, "uninstall", "-y", "lm-eval-arena-rm")
    assert environment.files() == before


def test_python_m_harness_plugin_works_where_no_start_up_file_runs(new_environment, wheel, tmp_path):
    environment = new_environment()
    environment.run(*PIP, "install", "--no-index", "--no-deps", "--target", tmp_path / "target", wheel)
    arguments = ["-m", "harness_plugin", "validate", "--tasks", TASKS]
    assert "All tasks found and valid" in environment.run(*arguments, PYTHONPATH=str(tmp_path / "target"))
