"""Whatever a server answers, no verdict is wrong and none is lost."""

import json
import math
import random
import re

import pytest
from served_server import (
    KEY,
    SOME,
    Reply,
    completion,
    late_once,
    letters_for,
    openai,
    pair,
    token,
)

from harness_plugin.cli import main
from harness_plugin.errors import ScoreError
from harness_plugin.judges.served.pace import Pace, asked_wait, duration
from harness_plugin.scoring.judgement import Judgement

pytestmark = pytest.mark.usefixtures("served_home")

# -- answers that are no verdict --------------------------------------------------------------------------------------

USELESS = {
    "refused": completion(None, refusal="I can't judge this."),
    "filtered": completion("", reason="content_filter"),
    "empty": completion(None),
    "cut": completion(None, reason="length"),
    "cut at the letter": completion("A", reason="length"),
    "thinking without an end": completion("<think>A is better. Verdict: A\nA"),
    "a sentence": completion("A good response would be the second."),
    "two letters": completion("A or B"),
    "letters in a text": completion("Verdict: B\nBut a reader may disagree."),
    "no such letter": completion("D"),
    "little mass": completion("A", {"content": [token("A", -3.0, ("A", -3.0), ("The", -0.1), ("B", -4.0))]}),
    "absent": completion("A", {"content": [token("A", -9999.0, ("The", -0.01))]}),
    "tokens of the reasoning": completion("A", {"content": [token(x, -0.1, (x, -0.1)) for x in ("Hmm", "A", "so")]}),
    "rejected": Reply({"error": {"message": "maximum context length is 4096 tokens"}}, 400),
    "too large": Reply({"detail": [{"msg": "too long"}]}, 422),
}


@pytest.mark.parametrize("kind", USELESS)
def test_an_answer_without_a_verdict_is_a_state_and_the_others_are_kept(served, kind):
    server = served()
    with openai(server) as judge:
        server.trouble = lambda count, method, path, body: USELESS[kind] if "question 3" in str(body) else None
        seen = []
        with pytest.raises(ScoreError, match=r"1 of 5 pairs have no verdict .* pairs p3") as error:
            seen.extend(judge.judge(SOME))
        assert [judgement.id for judgement in seen] == ["p0", "p1", "p2", "p4"]
        before = server.asked
        with pytest.raises(ScoreError):
            list(judge.judge(SOME))
        asked = server.requests[before:]
        assert asked and all("question 3" in str(body) for _, _, body in asked)
        server.trouble = lambda *request: None
        assert [judgement.id for judgement in judge.judge(SOME)] == [p.id for p in SOME]
    assert KEY not in str(error.value)


def test_states_are_counted_apart(served):
    server = served()
    kinds = list(USELESS)
    with openai(server) as judge:
        place = re.compile(r"question (\d+)\b")
        server.trouble = lambda count, method, path, body: USELESS[kinds[int(place.search(str(body))[1])]]
        with pytest.raises(ScoreError) as error:
            list(judge.judge([pair(n, 1, 2) for n in range(len(kinds))]))
    said = str(error.value)
    for part in ("1 refused", "1 filtered", "1 empty", "3 cut", "2 rejected", "5 without a legal verdict"):
        assert part in said
    assert "2 with too little probability on the legal verdicts" in said


# -- trouble that passes ----------------------------------------------------------------------------------------------


def once(*replies):
    """Trouble for the first requests after the handshake, in this order."""
    left = list(replies)
    return lambda count, method, path, body: left.pop(0) if left and method == "POST" else None


PASSING = {
    "500": Reply({"error": "boom"}, 500),
    "502 of a proxy": Reply(b"<html>Bad gateway</html>", 502),
    "529": Reply({"error": {"type": "overloaded"}}, 529),
    "408": Reply({}, 408),
    "reset": Reply(how="reset"),
    "half": Reply({"choices": [{"message": {"content": "A"}}], "pad": "x" * 300}, how="half"),
    "no JSON": Reply(b"{oops"),
    "no object": Reply([1, 2]),
    "no choice": Reply({"choices": []}),
    "no message": Reply({"choices": [{"finish_reason": "stop"}]}),
    "an error with status 200": Reply({"error": {"message": "upstream"}}),
    "aborted": completion("A", reason="abort"),
    "impossible": completion("A", {"content": [token("A", 0.0, ("A", 0.0), ("B", 0.0), ("C", 0.0))]}),
    "positive": completion("A", {"content": [token("A", 3.0, ("A", 3.0))]}),
    "not numbers": completion("A", {"content": [token("A", "high", ("A", "high"))]}),
    "NaN": Reply(b'{"choices": [{"message": {"content": NaN}}]}'),
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_may_pass_is_asked_again(served, clock, kind):
    server = served()
    with openai(server, concurrency=1) as judge:
        before, clock.slept[:] = server.asked, []
        server.trouble = once(PASSING[kind], PASSING[kind])
        (judgement,) = judge.judge([SOME[0]])
    assert judgement.preferred == "b" and server.asked - before == 4
    assert len(clock.slept) == 2 and 0.25 <= clock.slept[0] <= 0.5 <= clock.slept[1] <= 1.0


@pytest.mark.parametrize("how", ["slow", "drip"])
def test_a_slow_answer_is_asked_for_again(served, how):
    server = served()
    with openai(server, concurrency=1, timeout=100) as judge:
        late_once(server, judge, Reply(completion("A").body, how=how))
        (judgement,) = judge.judge([SOME[0]])
    assert judgement.preferred == "b", "the late answer says A"


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after-ms": "2500"}, 2.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, 90),
    ],
)
def test_a_server_is_given_the_time_that_it_asks_for(served, clock, headers, least):
    server = served()
    with openai(server, concurrency=1) as judge:
        start = clock.time
        server.trouble = once(Reply({"error": {"message": "slow down"}}, 429, headers))
        list(judge.judge([SOME[0]]))
    assert clock.time - start >= least


def test_a_pause_that_the_server_asks_for_is_said_once(served, clock, caplog):
    caplog.set_level("INFO", "lm_eval.arena_rm")
    server = served()
    with openai(server, concurrency=1) as judge:
        server.trouble = once(Reply({}, 429, {"retry-after": "90"}))
        assert len(list(judge.judge(SOME))) == len(SOME)
    said = [line for line in caplog.messages if "429 Too Many Requests, and asks to wait 90 seconds" in line]
    assert len(said) == 1
    pace = Pace()  # several threads are told the same
    assert [pace.pause(90), pace.pause(90), pace.pause(5), pace.pause(200), pace.pause(0.1)] == [1, 0, 0, 1, 0]


def test_a_pause_that_is_too_long_ends_the_run_and_says_so(served):
    server = served()
    with openai(server) as judge:
        server.trouble = lambda *request: Reply({}, 429, {"retry-after": "7200"})
        with pytest.raises(ScoreError, match="asks to wait 7200 seconds"):
            list(judge.judge(SOME))


def test_waits_in_every_form():
    assert asked_wait({"retry-after": "12"}) == 12 and asked_wait({"retry-after-ms": "50"}) == 0.05
    assert asked_wait({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert asked_wait({"retry-after": "Fri, 31 Dec 2899 23:59:59 GMT"}) > 3000
    assert asked_wait({"retry-after": "soon"}) is None and asked_wait({}) is None
    none_left = {f"x-ratelimit-remaining-{what}": "0" for what in ("requests", "tokens")}
    assert asked_wait(none_left | {"x-ratelimit-reset-requests": "1m", "x-ratelimit-reset-tokens": "2m"}) == 120
    assert [duration(text) for text in ("6m30s", "1h", "250ms", "12", "1.5s", "", "never")] == [
        390, 3600, 0.25, 12, 1.5, None, None,
    ]  # fmt: skip


def test_calls_keep_to_the_rate_that_the_user_names(served, clock):
    server = served()
    with openai(server, calls_per_minute=30) as judge:
        start = clock.time
        list(judge.judge(SOME))
    assert clock.time - start >= 2.0 * (2 * len(SOME) - 1)


# -- many misbehaving answers -----------------------------------------------------------------------------------------


def misbehaving(server, seed: int):
    """A server that misbehaves in every way, at random: about half of all answers. Counts how often."""
    draw, counts = random.Random(seed), {"bad": 0}
    passing = [*PASSING.values(), Reply({}, 429, {"Retry-After": "3"}), Reply({}, 503, {"retry-after-ms": "10"})]
    wrong = list(USELESS.values())

    def trouble(count, method, path, body):
        if "question" not in str(body) or draw.random() < 0.45:  # the handshake is not what is tried here
            return None
        counts["bad"] += 1
        return draw.choice(passing if draw.random() < 0.9 else wrong)

    server.trouble = trouble
    return counts


@pytest.mark.parametrize("wanted", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_among_misbehaving_answers_no_verdict_is_wrong_none_is_lost_and_the_key_is_nowhere(
    served, clock, tmp_path, capsys, caplog, wanted
):
    server = served()
    many = [pair(n, n % 9, n * 7 % 11) for n in range(wanted // 2)]
    file, out = tmp_path / "pairs.jsonl", tmp_path / "scores.jsonl"
    rows = [{"id": p.id, "prompt": p.prompt, "response_a": p.response_a, "response_b": p.response_b} for p in many]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts, said, rounds = {"bad": 0}, "", 0
    command = ["score", str(file), "--judge", f"openai:{server.url}/v1#model-1", "-o", str(out), "--concurrency", "6"]
    while not out.exists():
        rounds += 1
        assert rounds < 20
        trouble = misbehaving(server, rounds)
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code in (0, 3)
        captured = capsys.readouterr()
        said += captured.out + captured.err
        counts["bad"] += trouble["bad"]
    assert counts["bad"] >= wanted
    found = [Judgement.from_row(json.loads(line)) for line in out.read_text().splitlines()]
    assert [judgement.id for judgement in found] == [p.id for p in many]
    for one, judgement in zip(many, found, strict=True):
        p = letters_for(one.response_a, one.response_b)
        assert judgement.z_ab == pytest.approx([math.log(p[x]) for x in "ABC"], abs=1e-9)
        p = letters_for(one.response_b, one.response_a)
        assert judgement.z_ba == pytest.approx([math.log(p[x]) for x in "ABC"], abs=1e-9)
    places = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(places) >= 3
    assert not any(KEY.encode() in path.read_bytes() for path in places)
    assert KEY not in said + caplog.text
