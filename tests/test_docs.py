"""The README, docs/ and the other pages: every example runs as it stands, and what they name exists.

A fenced block of shell or Python runs unless a comment `<!-- not run: REASON -->` stands right before it. A block of
text right after one that ran is a part of its output; numbers may differ, since they depend on the machine.
"""

import ast
import configparser
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import click
import pytest
import yaml
from conftest import REAL_HOME

from harness_plugin.model.embedded import base_folder, is_ready

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/OldKingMeister/lm-eval-arena-rm/blob/main/"
DOCS = sorted((ROOT / "docs").glob("*.md"))
READMES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "train" / "README.md", *ROOT.glob("tasks/**/*.md")]
PAGES = [*READMES, *DOCS]
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "train" / "LOG.md", ROOT / "harness_plugin" / "embedded" / "README.md"]
RUN = ("sh", "python")
LANGUAGES = (*RUN, "text", "yaml", "json")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
NOT_OURS = {"lm_eval", "arena_rm_lm_eval"}  # in docstrings: the host, and the name of a file
WITHOUT_A_MODEL = {"docs/install.md", "docs/label.md"}  # their examples are quick
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block. `reason`: why it is not run, if it says so; `follows`: no prose stands between it and the block
    before."""

    language: str
    text: str
    reason: str | None
    follows: bool

    @property
    def runs(self) -> bool:
        return self.language in RUN and self.reason is None


def blocks(page: Path) -> list[Block]:
    text, end, result = page.read_text("utf-8"), 0, []
    for match in FENCE.finditer(text):
        between = re.sub(r"<!--.*?-->", "", text[end : match.start()], flags=re.DOTALL)
        result.append(Block(match["language"], match["text"], match["reason"], bool(result) and not between.strip()))
        end = match.end()
    return result


def pages_that_run() -> list:
    pages = [page for page in PAGES if any(block.runs for block in blocks(page))]
    return [
        pytest.param(page, id=name_of(page), marks=[] if name_of(page) in WITHOUT_A_MODEL else pytest.mark.slow)
        for page in pages
    ]


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """What the examples run with: the commands of this interpreter, no network, the user's converted weights and
    compiled kernels but not the scores that the user keeps."""
    commands = tmp_path_factory.mktemp("commands")
    for name, module in (("arena-rm", "harness_plugin.cli"), ("lm_eval", "lm_eval")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n', "utf-8")
        (commands / name).chmod(0o755)
    home = tmp_path_factory.mktemp("home_of_the_examples")
    users = Path(REAL_HOME or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arena-rm")
    for folder in users.iterdir() if users.is_dir() else ():
        # Weights that another version converted are left out: the examples convert anew, and not through a link.
        if folder.is_dir() and (folder.name != base_folder().name or is_ready(folder)):
            (home / folder.name).symlink_to(folder)
    path = f"{Path(sys.executable).parent}:{commands}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "ARENA_RM_HOME": str(home), "HF_HUB_OFFLINE": "1"}


def command_of(block: Block, folder: Path) -> list[str]:
    """The command that runs a block; a Python block with tests in it runs under pytest."""
    if block.language == "sh":
        return ["bash", "-c", f"set -eo pipefail\n{block.text}"]
    file = folder / "test_example.py"
    file.write_text(block.text, "utf-8")
    pytest_options = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "def test_" in block.text else []
    return [sys.executable, *pytest_options, file.name]


def shape(line: str) -> str:
    """A line of output without its numbers, which depend on the machine, and with single spaces."""
    return " ".join(re.sub(r"[-+]?\d[\d,.]*", "N", line).split())


@pytest.mark.parametrize("page", pages_that_run())
def test_the_examples_of_a_page_run_in_their_order_and_print_what_it_says(page, environment, tmp_path):
    output = None
    for block in blocks(page):
        if block.runs:
            done = subprocess.run(
                command_of(block, tmp_path),
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout}"
            output = done.stdout
        elif block.language == "text" and block.follows and output is not None:
            printed = {shape(line) for line in output.splitlines()}
            missing = [line for line in block.text.splitlines() if shape(line) not in printed]
            assert not missing, f"the page says {missing}, the command printed\n{output}"
        else:
            output = None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_its_language_and_is_well_formed(page):
    assert page.read_text("utf-8").count("\n```") == 2 * len(blocks(page)), "a fence that is not closed or is indented"
    for block in blocks(page):
        assert block.language in LANGUAGES, block.text
        if block.language == "python":
            compile(block.text, name_of(page), "exec")
        if block.language == "yaml":
            yaml.safe_load(block.text)
        if block.language == "json":
            assert [json.loads(line) for line in block.text.splitlines()]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    prose = FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text("utf-8")))


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_to_files_and_headings_lead_somewhere(page):
    for link in links(page):
        target, _, anchor = link.partition("#")
        if target.startswith(REPOSITORY):
            file = ROOT / target.removeprefix(REPOSITORY)
        elif target.startswith(("http://", "https://")):
            continue
        else:
            file = page.parent / target if target else page
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


def test_pages_of_the_documentation_link_to_files_outside_it_by_address():
    for page in DOCS:
        relative = [link for link in links(page) if not link.startswith(("https://", "#"))]
        inside = (page.parent, page.parent / "images")
        assert [link for link in relative if (page.parent / link.partition("#")[0]).parent not in inside] == []


def test_the_navigation_has_every_page():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert {file for entry in nav for file in entry.values()} == {page.name for page in DOCS}


def test_the_overview_and_the_readme_name_every_page():
    overview, readme = ((ROOT / name).read_text("utf-8") for name in ("docs/index.md", "README.md"))
    for page in DOCS:
        assert page.name == "index.md" or (f"({page.name})" in overview and f"(docs/{page.name})" in readme), page.name


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without the header."""
    section = re.split(rf"^#+ {re.escape(heading)}$", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE)[1]
    table = re.search(r"^\|.*?(?=\n\n|\Z)", section, flags=re.MULTILINE | re.DOTALL)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.strip().splitlines()[2:]]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_line_of_the_tree_exists_and_none_is_missing():
    (tree,) = [block.text for block in blocks(ROOT / "docs" / "how-it-works.md") if "_bridge.py" in block.text]
    inside = set()
    for line in tree.splitlines():
        name = line.split()[0]
        path = ROOT / "harness_plugin" / name if line.startswith(" ") else ROOT / name
        inside |= {name.rstrip("/")} if line.startswith(" ") else set()
        assert path.is_dir() if name.endswith("/") else path.is_file(), line
    package = [p for p in (ROOT / "harness_plugin").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()]
    assert {p.name for p in package} - {"__init__.py", "__main__.py"} <= inside


def test_each_package_says_what_each_of_its_files_is_for():
    """All but the files directly in the package, which are in the tree above."""
    for folder in (p.parent for top in ("harness_plugin", "train") for p in (ROOT / top).rglob("__init__.py")):
        words = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        files = {p.stem for p in folder.glob("*.py")} - {"__init__", "__main__"}
        named_here = set(re.findall(r"`(\w+)`", words))
        assert folder.name == "harness_plugin" or files <= named_here, (folder.name, sorted(files - named_here))


def test_what_docstrings_name_by_its_module_exists():
    """`module.name`: the module is ours and has the name, or it is an object or a library that the code uses."""
    files = [path for folder in ("harness_plugin", "train") for path in (ROOT / folder).rglob("*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    code = {path: ast.unparse(tree) for path, tree in trees.items()}
    used = {
        name for tree in trees.values() for n in ast.walk(tree) for name in vars(n).values() if isinstance(name, str)
    }
    for path, tree in trees.items():
        said = [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, DOCUMENTED)]
        for first, second in re.findall(r"`(?:\w+\.)*([a-z_]\w*)\.(\w+)`", "\n".join(said)):
            own = [code[p] for p in files if first in (p.stem, p.parent.name) and first not in NOT_OURS]
            assert first in used | NOT_OURS or own, (path.name, first, second)
            assert not own or any(re.search(rf"\b{second}\b", text) for text in own), (path.name, first, second)


def test_every_file_that_the_table_of_changes_names_exists():
    """A name without a folder is in the folder of one that stands before it in the row."""
    for _, files in rows_of("CONTRIBUTING.md", "Where a change goes"):
        folders: list[Path] = []
        for name in named(files):
            if "/" in name:
                path = next((ROOT / top / name for top in ("", "harness_plugin") if (ROOT / top / name).exists()), None)
                assert path is not None, name
                folders.append(path if path.is_dir() else path.parent)
            elif name.endswith(".py"):
                assert any((folder / name).exists() for folder in folders), name


def test_the_table_of_settings_names_every_argument_and_no_other():
    from harness_plugin.model import ModelSpec

    arguments = {name for row in rows_of("docs/judges.md", "Settings") for name in named(row[0])}
    assert arguments == {f.name for f in fields(ModelSpec)} | {"batch_size", "order", "trust_remote_code"}


def test_the_table_of_metrics_names_every_metric():
    from harness_plugin.harness import METRICS

    names = {name for row in rows_of("docs/measure-a-judge.md", "Metrics") for name in named(row[0])}
    assert {entry["metric"] for entry in METRICS if not entry["metric"].endswith("_stderr")} <= names


def test_the_table_of_formats_names_every_format_and_no_other():
    from harness_plugin.pairs import FORMATS

    page = (ROOT / "docs" / "files.md").read_text("utf-8")
    formats = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", page, flags=re.MULTILINE)
    assert sorted(formats) == sorted(FORMATS)


def test_the_page_of_python_names_everything_public_and_all_that_a_judgement_says():
    import harness_plugin

    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    assert {name for name in harness_plugin.__all__ if not re.search(rf"\b{name}\b", page)} == {"__version__"}
    attributes = {name for row in rows_of("docs/python.md", "Judgement") for name in named(row[0])}
    assert {f.name for f in fields(harness_plugin.Judgement)} <= attributes
    assert all(
        hasattr(harness_plugin.Judgement, name)
        for name in attributes - set(vars(harness_plugin.Judgement)["__annotations__"])
    )


def test_the_table_of_score_fields_names_every_field_of_a_line():
    from harness_plugin import Judgement, Pair, Winner
    from harness_plugin.model.calibration import Calibration
    from harness_plugin.scoring.judgement import judged

    pair = Pair("p", "a", "b", winner=Winner.TIE, model_a="heron", model_b="ibis", category="math")
    (judgement,) = judged([pair], [(0.5,)], [(0.25,)], Calibration(1.0, 1.0), "hash")
    assert isinstance(judgement, Judgement)
    of_pointwise_models = {"r_a", "r_b"}
    assert set(judgement.to_row()) | of_pointwise_models == {
        name for row in rows_of("docs/score-pairs.md", "Score pairs") for name in named(row[0])
    }


def test_the_tables_of_recipes_and_extras_name_all_of_them():
    recipes = {name for row in rows_of("docs/train.md", "Recipes") for name in named(row[0])}
    assert recipes == {file.stem for file in (ROOT / "train" / "configs").glob("*.yaml")}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = {name for row in rows_of("docs/install.md", "Extras") for name in named(row[0])}
    assert extras == set(setup["options.extras_require"])


def test_the_example_for_github_gives_the_action_inputs_that_it_has():
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    examples = [yaml.safe_load(b.text) for b in blocks(ROOT / "docs" / "gate.md") if b.language == "yaml"]
    (step,) = next(example["steps"] for example in examples if "steps" in example)
    assert set(step["with"]) <= set(action["inputs"])
    assert {name for name, entry in action["inputs"].items() if entry.get("required")} <= set(step["with"])


def test_every_option_that_a_page_gives_to_arena_rm_exists():
    from harness_plugin.cli import COMMANDS, group

    for page in LINKED:
        for name, rest in re.findall(r"arena-rm (\S+)([^`\n]*)", page.read_text("utf-8")):
            if name not in COMMANDS or name == "lm-eval":
                continue
            command = group.get_command(None, name)
            if isinstance(command, click.Group):
                first = rest.split()[0] if rest.split() else ""
                command = command.get_command(None, first if first in command.list_commands(None) else "check")
            options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
            assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)) <= options, (page.name, name, rest)


def test_every_test_that_a_page_names_is_there():
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 15
    gone = [(file, name) for file, name in named if f"def {name}(" not in (ROOT / "tests" / file).read_text("utf-8")]
    assert not gone
