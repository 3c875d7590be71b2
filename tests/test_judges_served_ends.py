"""What ends a run with a judge behind a server, what it costs until then, and where its key goes."""

import json

import pytest
from served_server import (
    KEY,
    SOME,
    Reply,
    chat,
    chat_without_logprobs,
    decisions,
    openai,
    pair,
)

from harness_plugin.errors import ModelError, ScoreError, UsageError
from harness_plugin.judges import open_judge
from harness_plugin.judges.served.api_key import ApiKey

pytestmark = pytest.mark.usefixtures("served_home")

# -- what ends a run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (Reply({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401), ModelError, "does not let this key"),
        (Reply({"error": {"message": f"no credit for {KEY[:12]}****"}}, 400), ModelError, r"no credit for \[key\]"),
        (Reply({"error": {"message": "You exceeded", "code": "insufficient_quota"}}, 429), ScoreError, "quota"),
        (Reply({"detail": "Not Found"}, 404), ModelError, "no such interface or model"),
        (Reply({}, 307, {"Location": "http://elsewhere.example/"}), ModelError, "a redirect"),
    ],
)
def test_a_server_that_turns_away_ends_the_run_before_it_begins(served, reply, error, said):
    server = served()
    server.trouble = lambda *request: reply
    with pytest.raises(error, match=said) as raised:
        openai(server)
    assert KEY not in str(raised.value) and KEY[:12] not in str(raised.value)
    assert server.asked <= 6  # none of them is repeated


BROKEN = [
    {},
    {"choices": []},
    {"choices": [None]},
    {"choices": [{"message": None}]},
    {"choices": [{"message": {"content": 7}}]},
]


@pytest.mark.parametrize("body", BROKEN)
def test_a_server_whose_answers_are_no_completions_is_refused_before_a_run(served, body):
    server = served()
    server.trouble = lambda *request: Reply(body)
    with pytest.raises(ModelError, match=r"no usable answer .*failed after retries"):
        openai(server)
    assert server.asked == 6  # of one question: it is not asked again in the handshake


@pytest.mark.parametrize("logprobs", [[1, 2], "none", 7, {"content": "A"}, {"tokens": ["A"], "token_logprobs": [0]}])
def test_log_probabilities_in_another_shape_are_none(served, logprobs):
    def odd(method, path, body):
        reply = chat(method, path, {**body, "logprobs": None})
        reply.body["choices"][0]["logprobs"] = logprobs
        return reply

    with openai(served(odd)) as judge:
        assert judge.identity["reads"] == "letters"
    with openai(server := served()) as judge:
        server.trouble = lambda count, method, path, body: odd(method, path, body)
        with pytest.raises(ScoreError, match=r"2 of 2 pairs have no verdict .*2 without log probabilities"):
            list(judge.judge(SOME[:2]))
        server.trouble = lambda *request: None
        assert [judgement.preferred for judgement in judge.judge(SOME[:2])] == ["b", "a"]


def test_the_reason_of_a_broken_connection_is_said(served):
    server = served()
    server.__exit__()
    with pytest.raises(ModelError, match="Connection refused"):
        openai(server)


def test_a_server_that_wants_a_key_for_its_list_of_models_says_so(served, monkeypatch):
    server = served(decisions())
    server.trouble = lambda count, method, path, body: Reply({"error": KEY}, 401) if method == "GET" else None
    with pytest.raises(ModelError, match="401 Unauthorized with a key") as error:
        open_judge(judge=f"systemone:{server.url}")
    assert KEY not in str(error.value)
    monkeypatch.delenv("ARENA_RM_API_KEY")
    with pytest.raises(ModelError, match="the server wants a key; set the environment variable ARENA_RM_API_KEY"):
        open_judge(judge=f"systemone:{server.url}")


def test_an_address_with_the_path_of_the_interface_shows_what_was_asked(served):
    with pytest.raises(ModelError, match="/v1/systemone/v1/models does not say"):
        server = served()
        server.trouble = lambda *request: Reply({"detail": "Not Found"}, 404)
        open_judge(judge=f"systemone:{server.url}/v1/systemone/")
    with pytest.raises(ModelError, match="/v1/chat/completions/chat/completions answers 404"):
        open_judge(judge=f"openai:{served().url}/v1/chat/completions#m")


def test_a_server_that_goes_away_ends_the_run_with_what_is_judged(served):
    server, many = served(), [pair(n, n % 7, n % 5) for n in range(80)]
    with openai(server, concurrency=4) as judge:
        server.trouble = lambda count, method, path, body: Reply(how="reset") if count > 60 else None
        seen = []
        with pytest.raises(ScoreError, match="questions in a row unanswered"):
            for judgement in judge.judge(many):
                seen.append(judgement)
        assert 10 < len(seen) < 40
        server.trouble = lambda *request: None
        before = server.asked
        assert len(list(judge.judge(many))) == 80
        assert server.asked - before <= 2 * (80 - len(seen))


@pytest.mark.parametrize("budget", [{"max_calls": 15}, {"max_tokens": 2500}])
def test_a_budget_stops_the_run_and_the_next_one_continues(served, budget):
    server, many = served(), [pair(n, 0, 1 + n % 5) for n in range(12)]
    names, rounds = [], 0
    while len(names) < 12:
        rounds += 1
        before = server.asked
        names = []
        with openai(server, concurrency=3, **budget) as judge:
            try:
                names = [j.id for j in judge.judge(many)]
            except ScoreError as e:
                assert "the budget of" in str(e) and e.exit_code == 3
        assert server.asked - before <= 15 or "max_tokens" in budget
    assert rounds > 1
    asked = [json.dumps(body, sort_keys=True) for _, _, body in server.requests if "question" in str(body)]
    assert len(asked) == len(set(asked)) == 24  # nothing was paid for twice


@pytest.mark.parametrize("calls", [1, 2])
def test_a_budget_that_does_not_reach_for_the_handshake_says_so(served, calls):
    with pytest.raises(
        ScoreError, match=f"the budget of {calls} calls is spent on the questions before a run"
    ) as error:
        openai(served(), max_calls=calls)
    assert "repeat" not in str(error.value)  # the same command would end in the same way


@pytest.mark.parametrize(
    "usage", [{"total_tokens": -(10**9)}, {"total_tokens": True}, {"prompt_tokens": -5}, [7], {"total_tokens": 10**400}]
)
def test_a_server_cannot_give_tokens_back_to_the_budget(served, usage):
    server = served(chat_without_logprobs)
    with openai(server) as judge:
        before = judge.client.budget.tokens
        odd = Reply({"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}], "usage": usage})
        server.trouble = lambda *request: odd
        list(judge.judge(SOME[:1]))
        assert judge.client.budget.tokens > before


# -- the key ----------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_nowhere_else(served, monkeypatch):
    server = served()
    with openai(server) as judge:
        list(judge.judge(SOME))
        assert KEY not in repr(vars(judge)) + repr(vars(judge.client)) + str(judge.identity)
    assert {headers["Authorization"] for _, headers, _ in server.requests} == {f"Bearer {KEY}"}
    monkeypatch.delenv("ARENA_RM_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other-key")
    before = server.asked
    openai(server)
    assert {h["Authorization"] for _, h, _ in server.requests[before:]} == {"Bearer sk-other-key"}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ünicode\nX-Header: 1")
    with pytest.raises(UsageError, match="cannot be sent as a header") as error:
        openai(server)
    assert "nicode" not in str(error.value)


def test_a_key_of_the_user_s_netrc_is_not_sent_in_its_place(served, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server = served()
    openai(server)
    monkeypatch.delenv("ARENA_RM_API_KEY")
    openai(server)
    assert {headers.get("Authorization") for _, headers, _ in server.requests} == {f"Bearer {KEY}", None}


def test_a_key_is_taken_out_of_texts_masked_or_not():
    key = ApiKey("sk-abcdefghijkl")
    assert key.removed_from("bad key sk-abcdefghijkl!") == "bad key [key]"
    assert key.removed_from("bad key sk-abcde****ijkl.") == "bad key [key]"
    assert "abc" not in repr(key) + str(key) and ApiKey().removed_from("text") == "text"
