"""Copies of a judge that a test changes, to see whether it is the same judge still; `conftest` has the fixture
`judge_copy`. A change is a function of a copy and of pytest's monkeypatch."""

import shutil

import tiny

from harness_plugin.model import ModelSpec, plan_model
from harness_plugin.scoring.identity import judge_identity

BASE, ADAPTER = "model.safetensors", "adapter_model.safetensors"


class JudgeCopy:
    """Copies of a base and an adapter that a test may change, and the identity of the judge that they make."""

    def __init__(self, base, adapter, folder):
        self.base = shutil.copytree(base, folder / "base")
        self.adapter = shutil.copytree(adapter, folder / "adapter")
        self.spec = ModelSpec(
            pretrained=str(self.base),
            peft=str(self.adapter),
            dtype="float32",
            device="cpu",
            temperature=1.5,
            tie_nu=0.5,
            kind="pair",  # some tests change the adapter's settings to others than the card's
        )
        self.order = "both"

    def identity(self) -> dict:
        return judge_identity(plan_model(self.spec), self.order)


def config_of(folder_name, file, **fields):
    return lambda judge, _: tiny.change_json(getattr(judge, folder_name) / file, **fields)


def base_config(**fields):
    return config_of("base", "config.json", **fields)


def adapter_config(**fields):
    return config_of("adapter", "adapter_config.json", **fields)


def byte(folder_name, file, share):
    """Changes one bit of a file, at a share of its length."""

    def change(judge, _):
        path = getattr(judge, folder_name) / file
        content = bytearray(path.read_bytes())
        content[int(share * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return change
