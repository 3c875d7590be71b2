"""How a server is asked again: limits of calls, quotas, filters, slow answers, and connections that cannot be made."""

import time

import pytest
import requests
from served_server import (
    KEY,
    SOME,
    Reply,
    Server,
    chat,
    decisions,
    late_once,
    openai,
    pair,
)

from harness_plugin.errors import ModelError, ScoreError
from harness_plugin.judges import open_judge
from harness_plugin.judges.served import client
from harness_plugin.judges.served.api_key import ApiKey, host_variable
from harness_plugin.judges.served.pace import asked_wait, duration

pytestmark = pytest.mark.usefixtures("served_home")

LIMIT = "Rate limit reached on tokens per minute. Need more? Upgrade at https://console.example.org/settings/billing"

# -- limits of calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{"Retry-After": "6"}, {}])
def test_a_server_that_takes_one_call_in_six_seconds_answers_all_pairs_in_the_end(served, clock, headers):
    server, many = served(), [pair(n, n % 7, n % 5) for n in range(4)]
    with openai(server, concurrency=3) as judge:
        free = [clock.time]

        def limited(count, method, path, body):
            if clock.time < free[0]:
                return Reply({"error": {"message": LIMIT, "code": "rate_limit_exceeded"}}, 429, headers)
            free[0] = clock.time + 6
            return None

        server.trouble = limited
        judge.client.budget.max_calls = judge.client.budget.calls + 2 * len(many)  # refused calls cost nothing
        assert [judgement.id for judgement in judge.judge(many)] == [p.id for p in many]


def test_a_server_that_never_takes_the_call_is_given_up_in_the_end(served, clock, monkeypatch):
    monkeypatch.setattr(client, "MOST_PATIENCE", 100.0)
    server = served()
    with openai(server, concurrency=1) as judge:
        start, before = clock.time, server.asked
        server.trouble = lambda *request: Reply({"error": {"message": "slow down"}}, 429)
        with pytest.raises(ScoreError, match=r"1 failed after retries.*\(pair p0: 429 slow down\)"):
            list(judge.judge(SOME[:1]))
    assert 200 <= clock.time - start < 300 and server.asked - before < 30  # two questions


def test_the_log_says_about_once_a_minute_why_a_question_waits(served, clock, caplog):
    caplog.set_level("INFO", "lm_eval.arena_rm")
    server = served()
    with openai(server, concurrency=4) as judge:
        end = clock.time + 1200
        server.trouble = lambda *request: Reply({"error": {"message": "slow down"}}, 429) if clock.time < end else None
        assert len(list(judge.judge([pair(n, 1, 2) for n in range(4)]))) == 4
    said = [line for line in caplog.messages if "seconds (429 slow down), and is asked again" in line]
    # four threads pause for 30 seconds each, so that up to three minutes lie between two lines
    assert 5 <= len(said) <= 22 and not [line for line in said if KEY in line]


def test_a_limit_that_lasts_is_not_called_a_server_that_is_down(served, clock, monkeypatch):
    monkeypatch.setattr(client, "MOST_PATIENCE", 2.0)
    server = served()
    with openai(server, concurrency=1) as judge:
        server.trouble = lambda *request: Reply({"error": {"message": "slow down"}}, 429)
        with pytest.raises(ScoreError, match=r"fewer calls than it is sent; .* --calls-per-minute"):
            list(judge.judge([pair(n, 1, 2) for n in range(20)]))


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (402, {"error": {"message": "Payment required"}}, {}),
        (402, {"error": {"message": "Payment required"}}, {"Retry-After": "5"}),
        (400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}}, {}),
        (403, {"error": {"message": "out", "code": "insufficient_quota"}}, {}),
        (429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}, {}),
    ],
)
def test_a_quota_that_is_used_up_ends_the_run_at_once(served, status, body, headers):
    server = served()
    with openai(server, concurrency=1) as judge:
        before = server.asked
        server.trouble = lambda *request: Reply(body, status, headers)
        with pytest.raises(ScoreError, match="a quota that is used up does not come back by waiting"):
            list(judge.judge(SOME))
    assert server.asked - before <= 2


def test_a_text_that_speaks_of_quotas_ends_no_run(served):
    """FastAPI's errors show what they were sent."""
    server = served()
    body = {"detail": [{"msg": "too long", "input": "insufficient funds, insufficient_quota", "type": "too_long"}]}
    with openai(server) as judge:
        server.trouble = lambda count, method, path, sent: Reply(body, 422) if "question 1" in str(sent) else None
        with pytest.raises(ScoreError, match="1 rejected"):
            list(judge.judge(SOME))


def test_a_blocked_text_is_filtered_and_a_forbidden_one_is_forbidden(served):
    server = served()
    azure = {"error": {"code": "content_filter", "message": "blocked", "innererror": {"code": "ResponsibleAIPolicy"}}}
    replies = {"question 1": Reply(azure, 400), "question 2": Reply({"error": {"message": "not here"}}, 403)}
    with openai(server) as judge:
        server.trouble = lambda count, method, path, sent: next(
            (reply for text, reply in replies.items() if text in str(sent)), None
        )
        with pytest.raises(ScoreError, match=r"1 filtered, 1 forbidden"):
            list(judge.judge(SOME))
        before, server.trouble = server.asked, lambda *request: Reply({"error": {"message": "no access"}}, 403)
    with pytest.raises(ModelError, match=r"no usable answer .*\(forbidden: 403 no access\)"):
        openai(server)
    assert server.asked - before == 2  # its parameters are not what is wrong


def test_times_since_1970_are_no_waits(monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    for text in (f"{now + 30:.0f}", f"{(now + 30) * 1000:.0f}"):
        assert 29 <= duration(text) <= 31 and 29 <= asked_wait({"retry-after": text}) <= 31
    assert duration(f"{now - 30:.0f}") == 0
    for odd in ("-5", "1e9", "٣", "Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 99999 23:59:59 GMT", "\x00", ","):
        assert asked_wait({"retry-after": odd}) in (None, 0, 3)
    assert asked_wait({"retry-after": "9" * 400}) == float("inf")


def test_a_pause_after_a_good_answer_is_said(served, clock, caplog):
    caplog.set_level("INFO", "lm_eval.arena_rm")
    server = served()
    with openai(server, concurrency=1) as judge:
        start, empty = clock.time, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "40s"}
        server.trouble = lambda count, method, path, body: Reply(chat(method, path, body).body, 200, empty)
        list(judge.judge(SOME[:1]))
    assert clock.time - start >= 40 and "has no call left for now, and the run waits 40 seconds" in caplog.text


# -- slow answers and broken connections ------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_trickles_is_given_up_when_its_time_is_over(served, chunked):
    server = served()
    with openai(server, concurrency=1, timeout=100) as judge:
        late_once(server, judge, Reply({"choices": [], "pad": "x" * 2000}, how="chunked drip" if chunked else "drip"))
        start = time.monotonic()
        (judgement,) = judge.judge([SOME[0]])
    assert judgement.preferred == "b" and time.monotonic() - start < 100  # the whole of it would take 200 seconds


def test_a_connection_that_breaks_while_it_is_encrypted_is_made_again(served, clock, monkeypatch):
    server = served()
    with openai(server, concurrency=1) as judge:
        plain, broken = (
            requests.Session.request,
            [requests.exceptions.SSLError("EOF occurred in violation of protocol")],
        )

        def request(session, *args, **settings):
            if broken:
                raise broken.pop()
            return plain(session, *args, **settings)

        monkeypatch.setattr(requests.Session, "request", request)
        assert [judgement.preferred for judgement in judge.judge(SOME[:1])] == ["b"] and not broken


def test_a_time_for_an_answer_that_is_too_long_for_a_socket_is_used_as_far_as_it_goes(served):
    assert [j.preferred for j in openai(served(), timeout=1e300).judge(SOME[:1])] == ["b"]


def test_a_host_or_a_certificate_that_cannot_be_used_is_named(monkeypatch):
    with pytest.raises(ModelError, match=r"label empty or too long.*no host has this name"):
        open_judge(judge=f"openai:http://{'a' * 70}.example/v1#m")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such.pem")
    with pytest.raises(ModelError, match=r"invalid path: /no/such\.pem.*REQUESTS_CA_BUNDLE"):
        open_judge(judge="openai:https://127.0.0.1:9/v1#m")


def test_the_password_of_a_proxy_is_not_in_what_is_said(served):
    with openai(served()) as judge:
        assert judge.client.told("cannot connect to http://user:s3cret@proxy:80/x") == (
            "cannot connect to http://proxy:80/x"
        )


def test_a_server_that_is_being_started_is_looked_at_again_and_one_that_is_not_there_is_named(served, clock):
    server, left = served(decisions()), [Reply({}, 503), Reply({}, 503)]
    server.trouble = lambda count, method, path, body: left.pop() if left and method == "GET" else None
    with open_judge(judge=f"systemone:{server.url}") as judge:
        assert judge.identity["served_model"] == "decider-1"
    server.__exit__()
    with pytest.raises(ModelError, match=r"does not answer \(.*Connection refused\); no server is there"):
        open_judge(judge=f"systemone:{server.url}")


def test_a_server_without_a_version_is_tried_whatever_it_says_of_it(clock):
    from harness_plugin.judges.served.budget import Budget
    from harness_plugin.judges.served.pace import Pace
    from harness_plugin.judges.served.vllm import check_version

    with Server(chat) as server:
        for reply in (Reply({}, 404), Reply({}, 502), Reply(b"<html>"), Reply({"version": 7})):
            server.trouble = lambda *request, reply=reply: reply
            check_version(client.Client(server.url, ApiKey(), Budget(), Pace(), 100.0))


def test_each_host_of_a_panel_can_have_a_key_of_its_own(served, monkeypatch):
    server = served()
    port = server.url.rpartition(":")[2]
    monkeypatch.setenv("ARENA_RM_API_KEY_LOCALHOST", "sk-of-localhost")
    for host in ("127.0.0.1", "localhost"):
        open_judge(judge=f"openai:http://{host}:{port}/v1#model-1")
    sent = {(headers["Host"].partition(":")[0], headers["Authorization"]) for _, headers, _ in server.requests}
    assert sent == {("127.0.0.1", f"Bearer {KEY}"), ("localhost", "Bearer sk-of-localhost")}
    assert host_variable("https://api.example-2.org:8443/v1") == "ARENA_RM_API_KEY_API_EXAMPLE_2_ORG"


def test_a_short_key_is_taken_out_as_a_word_only():
    said = "no such route: /proxy/x for key x"
    assert ApiKey("x").removed_from(said) == "no such route: /proxy/[key] for key [key]"
    assert ApiKey("EMPTY").removed_from("the content is EMPTYISH") == "the content is EMPTYISH"
