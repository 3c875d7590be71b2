"""The README's commands run as written, its file tree exists, its tables name what the code knows."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [p for p in ROOT.rglob("*.md") if ".venv" not in p.parts and "build" not in p.parts]


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [text for found, text in fences if found == language]


def test_the_block_about_your_own_file_runs_as_written(tmp_path, real_home):
    (block,) = [b for b in blocks("sh") if "cat > pairs.jsonl" in b]
    script = f'set -e\nPATH="{Path(sys.executable).parent}:$PATH"\n{block}'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert "Which response is better for the prompt: What is 7 times 8?" in done.stdout
    assert "longer_wins" in done.stderr


def test_every_line_of_the_tree_exists():
    (tree,) = [b for b in blocks("") if b.startswith("harness_plugin/")]
    folder = ""
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name if name.endswith("/") else ""
        path = ROOT / (folder + name if line.startswith(" ") else name)
        assert path.is_dir() if name.endswith("/") else path.is_file(), line


def test_the_tree_misses_no_room():
    (tree,) = [b for b in blocks("") if b.startswith("harness_plugin/")]
    rooms = {p.name for p in (ROOT / "harness_plugin").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    missing = {r for r in rooms - {"__init__.py", "__main__.py"} if r not in tree}
    assert not missing


def test_the_table_of_model_args_names_every_argument_and_no_other():
    from harness_plugin.model import ModelSpec

    table = README.split("### model_args")[1].split("Anything else")[0]
    named = {n for row in re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE) for n in re.findall(r"`(\w+)`", row)}
    assert named == {f.name for f in fields(ModelSpec)} | {"batch_size", "order", "trust_remote_code"}


def test_the_table_of_metrics_names_every_metric():
    from harness_plugin.harness import METRICS

    wanted = {entry["metric"] for entry in METRICS if not entry["metric"].endswith("_stderr")}
    assert not {name for name in wanted if f"`{name}`" not in README}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target


def test_every_option_that_the_documents_give_to_arena_rm_exists():
    from harness_plugin.cli import COMMANDS, group

    for document in DOCUMENTS:
        for name, rest in re.findall(r"arena-rm (\S+)([^`\n]*)", document.read_text(encoding="utf-8")):
            if name not in COMMANDS or name == "lm-eval":
                continue
            command = group.get_command(None, name)
            if isinstance(command, click.Group):
                first = rest.split()[0] if rest.split() else ""
                command = command.get_command(None, first if first in command.list_commands(None) else "check")
            known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
            assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)) <= known, (document.name, name, rest)
