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
# What would change the results: a proxy, which would be asked for the servers that tests start on this machine too;
# and a runner of GitHub, for which the gate writes more, and into the runner's own files.
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
for name in (*PROXIES, *map(str.upper, PROXIES), "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
    os.environ.pop(name, None)

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
import tournament_command  # noqa: E402 - it needs the package
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
def large_judge(tmp_path_factory):
    """(base, adapter): folders of a Gemma 2 whose embedding is far larger than what a fingerprint samples of it; read
    only."""
    folder = tmp_path_factory.mktemp("large")
    base = tiny.save_base("gemma2", folder / "base", vocab_size=20_000)
    return base, tiny.save_adapter(base, folder / "adapter")


@pytest.fixture
def judge_copy(large_judge, tmp_path):
    """A `JudgeCopy` of `large_judge`."""
    from judge_copies import JudgeCopy

    return JudgeCopy(*large_judge, tmp_path)


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


@pytest.fixture(scope="session")
def lesson_file(tmp_path_factory):
    """A file of 48 pairs that a short training run can learn; read only."""
    from training_runs import lesson

    from harness_plugin.pairs import write_pairs

    file = tmp_path_factory.mktemp("lesson") / "lesson.jsonl"
    write_pairs(file, lesson(48))
    return str(file)


@pytest.fixture
def watched(monkeypatch):
    """What the next training run does, as a dict: its "network", the weights "before" the first step by name, the
    examples of "training" and "validation", and the "rows" that were shown as (pair's id, epoch, label for B)."""
    from harness_plugin.train import run

    seen = {"rows": []}
    build, real = run.build, run.Examples

    def watched_build(*args):
        network = seen["network"] = build(*args)
        weights = ((name, p) for name, p in network.named_parameters() if p.is_floating_point())
        seen["before"] = {name: p.detach().clone() for name, p in weights}
        return network

    class Watched(real):
        def __init__(self, pairs, renderer, config, plain=False):
            super().__init__(pairs, renderer, config, plain)
            seen["validation" if plain else "training"] = self

        def __getitem__(self, i):
            row = super().__getitem__(i)
            seen["rows"].append((self.pairs[i].id, self.epoch, row["labels"][1]))
            return row

    monkeypatch.setattr(run, "build", watched_build)
    monkeypatch.setattr(run, "Examples", Watched)
    return seen


@pytest.fixture(params=["local", "elsewhere"])
def store_journal(request, monkeypatch):
    """Runs a test with the write-ahead log of a store of scores on this machine's own disk ("local"), and with its
    journal for file systems of several machines ("elsewhere")."""
    from harness_plugin.scoring import store

    if request.param == "elsewhere":
        monkeypatch.setattr(store, "LOCAL", set())
    return request.param


@pytest.fixture
def clock(monkeypatch):
    """A clock in the place of the real one, on which waiting for a served judge costs no time."""
    import served_server

    return served_server.clock(monkeypatch)


@pytest.fixture
def served_home(monkeypatch, tmp_path):
    """A home and a key for served judges of the test's own."""
    import served_server

    served_server.own_home(monkeypatch, tmp_path)


@pytest.fixture
def served(clock):
    """served(speaks) -> a `served_server.Server`; waiting for it costs no time."""
    import served_server

    with served_server.servers() as started:
        yield started


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
def gate(capsys):
    """gate(*arguments) -> (exit code, stdout, stderr) of `arena-rm gate`."""

    def run(*arguments):
        capsys.readouterr()
        return code_of(["gate", *map(str, arguments)]), *capsys.readouterr()

    return run


@pytest.fixture
def draw():
    """Random numbers of torch, the same in each test."""
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture
def judge_options(tiny_base, tiny_adapter):
    """The options of a tiny judge whose calibration has ties."""
    names = ["--pretrained", tiny_base("gemma"), "--peft", tiny_adapter("gemma", manifest=True)]
    return [*names, "--dtype", "float32", "--device", "cpu"]


@pytest.fixture
def judged(arena, judge_options, tmp_path):
    """judged(*args) -> (verdicts, leaderboard.json, stdout, stderr) of a run of `arena-rm judge` into tmp_path/out that
    ended well, with a cache of this test's own and without pictures."""
    return tournament_command.judged_into(arena, judge_options, tmp_path)


@pytest.fixture
def asked(monkeypatch):
    """Every presentation that the engine is asked to score from here on."""
    from harness_plugin.engine import Engine

    seen, real = [], Engine.logits

    def logits(self, sequences, done=None):
        seen.extend(map(tuple, sequences))
        return real(self, sequences, done)

    monkeypatch.setattr(Engine, "logits", logits)
    return seen


@pytest.fixture
def answer_file(tmp_path):
    """answer_file(model, prompts=PROMPTS, answer=None) -> a file of its answers in tmp_path/answers."""
    return tournament_command.answer_files(tmp_path)


@pytest.fixture
def three_answers(answer_file):
    """Files of the answers of three models, `tournament_command.MODELS`."""
    return [answer_file(model) for model in tournament_command.MODELS]


@pytest.fixture
def stand_in(tmp_path):
    """stand_in(models, tasks, registry, main) -> a folder to put on the path, with a package named lm_eval. Its modules
    have these texts, by default those of `bridge_runs`."""
    from bridge_runs import MODELS, REGISTRY, TASKS

    def write(models=MODELS, tasks=TASKS, registry=REGISTRY, main=""):
        texts = {"__init__": "", "__main__": main, "api/__init__": "", "api/registry": registry}
        for name, text in {**texts, "models/__init__": models, "tasks/__init__": tasks}.items():
            file = tmp_path / "stand_in" / "lm_eval" / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path / "stand_in"

    return write
