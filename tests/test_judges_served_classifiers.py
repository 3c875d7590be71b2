"""Classifiers behind vLLM and SGLang: our token ids, raw logits, and servers that give something else are refused."""

import json
import re

import pytest
import tiny
from served_server import KEY, Classifying, Reply, Server, logit, pair, quality

from harness_plugin.errors import ModelError, ScoreError, UsageError
from harness_plugin.judges import open_judge
from harness_plugin.judges.served.pace import Pace
from harness_plugin.model import load_renderer
from harness_plugin.model.spec import ModelSpec

SOME = [pair(n, a, b) for n, (a, b) in enumerate([(1, 3), (4, 2), (3, 3), (9, 1), (0, 8)])]
TEMPLATE = "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARENA_RM_API_KEY", KEY)
    monkeypatch.setattr(Pace, "sleep", lambda pace, seconds: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """folder(**manifest) -> a folder as a client has it: tokenizer, configuration and arena_rm.json, no weights."""

    def made(num_labels=1, template=None, **manifest):
        place = tmp_path_factory.mktemp("files")
        tokenizer = tiny.tokenizer()
        tokenizer.chat_template = template
        tokenizer.save_pretrained(place)
        config = tiny.config("gemma2", num_labels=num_labels, architectures=["Gemma2ForSequenceClassification"])
        config.save_pretrained(place)
        if manifest:
            (place / "arena_rm.json").write_text(json.dumps({"num_labels": num_labels, **manifest}))
        return str(place)

    return made


@pytest.fixture
def served():
    """served(name, **settings) -> (a server that speaks `name`, its name as a judge)."""
    servers = []

    def started(name, classifying=None, **settings):
        made = classifying or Classifying(tiny.tokenizer(), **settings)
        servers.append(Server(getattr(made, name)))
        return servers[-1], f"{name}:{servers[-1].url}"

    yield started
    for server in servers:
        server.__exit__()


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_logits_of_our_own_token_ids_are_read(served, folder, name):
    server, judge = served(name)
    files = folder(max_length=200, truncation="budget", calibration={"temperature": 2.0, "tie_nu": 0.5})
    renderer = load_renderer(ModelSpec(pretrained=files))
    with open_judge(judge=judge, pretrained=files) as opened:
        assert opened.limit == "200 tokens (budget)"
        before = server.asked
        for one, judgement in zip(SOME, opened.judge(SOME), strict=True):
            assert judgement.z_ab == (logit(one.response_a, one.response_b),)
            assert judgement.z_ba == (logit(one.response_b, one.response_a),)
            assert (judgement.temperature, judgement.tie_nu) == (2.0, 0.5)
            assert judgement.kept["prompt"] == (renderer.render(one).prompt.kept,) * 2
    bodies = [body for _, _, body in server.requests[before:-1]]  # the last one is a question of the handshake
    sent = {tuple(body["input" if name == "vllm" else "input_ids"]) for body in bodies}
    assert sent == {view.ids for one in SOME for view in renderer.render_orders(one)}
    if name == "vllm":
        assert all(body["use_activation"] is False and body["model"] == "judge" for body in bodies)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_an_address_with_v1_at_its_end_is_that_of_the_same_judge_with_the_same_answers(served, folder, name):
    (server, judge), files = served(name), folder(max_length=200)
    with open_judge(judge=judge, pretrained=files) as opened:
        found = [judgement.z_ab for judgement in opened.judge(SOME)]
    before = server.asked
    with open_judge(judge=f"{judge}/v1/", pretrained=files) as again:
        assert again.hash == opened.hash and [judgement.z_ab for judgement in again.judge(SOME)] == found
    assert server.asked - before == 6, "the handshake alone: the answers were kept"


def test_three_logits_are_read_in_the_order_of_the_classes(served, folder):
    _server, judge = served("vllm", score=lambda a, b: [-logit(a, b), logit(a, b), -5.0])
    with open_judge(judge=judge, pretrained=folder(num_labels=3, max_length=200)) as opened:
        (judgement,) = opened.judge([pair(1, 2, 8)])
    assert judgement.z_ab == (-3.125, 3.125, -5.0) and judgement.p_b > 0.9


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_a_pointwise_model_is_asked_about_each_answer_once(served, folder, name):
    class Pointwise(Classifying):
        def values(self, ids):
            (answer,) = re.findall(r"assistant\n(.*?)<end_of_turn>", self.tokenizer.decode(ids), re.DOTALL)
            return [quality(answer) - 2.0]

    server, judge = served(name, Pointwise(tiny.tokenizer()))
    with open_judge(judge=judge, pretrained=folder(template=TEMPLATE), kind="pointwise") as opened:
        assert opened.identity["kind"] == "served pointwise"
        before = server.asked
        a, b, c = "of quality 1", "of quality 4", "of quality 9"
        one = pair(1, 1, 4).__class__
        three = [one("question", *sides, id="-".join(sides)) for sides in ((a, b), (a, c), (b, c))]
        judgements = list(opened.judge(three))
    assert [(j.r_a, j.r_b, j.score) for j in judgements] == [(-1, 2, 3), (-1, 7, 8), (2, 7, 5)]
    assert all(j.position_bias == 0 for j in judgements)
    assert server.asked - before == 3 + 1, "and one question of the handshake once more"


def test_without_a_word_on_its_kind_a_model_of_one_logit_is_refused(served, folder):
    _, judge = served("vllm")
    with pytest.raises(ModelError, match=r"kind=pointwise .* or kind=pair"):
        open_judge(judge=judge, pretrained=folder())


# -- servers that give something else ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"activation": lambda z: 1.0}, "1.0 for everything; that is a softmax over one logit"),
        ({"activation": lambda z: 1 / (1 + 2.718**-z)}, "only numbers from 0 to 1; these are probabilities"),
        ({"activation": lambda z: 0.37}, "only numbers from 0 to 1"),
        ({"activation": lambda z: 7.5}, "gives 7.5 whatever it is asked"),
        ({"activation": lambda z: -z}, "prefers the worse answer in 3 of 3 pairs"),
        ({"score": lambda a, b: [0.1] * 64}, "64 numbers where the model has 1"),
        ({"score": lambda a, b: [float("nan")]}, "not finite"),
        ({"version": "0.14.1"}, "is vLLM 0.14.1; its /classify takes no token ids"),
        ({"version": "0.9.2"}, "is vLLM 0.9.2"),
    ],
)
def test_scores_that_are_no_logits_are_refused_before_a_run(served, folder, settings, said):
    _server, judge = served("vllm", **settings)
    with pytest.raises(ModelError, match=re.escape(said)) as error:
        open_judge(judge=judge, pretrained=folder(max_length=200))
    assert error.value.exit_code == 3 and KEY not in str(error.value)


def test_a_softmax_over_three_labels_is_refused(served, folder):
    _, judge = served("vllm", score=lambda a, b: [0.2, 0.7, 0.1])
    with pytest.raises(ModelError, match="only numbers from 0 to 1"):
        open_judge(judge=judge, pretrained=folder(num_labels=3, max_length=200))


@pytest.mark.parametrize("version", ["0.15.0", "0.20.2", "0.32.0", "1.0", "0.0.0.dev1"])
def test_versions_that_take_token_ids_are_used(served, folder, version):
    _, judge = served("vllm", version=version)
    with open_judge(judge=judge, pretrained=folder(max_length=200)) as opened:
        assert [j.preferred for j in opened.judge(SOME[:2])] == ["b", "a"]


def test_of_several_models_one_must_be_named(served, folder):
    made = Classifying(tiny.tokenizer())
    made.models = ["base", "my-lora"]
    _, judge = served("vllm", made)
    files = folder(max_length=200)
    with pytest.raises(UsageError, match="serves base, my-lora; the judge is one of them"):
        open_judge(judge=judge, pretrained=files)
    with open_judge(judge=f"{judge}#my-lora", pretrained=files) as opened:
        assert opened.identity["served_model"] == "my-lora"
    with pytest.raises(ModelError, match=r"404 Not Found \(The model `other` does not exist"):
        open_judge(judge=f"{judge}#other", pretrained=files)


def test_another_model_behind_the_same_name_is_noticed(served, folder):
    made = Classifying(tiny.tokenizer())
    _, judge = served("vllm", made)
    files = folder(max_length=200)
    open_judge(judge=judge, pretrained=files)
    open_judge(judge=judge, pretrained=files)
    made.score = lambda a, b: [logit(a, b) * 2]
    with pytest.raises(ModelError, match="another model has been put behind its name"):
        open_judge(judge=judge, pretrained=files)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_another_model_that_comes_during_a_run_is_noticed_at_its_end(served, folder, name):
    made = Classifying(tiny.tokenizer())
    server, judge = served(name, made)
    with open_judge(judge=judge, pretrained=folder(max_length=200)) as opened:
        list(opened.judge(SOME[:2]))
        seen, judgements = [], opened.judge(SOME)
        seen.append(next(judgements))
        made.score = lambda a, b: [logit(a, b) * 2]
        with pytest.raises(ModelError, match="another model has been put behind its name"):
            seen.extend(judgements)
        before = server.asked
        made.score = lambda a, b: [logit(a, b)]
        assert len(list(opened.judge(SOME))) == len(SOME) and server.asked == before  # all are kept: nothing is asked


def test_a_server_that_is_gone_at_the_end_of_a_run_takes_no_verdict_away(served, folder):
    server, judge = served("vllm")
    with open_judge(judge=judge, pretrained=folder(max_length=200), max_calls=6 + 2 * len(SOME)) as opened:
        assert len(list(opened.judge(SOME))) == len(SOME)  # there is no call left for the question at the end
        assert server.asked == 6 + 2 * len(SOME)


def test_kept_answers_are_not_asked_for_again_on_another_host(served, folder):
    files = folder(max_length=200)
    _server, judge = served("vllm")
    with open_judge(judge=judge, pretrained=files) as first:
        list(first.judge(SOME))
    other, elsewhere = served("vllm")
    with open_judge(judge=elsewhere, pretrained=files) as second:
        assert second.hash == first.hash
        assert len(list(second.judge(SOME))) == len(SOME)
    assert other.asked == 6  # the handshake


def test_a_row_that_is_too_long_for_the_server_is_named(served, folder):
    server, judge = served("vllm")
    with open_judge(judge=judge, pretrained=folder(max_length=200)) as opened:
        long = Reply({"error": {"message": "maximum context length is 128 tokens"}}, 400)
        ids = list(opened.dialect.files.renderer.render(SOME[3]).ids)
        server.trouble = lambda count, method, path, body: long if body and body["input"] == ids else None
        with pytest.raises(Exception, match=r"1 rejected.*pairs p3 .*maximum context length"):
            list(opened.judge(SOME))


@pytest.mark.parametrize("probs", [[10**400], ["x"], [None], [], [1.0, 2.0], [[1.0]], ["1"], "1", [True], 7, {}])
def test_an_answer_that_is_no_logit_leaves_its_pair_without_a_verdict(served, folder, probs):
    server, judge = served("vllm")
    with open_judge(judge=judge, pretrained=folder(max_length=200)) as opened:
        ids = list(opened.dialect.files.renderer.render(SOME[3]).ids)
        odd = Reply({"data": [{"index": 0, "probs": probs}]})
        server.trouble = lambda count, method, path, body: odd if body and body["input"] == ids else None
        with pytest.raises(ScoreError, match=r"1 of 5 pairs have no verdict .*1 failed after retries.*pairs p3 "):
            list(opened.judge(SOME))
