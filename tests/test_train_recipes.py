"""Every shipped recipe, run for real on a tiny base, and the settings that deserve a run of their own."""

import json
import math
import shutil
import sys

import numpy as np
import pytest
import tiny
import torch
from lm_runs import evaluate, lls
from safetensors.torch import load_file
from test_train_runs import CARD, CARD_LORA, in_order, lesson, snippet

from harness_plugin.cli import main
from harness_plugin.engine import Engine
from harness_plugin.errors import ModelError, UsageError
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.pairs import Pair, Winner, read_pairs, write_pairs
from harness_plugin.train import run
from harness_plugin.train.config import find_config, read_config
from harness_plugin.train.network import build, compile_layers
from harness_plugin.train.split import split

pytestmark = pytest.mark.slow

SHORT = (
    "max_length=96",
    "epochs=1",
    "batch_size=8",
    "accumulation=1",
    "evaluations=2",
    "validation_share=0.25",
    "learning_rate=0.01",
    "head_learning_rate=0.01",
)
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
ENCODER = ("lora.target_modules=[query, value]", "lora.modules_to_save=[classifier]")
HEAD = "base_model.model.score.weight"
A_FIRST = [1, 0, 2]  # the columns A, B, tie after the sides are exchanged


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipes") / "lesson.jsonl"
    write_pairs(file, lesson(48))
    return str(file)


@pytest.fixture
def arena_rm(capsys):
    """arena_rm(*args) -> (exit code, stdout, stderr) of the command in this process."""

    def run(*args):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in args])
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def seen(monkeypatch):
    """The network of the next run, and its examples by the side that they are on."""
    kept, build, real = {}, run.build, run.Examples

    def keep(*args):
        kept["network"] = build(*args)
        return kept["network"]

    class Kept(real):
        def __init__(self, pairs, renderer, config, plain=False):
            super().__init__(pairs, renderer, config, plain)
            kept["validation" if plain else "training"] = self

    monkeypatch.setattr(run, "build", keep)
    monkeypatch.setattr(run, "Examples", Kept)
    return kept


def recipe(name, base, *more):
    return read_config(find_config(name), (f"base={base}", *more))


def short(*more):
    """The settings of a short run, with `more` in the place of those that they change."""
    changed = {change.split("=")[0] for change in more}
    return (*(change for change in SHORT if change.split("=")[0] not in changed), *more)


def made(name, base, data, out, *more):
    """The manifest of a short run of the recipe."""
    return run.train(recipe(name, base, *short(*more)), run.Request([data], device="cpu"), out)


def settings(base, *more):
    """The same as options of the command."""
    changes = [word for change in (f"base={base}", *short(*more)) for word in ("--set", change)]
    return [*changes, "--device", "cpu"]


@pytest.mark.parametrize("change", ["head_learning_rate=-0.1", "weight_decay=-1", "max_grad_norm=-1"])
def test_a_setting_that_would_stop_or_turn_the_run_is_refused_with_the_recipe(change):
    with pytest.raises(UsageError, match=f"{change.split('=')[0]}: .*it must be 0"):
        recipe("default", "any", change)


def stored(out):
    return json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))


def targets(out):
    """The names, without their places, of the modules that have LoRA."""
    return {name.split(".")[-1] for name in stored(out)["target_modules"]}


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def losses(manifest, name="loss"):
    return [row[name] for row in manifest.training["log"] if name in row]


def judges(base, out):
    """The folder's judge and the card's snippet, unchanged, give the same logits, and those are no constant."""
    model = load_model(ModelSpec(peft=str(out), dtype="float32", device="cpu"))
    fresh = lesson(10, seed=5)
    ours = Engine(model).logits([model.renderer.render(p).ids for p in fresh])[:, 0]
    logit = snippet(base, out)
    assert ours == pytest.approx([logit(p) for p in fresh], abs=1e-4)
    assert np.ptp(ours) > 1e-2


# Three ways


def contest(n):
    """Pairs that can be learned: an answer that says "rain" beats one that says "sail"; where both do, it is a tie. One
    label in seven is another, so that certainty would be punished."""
    rows = []
    for i in range(n):
        ends, winner = [
            (("rain", "sail"), Winner.MODEL_A),
            (("sail", "rain"), Winner.MODEL_B),
            (("rain", "rain"), Winner.TIE),
        ][i % 3]
        answers = (f"{tiny.words(1 + (i + side) % 5, 50 * i + side)} {end}" for side, end in enumerate(ends))
        winner = list(Winner)[i % 2] if i % 7 == 6 else winner
        rows.append(Pair(f"{tiny.words(3, i)} {i}", *answers, id=f"t{i}", winner=winner))
    return rows


def three_logits(base, adapter, pairs):
    """(logits as they stand, logits of the exchanged sides), each of shape (n, 3), by transformers and PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        views = [(p.prompt, p.response_a, p.response_b) for q in pairs for p in (q, q.swap())]
        z = [model(**tokenizer(CARD.format(*v), return_tensors="pt")).logits[0].double().numpy() for v in views]
    return np.array(z[::2]), np.array(z[1::2])


def probabilities(z_ab, z_ba, temperature):
    first, second = (z / temperature - np.log(np.exp(z / temperature).sum(1, keepdims=True)) for z in (z_ab, z_ba))
    mean = np.exp((first + second[:, A_FIRST]) / 2)
    return mean / mean.sum(1, keepdims=True)


def test_three_way_learns_ties_and_its_own_p_tie_reaches_every_way_of_scoring(tiny_base, tmp_path, arena_rm):
    base, out, file = tiny_base("gemma"), tmp_path / "mine", tmp_path / "contest.jsonl"
    pairs = contest(90)
    write_pairs(file, pairs)
    code, said, err = arena_rm("train", "three_way", "--data", file, "-o", out, *settings(base, "epochs=4"))
    assert code == 0, err
    assert tuple(load_file(out / "adapter_model.safetensors")[HEAD].shape) == (3, 32)
    manifest = json.loads((out / "arena_rm.json").read_text(encoding="utf-8"))
    assert manifest["num_labels"] == 3 and json.loads(said)["calibration"] == manifest["calibration"]

    # the calibration is a temperature, fitted on the validation pairs
    temperature = manifest["calibration"]["temperature"]
    held = split(pairs, 0.25, 0)[1]
    worth = manifest["calibration"].pop("length_worth")
    assert abs(worth) < 1 and manifest["calibration"] == {"temperature": temperature, "tie_nu": 0.0, "n": len(held)}
    z, verdicts = three_logits(base, out, held), [p.winner.class_index for p in held]
    around = [-np.log(probabilities(*z, temperature * x)[range(len(held)), verdicts]).mean() for x in (0.7, 1, 1.4)]
    assert min(around) == around[1] and 0.1 < temperature < 10
    assert manifest["metrics"]["validation"]["log_loss"]["value"] == pytest.approx(around[1], abs=1e-3)

    # the command, in both orders, and the exact mirror image
    judge = ["--peft", out, "--dtype", "float32", "--device", "cpu"]
    code, text, err = arena_rm("score", file, *judge)
    assert code == 0 and "acc_3way" in err, err
    rows = rows_of(text)
    p = np.array([[row[f"p_{name}"] for name in ("a", "b", "tie")] for row in rows])
    assert p == pytest.approx(probabilities(*three_logits(base, out, pairs), temperature), abs=1e-4)
    ties = np.array([pair.winner is Winner.TIE for pair in pairs])
    assert p[ties, 2].mean() > p[~ties, 2].mean() + 0.1, "it tells ties from the rest"
    write_pairs(tmp_path / "turned.jsonl", [pair.swap() for pair in pairs])
    mirror = rows_of(arena_rm("score", tmp_path / "turned.jsonl", *judge)[1])
    for row, other in zip(rows, mirror, strict=True):
        assert (row["p_a"], row["p_b"], row["p_tie"]) == (other["p_b"], other["p_a"], other["p_tie"])
        assert (row["z_ab"], row["z_ba"], row["score"]) == (other["z_ba"], other["z_ab"], -other["score"])
        assert len(row["z_ab"]) == 3

    # lm-eval
    args = {"peft": str(out), "dtype": "float32", "device": "cpu", "order": "both"}
    found, values = evaluate(args, data=str(file), log_samples=True)
    for (name, swapped), row in lls(found).items():
        wanted = p[int(name[1:])][A_FIRST] if swapped else p[int(name[1:])]
        assert np.exp(row) == pytest.approx(wanted, abs=1e-5)
    assert values["n_pairs"] == 90 and math.isfinite(values["log_loss"])
    assert values["acc_3way"] == pytest.approx((p.argmax(1) == [q.winner.class_index for q in pairs]).mean())


# Distilling


def test_distill_learns_the_mixture_of_the_teachers_and_the_datas_labels(
    tiny_base, tiny_adapter, data, tmp_path, arena_rm, seen
):
    teacher, out = tmp_path / "teacher.jsonl", tmp_path / "mine"
    judge = ["--pretrained", tiny_base("gemma3"), "--peft", tiny_adapter("gemma3"), "--dtype", "float32"]
    assert arena_rm("score", data, *judge, "--tie-nu", 0.5, "-o", teacher)[0] == 0
    options = ["--data", data, "-o", out, *settings(tiny_base("gemma"))]
    code, _, err = arena_rm("train", "distill", *options, "--teacher", teacher)
    assert code == 0, err

    own = {p.id: p for p in read_pairs(data).pairs}
    theirs = {row["id"]: row["p_b"] + row["p_tie"] / 2 for row in rows_of(teacher.read_text(encoding="utf-8"))}
    training, validation = seen["training"], seen["validation"]
    assert {p.id for p in training.pairs}.isdisjoint(p.id for p in validation.pairs)
    turned = 0
    for i, pair in enumerate(training.pairs):
        y = 0.7 * theirs[pair.id] + 0.3 * own[pair.id].p_b
        side = [view.ids for view in training.rendered[i]].index(training[i]["input_ids"])
        turned += side
        assert training[i]["labels"] == pytest.approx([y, 1 - y] if side else [1 - y, y], abs=1e-9)
    assert 0 < turned < len(training)
    far = [abs(theirs[p.id] - own[p.id].p_b) for p in training.pairs]
    assert np.mean(far) > 0.1, "a teacher that says the same as the data shows nothing"

    # validation, while training and after it, is by the data's own labels
    labels = [row["labels"][1] for row in map(validation.__getitem__, range(len(validation)))]
    assert labels == [own[p.id].p_b for p in validation.pairs]
    manifest = json.loads((out / "arena_rm.json").read_text(encoding="utf-8"))
    assert manifest["training"]["teacher"]["name"] == "teacher.jsonl"
    model = load_model(ModelSpec(peft=str(out), dtype="float32", device="cpu"))
    views = [view.ids for both in validation.rendered for view in both]
    z = Engine(model).logits(views)[:, 0]
    s = (z[::2] - z[1::2]) / 2
    by = [
        float(np.mean(np.logaddexp(0, s) - np.array(y) * s)) for y in (labels, [theirs[p.id] for p in validation.pairs])
    ]
    assert manifest["metrics"]["validation"]["soft_log_loss"] == pytest.approx(by[0], abs=1e-3)
    assert abs(by[0] - by[1]) > 1e-2


@pytest.mark.parametrize(
    ("others", "words"),
    [(lesson(60)[40:], "40 of 48 pairs have no row in the teacher's scores"), (lesson(48, seed=1), "other texts")],
    ids=["other ids", "other texts under the ids"],
)
def test_scores_of_other_pairs_are_no_teacher(tiny_base, tiny_adapter, data, tmp_path, arena_rm, others, words):
    write_pairs(tmp_path / "others.jsonl", others)
    judge = ["--pretrained", tiny_base("gemma3"), "--peft", tiny_adapter("gemma3"), "--dtype", "float32"]
    assert arena_rm("score", tmp_path / "others.jsonl", *judge, "-o", tmp_path / "scores.jsonl")[0] == 0
    options = ["--data", data, "-o", tmp_path / "mine", *settings(tiny_base("gemma"))]
    code, out, err = arena_rm("train", "distill", *options, "--teacher", tmp_path / "scores.jsonl")
    (line,) = [line for line in err.splitlines() if line.startswith("arena-rm: ")]
    assert (code, out) == (3, "") and words in line and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["others.jsonl", "scores.jsonl"]


# Four bits


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory):
    """A base whose rows fill whole blocks of 4-bit weights."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    return tiny.save_base("gemma", tmp_path_factory.mktemp("wide") / "gemma", **sizes)


def test_qlora_trains_on_four_bits_and_its_adapter_judges_on_the_whole_base(wide_base, data, tmp_path, seen):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    out = tmp_path / "mine"
    manifest = made("qlora", wide_base, data, out, "epochs=3")
    packed = [m for m in seen["network"].modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(packed) == 2 * len(LINEAR) and {m.weight.quant_state.quant_type for m in packed} == {"nf4"}
    assert losses(manifest, "eval_loss")[-1] < losses(manifest)[0]
    assert manifest.training["recipe"]["quantization"] == "4bit"
    assert (manifest.base, manifest.base_fingerprint) == (str(wide_base), fingerprint(str(wide_base)))
    assert targets(out) == LINEAR
    assert set(load_file(out / "adapter_model.safetensors")) >= {HEAD} and manifest.metrics["validation"]
    judges(wide_base, out)


def test_an_evaluation_leaves_four_bit_weights_trainable_as_they_were(wide_base):
    pytest.importorskip("bitsandbytes")
    network = build(recipe("qlora", wide_base, "precision=float32", "lora.lora_dropout=0"), str(wide_base))
    ids = torch.arange(10, 58)[None]

    def gradients():
        network.train()
        network.zero_grad()
        network(input_ids=ids).logits.sum().backward()
        return {n: p.grad.clone() for n, p in network.named_parameters() if ".lora_B." in n}

    before = gradients()
    assert len(before) == 2 * len(LINEAR) and all(g.isfinite().all() and g.any() for g in before.values())
    network.eval()
    with torch.no_grad():
        network(input_ids=ids)
    after = gradients()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_bitsandbytes_qlora_names_the_extra_in_one_line(wide_base, data, tmp_path, arena_rm, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    code, out, err = arena_rm("train", "qlora", "--data", data, "-o", tmp_path / "mine", *settings(wide_base))
    (line,) = [line for line in err.splitlines() if line.startswith("arena-rm: ")]
    assert (code, out) == (2, "") and "pip install 'lm-eval-arena-rm[qlora]'" in line and "Traceback" not in err
    assert not (tmp_path / "mine").exists()


# LoRA's fields


def test_default_trains_every_linear_layer_and_takes_rank_stabilised_and_decomposed_lora(tiny_base, data, tmp_path):
    base, out = tiny_base("gemma2"), tmp_path / "mine"
    made("default", base, data, out, "lora.use_rslora=true", "lora.use_dora=true", "lora.r=4")
    fields = stored(out)
    assert targets(out) == LINEAR
    wanted = {"use_rslora": True, "use_dora": True, "r": 4, "lora_alpha": 32, "lora_dropout": 0.05}
    assert {name: fields[name] for name in wanted} == wanted
    assert fields["target_modules"] == sorted(fields["target_modules"]), "the same file from every process"
    tensors = load_file(out / "adapter_model.safetensors")
    assert sum("lora_magnitude_vector" in name for name in tensors) == 3 * len(LINEAR)
    judges(base, out)


def test_embedded_trains_the_layers_it_names_and_saves_them_in_half_the_bytes(tiny_base, data, tmp_path):
    base, out = tiny_base("gemma3"), tmp_path / "mine"
    manifest = made(
        "embedded", base, data, out, "lora.layers_to_transform=[1, 2]", "select.sources=null", "compile=false"
    )
    fields = stored(out)
    wanted = {"layers_to_transform": [1, 2], "r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "use_dora": False}
    assert {name: fields[name] for name in wanted} == wanted and targets(out) == LINEAR
    tensors = load_file(out / "adapter_model.safetensors")
    assert {name.split(".layers.")[1].split(".")[0] for name in tensors if ".lora_" in name} == {"1", "2"}
    assert len(tensors) == 2 * len(LINEAR) * 2 + 1 and {t.dtype for t in tensors.values()} == {torch.bfloat16}
    in_float32 = 4 * sum(t.numel() for t in tensors.values())
    with open(out / "adapter_model.safetensors", "rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    assert (out / "adapter_model.safetensors").stat().st_size - header == in_float32 / 2
    assert manifest.training["recipe"]["save_precision"] == "bfloat16"
    judges(base, out)


def test_card_makes_the_cards_own_adapter_which_its_snippet_loads_unchanged(tiny_base, data, tmp_path):
    """Beside the run in test_train_runs: here the shipped file, of which only the precision cannot be had on a CPU."""
    base, out = tiny_base("gemma"), tmp_path / "mine"
    config = recipe("card", base, "precision=float32", "epochs=1")
    run.train(config, run.Request([data], device="cpu"), out)
    fields = stored(out)
    assert {name: in_order(fields[name]) for name in CARD_LORA} == {k: in_order(v) for k, v in CARD_LORA.items()}
    plain = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "layers_to_transform": None,
        "fan_in_fan_out": False,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    assert {name: fields[name] for name in plain} == plain
    assert {t.dtype for t in load_file(out / "adapter_model.safetensors").values()} == {torch.float32}
    judges(base, out)


# Other families


@pytest.mark.parametrize(("kind", "more"), [("llama", ()), ("bert", ENCODER)])
def test_another_familys_model_is_trained_and_judges(data, tmp_path, kind, more):
    save = tiny.save_base if kind in tiny.DECODERS else tiny.save_other
    base, out = save(kind, tmp_path / kind), tmp_path / "mine"
    manifest = made("default", base, data, out, "epochs=3", *more)
    assert losses(manifest, "eval_loss")[-1] < losses(manifest)[0]
    assert targets(out) == ({"query", "value"} if more else LINEAR)
    judges(base, out)


def test_weights_that_are_neither_in_the_base_nor_trained_are_refused(data, tmp_path):
    """An encoder without its pooler: transformers would draw one anew for each loading."""
    bare, whole = (tiny.save_other(kind, tmp_path / kind) for kind in ("bert-mlm", "bert"))
    with pytest.raises(UsageError, match=r"the base has no bert\.pooler\.dense\.bias.*lora\.modules_to_save"):
        made("default", bare, data, tmp_path / "mine", *ENCODER)
    made("default", bare, data, tmp_path / "saved", ENCODER[0], "lora.modules_to_save=[classifier, pooler]")
    judges(bare, tmp_path / "saved")

    made("default", whole, data, tmp_path / "other", *ENCODER)
    (tmp_path / "other" / "arena_rm.json").unlink()  # which would tell the two bases apart
    with pytest.raises(ModelError, match=r"neither .* nor the adapter has bert\.pooler\.dense\.bias"):
        load_model(ModelSpec(pretrained=str(bare), peft=str(tmp_path / "other"), device="cpu", kind="pair"))


def test_a_head_that_no_adapter_could_be_scored_with_is_refused_before_the_run(tmp_path):
    base = tiny.save_other("roberta", tmp_path / "roberta")
    with pytest.raises(UsageError, match="RobertaForSequenceClassification: its head is not one linear layer"):
        build(recipe("card", base, *ENCODER), str(base))


# Speed and memory


def test_checkpointed_gradients_change_no_loss(tiny_base, data, tmp_path, seen):
    logs = []
    for name in ("false", "true"):
        change = f"gradient_checkpointing={name}"
        manifest = made("default", tiny_base("gemma3"), data, tmp_path / name, "precision=float32", change)
        logs.append(losses(manifest) + losses(manifest, "eval_loss"))
        on = any(getattr(m, "gradient_checkpointing", False) for m in seen["network"].modules())
        assert str(on).lower() == name
    assert len(logs[0]) >= 5 and logs[0] == pytest.approx(logs[1], abs=1e-4)


def test_compile_without_a_compiler_is_one_line_before_the_first_step(tiny_base, data, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="finds no C"):
        made("card", tiny_base("gemma"), data, tmp_path / "never", "precision=float32", "compile=true")


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_fused_layers_learn_the_same_and_leave_no_trace_in_the_file(data, tmp_path):
    base = tiny.save_base("gemma", tmp_path / "base", num_hidden_layers=1)
    logs, names = [], []
    for value in ("false", "true"):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        change = f"compile={value}"
        manifest = made("distill", base, data, tmp_path / value, "precision=float32", change)
        logs.append(losses(manifest) + losses(manifest, "eval_loss"))
        names.append(sorted(load_file(tmp_path / value / "adapter_model.safetensors")))
        assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0) == (value == "true")
    torch._dynamo.reset()
    assert len(logs[0]) >= 5 and logs[0] == pytest.approx(logs[1], abs=1e-2)
    assert names[0] == names[1] and not any("_orig_mod" in name for name in names[1])


def test_the_layers_to_fuse_are_found_in_an_encoder_too(tmp_path):
    base = tiny.save_other("bert", tmp_path / "bert")
    network = build(recipe("default", base, *ENCODER), str(base))
    compile_layers(network)  # compiles nothing until the first step
    fused = {name for name, m in network.named_modules() if m._compiled_call_impl is not None}
    assert {name.rsplit(".", 2)[-2:][0] for name in fused} == {"layer"} and len(fused) == 2
