"""Programs in fresh interpreters, for the tests of the start-up hook, and the modules of a stand-in for lm-eval."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TASKS_FOLDER = str(ROOT / "tasks")

PRELUDE = """
import json, sys
def show(*values): print(json.dumps(values, default=str))
"""
PLUG = """
import harness_plugin._bridge as bridge
bridge.install()
"""

REGISTRY = """
class Registry(dict):
    def register(self, name, target):
        assert name not in self
        self[name] = target
model_registry = Registry()
"""
MODELS = """
from lm_eval.api.registry import model_registry
model_registry.register("hf", "lm_eval.hf:HFLM")
"""
DISCOVERY = """
from importlib.metadata import EntryPoint
model_registry.register("arena_rm", EntryPoint("arena_rm", "harness_plugin.harness.lm:ArenaRM", "lm_eval.models"))
"""
TASKS = """
class TaskManager:
    def __init__(self, verbosity=None, include_path=None, include_defaults=True):
        self.include_path = include_path
"""


def python(code, folder, *first_on_path, flags=(), before=PLUG, **environment):
    """Run `before` and `code` in `folder` with the checkout importable; returns the finished process."""
    kept = {name: value for name, value in os.environ.items() if name not in ("ARENA_RM_NO_HOOK", "PYTHONWARNINGS")}
    kept["PYTHONPATH"] = os.pathsep.join([*map(str, first_on_path), str(ROOT)])
    command = [sys.executable, *flags, "-c", PRELUDE + before + code]
    kept |= environment
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, encoding="utf-8")


def answer(code, folder, *first_on_path, **more):
    """What `code` gives to show() last. It must end well; warnings are errors where lm-eval is a stand-in."""
    strict = ("-W", "error") if first_on_path else ()
    done = python(code, folder, *first_on_path, **{"flags": strict, **more})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
