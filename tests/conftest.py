"""What all tests share: the package as it stands in the checkout or as it is installed, no network, tiny models."""

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REAL_HOME = os.environ.get("ARENA_RM_HOME")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

try:
    import harness_plugin.train
except ImportError:  # nothing is installed: the folders beside harness_plugin are found where they stand
    sys.path.insert(0, str(ROOT))
    import harness_plugin

    harness_plugin.__path__.append(str(ROOT))
    import harness_plugin.tasks
    import harness_plugin.train

import browser  # noqa: E402 - it is beside the tests of the package
import tiny  # noqa: E402 - it needs the package
from commands import code_of  # noqa: E402 - it needs the package

from harness_plugin.cli import main  # noqa: E402 - found by now, where it stands or is installed


def pytest_report_header():
    return f"harness_plugin: {harness_plugin.__file__}"


@pytest.fixture(scope="session", autouse=True)
def no_real_home(tmp_path_factory):
    """Converted weights and caches go to a folder of this run; the fixture `real_home` asks for the user's own."""
    os.environ["ARENA_RM_HOME"] = str(tmp_path_factory.mktemp("arena_rm_home"))


@pytest.fixture(autouse=True)
def heard_by_caplog(monkeypatch):
    """The set-up of lm-eval, which some tests run, keeps its records from the root logger, where caplog listens."""
    monkeypatch.setattr(logging.getLogger("lm_eval"), "propagate", True)


@pytest.fixture
def real_home(monkeypatch):
    """The user's own folder of converted weights: making the real embedded base anew takes a minute."""
    if REAL_HOME:
        monkeypatch.setenv("ARENA_RM_HOME", REAL_HOME)
    else:
        monkeypatch.delenv("ARENA_RM_HOME")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """tiny_base(kind) -> folder of a random decoder of that kind, of `tiny.DECODERS`, with a tokenizer; read only."""
    return tiny.Bases(tmp_path_factory.mktemp("tiny_base"))


@pytest.fixture(scope="session")
def tiny_adapter(tiny_base, tmp_path_factory):
    """tiny_adapter(kind, manifest=False, num_labels=1, seed=1) -> folder of an adapter with the card's settings on
    tiny_base(kind), its weights random and none of them zero; with arena_rm.json on request; read only."""
    return tiny.Adapters(tiny_base, tmp_path_factory.mktemp("tiny_adapter"))


@pytest.fixture
def tiny_spec(tiny_base, tiny_adapter):
    """tiny_spec(kind="gemma", **changes) -> a ModelSpec of a tiny judge on the CPU in float32."""
    from harness_plugin.model import ModelSpec

    def made(kind="gemma", /, **changes):
        names = {"pretrained": str(tiny_base(kind)), "peft": str(tiny_adapter(kind))}
        return ModelSpec(**names | {"dtype": "float32", "device": "cpu"} | changes)

    return made


@pytest.fixture
def adapter_copy(tiny_adapter, tmp_path):
    """adapter_copy(kind="gemma", manifest=False, num_labels=1) -> a copy of a tiny adapter that the test may damage."""

    def copied(kind="gemma", **options):
        return shutil.copytree(tiny_adapter(kind, **options), tmp_path / "adapter")

    return copied


@pytest.fixture(scope="session")
def chromium():
    """A browser for the tests of pages; without one they are skipped."""
    if browser.find() is None:
        pytest.skip("there is no Chromium (CHROMIUM names one)")
    found = browser.Browser()
    yield found
    found.close()


@pytest.fixture(scope="session")
def pairs():
    """Some twenty pairs: short and long, of several turns, and with text that is hard on a tokenizer."""
    return tiny.pairs()


@pytest.fixture
def arena(capsys):
    """arena(*args) -> (exit code, stdout, stderr) of arena-rm in this process."""

    def run(*args):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in args])
        out = capsys.readouterr()
        assert not stop.value.code or "Traceback" not in out.err
        return stop.value.code, out.out, out.err

    return run


@pytest.fixture
def gate(monkeypatch, capsys):
    """gate(*arguments) -> (exit code, stdout, stderr) of `arena-rm gate`, outside GitHub."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        capsys.readouterr()
        return code_of(["gate", *map(str, arguments)]), *capsys.readouterr()

    return run
