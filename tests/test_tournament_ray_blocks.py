"""How the battles of a cluster are cut into blocks."""

from itertools import combinations

import pytest

from harness_plugin.pairs import Pair
from harness_plugin.tournament.ray_judge import BLOCK, _cut


def everyone(models, prompts):
    """Every model against every other, on every prompt."""
    return [
        Pair(f"ask {n}", f"{a} says {n}", f"{b} says {n}")
        for n in range(prompts)
        for a, b in combinations(range(models), 2)
    ]


@pytest.mark.parametrize("models, prompts, workers", [(8, 90, 2), (8, 90, 40), (3, 4, 2), (40, 2, 1), (2, 1, 3)])
def test_blocks_hold_every_battle_once_and_all_of_a_prompt_where_they_fit(models, prompts, workers):
    pairs = everyone(models, prompts)
    blocks = _cut(pairs, workers)
    assert sorted(p.key for block in blocks for p in block) == sorted(p.key for p in pairs)
    battles = models * (models - 1) // 2
    size = max(1, min(BLOCK, -(-len(pairs) // (4 * workers))))
    assert all(0 < len(block) <= size for block in blocks)
    if battles <= size:
        assert sum(len({p.prompt for p in block}) for block in blocks) == prompts, "no prompt is in two blocks"
    else:
        assert len(blocks) == prompts * -(-battles // size)
