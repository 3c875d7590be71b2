"""A panel is the mean of its members, a cascade asks the big judge only where the small one is unsure."""

import json
import math

import numpy as np
import pytest
import tiny
from comparison_rows import run, votes

from harness_plugin.errors import ScoreError, UsageError
from harness_plugin.judges import open_judge
from harness_plugin.judges.cascade import CascadeJudge
from harness_plugin.judges.judge import judged_where_possible
from harness_plugin.judges.panel import PanelJudge, panel_judgement
from harness_plugin.model import ModelSpec
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.several import several_of
from harness_plugin.pairs import Pair, write_pairs
from harness_plugin.scoring.judgement import Judgement, judged
from harness_plugin.scoring.probabilities import combine


class Stub:
    """A judge whose logits are given by a function of the pair; it fails on the ids in `fails`."""

    def __init__(self, name, logits, temperature=1.0, tie_nu=0.5, fails=()):
        self.identity, self.hash, self.calibration = {"kind": name}, name, Calibration(temperature, tie_nu)
        self.logits, self.fails, self.asked = logits, set(fails), []

    def judge(self, pairs, done=None):
        self.asked.append([pair.id for pair in pairs])
        for pair in pairs:
            if pair.id in self.fails:
                continue
            z_ab, z_ba = self.logits(pair)
            reading = [{"tokens": 10, "truncated": False, "kept": {}}]
            yield from judged([pair], [z_ab], [z_ba], self.calibration, self.hash, reading)
        lost = [pair for pair in pairs if pair.id in self.fails]
        if lost:
            error = ScoreError(f"no answer for {len(lost)} pairs")
            error.unjudged = tuple(pair.key for pair in lost)
            raise error


PAIRS = [Pair(f"ask {n}", "one", f"two {n}", id=f"p{n}", winner="model_b") for n in range(6)]


def number(pair):
    return int(pair.id[1:])


def sure(pair):
    return (4.0,), (-4.0,)


def by_number(pair):
    return (0.5 * number(pair) - 1.0,), (0.2 - 0.5 * number(pair),)


def three(pair):
    return (0.1, 0.4, -0.3), (0.2, 0.1, -1.0)


# -- the panel --------------------------------------------------------------------------------------------------------


def test_a_panels_probabilities_are_the_means_of_its_members_in_each_order():
    members = {"one": Stub("one", by_number, 2.0, 0.3), "two": Stub("two", three, 1.5)}
    judgements = list(PanelJudge(members).judge(PAIRS))
    assert [j.id for j in judgements] == [pair.id for pair in PAIRS]
    for pair, judgement in zip(PAIRS, judgements, strict=True):
        p = {}
        for order in (0, 1):
            (z,), (w,) = [by_number(pair)[order]], [three(pair)[order]]
            one, two = combine([z], None, Calibration(2.0, 0.3)).p[0], combine([w], None, Calibration(1.5)).p[0]
            p[order] = (one + two) / 2
        assert np.exp(judgement.z_ab) == pytest.approx(p[0]) and np.exp(judgement.z_ba) == pytest.approx(p[1])
        assert judgement.p == pytest.approx(tuple(combine([judgement.z_ab], [judgement.z_ba]).p[0]))
        assert judgement.votes == {name: next(iter(m.judge([pair]))).p for name, m in members.items()}
        assert judgement.tokens == 20


def test_a_member_that_fails_is_left_out_of_that_vote_and_never_counts_as_one_half(caplog):
    steady, failing = Stub("steady", sure), Stub("failing", by_number, fails=["p1", "p4"])
    judgements = {j.id: j for j in PanelJudge({"steady": steady, "failing": failing}).judge(PAIRS)}
    (alone,) = steady.judge([PAIRS[1]])
    assert judgements["p1"].votes == {"steady": alone.p, "failing": None}
    assert judgements["p1"].p == pytest.approx(alone.p), "the other member's verdict, not pulled towards a tie"
    assert judgements["p0"].votes["failing"] is not None
    assert "failing cannot judge 2 of the pairs" in caplog.text
    assert len(failing.asked) == 1, "nothing was asked twice"


def test_pairs_that_no_member_can_judge_are_named_after_the_others():
    panel = PanelJudge({"one": Stub("one", sure, fails=["p2"]), "two": Stub("two", sure, fails=["p2", "p3"])})
    found = []
    with pytest.raises(ScoreError, match="no judgement of pairs p2") as caught:
        found.extend(panel.judge(PAIRS))
    assert [j.id for j in found] == ["p0", "p1", "p3", "p4", "p5"] and caught.value.unjudged == (PAIRS[2].key,)


def test_an_error_that_is_not_about_some_pairs_ends_the_panel():
    class Broken(Stub):
        def judge(self, pairs, done=None):
            raise ScoreError("out of memory")

    with pytest.raises(ScoreError, match="out of memory"):
        list(PanelJudge({"one": Stub("one", sure), "two": Broken("two", sure)}).judge(PAIRS))


def test_a_vote_is_written_and_read_and_exchanged_with_the_sides():
    members = {"one": Stub("one", by_number), "two": Stub("two", three, fails=["p0"])}
    for judgement in PanelJudge(members).judge(PAIRS[:2]):
        row = json.loads(json.dumps(judgement.to_row(), allow_nan=False))
        assert Judgement.from_row(row) == judgement and set(row["votes"]) == {"one", "two"}
        swapped = judgement.swapped()
        assert swapped.swapped() == judgement
        assert swapped.votes["one"] == tuple(judgement.votes["one"][k] for k in (1, 0, 2))
    row["votes"] = {"one": [0.5, 0.5]}
    with pytest.raises(Exception, match="P of A, B and tie, or null"):
        Judgement.from_row(row)


def test_a_panel_without_ties_has_none_and_certain_members_give_finite_logits():
    (judgement,) = PanelJudge({n: Stub(n, lambda pair: ((900.0,), (-900.0,)), tie_nu=0.0) for n in "ab"}).judge(
        PAIRS[:1]
    )
    assert judgement.p_b == 1 and judgement.p_tie == 0 and all(map(math.isfinite, judgement.z_ab))
    assert Judgement.from_row(json.loads(json.dumps(judgement.to_row()))).p == judgement.p


def test_one_order_alone_makes_a_panel_of_one_order():
    def one_order(name):
        (j,) = judged([PAIRS[0]], [(1.0,)], None, Calibration(1.0, 0.5), name)
        return j

    judgement = panel_judgement(PAIRS[0], {"a": one_order("a"), "b": one_order("b")}, "hash")
    assert judgement.z_ba is None and judgement.p == pytest.approx(one_order("a").p)


# -- the cascade ------------------------------------------------------------------------------------------------------


def test_the_big_judge_is_asked_only_where_the_small_one_is_unsure():
    small, big = Stub("small", by_number), Stub("big", sure)
    judgements = list(CascadeJudge(("small", small), ("big", big), 0.7).judge(PAIRS))
    confidence = {pair.id: 1 / (1 + math.exp(-abs(0.5 * number(pair) - 0.6))) for pair in PAIRS}
    unsure = [name for name, value in confidence.items() if value < 0.7]
    assert big.asked == [unsure] and 0 < len(unsure) < 6 and small.asked == [[pair.id for pair in PAIRS]]
    for judgement in judgements:
        handed_on = judgement.id in unsure
        assert judgement.stage == ("big" if handed_on else "small") and judgement.tokens == (20 if handed_on else 10)
        assert Judgement.from_row(json.loads(json.dumps(judgement.to_row()))) == judgement


def test_a_small_judge_that_prefers_neither_side_never_decides():
    small, big = Stub("small", lambda pair: ((1.0,), (1.0,))), Stub("big", sure)
    judgements = list(CascadeJudge(("small", small), ("big", big), 0.5).judge(PAIRS))
    assert {judgement.stage for judgement in judgements} == {"big"}, "as `compare` counts it"


def test_what_the_small_judge_cannot_judge_goes_to_the_big_one_too():
    small, big = Stub("small", sure, fails=["p1", "p2"]), Stub("big", sure, fails=["p2"])
    found = []
    with pytest.raises(ScoreError, match="no judgement of pairs p2"):
        found.extend(CascadeJudge(("small", small), ("big", big), 0.7).judge(PAIRS))
    assert {j.id: j.stage for j in found} == {"p0": "small", "p1": "big", "p3": "small", "p4": "small", "p5": "small"}


def test_each_setting_of_judges_made_of_others_is_a_part_of_who_they_are():
    one, two = Stub("one", sure), Stub("two", sure)
    assert PanelJudge({"one": one, "two": two}).hash == PanelJudge({"b": two, "a": one}).hash
    assert CascadeJudge(("a", one), ("b", two), 0.7).hash != CascadeJudge(("a", one), ("b", two), 0.8).hash
    assert CascadeJudge(("a", one), ("b", two), 0.7).hash != CascadeJudge(("b", two), ("a", one), 0.7).hash


# -- names ------------------------------------------------------------------------------------------------------------


def test_names_of_panels_and_cascades_are_read():
    spec = ModelSpec(judge="panel:embedded+judge=vllm:http://host:1;peft=x+org/judge", dtype="float32")
    assert several_of(spec).members == {
        "embedded": ModelSpec(judge="embedded", dtype="float32"),
        "judge=vllm:http://host:1;peft=x": ModelSpec(judge="vllm:http://host:1", peft="x"),
        "org/judge": ModelSpec(judge="org/judge", dtype="float32"),
    }
    cascade = several_of(ModelSpec(judge="cascade:small+big@0.75"))
    assert list(cascade.members) == ["small", "big"] and cascade.confidence == 0.75
    assert several_of(ModelSpec(judge="embedded")) is None and several_of(ModelSpec()) is None


@pytest.mark.parametrize(
    "name",
    ["panel:one", "panel:one+one", "panel:one+", "cascade:a+b", "cascade:a+b@2", "cascade:a+b+c@0.7", "cascade:a@0.7"],
)
def test_names_that_make_no_judge_are_refused_with_the_form(name):
    with pytest.raises(UsageError, match=r"write (panel:JUDGE\+JUDGE|cascade:SMALL\+BIG@CONFIDENCE)"):
        several_of(ModelSpec(judge=name))


@pytest.mark.parametrize("name", ["panel:{0}+{0}/", "cascade:{0}+{0}/@0.8"])
def test_one_judge_under_two_names_is_no_panel_and_no_cascade(tiny_adapter, name):
    adapter = tiny_adapter("gemma3", manifest=True)
    with pytest.raises(UsageError, match="are the same judge; its vote would count twice"):
        open_judge(judge=name.format(adapter), dtype="float32", device="cpu")


@pytest.mark.parametrize("command", [["doctor"], ["show", "pairs.jsonl"]])
def test_commands_that_need_one_model_refuse_a_judge_that_is_made_of_others(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pairs("pairs.jsonl", PAIRS)
    code, _, said = run(capsys, *command, "--judge", "panel:a+b")
    assert code == 2 and "one model is needed here, and this judge has several" in said
    code, _, said = run(capsys, "calibrate", "panel:a+b", "pairs.jsonl", "--out", "calibrated")
    assert code == 2 and "panel:a+b is not one model on this machine" in said


def test_pairs_that_cannot_be_judged_do_not_stop_the_others_of_a_model(tiny_spec, caplog):
    import torch

    with open_judge(tiny_spec("gemma2", truncation="budget")) as judge:
        fox = judge.model.renderer.tokenizer("🦊", add_special_tokens=False).input_ids[0]
        with torch.no_grad():
            judge.model.network.get_input_embeddings().weight[fox] = torch.nan
        asked = [Pair("ask", "one", "two" + "🦊" * (n % 3 == 1) + str(n), id=f"row{n}") for n in range(8)]
        found = list(judged_where_possible("tiny", judge, asked))
    assert [j.id for j in found] == ["row0", "row2", "row3", "row5", "row6"] and "tiny cannot judge 3" in caplog.text


def test_open_judge_opens_a_panel_and_a_cascade_of_models(tiny_adapter, tmp_path):
    names = [str(tiny_adapter("gemma3", manifest=True, seed=seed)) for seed in (1, 2)]
    settings = {"dtype": "float32", "device": "cpu", "store": tmp_path / "store"}
    alone = []
    for name in names:
        with open_judge(judge=name, **settings) as judge:
            alone.append(list(judge.judge(tiny.pairs()[:5])))
    with open_judge(judge=f"panel:{names[0]}+{names[1]}", **settings) as panel:
        for judgement, *members in zip(panel.judge(tiny.pairs()[:5]), *alone, strict=True):
            assert judgement.votes == dict(zip(names, (m.p for m in members), strict=True))
    with open_judge(judge=f"cascade:{names[0]}+{names[1]}@1.0", **settings) as cascade:
        stages = [(j.stage, j.z_ab) for j in cascade.judge(tiny.pairs()[:5])]
    assert stages == [(names[1], j.z_ab) for j in alone[1]], "nothing reaches a confidence of 1"


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tiny_adapter, tmp_path):
    """Two tiny adapters, and files of pairs with winners that share no prompt."""
    names = [tiny_adapter("gemma3", manifest=True, seed=seed) for seed in (1, 2)]
    for name, topic in (("asked", "ask"), ("fit", "another")):
        write_pairs(tmp_path / f"{name}.jsonl", votes(30, 1, topic))
    return names, tmp_path


def scored(capsys, files, *more):
    code, said, notes = run(capsys, "score", files[1] / "asked.jsonl", "--dtype", "float32", "--device", "cpu", *more)
    return code, [json.loads(line) for line in said.splitlines()], notes


def test_score_takes_a_panel_and_a_cascade(files, capsys):
    one, two = files[0]
    code, rows, notes = scored(capsys, files, "--panel", f"{one},{two}")
    assert code == 0 and all(set(row["votes"]) == {str(one), str(two)} for row in rows), notes
    code, rows, _ = scored(capsys, files, "--cascade", f"{one},{two}", "--cascade-confidence", 0.6)
    assert code == 0 and {row["stage"] for row in rows} <= {str(one), str(two)}
    code, _, notes = scored(capsys, files, "--panel", f"{one},{two}", "--peft", one)
    assert code == 2 and "--panel beside another judge" in notes
    code, _, notes = scored(capsys, files, "--cascade", f"{one},{two}")
    assert code == 2 and "--cascade without --cascade-confidence" in notes


def test_score_marks_the_pairs_from_which_a_judge_abstains(files, capsys):
    one, fit, out = files[0][0], files[1] / "fit.jsonl", files[1] / "scores.jsonl"
    options = ["--peft", one, "--abstain-data", fit, "--abstain-error", 0.9]
    code, rows, notes = scored(capsys, files, *options)
    assert code == 0 and not any("abstained" in row for row in rows) and "decides from a confidence of 0.500" in notes
    options[-1] = 0.05
    code, rows, notes = scored(capsys, files, *options)
    assert code == 0 and all(row["abstained"] for row in rows) and "it abstains from every pair" in notes
    assert "the judge abstained from 30 of them" in notes and "log_loss" not in notes
    code, _, _ = scored(capsys, files, *options, "-o", out)
    assert code == 0 and [json.loads(line) for line in out.read_text("utf-8").splitlines()] == rows
    code, _, notes = scored(capsys, files, "--peft", one, "--abstain-error", "0.1")
    assert code == 2 and "--abstain-error without --abstain-data" in notes
    code, _, notes = scored(capsys, files, "--peft", one, "--abstain-data", files[1] / "asked.jsonl")
    assert code == 3 and "a threshold looks better than it is" in notes


def test_a_leaderboard_and_a_duel_take_a_panel(files, capsys):
    (one, two), folder = files
    for name in ("heron", "stork"):
        answers = [{"prompt": f"ask {n}", "response": f"{name} says {n}", "model": name} for n in range(6)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
    panel = ["--panel", f"{one},{two}", "--dtype", "float32", "--device", "cpu", "--no-cache"]
    answers = [folder / "heron.jsonl", folder / "stork.jsonl"]
    code, _, notes = run(capsys, "judge", *answers, *panel, "--no-plots", "-o", folder / "judged")
    assert code == 0, notes
    verdicts = [json.loads(line) for line in (folder / "judged" / "verdicts.jsonl").read_text("utf-8").splitlines()]
    assert len(verdicts) == 6 and all(len(verdict["votes"]) == 2 for verdict in verdicts)
    assert run(capsys, "gate", "duel", *answers, *panel)[0] in (0, 1)


def test_the_tasks_of_lm_eval_take_a_panel(files):
    from lm_runs import requests_of

    from harness_plugin.harness.lm import ArenaRM

    one, two = files[0]
    lm = ArenaRM(judge=f"panel:{one}+{two}", dtype="float32", device="cpu", order="both")
    pair = votes(1)[0]
    found = [ll for ll, _ in lm.loglikelihood(requests_of(pair))]
    (judgement,) = lm.judge.judge([pair])
    assert np.exp(found) == pytest.approx(judgement.p)
