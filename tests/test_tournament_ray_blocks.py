"""How the battles of a cluster are cut into blocks and sent to its workers; a stand-in takes the cluster's place."""

import weakref
from collections.abc import Sequence
from itertools import combinations

import pytest
from stub_judge import StubJudge

from harness_plugin.errors import ModelError, ScoreError
from harness_plugin.model import ModelSpec
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import identity_hash
from harness_plugin.tournament import ray_judge, ray_workers
from harness_plugin.tournament.ray_judge import BLOCK, RayJudge, _cut, _numbers

WORKERS = 3
IDENTITY = {"kind": "stub", "max_length": 9, "truncation": "budget", "temperature": 1, "tie_nu": 0, "length_worth": 0}


def everyone(models, prompts):
    """Every model against every other, on every prompt."""
    return [
        Pair(f"ask {n}", f"{a} says {n}", f"{b} says {n}")
        for n in range(prompts)
        for a, b in combinations(range(models), 2)
    ]


class MadeOnDemand(Sequence):
    """Pairs that exist only as long as somebody holds them. `most`: how many there were at once."""

    def __init__(self, pairs):
        self._texts = [(p.prompt, p.response_a, p.response_b) for p in pairs]
        self.alive = self.most = 0

    def __len__(self):
        return len(self._texts)

    def __getitem__(self, row):
        pair = Pair(*self._texts[row])
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(pair, self._gone)
        return pair

    def _gone(self):
        self.alive -= 1


class Judging(StubJudge):
    identity, hash = IDENTITY, identity_hash(IDENTITY)


class Call:
    """A call on a worker, which is made when its result is asked for."""

    def __init__(self, actor, function, *arguments):
        self.actor, self.of_block = actor, bool(arguments)
        self.result = lambda: function(*arguments)


class Made:
    """A function or a class as Ray wraps it; an actor's methods are made in the same way."""

    def __init__(self, wrapped, cluster, actor=None):
        self._wrapped, self._cluster, self._actor = wrapped, cluster, actor

    def remote(self, *arguments):
        if isinstance(self._wrapped, type):
            self._cluster.actors.append(Actor(self._wrapped(*arguments), self._cluster))
            self._cluster.made.append(self._cluster.actors[-1])
            return self._cluster.actors[-1]
        return Call(self._actor, self._wrapped, *arguments)


class Actor:
    lost = False  # an error comes in the place of each result
    pending = False  # no machine has room for it

    def __init__(self, made, cluster):
        self.ready, self.judge = Made(made.ready, cluster, self), Made(made.judge, cluster, self)


class Cluster:
    """In the place of the module ray. Blocks come back in another order than they were sent in. `made`: all workers
    that there were; `most`: how many blocks were sent and not back at once; `judged`: how many came back."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            cause = ValueError("a bug\nand more")

    def __init__(self):
        self.actors, self.made, self.most, self.judged = [], [], 0, 0

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 1.0}}] * WORKERS

    def remote(self, **needs):
        return lambda wrapped: Made(wrapped, self)

    def wait(self, calls, num_returns):
        self.most = max(self.most, sum(call.of_block for call in calls))
        able = [call for call in calls if not call.actor.pending]
        back = next((call for call in able if not call.of_block), able[-1])
        return [back], [call for call in calls if call is not back]

    def get(self, call):
        if call.actor and call.actor.lost:
            raise self.exceptions.RayError("the actor died\nand more")
        self.judged += call.actor is not None and call.of_block
        return call.result()

    def kill(self, actor):
        self.actors.remove(actor)


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(ray_workers, "_loaded", lambda *arguments: Judging())
    return Cluster()


@pytest.mark.parametrize("models, prompts, workers", [(8, 90, 2), (8, 90, 40), (3, 4, 2), (40, 2, 1), (2, 1, 3)])
def test_blocks_hold_every_battle_once_and_all_of_a_prompt_where_they_fit(models, prompts, workers):
    pairs = everyone(models, prompts)
    _, rows, numbers = _numbers(pairs)
    order = numbers.argsort(kind="stable")
    blocks = [[pairs[row] for row in rows[order][part]] for part in _cut(numbers[order], workers)]
    assert sorted(p.key for block in blocks for p in block) == sorted(p.key for p in pairs)
    battles = models * (models - 1) // 2
    size = max(1, min(BLOCK, -(-len(pairs) // (4 * workers))))
    assert all(0 < len(block) <= size for block in blocks)
    if battles <= size:
        assert sum(len({p.prompt for p in block}) for block in blocks) == prompts, "no prompt is in two blocks"
    else:
        assert len(blocks) == prompts * -(-battles // size)


def test_no_pairs_make_no_block():
    assert _cut(_numbers([])[2], 2) == []


def test_the_texts_of_a_few_blocks_are_held_however_many_there_are(cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(ray_judge, "BLOCK", 5)
    pairs, judge = MadeOnDemand(everyone(3, 200)), RayJudge(cluster, ModelSpec(), None, str(tmp_path))
    counted = []
    keys = {judgement.key for judgement in judge.judge(pairs, counted.append)}
    assert len(keys) == sum(counted) == 600 and cluster.judged == 200
    assert cluster.most == 2 * WORKERS, "each worker judges a block and has the next one"
    assert pairs.most <= (cluster.most + 1) * 3 + 1
    assert len(cluster.actors) == WORKERS
    judge.close()
    assert not cluster.actors


def test_what_blocks_hold_is_not_judged_again_and_workers_serve_all_parts_of_a_run(cluster, tmp_path):
    pairs, judge = everyone(3, 20), RayJudge(cluster, ModelSpec(), None, str(tmp_path))
    first = {judgement.key: judgement for judgement in judge.judge(pairs[:33])}
    sent, counted = cluster.judged, []
    both = {judgement.key: judgement for judgement in judge.judge(pairs, counted.append)}
    assert len(both) == len(pairs) == sum(counted)
    assert {key: both[key] for key in first} == first
    assert len(cluster.actors) == WORKERS and cluster.judged > sent
    judged = cluster.judged
    assert {j.key: j for j in RayJudge(cluster, ModelSpec(), None, str(tmp_path)).judge(pairs)} == both
    assert cluster.judged == judged and len(cluster.actors) == WORKERS, "nobody is asked"


def test_blocks_of_a_lost_worker_go_to_others_and_one_without_a_machine_keeps_nobody_waiting(
    cluster, monkeypatch, caplog, tmp_path
):
    monkeypatch.setattr(ray_judge, "BLOCK", 5)
    pairs, judge = everyone(3, 20), RayJudge(cluster, ModelSpec(), None, str(tmp_path))
    judgements = judge.judge(pairs)
    keys = [next(judgements).key]
    cluster.actors[0].lost = True
    monkeypatch.setattr(Actor, "pending", property(lambda actor: actor in cluster.made[WORKERS:]))
    keys += [judgement.key for judgement in judgements]
    assert sorted(keys) == sorted(pair.key for pair in pairs), "each once"
    assert len(cluster.made) == WORKERS + 1 and len(cluster.actors) == WORKERS
    assert caplog.text.count("a worker was lost (the actor died); its blocks are given out again") == 1


def test_an_error_of_a_workers_code_is_not_tried_again(cluster, monkeypatch, tmp_path):
    def broken(self, pairs):
        raise cluster.exceptions.RayTaskError

    monkeypatch.setattr(Judging, "judge", broken)
    with pytest.raises(ScoreError, match=r"gave up on a block \(ValueError: a bug\)"):
        list(RayJudge(cluster, ModelSpec(), None, str(tmp_path)).judge(everyone(2, 3)))
    assert len(cluster.made) == WORKERS


def test_a_lost_cluster_and_another_judge_on_a_worker_are_errors_with_advice(cluster, monkeypatch, tmp_path):
    judge = RayJudge(cluster, ModelSpec(), None, str(tmp_path))
    with monkeypatch.context() as patched, pytest.raises(ScoreError, match=r"gave up on a block \(the actor died\)"):
        patched.setattr(Actor, "lost", True)
        list(judge.judge(everyone(2, 3)))
    assert len(cluster.made) <= ray_workers.TRIES * WORKERS
    judge.workers = ray_workers.Workers(cluster, ray_workers.Devices(1, 1, 0), None, None, "another hash")
    monkeypatch.setattr(Judging, "model", type("Model", (), {"device": "cpu"}), raising=False)
    monkeypatch.setattr(Judging, "identity", IDENTITY | {"dtype": "bfloat16"})
    with pytest.raises(ModelError, match="another judge than the first worker"):
        list(judge.judge(everyone(2, 3)))


def test_the_speed_says_how_long_a_million_battles_take_where_tokens_are_known():
    assert str(ray_judge.Speed(3, 0, 0.5)) == "3 pairs, of which the judge does not say how many tokens it read"
    said = str(ray_judge.Speed(2, 2000, 4.0))
    assert said == "2000 tokens at 500 a second and worker; a million battles like these: 555.6 hours of one worker"
