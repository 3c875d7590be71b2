"""Packs hold every sequence once, whole, and what sequences share only once."""

import random
from itertools import permutations

import numpy as np
import pytest

from harness_plugin.engine.packing import LEAST_SHARED, pack_of, packed


def rows_of(layout, segment: int) -> list[int]:
    """The rows of a segment's keys."""
    runs = range(layout.ptr[segment], layout.ptr[segment + 1])
    return [int(layout.start[r]) + i for r in runs for i in range(layout.length[r])]


def check(sequences, packs) -> None:
    assert sorted(m for pack in packs for m in pack.members) == list(range(len(sequences)))
    for pack in packs:
        seen = np.zeros(len(pack.ids), dtype=int)
        for s, (start, length) in enumerate(zip(pack.layout.q_start, pack.layout.q_length, strict=True)):
            rows, queries = rows_of(pack.layout, s), list(range(start, start + length))
            assert rows[-length:] == queries and (pack.positions[rows] == range(len(rows))).all()
            seen[queries] += 1
        assert (seen == 1).all(), "each row is computed once"
        ends = pack.layout.q_start + pack.layout.q_length
        assert (pack.layout.q_start[1:] == ends[:-1]).all(), "kernels of variable length take queries in order"
        for i, member in enumerate(pack.members):
            rows = rows_of(pack.last_layout, i)
            assert pack.ids[rows].tolist() == list(sequences[member]) and rows[-1] == pack.last[i]
        keys = [rows_of(pack.layout, s) for s in range(len(pack.layout.q_start))]
        assert pack.layout.keys.tolist() == list(map(len, keys))
        assert pack.layout.rows().tolist() == [row for rows in keys for row in rows]


def forest(draw: random.Random, count: int) -> list[tuple[int, ...]]:
    """Sequences of which many begin as others do, end where others go on, or are the same."""
    made = [(2, *draw.choices(range(9), k=draw.randrange(40)))]
    for _ in range(count - 1):
        other = draw.choice(made)
        stem = other[: draw.randrange(1, len(other) + 1)]
        made.append(draw.choice((other, stem, (*stem, *draw.choices(range(9), k=draw.randrange(40))))))
    return made


@pytest.mark.parametrize("seed", range(20))
def test_every_sequence_is_in_one_pack_whole_whatever_it_shares(seed):
    draw = random.Random(seed)
    sequences = forest(draw, 40)
    for budget in (1, 60, 500, 10**6):
        for most in (None, 3):
            packs = list(packed(sequences, budget, most))
            check(sequences, packs)
            assert all(len(p.ids) <= budget or len(p.members) == 1 for p in packs)
            assert all(most is None or len(p.members) <= most for p in packs)


def test_the_example_in_the_docstring_of_packing():
    pack = pack_of([[*range(20), 50, 51, 52], [*range(20), 60, 61]])
    assert pack.positions.tolist() == [*range(23), 20, 21] and pack.last.tolist() == [22, 24]
    layout = pack.layout
    assert layout.q_start.tolist() == [0, 20, 23] and layout.q_length.tolist() == [20, 3, 2]
    assert layout.ptr.tolist() == [0, 1, 3, 5] and layout.keys.tolist() == [20, 23, 22]
    assert layout.start.tolist() == [0, 0, 20, 0, 23] and layout.length.tolist() == [20, 20, 3, 20, 2]


def test_what_is_shared_is_there_once_and_little_is_not_shared():
    draw = random.Random(3)
    stem = tuple(draw.choices(range(900), k=50))
    branches = [stem + tuple(draw.choices(range(n, n + 90), k=30)) for n in (0, 100, 200)]
    (pack,) = packed(branches, 10**6)
    assert len(pack.ids) == 50 + 3 * 30
    (pack,) = packed(branches, 10**6, share=False)
    assert len(pack.ids) == 3 * 80
    almost = [(*range(LEAST_SHARED - 1), 50, 51), (*range(LEAST_SHARED - 1), 60, 61)]
    (pack,) = packed(almost, 10**6)
    assert len(pack.ids) == 2 * (LEAST_SHARED + 1)


def test_a_tournament_costs_k_answers_and_not_k_squared_pairs():
    draw, k, p, r = random.Random(4), 6, 40, 50
    prompt = tuple(draw.choices(range(900), k=p))
    answers = [tuple(draw.choices(range(900), k=r)) for _ in range(k)]
    sequences = [prompt + a + b for a, b in permutations(answers, 2)]
    draw.shuffle(sequences)
    (pack,) = packed(sequences, 10**6)
    check(sequences, [pack])
    assert len(pack.ids) == p + k * r + k * (k - 1) * r < k * (k - 1) * (p + 2 * r) * 0.61


def test_one_sequence_twice_is_computed_once_and_packs_do_not_depend_on_the_order_given():
    draw = random.Random(5)
    sequences = [tuple(draw.choices(range(900), k=30)) for _ in range(10)]
    (pack,) = packed([*sequences, *sequences], 10**6)
    assert len(pack.ids) == 300
    shuffled = draw.sample(sequences, 10)
    for one, other in zip(packed(sequences, 100), packed(shuffled, 100), strict=True):
        assert one.ids.tolist() == other.ids.tolist()


def test_nothing_gives_no_pack():
    assert list(packed([], 100)) == []
