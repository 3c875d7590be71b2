"""Records and aggregations of the task metrics, without lm-eval: judges whose numbers are known, and every trap."""

import json
import math
import pickle
import random
from collections import Counter
from copy import deepcopy

import pytest
from pair_rows import numbered as pair

from harness_plugin import harness, stats
from harness_plugin.errors import HarnessError
from harness_plugin.harness import categories
from harness_plugin.pairs import Winner
from harness_plugin.scoring.probabilities import IMPOSSIBLE, combine

AGGREGATIONS = {entry["metric"]: entry["aggregation"] for entry in harness.BUNDLED_METRICS}


def some_pairs(count=60):
    winners, names = ("model_a", "model_b", "tie"), harness.CATEGORIES
    return [
        pair(i, winners[i % 3 if i % 7 else 1], prompt=f"question {i // 2}", **marks(i, category=names[i % len(names)]))
        for i in range(count)
    ]


def marks(i, category="math"):
    own = {name: values[i % len(values)] for name, values in harness.BUNDLED_GROUPS.items() if name != "category"}
    return {"category": category, "meta": own}


def judged(docs, judge):
    """The records of documents under a judge: a function from a document to three log-likelihoods."""
    return [harness.process_results_bundled(doc, [(ll, False) for ll in judge(doc)]) for doc in docs]


def table(found):
    return {name: aggregation([entry[name] for entry in found]) for name, aggregation in AGGREGATIONS.items()}


def right(doc):
    return [2.0 if i == harness.target(doc) else -2.0 for i in range(3)]


def by_length(doc):
    z = (doc["length_b"] - doc["length_a"]) / 10
    return [-z / 2, z / 2, -0.5]


def uneven(doc):
    """Some judge with an opinion of its own and a liking for the second response."""
    z = math.sin(doc["length_b"] * 7.3) - math.sin(doc["length_a"] * 7.3) + 0.25
    return [-z / 2, z / 2, -0.4]


# Records


def test_a_record_is_small_strict_json_and_every_document_has_the_same_keys():
    docs = harness.pair_documents(some_pairs(), "x")
    found = judged(docs, lambda doc: [-0.1, -2.0, IMPOSSIBLE])
    assert {frozenset(entry) for entry in found} == {frozenset(AGGREGATIONS)}
    text = json.dumps(found[0], allow_nan=False, default=str)  # as lm-eval writes samples
    assert json.loads(text)["acc"] == "pair p000: P(A) 0.8699, P(B) 0.1301, P(tie) 0.0000"
    kept = found[0]["acc"]
    assert (kept.id, kept.orders, kept.z_ab, kept.z_ba) == ("p000", "ab", (-0.1, -2.0, -math.inf), None)
    assert (kept.winner, kept.category, kept.prompt_key) == (Winner.MODEL_B, "coding", docs[0]["prompt_key"])
    assert (kept.length_a, kept.length_b) == (3, 3)
    assert found[0]["acc_math"] is None
    assert found[0]["acc_coding"] == found[0]["acc"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("choice", [0, 1, 2])
def test_log_likelihoods_that_are_not_finite_stop_the_run_and_name_the_pair(bad, choice):
    doc = harness.pair_documents([pair(7)], "x")[1]
    results = [(bad if i == choice else -1.0, False) for i in range(3)]
    with pytest.raises(HarnessError, match=r"pair p007 \(exchanged order\) got log-likelihoods"):
        harness.process_results(doc, results)


def test_a_wrong_number_of_choices_is_refused():
    with pytest.raises(HarnessError, match="pair p007"):
        harness.process_results(harness.pair_documents([pair(7)], "x")[0], [(-1.0, True), (-2.0, False)])


# Aggregations


def test_a_perfect_judge_gets_full_marks_and_every_count_is_right():
    pairs = some_pairs()
    found = table(judged(harness.pair_documents(pairs, "x"), right))
    decisive = [p for p in pairs if p.winner != "tie"]
    assert (found["acc"], found["acc_3way"], found["auc"], found["acc_length_balanced"]) == (1.0, 1.0, 1.0, 1.0)
    assert (found["n_pairs"], found["n_decisive"], found["n_unpaired"]) == (60, len(decisive), 0)
    assert found["n_math"] == sum(p.category == "math" for p in decisive)
    assert all(found[f"acc_{name}"] == 1.0 for name in harness.CATEGORIES)
    assert sum(found[f"n_{name}"] for name in harness.CATEGORIES) == len(decisive)
    assert found["position_bias"] == 0.0


def test_a_judge_of_length_is_told_apart_from_a_judge():
    found = table(judged(harness.pair_documents(some_pairs(), "x"), by_length))
    assert found["acc"] == found["longer_wins"]
    assert found["acc_length_balanced"] == 0.5
    assert found["length_corr"] == pytest.approx(1.0)
    assert found["order_agreement"] > 0.5


def test_a_judge_that_always_names_the_first_gets_one_half_and_no_agreement():
    found = table(judged(harness.pair_documents(some_pairs(), "x"), lambda doc: [-0.1, -3.1, -9.0]))
    assert (found["acc"], found["auc"], found["order_agreement"]) == (0.5, 0.5, 0.0)
    assert (found["first_position_rate"], found["position_bias"]) == (1.0, -3.0)


def test_the_numbers_are_the_array_functions_on_the_pairs_frame():
    pairs = some_pairs()
    docs = harness.pair_documents(pairs, "x")
    found = table(judged(docs, uneven))
    ab, ba = [uneven(doc) for doc in docs[::2]], [uneven(doc) for doc in docs[1::2]]
    outcomes = combine(ab, ba)
    winners = [p.winner.class_index for p in pairs]
    clusters = [p.prompt for p in pairs]
    expected = stats.preference_metrics(
        outcomes.s,
        winners,
        bias=outcomes.bias,
        probabilities=outcomes.p,
        lengths_a=[len(p.response_a) for p in pairs],
        lengths_b=[len(p.response_b) for p in pairs],
        clusters=clusters,
    )
    for name, estimate in stats.category_accuracies(outcomes.s, winners, [p.category for p in pairs], clusters).items():
        expected[f"acc_{name}"] = estimate
        assert found[f"n_{name}"] == estimate.n
    del expected["surface_acc"], expected["surface_log_loss"]  # of texts, which arrays have not
    for name, estimate in expected.items():
        assert found[name] == pytest.approx(estimate.value, nan_ok=True), name
        # The jackknife deals clusters into groups by the order of their names, and names differ here.
        if not name.startswith("n_") and name not in ("ece", "auc", "length_corr"):
            assert found[f"{name}_stderr"] == pytest.approx(estimate.stderr, nan_ok=True), name
    assert found["position_bias"] == pytest.approx(0.25)


def test_records_in_any_order_and_from_several_processes_give_the_same_numbers():
    found = judged(harness.pair_documents(some_pairs(), "x"), uneven)
    shuffled = found[:]
    random.Random(1).shuffle(shuffled)
    ranks = [pickle.loads(pickle.dumps(found[rank::2])) for rank in range(2)]
    expected = table(found)
    for other in (shuffled, ranks[0] + ranks[1]):
        assert json.dumps(table(other)) == json.dumps(expected)


def test_half_pairs_count_in_no_metric_and_are_counted_once(caplog):
    docs = harness.pair_documents(some_pairs(), "x")
    whole, odd = table(judged(docs[:40], uneven)), judged(docs[:41], uneven)
    found = table(odd)
    assert found == pytest.approx(whole | {"n_unpaired": 1}, nan_ok=True)
    assert [r.getMessage()[:13] for r in caplog.records] == ["1 document(s)"]


def test_a_single_document_gives_nan_and_not_zero():
    found = table(judged(harness.pair_documents([pair(**marks(0))], "x")[:1], right))
    counts = {name: value for name, value in found.items() if name.startswith("n_")}
    assert set(counts.values()) == {0, 1}
    assert all(math.isnan(value) for name, value in found.items() if name not in counts)


def test_one_pair_has_values_but_no_errors():
    found = table(judged(harness.pair_documents([pair(**marks(0))], "x"), right))
    assert (found["acc"], found["acc_math"], found["n_math"], found["n_coding"]) == (1.0, 1.0, 1, 0)
    assert math.isnan(found["acc_coding"])
    assert all(math.isnan(value) for name, value in found.items() if name.endswith("_stderr"))


def test_a_judge_without_ties_has_no_three_way_metrics_and_one_warning_says_why(caplog):
    docs = harness.pair_documents(some_pairs(), "x")
    found = table(judged(docs, lambda doc: [*uneven(doc)[:2], IMPOSSIBLE]))
    with_ties = table(judged(docs, uneven))
    for name, value in found.items():
        if name.removesuffix("_stderr") in ("acc_3way", "log_loss", "brier"):
            assert math.isnan(value), name
        else:
            assert value == pytest.approx(with_ties[name], nan_ok=True), name
    assert len(caplog.records) == 1
    assert "arena-rm calibrate" in caplog.text
    assert "tie_nu=" in caplog.text


def test_a_judge_that_knows_ties_of_some_pairs_only_has_no_three_way_metrics():
    """As a cascade whose small judge has no ties. Its other numbers stand."""

    docs = harness.pair_documents(some_pairs(), "x")

    def sometimes(doc):
        return [*by_length(doc)[:2], IMPOSSIBLE if doc["category"] == docs[0]["category"] else -0.5]

    found, without = (table(judged(docs, judge)) for judge in (sometimes, lambda d: [*by_length(d)[:2], IMPOSSIBLE]))
    assert all(math.isnan(found[name]) for name in ("acc_3way", "log_loss", "brier"))
    assert found["acc"] == without["acc"] and found["auc"] == without["auc"] and found["n_pairs"] == 60


def test_scores_have_a_direction_and_baselines_biases_and_counts_have_none():
    better = {entry["metric"]: entry["higher_is_better"] for entry in harness.BUNDLED_METRICS}
    up = {"acc", "acc_3way", "auc", "order_agreement", "acc_length_balanced", "acc_sure_half"}
    up |= {f"acc_{name}" for name in harness.CATEGORIES}
    up |= {f"acc_{mark}_{value}" for mark in ("difficulty", "decides") for value in harness.BUNDLED_GROUPS[mark]}
    assert {name for name, value in better.items() if value is True} == up
    assert {name for name, value in better.items() if value is False} == {"log_loss", "brier", "ece"}


@pytest.mark.parametrize(
    ("metrics", "process"),
    [
        (harness.METRICS, harness.process_results),
        (harness.BUNDLED_METRICS, harness.process_results_bundled),
        (harness.REWARDBENCH_METRICS, harness.process_results_rewardbench),
    ],
)
def test_documents_return_exactly_the_metrics_that_the_task_lists_each_before_its_error(metrics, process):
    doc = harness.pair_documents([pair(**marks(0))], "x")[0]
    names = [entry["metric"] for entry in metrics]
    assert sorted(process(doc, [(-1.0, False)] * 3)) == sorted(names)
    assert len(set(names)) == len(names)
    for name in names:
        if name.endswith("_stderr"):
            assert names.index(name) == names.index(name.removesuffix("_stderr")) + 1


def test_aggregations_survive_the_hosts_copies_and_are_named_in_its_results_file():
    copy = deepcopy(AGGREGATIONS["acc_stderr"])
    found = judged(harness.pair_documents(some_pairs(), "x"), uneven)
    assert copy([entry["acc"] for entry in found]) == table(found)["acc_stderr"]
    assert str(copy) == "harness_plugin.harness: acc_stderr"


# Groups


def test_each_mark_is_reported_by_its_values_over_decisive_pairs():
    pairs = some_pairs()
    hard = {p.id for p in pairs if p.meta["difficulty"] == "hard"}
    docs = harness.pair_documents(pairs, "x")
    found = table(judged(docs, lambda doc: [ll * (-1 if doc["pair_id"] in hard else 1) for ll in right(doc)]))
    assert (found["acc_difficulty_easy"], found["acc_difficulty_medium"], found["acc_difficulty_hard"]) == (1, 1, 0)
    for mark in ("difficulty", "decides"):
        counts = Counter(p.meta[mark] for p in pairs if p.winner != "tie")
        assert {value: found[f"n_{mark}_{value}"] for value in harness.BUNDLED_GROUPS[mark]} == counts
    assert 0 < found["acc_decides_fact"] < 1


def test_marks_that_a_file_does_not_have_make_no_rows():
    docs = harness.pair_documents([pair(i, category="math", meta={"difficulty": 3}) for i in range(3)], "x")
    names = set(judged(docs, right)[0])
    assert "acc_math" in names
    assert not {name for name in names if "difficulty" in name or "decides" in name}


def test_category_metrics_are_left_out_where_no_document_has_a_known_category():
    own = [pair(i, category="cooking") for i in range(4)]
    doc = harness.pair_documents(own, "x")[0]
    assert not [name for name in harness.process_results_bundled(doc, [(0.0, False)] * 3) if "math" in name]
    mixed = harness.pair_documents([*own, pair(9, **marks(0))], "x")
    keys = {frozenset(harness.process_results_bundled(doc, [(0.0, False)] * 3)) for doc in mixed}
    assert keys == {frozenset(AGGREGATIONS)}


def test_rewardbench_counts_reasoning_and_the_score_as_its_card_does():
    subsets = sorted(categories.REWARDBENCH_SUBSETS)
    assert len(subsets) == 23
    rng = random.Random(5)
    pairs = [pair(i, category=subsets[i % 23]) for i in range(230)]
    wrong = {p.id for p in pairs if rng.random() < 0.3}
    found = []
    for doc in harness.pair_documents(pairs, "x"):
        lls = right(doc) if doc["pair_id"] not in wrong else right(doc | {"winner": flipped(doc["winner"])})
        found.append(harness.process_results_rewardbench(doc, [(ll, False) for ll in lls]))
    values = {
        m["metric"]: m["aggregation"]([entry[m["metric"]] for entry in found]) for m in harness.REWARDBENCH_METRICS
    }

    def share(*parts):
        hits = [p.id not in wrong for p in pairs if categories.REWARDBENCH_SUBSETS[p.category] in parts]
        return sum(hits) / len(hits)

    reasoning = (share("math") + share("code")) / 2
    assert values["acc_chat_hard"] == pytest.approx(share("chat_hard"))
    assert values["n_code"] == 60
    assert values["acc_reasoning"] == pytest.approx(reasoning)
    assert values["acc_macro"] == pytest.approx((share("chat") + share("chat_hard") + share("safety") + reasoning) / 4)
    parts = ((2, "chat"), (2, "chat_hard"), (2, "safety"), (1, "math"), (1, "code"))
    squares = sum((weight / 8 * values[f"acc_{name}_stderr"]) ** 2 for weight, name in parts)
    assert values["acc_macro_stderr"] == pytest.approx(math.sqrt(squares))


def flipped(winner):
    return {"model_a": "model_b", "model_b": "model_a"}[winner]
