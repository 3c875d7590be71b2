"""`arena-rm score` by two processes: the scores of one, each presentation computed by one of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness_plugin.engine.processes import own_share
from harness_plugin.pairs import write_pairs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def score(tiny_base, tiny_adapter, pairs, tmp_path):
    """score(name, *launcher) -> (rows written, stderr) of a run in processes of their own."""
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    judge = ["--pretrained", str(tiny_base("gemma3")), "--peft", str(tiny_adapter("gemma3", manifest=True))]

    def run(name, *launcher, file="pairs.jsonl"):
        command = [sys.executable, *launcher, "-m", "harness_plugin.cli", "score", file, *judge, "--dtype", "float32"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ARENA_RM_HOME": str(tmp_path / f"home-{name}"),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run([*command, "-o", name], cwd=tmp_path, env=environment, capture_output=True, text=True)
        rows = (tmp_path / name).read_text(encoding="utf-8").splitlines() if done.returncode == 0 else []
        return [json.loads(row) for row in rows], done

    return run


# what `accelerate launch --multi_gpu` starts; its own command starts one process where there is no GPU
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def test_two_processes_share_the_pairs_and_write_what_one_writes(score, pairs):
    one, _ = score("one")
    two, done = score("two", *TWO)
    assert [r["id"] for r in two] == [r["id"] for r in one] == [p.id for p in pairs]
    for a, b in zip(one, two, strict=True):
        assert a.pop("checksum") and b.pop("checksum")  # of logits that rounding moves
        assert a.pop("z_ab") == pytest.approx(b.pop("z_ab"), abs=1e-5)
        assert {k: v for k, v in a.items() if not isinstance(v, float)} == {
            k: v for k, v in b.items() if not isinstance(v, float)
        }
    assert done.stderr.count("21 pairs, 3 cut") == 1, "only the first process sums up"


def test_pairs_from_stdin_have_one_reader(score):
    _, done = score("none", *TWO, file="-")
    assert done.returncode != 0 and "only one process can read stdin" in done.stderr


def test_shares_are_in_one_piece_and_make_up_the_whole():
    items = list(range(11))
    for count in (1, 2, 3, 20):
        shares = [own_share(items, SimpleNamespace(num_processes=count, process_index=r)) for r in range(count)]
        assert [item for share in shares for item in share] == items and max(map(len, shares)) - min(
            map(len, shares)
        ) <= 1
