"""Panels, cascades and abstentions in a comparison: the same verdicts as their judges give, and bounds that hold."""

import json
from dataclasses import replace

import comparison_rows as rows
import numpy as np
import pytest
from comparison_rows import opinions, votes

from harness_plugin.comparison.abstentions import abstention_figures, fitted
from harness_plugin.comparison.cascades import cascade_entry, cascade_figures, fitted_confidence
from harness_plugin.comparison.entries import Entry
from harness_plugin.comparison.figures import compared, judged_by_all
from harness_plugin.comparison.panels import panel_entry, panel_figures
from harness_plugin.errors import DataError, UsageError
from harness_plugin.judges.panel import PanelJudge
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, write_pairs
from harness_plugin.scoring.abstention import Abstention, fit_abstention, fit_handing_on, is_sure, refuse_shared
from harness_plugin.scoring.judgement import judged
from harness_plugin.stats.panels import disagreement, effective_judges, error_correlations
from harness_plugin.stats.selective import threshold_for_agreement, threshold_for_error


class Stored:
    """An entry as a judge."""

    def __init__(self, entry: Entry):
        self.entry, self.identity, self.hash = entry, entry.identity, entry.identity["hash"]

    def judge(self, pairs, done=None):
        yield from (found for pair in pairs if (found := self.entry.of(pair)) is not None)


@pytest.fixture(scope="module")
def pairs():
    return votes(150)


@pytest.fixture(scope="module")
def others():
    return votes(400, 5, "another")


@pytest.fixture(scope="module")
def judges(pairs, others):
    """Three judges that have judged both files."""
    asked = [*pairs, *others]
    return [opinions(asked, label, skill, seed) for label, skill, seed in (("s", 0.8, 1), ("m", 1.1, 2), ("b", 1.6, 3))]


# -- panels -----------------------------------------------------------------------------------------------------------


def test_a_panel_of_stored_judgements_is_the_panel_of_the_judges(pairs, judges):
    entry = panel_entry("panel", judges, pairs)
    live = PanelJudge({judge.label: Stored(judge) for judge in judges})
    assert [entry.of(pair).p for pair in pairs] == [j.p for j in live.judge(pairs)]
    assert entry.judgements[pairs[0].key].judge == live.hash


def test_a_panels_section_says_how_independent_its_members_are(pairs, judges):
    entry = panel_entry("panel", judges, pairs)
    whole = judged_by_all(pairs, [*judges, entry])
    found = panel_figures(entry, judges, whole, pairs)
    arrays = whole.arrays()
    signs = np.stack([np.sign(arrays[judge.label].score) for judge in judges])
    assert found["disagreement"]["value"] == pytest.approx((signs != signs[0]).any(axis=0).mean())
    decisive = arrays["s"].winners != 2
    sides = np.where(arrays["s"].winners == 1, 1, -1)
    wrong = (signs != sides)[:, decisive].astype(float)
    correlations = np.corrcoef(wrong)
    assert [row["correlation"] for row in found["error_correlations"]] == pytest.approx(
        [correlations[0, 1], correlations[0, 2], correlations[1, 2]]
    )
    assert found["effective_judges"]["value"] == pytest.approx(9 / correlations.sum())
    accuracy = {row["judge"]: row["metrics"]["acc"]["value"] for row in compared(whole, [*judges, entry])["judges"]}
    best = max("smb", key=accuracy.__getitem__)
    assert found["best_member"] == best and found["votes_cast"] == {"3": 150}
    assert found["less_best_member"]["value"] == pytest.approx(accuracy["panel"] - accuracy[best])


def test_votes_that_are_missing_are_counted_and_left_out(pairs, judges):
    some = replace(judges[0], judgements=dict(list(judges[0].judgements.items())[10:]))
    entry = panel_entry("panel", [some, judges[1]], pairs)
    whole = judged_by_all(pairs, [judges[1], entry])
    assert len(whole.pairs) == 150 and entry.of(pairs[0]).p == pytest.approx(judges[1].of(pairs[0]).p)
    found = panel_figures(entry, [some, judges[1]], judged_by_all(pairs, [some, judges[1], entry]), pairs)
    assert found["votes_cast"] == {"2": 140, "1": 10} and found["votes_missing"] == {"s": 10, "m": 0}
    with pytest.raises(UsageError, match="several members"):
        panel_entry("panel", judges[:1], pairs)


def test_judges_that_make_the_same_errors_are_worth_one_and_independent_ones_as_many_as_they_are():
    draw = np.random.default_rng(0)
    one = (draw.random(4000) < 0.3).astype(float)
    assert effective_judges(np.stack([one] * 4, axis=1)).value == pytest.approx(1)
    many = effective_judges((draw.random((4000, 4)) < 0.3).astype(float))
    assert many.low < 4 < many.high and many.value == pytest.approx(4, abs=0.3)
    assert np.isnan(effective_judges(np.zeros((20, 2))).value), "errors that never vary say nothing"
    assert np.isnan(error_correlations(np.zeros((20, 2)))).all()
    assert disagreement(np.array([[1, 1], [1, -1], [0, 1], [-1, -1]])).value == 0.5


# -- thresholds -------------------------------------------------------------------------------------------------------


def truth_of(at, log_odds):
    """The true error of a calibrated judge among what it is at least so sure of."""
    return float((1 / (1 + np.exp(log_odds[log_odds >= at]))).mean())


def test_a_threshold_is_the_smallest_that_is_proved_and_its_error_is_below_the_limit():
    draw = np.random.default_rng(3)
    log_odds = np.abs(draw.normal(size=2000)) * 2
    wrong = (draw.random(2000) > 1 / (1 + np.exp(-log_odds))).astype(float)
    strict, loose = (threshold_for_error(log_odds, wrong, None, error) for error in (0.1, 0.2))
    assert 0 < loose < strict and truth_of(strict, log_odds) < 0.1 and truth_of(loose, log_odds) < 0.2
    assert wrong[log_odds >= loose].mean() < 0.2 < wrong[log_odds >= loose - 0.5].mean() + 0.05
    assert threshold_for_error(log_odds, wrong, None, 0.9) == 0, "everything may be judged"
    assert threshold_for_error(log_odds, np.ones(2000), None, 0.1) is None
    assert threshold_for_error(log_odds[:20], np.zeros(20), None, 0.1) is None, "20 pairs without an error prove little"


def test_pairs_that_share_a_prompt_prove_less():
    draw = np.random.default_rng(4)
    log_odds = np.repeat(np.abs(draw.normal(size=100)) * 3, 4)
    wrong = np.repeat((draw.random(100) > 0.9).astype(float), 4)
    alone = threshold_for_error(log_odds, wrong, None, 0.2)
    clustered = threshold_for_error(log_odds, wrong, np.repeat(np.arange(100), 4), 0.2)
    assert alone is not None and (clustered is None or clustered >= alone)


def test_an_agreement_counts_all_items():
    log_odds, differs = np.linspace(0, 4, 1000), np.zeros(1000)
    differs[:100] = 1  # it differs where it is least sure
    low, high = (threshold_for_agreement(log_odds, differs, None, share) for share in (0.95, 0.99))
    assert 0 < low < high and (differs * (log_odds >= low)).mean() < 0.05
    for limit in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            threshold_for_agreement(log_odds, differs, None, limit)


# -- abstention -------------------------------------------------------------------------------------------------------


def test_an_abstention_is_fitted_to_one_file_and_reported_on_another(pairs, others, judges):
    abstention = fitted(judges[2], others, 0.15, 0.95)
    assert 0.5 <= abstention.confidence < 1 and abstention.pairs == sum(str(p.winner) != "tie" for p in others)
    found = abstention_figures("b", abstention, [judges[2].of(pair) for pair in pairs])
    judged = [j for pair in pairs if is_sure(j := judges[2].of(pair), abstention.confidence)]
    decisive = [j for j in judged if str(j.winner) != "tie"]
    wrong = np.mean([(j.preferred == "b") != (str(j.winner) == "model_b") for j in decisive])
    assert found["coverage"]["value"] == pytest.approx(len(judged) / 150) and found["abstained"] == 150 - len(judged)
    assert found["error"]["value"] == pytest.approx(wrong) and found["ties_judged"] == len(judged) - len(decisive)
    assert set(found["by_category"]) == {"coding", "writing"} and list(found["by_length"]) == [
        "short",
        "middle",
        "long",
    ]
    assert sum(group["coverage"]["n"] for group in found["by_length"].values()) == 150
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_judge_that_proves_nothing_abstains_from_everything(pairs, judges):
    weak = opinions(pairs, "weak", 0.0, 9)
    found = abstention_figures("weak", fitted(weak, pairs, 0.05, 0.95), [weak.of(pair) for pair in pairs])
    assert found["confidence"] is None and found["coverage"]["value"] == 0 and found["error"]["value"] is None
    (tied,) = judged(pairs[:1], [(0.0,)], [(0.0,)], Calibration(1.0, 0.5), "t", [{"truncated": False, "kept": {}}])
    assert tied.confidence == 0.5 and not is_sure(tied, 0.5), "it prefers neither side"
    with pytest.raises(UsageError, match="between 0 and 1"):
        fit_abstention([weak.of(pair) for pair in pairs], 1.5)
    with pytest.raises(DataError, match="no decisive pair"):
        fit_abstention([weak.of(replace(pair, winner="tie")) for pair in pairs], 0.1)


def test_an_abstention_is_no_verdict_of_a_stored_judge(pairs, judges, tmp_path):
    abstention = Abstention(0.8, 0.1, 0.95, 100, 100)
    marked = [abstention.applied(judges[0].of(pair)) for pair in pairs]
    count = sum(j.abstained for j in marked)
    assert 0 < count < len(marked)
    file = tmp_path / "scores.jsonl"
    file.write_text("".join(json.dumps(j.to_row()) + "\n" for j in marked), encoding="utf-8")
    from harness_plugin.comparison.entries import stored_entry
    from harness_plugin.comparison.named import named_judges
    from harness_plugin.gate.readers.score_files import read_scores
    from harness_plugin.model import ModelSpec

    (named,) = named_judges([str(file)], ModelSpec())
    assert len(stored_entry(named).judgements) == len(pairs) - count
    run = read_scores(str(file))
    assert run.left_out == {"the judge abstained": count} and len(run.items) == len(pairs) - count


def test_what_is_fitted_is_not_reported_on_the_same_prompts(pairs, others):
    refuse_shared(others, pairs, "fit.jsonl")
    with pytest.raises(DataError, match="2 of 150 pairs have prompts that are in fit"):
        refuse_shared([*others, Pair(pairs[0].prompt, "x", "y", winner="tie")], pairs, "fit.jsonl")


# -- cascades ---------------------------------------------------------------------------------------------------------


def test_a_cascade_costs_the_small_judge_and_the_big_one_for_what_is_handed_on(pairs, others, judges):
    small, _, big = judges
    confidence = fitted_confidence(small, big, others, 0.9)
    entry = cascade_entry("cascade", small, big, pairs, confidence)
    whole = judged_by_all(pairs, [small, big, entry])
    found = cascade_figures(entry, small, big, confidence, whole)
    unsure = [small.of(pair).confidence < confidence for pair in pairs]
    share = sum(unsure) / 150
    assert 0 < share < 1 and found["handed_on"]["value"] == pytest.approx(share)
    assert found["relative_cost"]["tokens"] == pytest.approx(1 + share)
    assert [stage["decides"] for stage in found["stages"]] == [150 - sum(unsure), sum(unsure)]
    row = compared(whole, [small, big, entry])["judges"][2]
    assert row["cost"]["presentations"] == pytest.approx(2 + 2 * share)
    assert row["cost"]["seconds"] == pytest.approx((1 + share) * 2 / 550), "each judge took 2 seconds for all 550 pairs"
    agrees = np.mean([entry.of(pair).preferred == big.of(pair).preferred for pair in pairs])
    assert found["agreement"]["value"] == pytest.approx(agrees) and agrees > 0.85
    errors = {name: error["value"] for name, error in found["error"]["judges"].items()}
    assert found["error"]["more_than_big"]["value"] == pytest.approx(errors["cascade"] - errors["b"])


def in_steps(entry, pairs):
    """The judge with scores that are whole numbers, so that many pairs have the same confidence."""
    scores = [(float(np.sign(s := entry.of(pair).score) * np.ceil(abs(s))),) for pair in pairs]
    reading = [{"tokens": 100, "truncated": False, "kept": {}}] * len(pairs)
    found = judged(pairs, scores, [(-s,) for (s,) in scores], Calibration(1.0, 0.5), entry.label, reading)
    return replace(entry, judgements={j.key: j for j in found})


@pytest.mark.parametrize("of", [lambda entry, pairs: entry, in_steps], ids=["any_confidence", "equal_confidences"])
def test_the_price_of_agreement_is_the_least_that_has_to_be_handed_on(pairs, judges, of):
    small, big = (of(judge, pairs) for judge in judges[::2])
    entry = cascade_entry("cascade", small, big, pairs, 0.7)
    prices = cascade_figures(entry, small, big, 0.7, judged_by_all(pairs, [small, big, entry]))["prices"]
    assert [price["agreement"] for price in prices] == [0.9, 0.95, 0.98, 1.0]
    assert [p["handed_on"] for p in prices] == sorted(p["handed_on"] for p in prices)
    for price in prices:
        own = cascade_entry("again", small, big, pairs, price["confidence"] or 1.01)
        same = np.mean([own.of(pair).preferred == big.of(pair).preferred for pair in pairs])
        assert same >= price["agreement"] - 1e-9
        assert sum(j.stage == "b" for j in own.judgements.values()) / 150 == pytest.approx(price["handed_on"])


def test_a_cascade_whose_agreement_is_not_proved_hands_everything_on(pairs, judges):
    small, big = judges[0], judges[2]
    few = pairs[:10]
    assert fit_handing_on([small.of(p) for p in few], [big.of(p) for p in few], 0.99) is None
    confidence = fitted_confidence(small, big, few, 0.99)
    assert {j.stage for j in cascade_entry("c", small, big, pairs, confidence).judgements.values()} == {"b"}
    with pytest.raises(DataError, match="s has not judged 1 of the 2 pairs that a cascade is fitted on"):
        fitted_confidence(small, big, [pairs[0], Pair("new", "a", "b")], 0.9)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(pairs, others, judges, tmp_path):
    """Arguments of `compare` for two judges that are stored with both files."""
    write_pairs(tmp_path / "votes.jsonl", pairs)
    write_pairs(tmp_path / "fit.jsonl", others)
    for judge in judges[::2]:
        lines = [json.dumps(j.to_row()) + "\n" for j in judge.judgements.values()]
        (tmp_path / f"{judge.label}.jsonl").write_text("".join(lines), encoding="utf-8")
    data = ["--data", tmp_path / "votes.jsonl", "-o", tmp_path / "out", "--no-plots"]
    return ["compare", tmp_path / "s.jsonl", tmp_path / "b.jsonl", *data]


def test_one_command_has_judges_a_panel_a_cascade_and_abstentions(asked, capsys, tmp_path):
    fit = tmp_path / "fit.jsonl"
    more = ["--panel", "s,b", "--cascade", "s,b", "--cascade-data", fit, "--cascade-agreement", 0.9]
    code, said, notes = rows.run(capsys, *asked, *more, "--abstain-data", fit, "--abstain-error", 0.2)
    assert code == 0, notes
    result = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    assert [row["judge"] for row in result["judges"]] == ["s", "b", "panel", "cascade"]
    assert [row["judge"] for row in result["abstentions"]] == ["s", "b", "panel", "cascade"]
    assert result["cascade"]["fitted_for"] == {"agreement": 0.9, "pairs": 400}
    titles = ("The panel", "The cascade", "The price of agreement", "Where judges abstain", "Abstention by length")
    assert all(title in said for title in titles)
    assert "<h2>The price of agreement</h2>" in (tmp_path / "out" / "comparison.html").read_text("utf-8")


@pytest.mark.parametrize("option", ["panel", "cascade"])
def test_a_judge_that_is_called_as_the_panel_or_the_cascade_is_another_row_of_the_table(
    asked, option, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.jsonl").rename(option)
    more = ["--cascade-confidence", "0.6"] * (option == "cascade")
    command = ["compare", "s.jsonl", f"./{option}", *asked[3:], f"--{option}", f"s,./{option}", *more]
    code, _, notes = rows.run(capsys, *command)
    assert code == 0, notes
    result = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    assert [row["judge"] for row in result["judges"]] == ["s", f"./{option}", option]
    metrics = [row["metrics"]["log_loss"]["value"] for row in result["judges"]]
    assert len(set(metrics)) == 3
    command[2] = option
    command[-1 - len(more)] = f"s,{option}"
    code, _, notes = rows.run(capsys, *command)
    assert code == 2 and f"beside a judge that is called {option}" in notes


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--reference", "nobody"], "no judge has this name; use one of judge-1, s, b"),
        (["--panel", "s,no-such-judge"], "no folder 'no-such-judge' here"),
    ],
)
def test_a_name_that_is_wrong_is_refused_before_a_judge_is_asked(asked, more, words, capsys, tmp_path, monkeypatch):
    (tmp_path / "judge-1").mkdir()
    (tmp_path / "judge-1" / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("harness_plugin.judges.open_judge", lambda *a, **k: pytest.fail("a judge was opened"))
    code, _, said = rows.run(capsys, "compare", tmp_path / "judge-1", *asked[1:], *more)
    assert code in (2, 3) and words in said


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--cascade", "s,b"], 2, "neither of --cascade-confidence and --cascade-data"),
        (["--cascade-confidence", "0.8"], 2, "a setting of a cascade without --cascade"),
        (["--cascade", "s", "--cascade-confidence", "0.8"], 2, "a cascade has two judges"),
        (["--panel", "s"], 2, "a panel has several judges"),
        (["--panel", "s,s"], 2, "--panel s,s: 's'; it is no judge of this comparison, or is named twice"),
        (["--panel", "s,"], 2, "--panel s,: ''; it is no judge of this comparison"),
        (["--cascade", "s,b", "--cascade-confidence", "nan"], 2, "nan is no finite number"),
        (
            ["--cascade", "s,b", "--cascade-confidence", "0.8", "--cascade-agreement", "0.9"],
            2,
            "without --cascade-data",
        ),
        (["--abstain-error", "0.2"], 2, "--abstain-error without --abstain-data"),
        (["--abstain-level", "0.9"], 2, "--abstain-level without --abstain-data"),
        (["--abstain-data", "votes.jsonl"], 3, "150 of 150 pairs have prompts that are in"),
        (["--reference", "nobody"], 2, "no judge has this name"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(asked, more, code, words, capsys, tmp_path):
    more = [tmp_path / "votes.jsonl" if word == "votes.jsonl" else word for word in more]
    found, _, said = rows.run(capsys, *asked, *more)
    assert found == code and words in said
