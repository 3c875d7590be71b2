"""The memory of a tournament by its number of verdicts, as `benchmarks/tournament.py` measures it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "tournament.py"


@pytest.mark.slow
def test_a_verdict_costs_little_memory(tmp_path):
    """Verdicts stay on the disk and their numbers in arrays.

    When each verdict was an object in memory, it cost about 8 KiB; since then 2.6 KiB were measured, with the answers'
    texts.
    """
    call = [sys.executable, str(BENCHMARK), "--models", "4,10", "--prompts", "200", "--work", str(tmp_path)]
    subprocess.run([*call, "-o", str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    small, large = json.loads((tmp_path / "tournament.json").read_text(encoding="utf-8"))["rows"]
    assert (small["verdicts"], large["verdicts"]) == (1200, 9000)
    grown = max(large["peak_mib"].values()) - max(small["peak_mib"].values())
    assert grown * 1024 / (large["verdicts"] - small["verdicts"]) < 5
