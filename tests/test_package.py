"""What describes the package to others: metadata, citation, continuous integration, settings that are shipped."""

import configparser
import re
import runpy
from pathlib import Path

import pytest
import setuptools
import yaml

import harness_plugin
from harness_plugin.errors import UsageError
from harness_plugin.train.config import parse_yaml

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {".git", ".mypy_cache", ".venv", "build", "dist", "site"}


@pytest.fixture(scope="module")
def metadata():
    """The package's metadata as a build writes it, with README.md as the description."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", lambda **fields: made.append(setuptools.Distribution(fields)))
        runpy.run_path("setup.py")
        made[0].parse_config_files()
    return made[0].metadata


def yaml_files() -> list[Path]:
    files = (file for end in ("yaml", "yml", "cff") for file in ROOT.rglob(f"*.{end}"))
    return sorted(file for file in files if not SKIPPED & set(file.relative_to(ROOT).parts))


def test_no_yaml_file_of_the_repository_gives_a_key_twice():
    names = {file.name for file in yaml_files()}
    assert {"default.yaml", "arena_pairs.yaml", "action.yml", "test.yml", ".pre-commit-config.yaml"} <= names
    for file in yaml_files():
        # `!function` is lm-eval's own tag, which PyYAML refuses
        parse_yaml(re.sub(r"!function ", "", file.read_text(encoding="utf-8")), str(file))
    with pytest.raises(UsageError, match="'a' is given twice"):
        parse_yaml("a: 1\na: 2\n", "here")


def test_the_description_has_no_link_that_needs_the_repository_beside_it(metadata):
    text = re.sub(r"```.*?```", "", metadata.long_description, flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)", text)
    assert len(links) > 3
    assert [link for link in links if not link.startswith(("https://", "#", "mailto:"))] == []
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)", text)
    assert all(link.startswith("https://raw.githubusercontent.com/") for link in pictures)
    ours = [link.partition("/main/")[2] for link in links if "lm-eval-arena-rm/" in link]
    assert ours and all((ROOT / path.partition("#")[0]).exists() for path in ours)


def test_the_package_index_shows_where_everything_is(metadata):
    assert set(metadata.project_urls) == {"Homepage", "Documentation", "Source", "Changelog", "Issues"}
    assert metadata.long_description_content_type == "text/markdown"
    assert all(url.startswith("https://") for url in metadata.project_urls.values())


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == harness_plugin.__version__ and citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_continuous_integration_runs_on_each_python_that_the_metadata_names(metadata):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    named = [c.rpartition(" ")[2] for c in metadata.classifiers if re.search(r":: 3\.\d+$", c)]
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == named


def test_every_tool_of_the_hooks_is_in_the_extra_test():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert {"ruff", "mypy"} <= set(re.findall(r"^\w+", setup["options.extras_require"]["test"], re.MULTILINE))


def test_the_action_has_what_the_marketplace_asks_for():
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert action["name"] and action["description"] and action["author"]
    assert set(action["branding"]) == {"icon", "color"}
