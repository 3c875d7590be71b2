"""The scores that benchmarks define, through the tasks' own functions: for a model that scores answers one by one they
are the published ones, computed here from its scores in the publishers' way."""

import json
import math
import random

import numpy as np
import pytest
from pair_rows import ROWS, change

from harness_plugin import harness
from harness_plugin.pairs import pairs_from_rows


def taste(text):
    """The score of one answer by a model that scores answers one by one: a number from its text."""
    return random.Random(text).gauss(0, 1) + ("good" in text)


def metrics_of(rows, process, metric_list, opinion):
    """The metrics of the rows' pairs under a judge: from (first answer, second one) to the log odds of the second."""
    docs = harness.pair_documents(pairs_from_rows(rows).pairs, "x")
    records = []
    for doc in docs:
        z = opinion(doc["response_a"][0], doc["response_b"][0])
        records.append(process(doc, [(ll, False) for ll in (-z / 2, z / 2, -1.0)]))
    assert all(record.keys() == {m["metric"] for m in metric_list} for record in records)
    return {m["metric"]: m["aggregation"]([r[m["metric"]] for r in records]) for m in metric_list}


def pointwise(first, second):
    return taste(second) - taste(first)


def rewardbench2_rows(rng):
    rows = []
    for subset in ("Factuality", "Precise IF", "Math", "Safety", "Focus"):
        for n in range(8):
            wrong = [f"{subset} {n} bad {k}" for k in range(3)]
            rows.append(
                change("rewardbench2", id=f"{subset}{n}", prompt=f"{subset} {n}?", subset=subset)
                | {"chosen": [f"{subset} {n} good"], "rejected": wrong}
            )
    for n in range(10):
        wrong = [f"tie {n} bad {k}" for k in range(rng.randrange(1, 4))]
        right = [f"tie {n} good {k}" for k in range(rng.randrange(2, 5))]
        for kind, chosen in (("ref", right[:1]), ("tied", right)):
            row = change("rewardbench2", id=f"{kind}:{n}", prompt=f"{kind} {n}?", subset="Ties")
            rows.append(row | {"chosen": chosen, "rejected": wrong})
    rng.shuffle(rows)
    return rows


def published_rewardbench2(rows):
    scored = {row["id"]: ([*map(taste, row["chosen"])], [*map(taste, row["rejected"])], row["subset"]) for row in rows}
    found = {
        subset: np.mean([max(wrong) < right[0] for right, wrong, of in scored.values() if of == subset])
        for subset in ("Factuality", "Precise IF", "Math", "Safety", "Focus")
    }
    gap = {id: min(right) - max(wrong) for id, (right, wrong, of) in scored.items() if of == "Ties"}
    spread = {id: max(right) - min(right) for id, (right, _, of) in scored.items() if of == "Ties"}
    numbers = sorted({id.partition(":")[2] for id in gap})
    ratios = [min(gap[f"ref:{n}"], gap[f"tied:{n}"]) / spread[f"tied:{n}"] for n in numbers]
    found["Ties"] = (
        0.3 * np.mean([gap[f"tied:{n}"] > 0 for n in numbers])
        + 0.3 * np.mean([gap[f"ref:{n}"] > 0 for n in numbers])
        + 0.2 * np.mean([gap[f"tied:{n}"] > spread[f"tied:{n}"] for n in numbers])
        + 0.2 * np.mean([ratio > 1 for ratio in ratios])
        + 0.01 * np.mean([math.tanh(ratio - 1) for ratio in ratios])
    )
    return found


def test_rewardbench2_has_the_published_scores_for_a_model_that_scores_answers():
    rows = rewardbench2_rows(random.Random(1))
    found = metrics_of(rows, harness.process_results_rewardbench2, harness.REWARDBENCH2_METRICS, pointwise)
    expected = published_rewardbench2(rows)
    for subset, value in expected.items():
        name = f"rewardbench2_{subset.lower().replace(' ', '_')}"
        assert found[name] == pytest.approx(value), subset
        assert found[f"{name}_stderr"] > 0
        assert found[f"n_{name}"] == (10 if subset == "Ties" else 8), "prompts, not pairs"
    assert found["rewardbench2"] == pytest.approx(np.mean(list(expected.values())))
    assert found["n_pairs"] == sum(len(row["chosen"]) * len(row["rejected"]) for row in rows)


def test_a_prompt_without_all_its_pairs_and_a_subset_that_is_absent_do_not_count():
    rows = [change("rewardbench2", id=str(n), prompt=f"Hi {n}", chosen=["good"]) for n in range(3)]
    pairs = pairs_from_rows(rows).pairs[:-1]
    docs = harness.pair_documents(pairs, "x")
    records = [harness.process_results_rewardbench2(doc, [(-1.0, False)] * 3)["rewardbench2_focus"] for doc in docs]
    by_name = {m["metric"]: m["aggregation"] for m in harness.REWARDBENCH2_METRICS}
    assert len(records) == 16
    assert by_name["rewardbench2_focus"](records) == pytest.approx(1 / 4), "four answers that are equally good"
    assert math.isnan(by_name["rewardbench2_math"](records)) and math.isnan(by_name["rewardbench2"](records))


def test_rm_bench_has_the_published_matrix():
    domains = ("chat", "code", "math", "safety-refuse", "safety-response")
    rows = [
        change("rm_bench", id=n, prompt=f"{domain} {n}?", domain=domain)
        | {
            name: [f"{domain} {n} {kind} {k}" for k in range(3)]
            for name, kind in (("chosen", "good"), ("rejected", "bad"))
        }
        for domain in domains
        for n in range(6)
    ]
    found = metrics_of(rows, harness.process_results_rm_bench, harness.RM_BENCH_METRICS, pointwise)
    matrix = {
        domain: np.mean(
            [
                [[taste(a) > taste(b) for b in row["rejected"]] for a in row["chosen"]]
                for row in rows
                if row["domain"] == domain
            ],
            axis=0,
        )
        for domain in domains
    }
    levels = {
        domain: {"hard": np.triu(m, 1).sum() / 3, "normal": np.diag(m).mean(), "easy": np.tril(m, -1).sum() / 3}
        for domain, m in matrix.items()
    }
    safety = {k: (levels["safety-refuse"][k] + levels["safety-response"][k]) / 2 for k in ("easy", "normal", "hard")}
    four = {"chat": levels["chat"], "code": levels["code"], "math": levels["math"], "safety": safety}
    for level in ("easy", "normal", "hard"):
        assert found[f"acc_{level}"] == pytest.approx(np.mean([by[level] for by in four.values()]))
    for domain, by in four.items():
        assert found[f"acc_{domain}"] == pytest.approx(np.mean(list(by.values())))
    assert found["acc_macro"] == pytest.approx(np.mean([list(by.values()) for by in four.values()]))


def test_judgebench_counts_a_pair_only_where_both_orders_agree():
    sources = {"mmlu-pro-law": "knowledge", "livebench-reasoning": "reasoning", "livebench-math": "math"}
    rows = [
        change("judgebench", pair_id=f"{source}{n}", question=f"{source} {n}?", source=source, response_A=f"a{n}")
        | {"response_B": f"b{n} {source}", "label": "A>B" if n % 2 else "B>A"}
        for source in sources
        for n in range(9)
    ]

    def opinion(first, second):  # a judge with a liking for the second answer
        return pointwise(first, second) + 0.8

    found = metrics_of(rows, harness.process_results_judgebench, harness.JUDGEBENCH_METRICS, opinion)

    def right(row):
        counter = 0
        for first, second in ((row["response_A"], row["response_B"]), (row["response_B"], row["response_A"])):
            decision = second if opinion(first, second) > 0 else first
            counter += 1 if decision == row["response_A" if row["label"] == "A>B" else "response_B"] else -1
        return counter > 0

    assert found["judgebench"] == pytest.approx(np.mean([right(row) for row in rows]))
    assert found["n_judgebench"] == len(rows)
    assert found["judgebench"] < found["acc"], "contradictory orders count one half there"
    for source, part in sources.items():
        assert found[f"judgebench_{part}"] == pytest.approx(np.mean([right(r) for r in rows if r["source"] == source]))
        assert found[f"n_{part}"] == 9
    assert math.isnan(found["judgebench_coding"]) and found["n_coding"] == 0


def test_llmbar_and_helpsteer3_report_their_parts():
    parts = ("natural", "neighbor", "gptinst", "gptout", "manual")
    rows = [
        change("llmbar", input=f"{part} {n}", output_2=f"good {part} {n}", output_1=f"bad {part} {n}", category=part)
        for part in parts
        for n in range(5)
    ]
    found = metrics_of(rows, harness.process_results_llmbar, harness.LLMBAR_METRICS, pointwise)
    shares = {
        part: np.mean([pointwise(r["output_1"], r["output_2"]) > 0 for r in rows if r["category"] == part])
        for part in parts
    }
    assert {part: found[f"acc_{part}"] for part in parts} == pytest.approx(shares)
    assert found["acc_adversarial"] == pytest.approx(np.mean([shares[part] for part in parts[1:]]))
    rows = [change("helpsteer3", response1=f"1 {n}", domain=("code", "stem")[n % 2]) for n in range(6)]
    found = metrics_of(rows, harness.process_results_helpsteer3, harness.HELPSTEER3_METRICS, pointwise)
    assert (found["n_code"], found["n_stem"], found["n_general"]) == (3, 3, 0)


@pytest.mark.parametrize("name", ["rewardbench2", "rm_bench", "judgebench"])
def test_samples_of_a_family_are_strict_json(name):
    doc = harness.pair_documents(pairs_from_rows([ROWS[name]]).pairs, "x")[0]
    returned = getattr(harness, f"process_results_{name}")(doc, [(-1.0, False), (-2.0, True), (-3.0, False)])
    json.dumps(returned, allow_nan=False, default=str)
