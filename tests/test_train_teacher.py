"""Another judge's scores as labels: read from what `arena-rm score` writes, joined by id, checked by content."""

import gzip
import json
import math
import random
from dataclasses import replace

import pytest
import tiny

from harness_plugin.cli import main
from harness_plugin.errors import DataError, TrainError, UsageError
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, Winner, read_pairs, write_pairs
from harness_plugin.scoring.judgement import judged
from harness_plugin.scoring.judgement_rows import row_checksum
from harness_plugin.train.split import remove_duplicates, split
from harness_plugin.train.teacher import apply_teacher, read_teacher

CALIBRATION = Calibration(1.5, 0.4)
LABELS = [{"winner": w} for w in Winner]
LABELS += [{"p_b": 0.0}, {"p_b": 0.37}, {"winner": Winner.TIE, "p_b": 0.6}, {"winner": Winner.MODEL_A, "p_b": 0.3}, {}]


def make_pairs(count=40):
    return [
        Pair(
            f"question {n}",
            f"one {n}",
            ("two", f"{n}") if n % 5 == 0 else f"two {n}",
            id=f"r{n}",
            meta={"source": f"s{n % 3}"},
            **LABELS[n % len(LABELS)],
        )
        for n in range(count)
    ]


def scores(pairs, judge="0123456789abcdef", three=False, seed=0):
    """Rows as `arena-rm score` writes them, with logits that are drawn by id."""
    rows = []
    for pair in pairs:
        rng = random.Random(f"{seed} {pair.id}")
        z = [tuple(rng.gauss(0, 2) for _ in range(3 if three else 1)) for _ in range(2)]
        reading = [{"tokens": 20, "truncated": False, "kept": {"prompt": (3, 3)}}]
        rows += [j.to_row() for j in judged([pair], z[:1], z[1:], CALIBRATION, judge, reading)]
    return rows


def write(path, rows):
    text = "".join(json.dumps(row | {"checksum": row_checksum(row)}) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def file(tmp_path):
    """file(rows) -> a score file with them."""
    return lambda rows, name="scores.jsonl": write(tmp_path / name, rows)


# Reading


@pytest.mark.parametrize("name", ["scores.jsonl", "scores.jsonl.gz"])
@pytest.mark.parametrize("three", [False, True])
def test_a_score_file_is_read_as_it_was_written(file, name, three):
    pairs = make_pairs()
    rows = scores(pairs, three=three)
    teacher = read_teacher(file(rows, name))
    assert list(teacher) == [p.id for p in pairs]
    for pair, row in zip(pairs, rows, strict=True):
        verdict = teacher[pair.id]
        assert (verdict.key, verdict.judge) == (pair.key, "0123456789abcdef")
        assert (verdict.p_a, verdict.p_b, verdict.p_tie) == pytest.approx((row["p_a"], row["p_b"], row["p_tie"]))
        assert verdict.win_b == pytest.approx(row["p_b"] + row["p_tie"] / 2)
        assert verdict.swapped().win_b == pytest.approx(1 - verdict.win_b)


def test_what_the_command_writes_can_be_learned_from(tmp_path, tiny_base, tiny_adapter, capsys):
    pairs = make_pairs(10)
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    judge = ["--pretrained", tiny_base("gemma3"), "--peft", tiny_adapter("gemma3"), "--dtype", "float32"]
    command = ["score", tmp_path / "pairs.jsonl", *judge, "--tie-nu", "0.5", "-o", tmp_path / "scores.jsonl"]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in command])
    assert stop.value.code == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    taught = apply_teacher(read_pairs(tmp_path / "pairs.jsonl").pairs, read_teacher(tmp_path / "scores.jsonl"), 1.0)
    for pair, row in zip(taught, rows, strict=True):
        assert pair.target == pytest.approx((row["p_a"], row["p_b"], row["p_tie"]), abs=1e-12) and row["p_tie"] > 0.01


def broken(**fields):
    """The rows of three pairs, the second with these fields changed, or left out where None is given."""
    rows = scores(make_pairs(3))
    rows[1] = {k: v for k, v in {**rows[1], **fields}.items() if v is not ...}
    return rows


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"p_tie": ...}, ["field p_tie is missing"]),
        ({"p_a": None}, ["field p_a is None"]),
        ({"p_b": math.nan}, ["field p_b is nan"]),
        ({"p_b": math.inf}, ["field p_b is inf"]),
        ({"p_b": "0.5"}, ["field p_b is '0.5'"]),
        ({"p_b": True, "p_a": 0, "p_tie": 0}, ["field p_b is True"]),
        ({"p_b": 1.1, "p_a": -0.1, "p_tie": 0}, ["field p_a is -0.1"]),
        ({"p_b": 0.5, "p_a": 0.5, "p_tie": 0.0011}, ["but the logits give", "does not follow from its logits"]),
        ({"p_b": 0.5, "p_a": 0.4, "p_tie": 0.0}, ["but the logits give"]),
        ({"p_b": 0, "p_a": 0, "p_tie": 0}, ["but the logits give"]),
        ({"id": ...}, ["field id is missing"]),
        ({"id": 1}, ["field id is 1"]),
        ({"key": ...}, ["field key is missing"]),
        ({"key": ""}, ["field key is ''"]),
        ({"judge": ...}, ["field judge is missing"]),
        ({"judge": "another"}, ["field judge is another, in the rows before it 0123456789abcdef", "two judges"]),
        ({"id": "r0"}, ["field id is 'r0'", "row 1 has with other scores or texts"]),
    ],
)
@pytest.mark.parametrize("name", ["scores.jsonl", "scores.jsonl.gz"])
def test_a_row_that_is_no_score_stops_by_name(file, fields, words, name):
    path = file(broken(**fields), name)
    tiny.refusal(DataError, lambda: read_teacher(path), f"{path} row 2", *words)


def test_one_id_may_stand_twice_with_one_score_only(file):
    rows = scores(make_pairs(3))
    assert read_teacher(file([*rows, rows[0]])) == read_teacher(file(rows))
    exchanged = {"p_a": rows[0]["p_b"], "p_b": rows[0]["p_a"], "score": -rows[0]["score"]}
    exchanged |= {"z_ab": rows[0]["z_ba"], "z_ba": rows[0]["z_ab"]}
    for changes in ({"key": "0" * 16}, exchanged):
        path = file([*rows, rows[0] | changes])
        tiny.refusal(DataError, lambda path=path: read_teacher(path), "row 4: field id is 'r0', which")


def test_files_that_are_not_scores_are_refused(tmp_path, file):
    pairs = make_pairs(3)
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    tiny.refusal(DataError, lambda: read_teacher(tmp_path / "pairs.jsonl"), "pairs.jsonl row 1: field p_a is missing")
    part = file([{"header": {"order": "both"}}, *scores(pairs)], "scores.jsonl.part")
    tiny.refusal(DataError, lambda: read_teacher(part), "row 1: field p_a is missing")
    hostile = {
        "empty": (b"", "is empty"),
        "blank": (b"\n\n", "has no scores"),
        "half.jsonl": (b'{"id": "r0", "key', "row 1"),
        "bad.gz": (b"{}", "does not start as gzip"),
        "cut.gz": (gzip.compress(b"{}" * 999)[:-9], "cut off"),
        "latin": (b"{\xff}", "UTF-8"),
    }
    for name, (data, word) in hostile.items():
        (tmp_path / name).write_bytes(data)
        tiny.refusal(DataError, lambda name=name: read_teacher(tmp_path / name), name, word)
    tiny.refusal(DataError, lambda: read_teacher(tmp_path / "nowhere"), "cannot be read")


# Labels


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("three", [False, True])
def test_a_label_is_the_mixture_of_the_teachers_and_the_own(file, share, three):
    pairs = make_pairs()
    rows = {row["id"]: row for row in scores(pairs, three=three)}
    taught = apply_teacher(pairs, read_teacher(file(rows.values())), share)
    for pair, made in zip(pairs, taught, strict=True):
        row = rows[pair.id]
        theirs = row["p_b"] + row["p_tie"] / 2
        own = pair.soft_label
        expected = theirs if own is None else share * theirs + (1 - share) * own
        assert made.soft_label == made.p_b == pytest.approx(expected, abs=1e-14)
        p_a, p_b, p_tie = made.target
        assert min(made.target) >= 0 and p_a + p_b + p_tie == pytest.approx(1)
        assert p_b + p_tie / 2 == pytest.approx(made.soft_label, abs=1e-14), "both labels say the same"
        kept = {"p_b": None, "winner": pair.winner}
        assert Pair.from_dict({**made.to_dict(), **kept}) == replace(pair, p_b=None) and made.meta == pair.meta


def test_the_tie_is_mixed_too():
    pair = Pair("q", "a", "b", id="r")
    calibration = Calibration(1.0, 0.6 / math.sqrt(0.1 * 0.3))
    (judgement,) = judged([pair], [(math.log(3),)], None, calibration, "x")  # 0.1, 0.3 and 0.6
    teacher = {"r": judgement}

    def target(share, **label):
        (made,) = apply_teacher([replace(pair, **label)], teacher, share)
        assert made.swap().target == pytest.approx([made.target[i] for i in (1, 0, 2)], abs=1e-14)
        assert made.swap().swap() == made and made.swap().winner == (label.get("winner") and label["winner"].swapped)
        return tuple(round(p, 13) for p in made.target)

    assert target(1.0) == target(0.0) == target(1.0, winner=Winner.MODEL_A) == (0.1, 0.3, 0.6)
    assert target(0.5, winner=Winner.TIE) == (0.05, 0.15, 0.8)
    assert target(0.5, winner=Winner.MODEL_A) == (0.55, 0.15, 0.3)
    assert target(0.0, winner=Winner.MODEL_B) == (0, 1, 0)
    assert target(0.5, p_b=0.2) == (0.45, 0.25, 0.3)
    assert target(0.0, winner=Winner.TIE, p_b=0.6) == (0, 0.2, 0.8), "no more of a tie than the soft label allows"
    assert target(0.5, winner=Winner.TIE, p_b=0.6) == (0.05, 0.25, 0.7)
    assert target(0.0, winner=Winner.MODEL_A, p_b=0.3) == (0.7, 0.3, 0)


def test_certainty_survives(file):
    pairs = [replace(p, p_b=1.0, winner=None) for p in make_pairs(3)]
    sure = judged(pairs, [(2000.0,)] * 3, [(-2000.0,)] * 3, CALIBRATION, "x")
    teacher = read_teacher(file([judgement.to_row() for judgement in sure]))
    for n in range(101):
        taught = apply_teacher(pairs, teacher, n / 100)
        assert taught[0].target == (0, 1, 0) and sum(taught[1].target) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_joined_by_id_in_whatever_order_they_stand(file, seed):
    pairs = make_pairs()
    rows = scores(pairs)
    rng = random.Random(seed)
    expected = apply_teacher(pairs, read_teacher(file(rows)), 0.4)
    assert apply_teacher(pairs, read_teacher(file(rng.sample(rows, len(rows)))), 0.4) == expected
    order = rng.sample(range(len(pairs)), len(pairs))
    teacher = read_teacher(file([*scores([Pair("other", "a", "b", id="more")]), *rows]))
    assert apply_teacher([pairs[i] for i in order], teacher, 0.4) == [expected[i] for i in order]


def test_scores_of_the_exchanged_sides_are_exchanged_back(file):
    pairs = make_pairs()
    taught = apply_teacher(pairs, read_teacher(file(scores(pairs))), 0.4)
    turned = apply_teacher([p.swap() for p in pairs], read_teacher(file(scores(pairs))), 0.4)
    for one, two in zip(taught, turned, strict=True):
        assert one.key == two.swap().key and two.swap().target == pytest.approx(one.target, abs=1e-14)


def test_pairs_without_a_row_or_with_another_pairs_row_stop_the_run(file):
    pairs = make_pairs()
    teacher = read_teacher(file(scores(pairs[:33])))
    tiny.refusal(
        TrainError,
        lambda: apply_teacher(pairs[::-1], teacher, 1.0),
        "7 of 40 pairs have no row",
        "r33, r34, r35, r36, r37 and 2 more",
        "score all the training files",
    )
    swapped_rows = scores(pairs)
    swapped_rows[3]["id"], swapped_rows[4]["id"] = "r4", "r3"
    tiny.refusal(
        TrainError,
        lambda: apply_teacher(pairs, read_teacher(file(swapped_rows)), 1.0),
        "2 of 40 pairs have other texts",
        "(r3, r4)",
    )
    teacher = read_teacher(file(scores(pairs)))
    for change in ({"prompt": "question 0 "}, {"response_a": "one"}, {"response_b": "one 0"}):
        changed = [replace(pairs[0], **change), *pairs[1:]]
        tiny.refusal(TrainError, lambda changed=changed: apply_teacher(changed, teacher, 1.0), "1 of 40", "(r0)")
    assert apply_teacher([], teacher, 1.0) == []


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(file, share):
    tiny.refusal(UsageError, lambda: apply_teacher([], {}, share), "teacher_share", "between 0 and 1")


def test_taught_pairs_are_merged_and_split_like_others(file):
    pairs = make_pairs()
    again = [replace(p.swap(), id=f"{p.id}-2", winner=Winner.TIE, p_b=None) for p in pairs[:8]]
    teacher = read_teacher(file(scores(pairs)))
    teacher |= {p.id: teacher[p.id.removesuffix("-2")] for p in again}
    taught = apply_teacher([*pairs, *again], teacher, 0.5)
    merged, gone = remove_duplicates(taught)
    assert gone == 8 and merged[8:] == taught[8:40]
    for made, one, two in zip(merged[:8], taught, taught[40:], strict=False):
        mean = [(x + y) / 2 for x, y in zip(one.target, two.swap().target, strict=True)]
        assert made.target == pytest.approx(mean, abs=1e-14) and made.id == one.id and made.key == one.key
    backwards = {p.prompt: p.swap() if p.id.endswith("-2") else p for p in remove_duplicates(taught[::-1])[0]}
    assert all(backwards[p.prompt].target == pytest.approx(p.target, abs=1e-14) for p in merged)
    train, valid = split(merged, 0.3, 0)
    plain = split([replace(p, p_b=0.5, winner=None) for p in pairs], 0.3, 0)
    assert [[p.id for p in part] for part in (train, valid)] == [[p.id for p in part] for part in plain]
