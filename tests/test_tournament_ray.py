"""`arena-rm judge --engine ray` on a cluster of two workers: the plain run's numbers, whatever dies on the way."""

import json
import os
import signal
from pathlib import Path

import pyarrow
import pytest
import tiny
import torch
from pyarrow import parquet

from harness_plugin.cli import main
from harness_plugin.tournament import blocks, ray_judge

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
ROOT = Path(__file__).resolve().parents[1]
MODELS = ("heron", "ibis", "stork")
PROMPTS = [tiny.words(5, n) for n in range(16)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two machines of one core each, in this machine's processes. Yields a function that adds another one, and returns
    one that takes it away."""
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    machine = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    made = Cluster()
    for _ in range(2):
        started(made.add_node, machine)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")

    def another():
        node = started(made.add_node, machine)
        return lambda: made.remove_node(node, allow_graceful=False)

    yield another
    ray.shutdown()
    made.shutdown()


def started(add_node, machine, tries=4):
    """Ray gives a machine half a minute to start, which is little where many programs run."""
    for left in range(tries, 0, -1):
        try:
            return add_node(**machine)
        except Exception as error:
            if "timed out during startup" not in str(error) or left == 1:
                raise


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def judge(tiny_base, tiny_adapter, capsys, tmp_path):
    """judge(engine, folder, *args, code=0) -> (verdicts, leaderboard, stderr) of a run into tmp_path/folder."""
    names = ["--pretrained", tiny_base("gemma"), "--peft", tiny_adapter("gemma", manifest=True), "--dtype", "float32"]

    def run(engine, folder, *args, code=0):
        own = ["--no-cache"] if engine == "local" else ["--engine", engine]
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in ["judge", *names, *own, "-o", folder, *args]])
        err = capsys.readouterr().err
        assert stop.value.code == code, err
        assert "Traceback" not in err
        return (*left_in(folder), err) if not code else err

    return run


def left_in(folder):
    folder = Path(str(folder).removeprefix("file://"))
    lines = (folder / "verdicts.jsonl").read_text("utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines], json.loads((folder / "leaderboard.json").read_text("utf-8"))


@pytest.fixture
def answers(tmp_path):
    """answers(*models) -> a folder of their answers."""
    (tmp_path / "answers").mkdir()

    def write(*models):
        for model in models:
            rows = [{"instruction": p, "output": said_by(model, n), "generator": model} for n, p in enumerate(PROMPTS)]
            (tmp_path / "answers" / f"{model}.json").write_text(json.dumps(rows), "utf-8")
        return tmp_path / "answers"

    return write


def said_by(model, n):
    return tiny.words(3 + n * len(model) % 17, 100 * MODELS.index(model) + n)


def same(found, expected):
    """Whether two runs' verdicts are equal, but for rounding: other batches, other sums."""
    numbers = ("z_ab", "z_ba", "score", "position_bias", "p_a", "p_b", "p_tie", "confidence")
    others = [
        [{k: v for k, v in row.items() if k not in (*numbers, "checksum")} for row in rows]
        for rows in (found, expected)
    ]
    assert others[0] == others[1]
    for name in numbers:
        assert [row[name] for row in found] == pytest.approx([row[name] for row in expected], abs=1e-5)
    return True


def blocks_in(folder):
    return sorted((folder / "scores").glob("*/*.parquet"))


def workers():
    """Process ids of this process's actors that judge."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, parent = int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
            title = (stat.parent / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if title.startswith(b"ray::Worker") and os.getpid() in ancestors(parent):
            found.append(pid)
    return found


def ancestors(pid):
    line = []
    while pid > 1:
        line.append(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return line


def test_a_cluster_gives_the_plain_runs_numbers_though_a_worker_dies(cluster, judge, answers, monkeypatch, tmp_path):
    files, real, killed = answers(*MODELS), blocks.Blocks.write, []

    def write(self, rows):
        real(self, rows)
        if not killed:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(blocks.Blocks, "write", write)
    found, board, err = judge("ray", tmp_path / "ray", files)
    plain, expected, _ = judge("local", tmp_path / "plain", files)
    assert killed and len(found) == 48 and same(found, plain) and "hours of one worker" in err
    assert [m["model"] for m in board["models"]] == [m["model"] for m in expected["models"]]
    assert board["judge"] == expected["judge"]
    assert len(blocks_in(tmp_path / "ray")) == 8, "four for each worker"
    stored = parquet.ParquetDataset(blocks_in(tmp_path / "ray")).read()
    rows = [json.loads(row) for row in stored[blocks.COLUMN].to_pylist()]
    assert sorted(row["key"] for row in rows) == sorted(row["key"] for row in found)
    assert {row["judge"] for row in rows} == {board["judge"]["hash"]}


def test_the_blocks_of_a_machine_that_is_lost_for_good_go_to_the_others(cluster, judge, answers, monkeypatch, tmp_path):
    real, lose, lost = blocks.Blocks.write, cluster(), []

    def write(self, rows):
        real(self, rows)
        if not lost:
            lost.append(lose())

    monkeypatch.setattr(blocks.Blocks, "write", write)
    monkeypatch.setattr(ray_judge, "BLOCK", 2)
    found, _, _ = judge("ray", tmp_path / "ray", answers(*MODELS))
    assert lost and len({row["key"] for row in found}) == len(found) == 48


def test_by_uri_a_run_that_breaks_off_continues_from_its_blocks(cluster, judge, answers, monkeypatch, tmp_path):
    """Answers as JSON, JSONL and Parquet; results elsewhere, where no journal is left."""
    folder, real = answers("heron"), blocks.Blocks.write
    rows = {
        model: [{"instruction": p, "output": said_by(model, n), "generator": model} for n, p in enumerate(PROMPTS)]
        for model in ("ibis", "stork")
    }
    lines, table = tmp_path / "ibis.jsonl", tmp_path / "table.parquet"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows["ibis"]), "utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(rows["stork"]), table)
    given = [f"file://{name}" for name in (folder, lines, table)]

    def write(self, rows):
        real(self, rows)
        if len(blocks_in(tmp_path / "out")) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(ray_judge, "BLOCK", 2)
    monkeypatch.setattr(blocks.Blocks, "write", write)
    judge("ray", f"file://{tmp_path}/out", *given, code=130)
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["scores"]
    left = sum(parquet.read_metadata(file).num_rows for file in blocks_in(tmp_path / "out"))
    assert 5 <= left <= 10, "five blocks of one or two pairs"
    monkeypatch.setattr(blocks.Blocks, "write", real)
    found, _, err = judge("ray", f"file://{tmp_path}/out", *given)
    assert f"{left} scores of earlier runs are used again" in err and len(found) == 48
    assert same(found, judge("local", tmp_path / "plain", answers(*MODELS))[0])
    left = {f.name for f in (tmp_path / "out").iterdir()}
    assert left == {"scores", *(f.name for f in (tmp_path / "plain").iterdir())}


def test_a_judge_that_workers_cannot_load_is_one_line(cluster, judge, answers, tmp_path):
    err = judge("ray", tmp_path / "a", answers(*MODELS), "--peft", "nowhere", code=3)
    assert err.splitlines()[-1].startswith("arena-rm: worker on ") and "nowhere" in err.splitlines()[-1]
