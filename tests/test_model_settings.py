"""Settings of a judge: its manifest, the arguments a user gives, device and precision."""

import json
import logging
import subprocess
import sys

import pytest
import tiny
import torch

import harness_plugin
from harness_plugin.errors import ModelError, UsageError
from harness_plugin.model import MANIFEST_FILE, Manifest, ModelSpec, load_model, load_renderer
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.device import choose_device, choose_dtype
from harness_plugin.model.manifest import read_manifest

# -- the manifest -----------------------------------------------------------------------------------------------------


def test_the_manifest_decides_what_the_user_does_not(tiny_spec, tiny_adapter):
    peft = str(tiny_adapter("gemma", manifest=True))
    model = load_model(tiny_spec(peft=peft))
    assert model.renderer.truncation == "budget" and model.renderer.max_length == 512
    assert model.calibration == Calibration(1.5, 0.5)
    model = load_model(tiny_spec(peft=peft, truncation="card", max_length=128, temperature=2.0, tie_nu=0.0))
    assert model.renderer.truncation == "card" and model.renderer.max_length == 128
    assert model.calibration == Calibration(2.0, 0.0)


def test_a_folder_without_a_manifest_has_the_cards_settings_and_the_log_says_so(tiny_spec, caplog):
    caplog.set_level(logging.INFO, "lm_eval.arena_rm")
    model = load_model(tiny_spec())
    assert not model.manifest.found and model.calibration == Calibration(1.0, 0.0)
    assert "no arena_rm.json" in caplog.text and "'truncation': 'card'" in caplog.text


def test_the_renderer_can_be_had_without_the_weights(tiny_spec, tiny_adapter, pairs):
    asked = tiny_spec(peft=str(tiny_adapter("gemma", manifest=True)), max_length=200)
    assert [load_renderer(asked).render(p) for p in pairs] == [load_model(asked).renderer.render(p) for p in pairs]


def test_a_manifest_comes_back_as_it_was_saved(tmp_path):
    manifest = Manifest(base="b", calibration={"temperature": 2.0, "tie_nu": 0.1}, metrics={"acc": 0.5}, max_length=9)
    manifest.save(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert [file.name for file in tmp_path.iterdir()] == [MANIFEST_FILE]
    assert "found" not in json.loads((tmp_path / MANIFEST_FILE).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_version": 2},
        {"template": "Which is better? {prompt} {a} {b}"},
        {"positive_means": "response_a"},
        {"num_labels": 2},
        {"truncation": "left"},
        {"schema": 2},
        {"max_length": "512"},
        {"max_length": 0},
        {"calibration": {"temperature": 1.0}},
        {"calibration": {"temperature": -1.0, "tie_nu": 0}},
        {"calibration": {"temperature": "hot", "tie_nu": 0}},
        {"calibration": [1.0, 0.5]},
        {"calibration": {"temperature": 10**400, "tie_nu": 0}},
        {"calibration": {"temperature": 1, "tie_nu": 0, "length_worth": 10**400}},
        {"calibration": {"temperature": 1, "tie_nu": 0, "surface_worth": "much"}},
        {"sampling": "new"},
        {"base": 5},
        {"training": "none"},
        {"metrics": [1]},
    ],
    ids=lambda change: "-".join(f"{k}={v}" for k, v in change.items())[:40],
)
def test_a_manifest_that_means_something_else_is_refused(adapter_copy, tiny_spec, change):
    folder = adapter_copy(manifest=True)
    tiny.change_json(folder / MANIFEST_FILE, **change)
    field, value = next(iter(change.items()))
    shown = "" if isinstance(value, dict | list) or field in ("template", "training") else field
    tiny.refused(tiny_spec(peft=str(folder)), MANIFEST_FILE, shown)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\udcff", '{"schema": 1, "schema": 1}'])
def test_a_broken_manifest_is_refused(adapter_copy, tiny_spec, text):
    folder = adapter_copy(manifest=True)
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8", errors="surrogateescape")
    tiny.refused(tiny_spec(peft=str(folder)), MANIFEST_FILE, "restore or delete")


def test_a_manifest_with_another_number_of_labels_than_the_head_is_refused(adapter_copy, tiny_spec):
    folder = adapter_copy(manifest=True)
    tiny.change_json(folder / MANIFEST_FILE, num_labels=3)
    tiny.refused(tiny_spec(peft=str(folder)), "1 logits, and arena_rm.json says 3")


# -- what a user asks for -------------------------------------------------------------------------------------------


def test_loosely_typed_arguments_are_cast():
    given = {
        "max_length": "1_000",
        "temperature": "2",
        "tie_nu": 1,
        "merge": "True",
        "allow_pickle": 0,
        "revision": 2024,
    }
    spec = ModelSpec.from_args({**given, "peft": None, "pretrained": "x", "truncation": "card", "device": "cpu"})
    assert spec == ModelSpec(
        pretrained="x",
        max_length=1000,
        temperature=2.0,
        tie_nu=1.0,
        merge=True,
        allow_pickle=False,
        revision="2024",
        truncation="card",
        device="cpu",
    )
    kinds = [
        type(getattr(spec, n)) for n in ("max_length", "temperature", "tie_nu", "merge", "allow_pickle", "revision")
    ]
    assert kinds == [int, float, float, bool, bool, str]
    assert ModelSpec.from_args({"max_length": 1000.0}).max_length == 1000
    assert ModelSpec.from_args({}) == ModelSpec()


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("max_length", "512.5", "a whole number"),
        ("max_length", "long", "a whole number"),
        ("max_length", "inf", "a whole number"),
        ("max_length", "nan", "a whole number"),
        ("temperature", "warm", "a number"),
        ("merge", "perhaps", "true or false"),
        ("merge", 2, "true or false"),
        ("dtype", "int4", "float32, bfloat16"),
        ("maxlength", 512, "max_length"),
    ],
)
def test_arguments_that_mean_nothing_are_refused_by_name(name, value, words):
    with pytest.raises(UsageError) as caught:
        ModelSpec.from_args({name: value})
    assert name in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"max_length": 5}, {"max_length": 0}, {"truncation": "left"}, {"temperature": -1.0}]
)
def test_settings_that_cannot_work_are_refused(tiny_spec, change):
    with pytest.raises(UsageError, match=next(iter(change))):
        load_model(tiny_spec(**change))


def test_float16_with_gemma_warns_and_is_done(caplog):
    dtype, _, reason = choose_dtype("float16", torch.device("cpu"), "gemma3_text")
    assert dtype == torch.float16 and reason == "as asked" and "float16 overflows in Gemma" in caplog.text
    caplog.clear()
    choose_dtype("float16", torch.device("cpu"), "llama")
    choose_dtype("bfloat16", torch.device("cpu"), "gemma")
    assert not caplog.text


def test_the_default_precision_is_what_the_hardware_computes_in(monkeypatch):
    from harness_plugin.kernels import instructions

    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(instructions, "has_bf16", lambda has=has: has)
        chosen, _, reason = choose_dtype("auto", torch.device("cpu"))
        assert chosen == dtype and "bfloat16" in reason


def test_devices_that_are_not_here_are_refused():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(None) == choose_device("auto") == choose_device("")
    with pytest.raises(UsageError, match="banana"):
        choose_device("banana")
    with pytest.raises(ModelError, match="CUDA devices"):
        choose_device("cuda:99")


def test_the_room_opens_without_torch():

    code = "import sys, harness_plugin.model as m; m.ModelSpec(); sys.exit('torch' in sys.modules)"

    root = next(iter(harness_plugin.__path__)).rsplit("harness_plugin", 1)[0]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
