"""How the start-up hook comes into an interpreter, and how it is switched off."""

import pytest
from bridge_runs import PLUG, ROOT, answer, python

START_LINE = (ROOT / "harness_plugin" / "arena_rm_lm_eval.pth").read_text(encoding="utf-8")


@pytest.mark.parametrize(("value", "plugged"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_the_off_switch_is_on_for_anything_but_nothing_and_zero(tmp_path, stand_in, value, plugged):
    code = """
waits = bridge._Finder in sys.meta_path
import lm_eval.models as m, lm_eval.tasks as t
show(waits, "arena_rm" in m.model_registry, t.TaskManager().include_path is not None, bridge.active())
"""
    assert answer(code, tmp_path, stand_in(), ARENA_RM_NO_HOOK=value) == [plugged] * 4


def test_python_m_harness_plugin_is_lm_eval_even_where_the_hook_is_off(tmp_path, stand_in):
    main = """
import sys
def cli_evaluate():
    import lm_eval.models as m
    print(*m.model_registry, *sys.argv[1:])
"""
    code = "import runpy\nsys.argv[1:] = ['ls', 'tasks']\nrunpy.run_module('harness_plugin', run_name='__main__')"
    done = python(code, tmp_path, stand_in(main=main), before="", ARENA_RM_NO_HOOK="1")
    assert done.stdout == "hf arena_rm ls tasks\n", done.stderr


def test_the_start_up_line_installs_the_hook(tmp_path):
    assert START_LINE.startswith("import ") and START_LINE.count("\n") == 1  # site runs only single lines that begin so
    code = f"exec({START_LINE!r})\nimport harness_plugin._bridge as bridge\nshow(bridge.active())"
    assert answer(code, tmp_path, before="", flags=["-S"]) == [True]


def test_the_start_up_line_is_silent_where_the_package_is_gone(tmp_path):
    code = f"sys.path.remove({str(ROOT)!r})\nexec({START_LINE!r})\nprint('harness_plugin' in sys.modules)"
    done = python(code, tmp_path, before="", flags=["-S"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_the_start_file_names_a_function_that_installs_the_hook(tmp_path):
    text = (ROOT / "harness_plugin" / "arena_rm_lm_eval.start").read_text(encoding="utf-8")
    module, name = text.strip().split(":")
    code = f"import {module} as bridge\nbridge.{name}()\nshow(bridge.active())"
    assert answer(code, tmp_path, before="", flags=["-S"]) == [True]


def test_starting_up_loads_two_modules_and_no_other(tmp_path):
    # -S: without the environment's own start-up files, which may have loaded the hook and much else already
    before = "import os\nearlier = set(sys.modules)" + PLUG
    new = answer("show(*sorted(set(sys.modules) - earlier))", tmp_path, before=before, flags=["-S"])
    assert new == ["harness_plugin", "harness_plugin._bridge"]
