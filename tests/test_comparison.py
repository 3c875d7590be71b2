"""Several judges on the same votes: the same numbers as each judge alone, on the pairs that all have judged."""

import json
from types import SimpleNamespace

import comparison_rows as rows
import numpy as np
import pytest
from comparison_rows import opinions, votes

from harness_plugin.comparison.entries import Entry, judged_entry, stored_entry
from harness_plugin.comparison.figures import compared, judged_by_all
from harness_plugin.comparison.named import named_judges
from harness_plugin.comparison.panels import panel_entry
from harness_plugin.errors import DataError, UsageError
from harness_plugin.judges import open_judge
from harness_plugin.model import ModelSpec
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, labelled, write_pairs
from harness_plugin.scoring.judge_metrics import judge_metrics
from harness_plugin.scoring.judgement import judged
from harness_plugin.stats import holm, share_difference
from harness_plugin.stats.preference_metrics import sign_credit


@pytest.fixture(scope="module")
def pairs():
    return votes(90)


@pytest.fixture(scope="module")
def entries(pairs):
    return [opinions(pairs, "weak", 0.1, 1), opinions(pairs, "strong", 2.0, 2), opinions(pairs, "middling", 0.7, 3)]


# -- figures ----------------------------------------------------------------------------------------------------------


def test_each_judge_has_the_figures_that_it_has_alone(pairs, entries):
    result = compared(judged_by_all(pairs, entries), entries)
    for row, entry in zip(result["judges"], entries, strict=True):
        alone = judge_metrics([entry.of(pair) for pair in pairs])
        for name, found in row["metrics"].items():
            assert (found["value"], found["low"], found["high"]) == pytest.approx(
                (alone[name].value, alone[name].low, alone[name].high)
            ), name
        assert row["cost"] == {"presentations": 2.0, "tokens": 100.0, "seconds": 2 / 90, "timed_pairs": 90}
    longer = judge_metrics([entries[0].of(pair) for pair in pairs])["longer_wins"]
    assert result["baselines"]["longer_wins"]["value"] == longer.value
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_tokens_of_a_pair_are_those_of_the_pairs_of_which_they_are_known(pairs, entries):
    from dataclasses import replace

    def judge(label, known):
        found = {k: replace(j, tokens=j.tokens if known(n) else None) for n, (k, j) in enumerate(all_of.items())}
        return replace(entries[0], label=label, judgements=found)

    all_of = entries[0].judgements
    judges = [judge("some", lambda n: n % 2 == 0), judge("none", lambda n: False), entries[1]]
    rows = compared(judged_by_all(pairs, judges), judges)["judges"]
    assert [row["cost"]["tokens"] for row in rows] == [100.0, None, 100.0]
    panel = panel_entry("panel", [entries[1], judges[0]], pairs)
    assert sorted({j.tokens for j in panel.judgements.values()}, key=str) == [200, None]


def test_differences_are_paired_clustered_and_adjusted_over_what_chose_the_reference(pairs, entries):
    whole = judged_by_all(pairs, entries)
    result, named = compared(whole, entries), compared(whole, entries, "middling")
    assert result["reference"] == {"judge": "strong", "chosen": "most accurate"}
    credit = {label: sign_credit(c.score, c.winners)[c.winners != 2] for label, c in whole.arrays().items()}
    prompts = np.array([pair.prompt_key for pair in pairs if str(pair.winner) != "tie"])
    p = {}
    for row in result["differences"]:
        if row["metric"] == "acc":
            wanted = share_difference(credit[row["judge"]], credit["strong"], prompts)
            assert (row["difference"], row["prompts"]) == pytest.approx((wanted.value, wanted.n_clusters))
            assert (row["low"], row["high"]) == pytest.approx((wanted.low, wanted.high), abs=0.01)
            p[row["judge"]] = row["p"], row["p_holm"]
    assert p["weak"][0] < 0.01 and p["weak"][1] > 2 * p["weak"][0], "three pairs of judges are tested"
    two = [row for row in named["differences"] if row["metric"] == "acc"]
    assert [row["p_holm"] for row in two] == pytest.approx(holm([row["p"] for row in two]))
    assert named["reference"] == {"judge": "middling", "chosen": "named"}
    with pytest.raises(UsageError, match=r"--reference nobody.*weak, strong, middling"):
        compared(whole, entries, "nobody")


def test_only_pairs_that_every_judge_has_judged_count_and_the_others_are_counted(pairs, entries):
    some = Entry("some", "file", {}, {key: j for n, (key, j) in enumerate(entries[0].judgements.items()) if n >= 20})
    whole = judged_by_all(pairs, [*entries, some])
    assert len(whole.pairs) == 70 and whole.missing == {"weak": 0, "strong": 0, "middling": 0, "some": 20}
    result = compared(whole, [*entries, some])
    assert result["pairs"]["judged_by_all"] == 70 and result["pairs"]["with_a_winner"] == 90
    weak, _, _, same = result["judges"]
    assert weak["metrics"] == same["metrics"]
    with pytest.raises(DataError, match=r"no pair was judged by every judge.*none 0"):
        judged_by_all(pairs, [*entries, Entry("none", "file", {}, {})])


def test_a_pair_that_was_judged_with_its_sides_exchanged_is_the_same_pair(pairs, entries):
    exchanged = opinions([pair.swap() for pair in pairs], "strong", 2.0, 2)
    for pair in pairs:
        one, other = exchanged.of(pair), exchanged.judgements[pair.swap().key]
        assert one.id == pair.id and one.winner == pair.winner and one.score == -other.score
        assert (one.p_a, one.p_b, one.surface) == (other.p_b, other.p_a, pytest.approx(-other.surface))


def test_a_judge_without_ties_has_no_three_way_figures_and_no_difference_in_log_loss(pairs, entries):
    without = opinions(pairs, "no-ties", 1.0, 5, tie_nu=0.0)
    judges = [*entries, without]
    result = compared(judged_by_all(pairs, judges), judges)
    assert result["judges"][3]["metrics"]["log_loss"]["value"] is None
    (row,) = [d for d in result["differences"] if (d["judge"], d["metric"]) == ("no-ties", "log_loss")]
    assert row["difference"] is None and row["p_holm"] is None


def test_a_difference_of_accuracies_ends_at_one(pairs):
    few = pairs[:4]
    judges = [opinions(few, label, skill, 7) for label, skill in (("right", 9.0), ("wrong", -9.0), ("unsure", 0.0))]
    for row in compared(judged_by_all(few, judges), judges)["differences"]:
        if row["metric"] == "acc" and row["low"] is not None:
            assert -1 <= row["low"] <= row["difference"] <= row["high"] <= 1


def test_votes_are_pairs_with_a_winner_or_a_probability():
    asked = [Pair("p", "a", "b", winner="tie"), Pair("p", "a", "c", p_b=0.8), Pair("p", "a", "d")]
    assert [str(pair.winner) for pair in labelled(asked)] == ["tie", "model_b"]
    with pytest.raises(DataError, match="none of 1 pairs has a winner"):
        labelled(asked[2:])


# -- the names of judges ----------------------------------------------------------------------------------------------


def test_a_name_is_a_judge_its_settings_or_a_place_of_stored_judgements(tmp_path, pairs):
    file = tmp_path / "old.jsonl"
    file.write_text("{}\n", encoding="utf-8")
    folder = rows.samples(tmp_path / "hf-run", pairs[:3], rows.prefers_longer)
    common = ModelSpec(dtype="float32")
    names = [
        "embedded",
        "org/judge",
        "pretrained=some/base,kind=pair",
        str(file),
        str(folder),
        f"samples={folder},task=t",
    ]
    embedded, hub, settings, scores, stored, of_task = named_judges(names[:5], common) + named_judges(names[5:], common)
    assert embedded.spec == ModelSpec(judge="embedded", dtype="float32") and hub.spec.judge == "org/judge"
    assert settings.spec == ModelSpec(pretrained="some/base", kind="pair", dtype="float32")
    assert [named.label for named in (embedded, hub, settings, scores, stored)] == [
        *("embedded", "judge", "base", "old", "hf-run")
    ]
    assert scores.place == file and stored.place == folder and (of_task.place, of_task.task) == (folder, "t")
    assert [n.label for n in named_judges(["a/judge", "b/judge"], common)] == ["a/judge", "b/judge"]
    with pytest.raises(UsageError, match="embedded is named 2 times"):
        named_judges(["embedded", "embedded"], common)
    with pytest.raises(UsageError, match="unknown model argument colour"):
        named_judges(["peft=x,colour=red"], common)


def test_stored_judgements_of_lm_eval_are_those_of_its_samples(tmp_path, pairs):
    folder = rows.samples(tmp_path / "run", pairs[:20], rows.prefers_longer)
    (named,) = named_judges([str(folder)], ModelSpec())
    entry = stored_entry(named)
    assert entry.identity["model"] == "a-language-model" and len(entry.judgements) == 20
    for pair in pairs[:20]:
        a, b = pair.lengths
        found = entry.of(pair)
        assert found.score == pytest.approx(np.log((b + 1) / (a + 1))) and found.position_bias == pytest.approx(-0.1)


def test_files_that_hold_no_judge_are_refused(tmp_path, pairs):
    write_pairs(tmp_path / "pairs.jsonl", pairs[:2])
    mixed = tmp_path / "mixed.jsonl"
    lines = [j.to_row() for label in ("one", "two") for j in opinions(pairs[:2], label, 1, 1).judgements.values()]
    mixed.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for file, words in (("pairs.jsonl", "is not a row of scores"), ("mixed.jsonl", "mixes judges")):
        (named,) = named_judges([str(tmp_path / file)], ModelSpec())
        with pytest.raises(DataError, match=words):
            stored_entry(named)


# -- judging and continuing -------------------------------------------------------------------------------------------


class Recording:
    """A judge that notes what it is asked for, and may fail after so many pairs."""

    hash, identity, calibration = "0123456789abcdef", {"kind": "recording"}, Calibration(1.0, 0.5)

    def __init__(self, most: int | None = None):
        self.asked, self.most = [], most

    def judge(self, pairs, done=None):
        self.asked.append([pair.id for pair in pairs])
        for n, pair in enumerate(pairs):
            if n == self.most:
                raise RuntimeError("killed")
            yield from judged([pair], [(float(n),)], [(-float(n),)], self.calibration, self.hash)


def test_what_a_stopped_comparison_has_judged_is_not_judged_again(tmp_path, pairs):
    killed = Recording(7)
    with pytest.raises(RuntimeError):
        judged_entry("a judge: 1", killed, pairs[:20], tmp_path)
    again = Recording()
    entry = judged_entry("a judge: 1", again, pairs[:20], tmp_path)
    assert again.asked == [[pair.id for pair in pairs[7:20]]] and len(entry.judgements) == 20
    assert entry.timing.pairs == 20 and entry.timing.seconds > 0, "the time of both runs counts"
    more = Recording()
    assert len(judged_entry("a judge: 1", more, pairs[:30], tmp_path).judgements) == 30
    assert more.asked == [[pair.id for pair in pairs[20:30]]]
    assert {file.suffix for file in tmp_path.iterdir()} == {".jsonl", ".json"}
    (file,) = tmp_path.glob("*.jsonl")
    assert file.name == "a-judge--1-01234567.jsonl"


def test_what_comes_from_the_store_of_scores_has_no_time(tmp_path, pairs):
    class Stored(Recording):
        store = SimpleNamespace(hits=2, misses=2)

        def judge(self, asked, done=None):
            for n, judgement in enumerate(super().judge(asked, done)):
                self.store.hits, self.store.misses = (self.store.hits + 2 * (n < 5), self.store.misses + 2 * (n >= 5))
                yield judgement

    entry = judged_entry("a judge", Stored(), pairs[:5], tmp_path)
    assert (entry.timing.pairs, entry.timing.seconds) == (0, 0.0)
    assert judged_entry("a judge", Stored(), pairs[:20], tmp_path).timing.pairs == 10


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_names(tiny_base, tiny_adapter):
    return [tiny_adapter("gemma3", manifest=True, seed=seed) for seed in (1, 2)]


def test_judges_of_every_kind_stand_in_one_table(tiny_names, tmp_path, capsys):
    asked = votes(24)
    write_pairs(tmp_path / "votes.jsonl", asked)
    with open_judge(peft=str(tiny_names[1]), dtype="float32", device="cpu", max_length=64) as judge:
        judgements = [j.of_pair(pair) for j, pair in zip(judge.judge(asked), asked, strict=True)]
    scores = tmp_path / "scored.jsonl"
    scores.write_text("".join(json.dumps(j.to_row()) + "\n" for j in judgements), encoding="utf-8")
    stored = rows.samples(tmp_path / "hf", asked, rows.prefers_longer)
    options = ["--data", tmp_path / "votes.jsonl", "--dtype", "float32", "--device", "cpu", "-o", tmp_path / "out"]
    code, said, notes = rows.run(capsys, "compare", tiny_names[0], f"peft={tiny_names[1]}", scores, stored, *options)
    assert code == 0, notes
    result = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    first, second, third, fourth = result["judges"]
    assert second["metrics"] != first["metrics"]
    for name, found in judge_metrics(judgements).items():
        if name in third["metrics"]:
            assert third["metrics"][name]["value"] == pytest.approx(found.value), name
    assert fourth["metrics"]["acc"]["value"] == result["baselines"]["longer_wins"]["value"]
    assert fourth["cost"]["seconds"] is None and first["cost"]["timed_pairs"] == 24
    assert all(row["judge"] in said for row in result["judges"]) and "Differences to" in said
    page = (tmp_path / "out" / "comparison.html").read_text("utf-8")
    assert 'src="data:image/png;base64,' in page and "<script" not in page
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    code, again, _ = rows.run(capsys, "compare", tiny_names[0], f"peft={tiny_names[1]}", scores, stored, *options)
    assert code == 0 and again == said, "nothing was judged again, and nothing changed"


def test_one_judge_under_two_names_is_refused_before_it_judges_again(tiny_names, tmp_path, capsys):
    write_pairs(tmp_path / "votes.jsonl", votes(2))
    options = ["--data", tmp_path / "votes.jsonl", "--dtype", "float32", "--device", "cpu", "-o", tmp_path / "out"]
    one = tiny_names[0]
    code, _, said = rows.run(capsys, "compare", one, f"peft={one}/", *options)
    assert code == 2 and "are the same judge" in said and "name different judges" in said
    (scores,) = (tmp_path / "out" / "scores").glob("*.jsonl")
    code, _, said = rows.run(capsys, "compare", one, scores, *options)
    assert code == 2 and f"{scores.stem} and {one.name} are the same judge" in said
    write_pairs(tmp_path / "votes.jsonl", votes(1))
    code, said, _ = rows.run(capsys, "compare", one, *options)
    assert code == 0 and "Every judge has judged 1 pair with 1 prompt, " in said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "no judge is named"),
        (["embedded", "--judge", "embedded"], "the judges of a comparison are its arguments"),
        (["embedded", "--pretrained", "base"], "write: compare base"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(args, words, tmp_path, capsys):
    write_pairs(tmp_path / "votes.jsonl", votes(3))
    code, _, said = rows.run(capsys, "compare", *args, "--data", tmp_path / "votes.jsonl", "-o", tmp_path / "out")
    assert code == 2 and words in said and not (tmp_path / "out").exists()


def test_names_of_judges_cannot_become_markup(pairs, tmp_path):
    from harness_plugin.report.comparison_files import markdown, page

    bad = "<b>|x](http://evil)\n<script>"
    entry = opinions(pairs, bad, 1.0, 4)
    result = {"votes": bad, **compared(judged_by_all(pairs, [entry]), [entry])}
    assert "<script>" not in page(result, None) and "<b>" not in page(result, None)
    text = markdown(result)
    assert "<b>" not in text and "](http" not in text
