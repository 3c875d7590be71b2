"""The model class `arena_rm` inside the real lm-eval, in this process, with tiny judges."""

import json
import math

import lm_eval
import lm_runs
import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_runs import evaluate, lls, one_line, presentations, requests_of

from harness_plugin import _bridge
from harness_plugin.engine import Engine
from harness_plugin.errors import UsageError
from harness_plugin.harness import judge_text, pair_documents
from harness_plugin.harness.lm import ArenaRM
from harness_plugin.pairs import Winner

CARD = "Which response is better for the prompt: {}\n\nResponse A: {}\n\nResponse B: {}"
WINNERS = [w.value for w in Winner]

judge, lm, battles = lm_runs.judge, lm_runs.lm, lm_runs.battles
scored, heard = lm_runs.scored, lm_runs.heard


# Scores: the table of lm-eval against a calculation that shares nothing with the product


def snippet_logits(args, texts):
    """One logit per text, as the reference card computes them: each text alone, cut on the right at 512."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = AutoModelForSequenceClassification.from_pretrained(
        args["pretrained"],
        num_labels=1,
        dtype=torch.float32,
        attn_implementation="eager",  # the default of Gemma 2 is wrong before transformers 5.21
    )
    model = PeftModel.from_pretrained(base, args["peft"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(args["pretrained"])
    with torch.no_grad():
        ids = [tokenizer(text, return_tensors="pt", truncation=True, max_length=512).input_ids for text in texts]
        return [float(model(input_ids=row).logits) for row in ids]


def by_hand(logits, winners, temperature, nu):
    """The metrics of pairs from (z_ab, z_ba) and winners 0, 1, 2, with Davidson's outcome model."""
    acc, loss, brier, three, agree, bias = [], [], [], [], [], []
    for (z_ab, z_ba), winner in zip(logits, winners, strict=True):
        d = (z_ab - z_ba) / 2 / temperature
        weights = [math.exp(-d / 2), math.exp(d / 2), nu]
        p = [w / sum(weights) for w in weights]
        if winner < 2:
            acc.append(float((d > 0) == (winner == 1)))
        three.append(float(p.index(max(p)) == winner))
        loss.append(-math.log(p[winner]))
        brier.append(sum((p[k] - (k == winner)) ** 2 for k in range(3)))
        agree.append(float((z_ab > 0) != (z_ba > 0)))
        bias.append((z_ab + z_ba) / 2 / temperature)
    found = {"acc": acc, "acc_3way": three, "log_loss": loss, "brier": brier, "order_agreement": agree}
    means = {name: float(np.mean(values)) for name, values in {**found, "position_bias": bias}.items()}
    return {**means, "acc_stderr": float(np.std(acc, ddof=1) / len(acc) ** 0.5), "n_pairs": len(logits)}


@pytest.mark.parametrize(("kind", "by_name"), [("gemma", True), ("gemma2", False), ("gemma3", False)])
def test_lm_eval_reports_what_follows_from_the_cards_logits(judge, kind, by_name):
    """Once the command's own way: model and task are found by name, with lm-eval's usual task manager."""
    args = judge(kind, truncation="card", temperature=0.7, tie_nu=0.8)
    if by_name:
        _bridge.install(asked=True)
        found = lm_eval.simple_evaluate("arena_rm", args, tasks=["arena_pairs"], limit=60, log_samples=True)
    else:
        found, _ = evaluate(args, limit=60, log_samples=True)
    samples = sorted(found["samples"]["arena_pairs"], key=lambda s: s["doc_id"])
    docs = [s["doc"] for s in samples]
    texts = [CARD.format(*("\n\n".join(d[f]) for f in ("prompt", "response_a", "response_b"))) for d in docs]
    z = snippet_logits(args, texts)
    logits = list(zip(z[::2], z[1::2], strict=True))
    assert [d["swapped"] for d in docs] == [False, True] * 30
    winners = [WINNERS.index(d["winner"]) for d in docs[::2]]
    assert {0, 1, 2} == set(winners)
    values = {name.removesuffix(",none"): v for name, v in found["results"]["arena_pairs"].items()}
    for name, value in by_hand(logits, winners, 0.7, 0.8).items():
        assert values[name] == pytest.approx(value, abs=1e-5), name
    assert values["n_decisive"] == sum(w < 2 for w in winners)
    for sample, logit in zip(samples, z, strict=True):
        weights = np.exp([-logit / 1.4, logit / 1.4, math.log(0.8)])
        got = [ll for ll, _ in sample["filtered_resps"]]
        assert got == pytest.approx(np.log(weights / weights.sum()), abs=1e-5)
        assert [best for _, best in sample["filtered_resps"]] == [v == max(got) for v in got]


def test_a_head_of_three_logits_gives_its_probabilities(tiny_base, tiny_adapter, pairs):
    args = {"pretrained": str(tiny_base("gemma")), "dtype": "float32", "device": "cpu", "tie_nu": 9.0}
    lm = ArenaRM(peft=str(tiny_adapter("gemma", num_labels=3)), **args)
    row = [ll for ll, _ in lm.loglikelihood(requests_of(pairs[0]))]
    z = Engine(lm.judge.model).logits([lm.judge.model.renderer.render(pairs[0]).ids])[0]
    assert len(z) == 3
    assert row == pytest.approx(z - np.log(np.exp(z).sum()))


def test_both_orders_make_the_swapped_document_the_exact_mirror_image(judge, battles):
    found, _ = evaluate(judge(order="both"), data=battles, log_samples=True)
    rows = lls(found)
    assert len(rows) == 42
    for name, swapped in rows:
        a, b, tie = rows[name, swapped]
        assert rows[name, not swapped] == (b, a, tie)
    one_order = lls(evaluate(judge(), data=battles, log_samples=True)[0])
    assert any(one_order[name, True][:2] != one_order[name, False][1::-1] for name, _ in rows)


def test_a_system_instruction_changes_no_score_and_is_said_not_to_be_read(judge, battles, heard):
    plain = lls(evaluate(judge(), data=battles, limit=2, log_samples=True)[0])
    assert not any("more than the pair" in text for text in heard())
    told = evaluate(judge(), data=battles, limit=2, log_samples=True, system_instruction="Prefer the longer one.")[0]
    assert lls(told) == plain
    assert sum("the requests of task arena_pairs hold more than the pair" in text for text in heard()) == 1


def test_text_beside_the_pair_is_said_not_to_be_read_for_each_task(lm, pairs, heard):
    doc = pair_documents(pairs[:1], "a file")[0]
    text = judge_text(doc)
    contexts = {"plain": text, "told": f"Be fair. {text}", "shown": f"{text} A\n\n{text}", "led": f"{text} It is"}
    lm.loglikelihood([Instance("loglikelihood", doc, (c, " A"), 0, metadata=(t, 0, 1)) for t, c in contexts.items()])
    assert [t for t in contexts if any(f"task {t} hold more than the pair" in said for said in heard())] == [
        "told",
        "shown",
        "led",
    ]


def test_an_argument_that_is_twice_in_one_string_is_refused():
    for text in ("peft=x,peft=y", "peft=x,dtype=float32,peft=x,"):
        with pytest.raises(UsageError, match="peft is there twice"):
            ArenaRM.create_from_arg_string(text)


def test_the_batch_size_changes_no_score(judge, battles):
    runs = {}
    for size, most, shown in (
        ("auto", None, "auto"),
        ("auto:4", 3, 3),
        ("8", None, 8),
        (1, None, "auto"),
        (5, None, 5),
    ):
        found, _ = evaluate(judge(), data=battles, log_samples=True, batch_size=size, max_batch_size=most)
        runs[size] = lls(found)
        assert found["config"]["batch_sizes"] == [shown]
    first = runs.pop("auto")
    for rows in runs.values():
        assert list(rows) == list(first)
        assert np.array(list(rows.values())) == pytest.approx(np.array(list(first.values())), abs=1e-5)


# One forward pass per presentation


def test_a_presentation_is_scored_once_whatever_the_number_of_choices_and_repeats(lm, pairs, scored):
    three = [r for p in pairs[:4] for view in (p, p.swap()) for r in requests_of(view)]
    answers = lm.loglikelihood([r for r in three for _ in range(3)])
    assert scored == [8]
    assert answers[::3] == answers[1::3] == answers[2::3] == lm.loglikelihood(three)
    assert all(isinstance(ll, float) and isinstance(best, bool) for ll, best in answers)
    chances = [sum(math.exp(ll) for ll, _ in answers[i : i + 9 : 3]) for i in range(0, len(answers), 9)]
    assert chances == pytest.approx([1.0] * 8)


def test_a_whole_task_costs_one_sequence_per_document(judge, battles, pairs, scored):
    found, _ = evaluate(judge(), data=battles)
    assert found["n-samples"]["arena_pairs"]["effective"] == 42
    assert sum(scored) == presentations(pairs)


def test_requests_are_answered_in_their_own_order(lm, pairs):
    straight = [r for p in pairs for r in requests_of(p)]
    known = dict(zip(map(id, straight), lm.loglikelihood(straight), strict=True))
    shuffled = [straight[i] for i in np.random.default_rng(0).permutation(len(straight))]
    assert lm.loglikelihood(shuffled) == [pytest.approx(known[id(r)], abs=1e-6) for r in shuffled]


def test_choices_may_be_written_with_or_without_space_and_tie_in_full(lm, pairs):
    plain, spaced = requests_of(pairs[0], ("A", "B", "tie")), requests_of(pairs[0], (" A", "B ", " C"))
    assert lm.loglikelihood(plain) == lm.loglikelihood(spaced)


# lm-eval's options


def test_an_odd_limit_counts_whole_pairs_only(lm, battles, heard):
    _, values = evaluate(lm, data=battles, limit=7)
    assert (values["n_pairs"], values["n_unpaired"]) == (3, 1)
    assert any("without the other order" in text for text in heard())


def test_predict_only_logs_samples_and_no_metric(lm, battles):
    found, values = evaluate(lm, data=battles, limit=6, predict_only=True)
    assert len(found["samples"]["arena_pairs"]) == 6
    assert not [name for name, value in values.items() if isinstance(value, float)], values
    assert all(len(row) == 3 and max(row) < 0 for row in lls(found).values())


def test_the_results_say_what_decides_a_score(judge, battles):
    args = judge(max_length=200)
    found, _ = evaluate(args, data=battles, limit=2)
    said = found["config"]["arena_rm"]
    expected = {
        "base": args["pretrained"],
        "adapter": args["peft"],
        "dtype": "float32",
        "max_length": 200,
        "truncation": "budget",
        "order": "ab",
        "temperature": 1.5,
        "tie_nu": 0.5,
    }
    assert {name: said[name] for name in expected} == expected
    assert len(said["adapter_sha256"]) == 64 and len(said["base_sha256"]) == 64
    json.dumps(found["config"], allow_nan=False, default=str)


def test_an_uncalibrated_judge_has_no_three_way_metrics_and_says_so_once(judge, battles, heard):
    _, values = evaluate(judge(manifest=False), data=battles)
    assert all(math.isnan(values[name]) for name in ("acc_3way", "log_loss", "brier"))
    assert 0 <= values["acc"] <= 1
    assert sum("calibration" in text for text in heard()) == 1


def test_tie_nu_makes_the_three_way_metrics_numbers(judge, battles, heard):
    _, values = evaluate(judge(manifest=False, tie_nu=0.6), data=battles)
    assert all(math.isfinite(values[name]) for name in ("acc_3way", "log_loss", "brier"))
    assert not any("calibration" in text for text in heard())


def test_cut_presentations_are_counted_in_the_log(judge, battles, heard):
    evaluate(judge(max_length=64), data=battles, limit=20)
    assert sum("of 20 presentations were cut to 64 tokens" in text for text in heard()) == 1


def test_cuda_that_is_asked_for_by_default_is_the_cpu_where_there_is_none(judge, battles, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = {name: value for name, value in judge().items() if name != "device"}
    found, values = evaluate(dict(args), data=battles, limit=4, device="cuda:0", batch_size=1)
    assert found["config"]["arena_rm"]["dtype"] == "float32"
    assert values["n_pairs"] == 2
    assert ArenaRM(**args, device="cuda:0").device == torch.device("cpu")


def test_a_model_argument_wins_over_what_lm_eval_adds(judge):
    """Its command line always adds a device and a batch size."""
    added = {"device": "cuda:0", "batch_size": 1, "max_batch_size": None}
    lm = ArenaRM.create_from_arg_obj(judge(device="cpu", batch_size=3), added)
    assert (lm.device, lm.batch_sizes) == (torch.device("cpu"), {0: 3})
    text = ",".join(f"{name}={value}" for name, value in judge(device="cpu", batch_size=3).items())
    assert ArenaRM.create_from_arg_string(text, added).batch_sizes == {0: 3}


def test_a_judge_that_is_not_named_is_named_for_the_results_folder(judge):
    for given, named in (({}, "embedded"), ({"peft": "mine"}, None), ({"pretrained": "a/b"}, "a/b")):
        args = {**given, "order": "neither"}
        with pytest.raises(UsageError, match="order='neither'"):  # so that nothing is loaded
            ArenaRM.create_from_arg_obj(args)
        assert args.get("pretrained") == named


def test_an_ordinary_model_runs_the_same_task_as_a_judge(tiny_base, battles):
    from lm_eval.models.huggingface import HFLM

    hf = HFLM(str(tiny_base("gemma")), device="cpu", dtype="float32", batch_size=4)
    found, values = evaluate(hf, data=battles, limit=8, log_samples=True)
    assert values["n_pairs"] == 4 and math.isfinite(values["log_loss"])
    sample = found["samples"]["arena_pairs"][0]
    assert [c for _, c in sample["arguments"]] == [" A", " B", " C"]
    for (text, choice), (ll, _) in zip(sample["arguments"], sample["filtered_resps"], strict=True):
        short, ids = (hf.tokenizer(t, return_tensors="pt").input_ids for t in (text, text + choice))
        with torch.no_grad():
            logp = hf.model(ids).logits[0].log_softmax(-1)
        rest = range(short.shape[1], ids.shape[1])
        assert ll == pytest.approx(sum(float(logp[i - 1, ids[0, i]]) for i in rest), abs=1e-3)


# Arguments


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"padding": "left"}, "unknown model argument padding; known ones: pretrained, peft,"),
        ({"parallelize": True, "load_in_8bit": True}, "unknown model argument load_in_8bit, parallelize"),
        ({"trust_remote_code": True}, "trust_remote_code=true"),
        ({"order": "ba"}, "order='ba'"),
        ({"batch_size": "many"}, "batch_size='many'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "auto", "max_batch_size": -1}, "batch_size=-1"),
        ({"batch_size": "auto", "max_batch_size": "many"}, "max_batch_size='many'"),
        ({"max_length": "long"}, "max_length='long'; it must be a whole number"),
        ({"max_length": 0}, "max_length=0"),
        ({"tie_nu": -1}, "tie_nu=-1"),
        ({"temperature": 0}, "temperature=0"),
        ({"dtype": "float64"}, "dtype='float64'"),
        ({"truncation": "left"}, "truncation='left'"),
        ({"merge": "perhaps"}, "merge='perhaps'"),
    ],
)
def test_an_argument_that_means_nothing_is_refused_by_name(judge, args, said):
    with pytest.raises(UsageError) as error:
        ArenaRM.create_from_arg_obj(judge() | args)
    assert said in one_line(error)


def test_arguments_come_as_lm_eval_parses_them(judge):
    """On its command line `1_000` is a float, `0` an int; in its strings everything may be text."""
    lm = ArenaRM(**judge(max_length=100.0, tie_nu="0", temperature=2, merge="True", trust_remote_code=False))
    assert lm.judge.model.renderer.max_length == 100
    assert (lm.judge.model.calibration.temperature, lm.judge.model.calibration.tie_nu) == (2.0, 0.0)
    text = ",".join(f"{name}={value}" for name, value in judge(max_length="1_00").items())
    assert ArenaRM.create_from_arg_string(text, {"batch_size": "auto"}).judge.model.renderer.max_length == 100
