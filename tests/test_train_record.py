"""What a run leaves beside the weights: training.json, its curves, and a model card that the hub can read."""

import ast
import json
import logging
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from harness_plugin.cli import main
from harness_plugin.engine import Engine
from harness_plugin.model import Manifest, ModelSpec, load_model
from harness_plugin.model.embedded import ADAPTER, BASE_NAME
from harness_plugin.model.manifest import read_manifest
from harness_plugin.pairs import Pair
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.model_card import model_card
from harness_plugin.train.record import renew_card, write_record

ROOT = Path(__file__).resolve().parents[1]
SHA = "ab" * 32
HISTORY = [
    {"step": 20, "epoch": 1.0, "eval_loss": 0.61, "eval_accuracy": float("nan")},
    {"step": 10, "epoch": 0.5, "loss": 0.7, "learning_rate": 2e-4, "grad_norm": float("inf")},
]
RUN = {
    "device": "NVIDIA H200",
    "devices": 2,
    "seconds": 5400.0,
    "tokens": 1_000_000,
    "pairs": 90,
    "truncation": {"pairs": 90, "cut": 0.123456, "full": {"total": {"p50": 310}}},
}
METRICS = {
    "acc": {"value": 0.71, "low": 0.62, "high": 0.79, "n": 80},
    "longer_wins": {"value": 0.66, "low": 0.55, "high": 0.75, "n": 80},
    "prior_log_loss": {"value": 1.09, "low": 1.08, "high": 1.1, "n": 100},
    "brier": {"value": None, "low": None, "high": None, "n": 100},
    "n_pairs": {"value": 100.0, "low": None, "high": None, "n": 100},
    "soft_log_loss": 0.6543,
}


def made(base="google/gemma-2b", **fields):
    training = {
        "recipe": TrainConfig(base=base).to_dict(),
        "files": [{"name": "mine.jsonl", "sha256": SHA, "pairs": 1000}],
        "pairs": 90,
        "validation_pairs": 100,
        "duplicates": 3,
        "log": HISTORY,
    }
    settings = {"base": base, "training": training, "metrics": {"validation": METRICS}, "versions": {"torch": "2.9"}}
    return Manifest(**settings | {"calibration": {"temperature": 1.25, "tie_nu": 0.5, "n": 100}} | fields)


@pytest.fixture
def heard():
    """What the modules log, a text a message."""
    said, log = [], logging.getLogger("lm_eval.arena_rm")
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    log.addHandler(handler)
    yield said
    log.removeHandler(handler)


def stored(folder):
    return json.loads((folder / "training.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


# training.json


def test_the_record_holds_the_run_and_numbers_that_are_none_are_null(tmp_path):
    write_record(tmp_path, made(), HISTORY, RUN)
    found = stored(tmp_path)
    assert found["schema"] == 1 and found["recipe"] == TrainConfig().to_dict()
    assert found["data"]["files"][0]["sha256"] == SHA and found["data"]["duplicates"] == 3
    assert not {"recipe", "log"} & set(found["data"])
    assert found["history"] == [
        {"step": 10, "epoch": 0.5, "loss": 0.7, "learning_rate": 2e-4, "grad_norm": None},
        {"step": 20, "epoch": 1.0, "eval_loss": 0.61, "eval_accuracy": None},
    ]
    assert found["metrics"]["validation"] == METRICS and found["calibration"]["tie_nu"] == 0.5
    assert (found["device"], found["devices"], found["seconds"], found["pairs"]) == ("NVIDIA H200", 2, 5400.0, 90)
    assert found["tokens"] == {"trained": 1_000_000, "per_second": 185.2}
    assert found["truncation"] == RUN["truncation"] and found["versions"] == {"torch": "2.9"}


def test_what_the_loop_does_not_know_is_null_and_its_number_types_do_not_matter(tmp_path):
    pytest.importorskip("matplotlib")
    run = {"seconds": np.float32(2.5), "tokens": np.int64(5), "truncation": {"p": (np.float64("nan"), np.bool_(True))}}
    write_record(tmp_path, made(), [{"step": np.int64(1), "loss": torch.tensor(0.5)}], run)
    found = stored(tmp_path)
    assert found["history"] == [{"step": 1, "loss": 0.5}] and found["truncation"] == {"p": [None, True]}
    assert found["tokens"] == {"trained": 5, "per_second": 2.0}
    assert found["device"] is found["devices"] is found["pairs"] is None
    write_record(tmp_path, made(), HISTORY, {"seconds": math.nan, "tokens": 5})
    assert stored(tmp_path)["tokens"] == {"trained": 5, "per_second": None} and stored(tmp_path)["seconds"] is None
    with pytest.raises(TypeError, match="object has no form in JSON"):
        write_record(tmp_path, made(), [{"step": 1, "loss": object()}], RUN)


def backwards(value):
    """The same facts in the opposite order of their names."""
    return {k: backwards(value[k]) for k in reversed(value)} if isinstance(value, dict) else value


def test_the_same_run_gives_the_same_files_and_the_record_whatever_the_order_of_its_facts(tmp_path):
    for name, run, history in (("one", RUN, HISTORY), ("two", RUN, HISTORY), ("three", backwards(RUN), HISTORY[::-1])):
        (tmp_path / name).mkdir()
        write_record(tmp_path / name, made(), history, run)
    one, two, three = ({f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in ("one", "two", "three"))
    assert {"README.md", "training.json"} <= set(one) <= {"README.md", "training.json", "training.png"}
    assert one == two and {**one, "README.md": None} == {**three, "README.md": None}


def test_the_picture_is_there_and_a_history_without_losses_costs_no_more_than_it(tmp_path, heard):
    pytest.importorskip("matplotlib")
    write_record(tmp_path, made(), HISTORY, RUN)
    assert (tmp_path / "training.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and not heard
    (tmp_path / "training.png").unlink()
    write_record(tmp_path, made(), [], RUN)
    assert len(heard) == 1 and heard[0].startswith("arena_rm: training.png was not drawn: no loss in 0 rows")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "training.json"]


def test_without_matplotlib_the_record_and_the_card_are_written_all_the_same(tmp_path):
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name=name)
sys.meta_path.insert(0, Blocked())
import conftest
from harness_plugin.model import Manifest
from harness_plugin.train.record import renew_card, write_record
write_record({str(tmp_path)!r}, Manifest(), [{{"step": 1, "loss": 0.7}}], {{}})
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "training.json"]
    (said,) = done.stderr.splitlines()
    assert said.endswith("matplotlib is not installed; the plot needs it; pip install 'lm-eval-arena-rm[report]'")


# The card


def front_matter(text):
    """The card's metadata as the hub's own parser reads it, after a round trip through its writer."""
    from huggingface_hub import ModelCard, ModelCardData

    card = ModelCard(text)
    assert card.text.strip().startswith("# A judge of pairs on ")
    again = ModelCard(f"---\n{card.data.to_yaml()}\n---\n{card.text}").data.to_dict()
    assert again == card.data.to_dict() == ModelCardData(**again).to_dict()
    return again


def tables(text):
    """The cells of every table, row by row, pipes inside of cells still escaped; all rows as wide as their head."""
    found = []
    for block in text.split("\n\n"):
        if block.startswith("|"):
            rows = [re.split(r"(?<!\\)\|", row)[1:-1] for row in block.splitlines()]
            assert all(row.startswith("|") and row.endswith("|") for row in block.splitlines())
            assert {len(row) for row in rows} == {len(rows[0])}, block
            found.append([[cell.strip() for cell in row] for row in rows])
    return found


def test_the_front_matter_is_what_the_hub_reads():
    assert front_matter(model_card(made(), RUN)) == {
        "base_model": "google/gemma-2b",
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "tags": ["reward-model", "lora", "arena-rm", "peft"],
        "license": "other",
        "license_name": "gemma",
        "license_link": "https://ai.google.dev/gemma/terms",
    }
    assert front_matter(model_card(made(BASE_NAME), RUN))["base_model"] == "google/gemma-3-270m"
    assert "license" not in front_matter(model_card(made("org/other-1b"), RUN))
    assert "base_model" not in front_matter(model_card(Manifest(), {}))


@pytest.mark.parametrize(
    ("base", "terms"),
    [
        ("google/gemma-2b", True),
        ("google/gemma-7b-it", True),
        ("google/gemma-1.1-7b-it", True),
        ("a/Gemma-2-9b", True),
        ("/models/gemma-2b/", True),
        ("/models/mine", False),
        ("google/gemma-3-270m", True),
        ("google/gemma-3n-E2B", True),
        ("google/embeddinggemma-300m", True),
        ("google/codegemma-2b", True),
        ("google/gemma-4-E2B-it", False),
        ("google/gemma-4-26b-a4b", False),
        ("google/medgemma-4b-it", False),
        ("meta/llama-3-8b", False),
    ],
)
def test_googles_terms_are_named_for_the_gemmas_that_have_them(base, terms):
    text = model_card(made(base), RUN)
    assert (front_matter(text).get("license_name") == "gemma") == terms
    assert ("Gemma Terms of Use" in text) == terms != ("the licence of the base applies" in text)


def test_a_local_folder_is_known_as_a_gemma_by_what_it_holds_and_its_place_is_not_told(tiny_base, tmp_path):
    folder = tmp_path / "secret" / "mine"
    folder.parent.mkdir()
    folder.symlink_to(tiny_base("gemma3"))
    manifest = made(str(folder))
    manifest.training["files"] = [{"name": "/home/me/secret/pairs.jsonl", "sha256": SHA, "pairs": 9}]
    manifest.training["recipe"]["base"] = "secret/../mine"
    manifest.training["recipe"]["lora"]["target_modules"] = ["C:\\Users\\secret\\thing", "~/secret/other"]
    text = model_card(manifest, {**RUN, "device": "/dev/secret/gpu0"})
    assert "secret" not in text and str(tmp_path) not in text
    assert all(f"`{name}`" in text for name in ("mine", "pairs.jsonl", "gpu0")) and "thing, other" in text
    assert front_matter(text)["license_name"] == "gemma" and "base_model" not in front_matter(text)
    assert "pretrained=BASE,peft=FOLDER" in text


HOSTILE = "a|b\\|c `x` ```\n---\n# head\n| <script> |\r: {y: [1} \x00\u2028'\""


def test_hostile_names_break_neither_the_front_matter_nor_a_table_nor_a_block():
    harmless = model_card(made("/m/plain"), RUN)
    manifest = made("/m/" + HOSTILE, base_revision=HOSTILE, template=f"{{prompt}}\n```\n{{a}}\n````\n{{b}} {HOSTILE}")
    manifest.training["files"] = [{"name": HOSTILE, "sha256": HOSTILE, "pairs": "many"}]
    manifest.training["teacher"] = {"name": HOSTILE, "sha256": SHA}
    manifest.training["recipe"]["select"] = {"sources": {HOSTILE: 3, "*bold*": 4, "pipe|alone": 5, "slash\\": 6}}
    manifest.training["recipe"]["lora"]["target_modules"] = [HOSTILE]
    manifest.metrics[HOSTILE] = {HOSTILE: {"value": HOSTILE, "n": math.nan}}
    run = {**RUN, "device": HOSTILE, "truncation": {HOSTILE: HOSTILE}, "devices": math.inf}
    text = model_card(manifest, run, terms=HOSTILE)
    assert front_matter(text) == front_matter(harmless)
    assert [t[0] for t in tables(text)] == [t[0] for t in tables(harmless)] and len(tables(text)) == 4
    outside = re.sub(r"(?ms)^(`{3,})\w*$.*?^\1$", "", text)
    assert [row for row in outside.splitlines() if row.startswith("#")][1:] == [
        "## Use",
        "## Training",
        "## Measured",
        "## Calibration",
        "## Limits",
        "## Terms",
    ]
    assert all(c.isprintable() or c == "\n" for c in outside)
    cells = [cell for table in tables(outside) for row in table for cell in row]
    assert not [cell for cell in cells if "<script" in cell or ("\\" in cell)]
    assert any("&#124;" in cell for cell in cells) and "not known" in cells and "`select.sources.*bold*`" in cells
    code = re.search(r"(?ms)^`{3,}python$(.*?)^`{3,}$", text)[1]
    assert [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)].count(HOSTILE) == 2


def test_the_tables_hold_recipe_data_run_and_metrics_with_their_n():
    text = model_card(made(), RUN)
    data, run, recipe, metrics = tables(text)
    assert data[2] == ["`mine.jsonl`", "1,000", f"`{SHA}`"]
    assert dict(run)["tokens"] == "1,000,000" and dict(run)["time"] == "90.0 min" and dict(run)["devices"] == "2"
    assert dict(run)["device"] == "`NVIDIA H200`" and dict(run)["pairs trained on"] == "90"
    assert dict(run)["truncation: `cut`"] == "`0.1235`" and dict(run)["truncation: `full.total.p50`"] == "`310`"
    recipe = dict(recipe)
    assert recipe["base"] == "`google/gemma-2b`" and recipe["`lora.r`"] == "`16`" and recipe["`epochs`"] == "`10.0`"
    assert recipe["`lora.target_modules`"] == "`o_proj, v_proj, q_proj, k_proj`" and recipe["`warmup`"] == "`0.0`"
    assert metrics[2:] == [
        ["`validation`", "`acc`", "0.710", "0.620 to 0.790", "80"],
        ["`validation`", "`longer_wins` (baseline)", "0.660", "0.550 to 0.750", "80"],
        ["`validation`", "`prior_log_loss` (baseline)", "1.090", "1.080 to 1.100", "100"],
        ["`validation`", "`brier`", "not known", "", "100"],
        ["`validation`", "`soft_log_loss`", "0.654", "", ""],
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Temperature 1.250, tie mass 0.500 (Davidson); by maximum likelihood on\n100 held-out pairs"),
        ({"calibration": None}, "None: P(tie) is not known"),
        ({"num_labels": 3}, "Temperature 1.250, and the head says P(tie) itself; by"),
        ({"num_labels": 3, "calibration": None}, "None; the head says P(tie) itself."),
        ({"num_labels": 3}, "gives three logits: **A is preferred, B is preferred, tie**"),
        ({}, "gives one logit; **positive means that response B is preferred**"),
        ({}, "at most 512 tokens (cut on the right)"),
        ({"truncation": "budget", "max_length": 77}, "at most 77 tokens (the length shared out"),
        ({}, "```\nWhich response is better for the prompt: {prompt}\n\nResponse A: {a}\n\nResponse B: {b}\n```"),
    ],
)
def test_the_card_says_what_the_logits_mean_and_how_they_are_calibrated(fields, said):
    assert said in model_card(made(**fields), RUN)


def test_the_terms_of_the_data_are_those_that_were_stated_and_no_others():
    assert "- Data terms: not stated\n" in model_card(made(), RUN) == model_card(made(), RUN, terms=" \n")
    assert "- Data terms: CC BY 4.0, see x\n" in model_card(made(), RUN, terms="CC BY 4.0,\n see x")


def test_a_manifest_that_knows_nothing_still_has_a_card_without_made_up_numbers():
    text = model_card(Manifest(), {})
    front_matter(text)
    assert tables(text)[0][2:] == [["not known"] * 3] and "None: P(tie)" in text
    assert not re.search(r"\b(nan|inf|None,|null)\b", text)


def test_the_shipped_adapter_has_a_card_with_the_figures_of_its_manifest():
    text = model_card(read_manifest(ADAPTER), {})
    metrics = {(row[0], row[1]): row[2:] for row in tables(text)[3]}
    assert metrics["`validation`", "`acc`"] == ["0.648", "0.623 to 0.672", "1,455"] and "1,880" in text


# What the card tells people to do


def test_the_cards_snippet_gives_the_logit_of_arena_rm(tiny_base, tiny_adapter, capsys):
    base, adapter = tiny_base("gemma3"), tiny_adapter("gemma3", manifest=True)
    manifest = read_manifest(adapter)
    text = model_card(manifest, RUN)
    code = re.search(r"(?ms)^```python$(.*?)^```$", text)[1]
    assert '"BASE"' in code and '"FOLDER"' in code
    exec(code.replace('"BASE"', repr(str(base))).replace('"FOLDER"', repr(str(adapter))), {})
    side, logit = capsys.readouterr().out.split()
    judge = load_model(ModelSpec(pretrained=str(base), peft=str(adapter), dtype="float32", device="cpu"))
    pair = Pair("What is 7 times 8?", "7 times 8 is 56.", "It is 54, I think.")
    z = float(Engine(judge).logits([judge.renderer.render(pair).ids])[0, 0])
    assert float(logit) == pytest.approx(z, abs=1e-4) and side == ("B" if z > 0 else "A")


def test_the_cards_snippet_for_three_logits_names_them(tiny_base, tiny_adapter, capsys):
    base, adapter = tiny_base("gemma"), tiny_adapter("gemma", num_labels=3)
    code = re.search(r"(?ms)^```python$(.*?)^```$", model_card(made("/m/b", num_labels=3), RUN))[1]
    exec(code.replace('"BASE"', repr(str(base))).replace('"FOLDER"', repr(str(adapter))), {})
    p = ast.literal_eval(capsys.readouterr().out)
    assert list(p) == ["A", "B", "tie"] and sum(p.values()) == pytest.approx(1)


def test_the_cards_command_scores_pairs(tiny_base, tiny_adapter, tmp_path, monkeypatch, capsys):
    base, adapter = tiny_base("gemma"), tiny_adapter("gemma", manifest=True)
    monkeypatch.chdir(tmp_path)
    row = {"prompt": tiny.words(4, 1), "response_a": tiny.words(5, 2), "response_b": tiny.words(6, 3)}
    Path("pairs.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (line,) = re.findall("(?m)^arena-rm (.*)$", model_card(read_manifest(adapter), RUN))
    with pytest.raises(SystemExit) as stop:
        main(line.replace("BASE", str(base)).replace("FOLDER", str(adapter)).split())
    assert stop.value.code == 0, capsys.readouterr().err
    assert json.loads(Path("scores.jsonl").read_text(encoding="utf-8"))["z_ba"] is not None


def test_a_card_that_is_not_in_utf8_is_somebody_elses_and_stays(tmp_path):
    written = "## Calibration\n\nfür alle\n".encode("latin-1")
    (tmp_path / "README.md").write_bytes(written)
    renew_card(tmp_path, Manifest())
    assert (tmp_path / "README.md").read_bytes() == written
