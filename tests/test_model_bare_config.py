"""The embedded base without transformers: its configuration is the same, and scoring with it imports none of it."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny

from harness_plugin.model import embedded
from harness_plugin.model.bare_config import BareConfig, read_bare_config
from harness_plugin.model.embedded_tokenizer import write_tokenizer
from harness_plugin.model.file_hashes import read_sha256
from harness_plugin.model.part_hashes import NAMES, STAMPS, TOKENIZER_CONFIG, settings


@pytest.fixture
def home(monkeypatch, tmp_path, tiny_base):
    """A home in which the tiny Gemma 3 is the converted base."""
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path))
    folder = embedded.base_folder()
    shutil.copytree(tiny_base("gemma3"), folder)
    shutil.copyfile(embedded.CONFIGS / TOKENIZER_CONFIG, folder / TOKENIZER_CONFIG)
    pieces = [*tiny.SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *"abcdefghijklmnopqrstuvwxyz▁", "as", "sk"]
    kinds = np.array([3] * len(tiny.SPECIAL) + [1] * (len(pieces) - len(tiny.SPECIAL)), np.int32)
    write_tokenizer(folder, {"tokenizer.ggml.tokens": pieces, "tokenizer.ggml.token_type": kinds})
    made = {file.name: {"bytes": file.stat().st_size, "sha256": read_sha256(file)} for file in folder.iterdir()}
    marker = {"gguf_sha256": embedded.GGUF_SHA256, "files": made}
    (folder / embedded.MARKER).write_text(json.dumps(marker), encoding="utf-8")
    return tmp_path


def test_the_configuration_is_that_of_transformers():
    """Of the embedded base, and in what identifies a judge; the defaults too."""
    from transformers import AutoConfig, Gemma3TextConfig

    ours, theirs = read_bare_config(embedded.CONFIGS), AutoConfig.from_pretrained(embedded.CONFIGS)
    assert settings(ours) == settings(theirs)
    for one, other in ((ours, theirs), (BareConfig(), Gemma3TextConfig())):
        fields = other.to_dict()
        for name, value in one.to_dict().items():
            assert value == fields.get(name) or (one is not ours and name == "layer_types"), name
    unread = {*theirs.to_dict()} - {*ours.to_dict()} - NAMES - STAMPS
    assert all(theirs.to_dict()[name] == Gemma3TextConfig().to_dict()[name] for name in unread)


def test_scoring_with_the_embedded_base_imports_no_transformers(home, tiny_adapter, tmp_path):
    """With an adapter of the user's own, which is as small as the base here."""
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "ask", "response_a": "one", "response_b": "two"}))
    code = f"""
import sys
from harness_plugin.cli import main
try:
    main(["score", {str(tmp_path / "pairs.jsonl")!r}, "--pretrained", "embedded", "--peft",
          {str(tiny_adapter("gemma3"))!r}, "--device", "cpu"])
finally:
    print(*{{"torch", "transformers", "peft", "scipy"}} & {{*sys.modules}}, file=sys.stderr)
"""
    command, clean = [sys.executable, "-c", code], os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "torch" and json.loads(done.stdout)["z_ab"] is not None
