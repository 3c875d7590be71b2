"""`arena_judge` in lm-eval itself: chatbots of several kinds answer, and a tiny judge compares them to a baseline."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import lm_eval
import pytest
import tiny
import torch
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from harness_plugin.errors import HarnessError
from harness_plugin.judges import open_judge
from harness_plugin.tournament import battles, collect_verdicts, gather, leaderboard

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = [tiny.words(6, n) for n in range(7)]


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    """Numbers of several runs are compared here, so all are the CPU's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def baseline(tmp_path):
    """A file of baseline answers."""
    rows = [
        {"instruction": p, "output": tiny.words(4 + 3 * n, 50 + n), "generator": "heron", "dataset": "chat"}
        for n, p in enumerate(PROMPTS)
    ]
    file = tmp_path / "heron.json"
    file.write_text(json.dumps(rows), "utf-8")
    return file


@pytest.fixture
def metadata(baseline, tiny_base, tiny_adapter):
    names = {"judge_pretrained": str(tiny_base("gemma3")), "judge_peft": str(tiny_adapter("gemma3", manifest=True))}
    return {"arena_data": str(baseline), **names, "judge_dtype": "float32", "judge_device": "cpu"}


def said(prompt):
    """A chatbot's answer, always the same for a prompt; one is empty."""
    n = PROMPTS.index(prompt)
    return tiny.words(3 + 5 * (n % 3), 80 + n) if n else " "


class Chatbot(LM):
    def generate_until(self, requests):
        self.asked = [request.args for request in requests]
        return [said(request.args[0]) for request in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def run(model, metadata, **options):
    """All that lm-eval returns."""
    manager = TaskManager(include_path=str(ROOT / "tasks"), include_defaults=False, metadata=metadata)
    return lm_eval.simple_evaluate(model, tasks=["arena_judge"], task_manager=manager, **options)


def evaluate(model, metadata, **options):
    """(all that lm-eval returns, the table's values by metric)."""
    found = run(model, metadata, **options)
    return found, values_of(found)


def values_of(found):
    return {name.removesuffix(",arena_rm"): v for name, v in found["results"]["arena_judge"].items()}


def verdicts_of(found):
    return [json.loads(s["filtered_resps"][0]) for s in found["samples"]["arena_judge"]]


@pytest.fixture
def expected(baseline, tiny_spec, tiny_adapter, tmp_path):
    """expected(answers) -> (ibis's row of the leaderboard, verdicts) by `arena-rm judge`, had ibis given these answers
    to the prompts."""

    def judged(answers):
        rows = [{"instruction": p, "output": a, "generator": "ibis"} for p, a in answers.items()]
        (tmp_path / "ibis.json").write_text(json.dumps(rows), "utf-8")
        met = battles(gather([str(baseline), str(tmp_path / "ibis.json")]), "heron")
        with open_judge(tiny_spec("gemma3", peft=str(tiny_adapter("gemma3", manifest=True)))) as judge:
            found = collect_verdicts(judge, met, tmp_path / "judged")
        board = leaderboard(found, "heron")
        return next(row for row in board["models"] if row["model"] == "ibis"), {v.prompt_key: v for v in found}

    return judged


def test_the_table_is_what_arena_rm_judge_says_of_the_same_answers(metadata, expected):
    bot = Chatbot()
    found, values = evaluate(bot, metadata, log_samples=True)
    row, verdicts = expected({p: said(p) for p in PROMPTS})
    for name in ("win_rate", "win_rate_hard", "win_rate_length_controlled"):
        assert values[name] == pytest.approx(row[name], abs=1e-4)
    assert values["win_rate_stderr"] > 0 and values["n"] == 7 and values["empty_rate"] == pytest.approx(1 / 7)
    for v in verdicts_of(found):
        same = verdicts[v["prompt_key"]]
        assert all(v[k] == getattr(same, k) for k in ("key", "judge", "length_a", "length_b", "truncated", "category"))
        own = same.to_row()
        assert all(v[k] == pytest.approx(own[k], abs=1e-5) for k in ("z_ab", "z_ba", "p_b"))
    assert [context for context, _ in bot.asked] == PROMPTS
    assert bot.asked[0][1] == {"until": [], "max_gen_toks": 1024, "do_sample": False, "temperature": 0.0}


def test_results_and_samples_say_who_judged_and_are_strict_json(metadata):
    found, _ = evaluate(Chatbot(), metadata, log_samples=True)
    config = json.loads(json.dumps(found["configs"]["arena_judge"], default=str))
    judge = config["filter_list"][0]["filter"][1]["function"]
    assert judge["adapter"] == metadata["judge_peft"] and len(judge["adapter_sha256"]) == 64
    assert {v["judge"] for v in verdicts_of(found)} == {judge["judge"]}
    assert config["metadata"]["judge_peft"] == metadata["judge_peft"]
    text = json.dumps(found["samples"], allow_nan=False, default=str)  # as lm-eval writes samples
    assert json.loads(text)["arena_judge"][0]["target"] == found["samples"]["arena_judge"][0]["doc"]["baseline"]


@pytest.mark.parametrize("chat", [False, True])
def test_a_language_model_is_judged_and_a_limit_holds(metadata, tiny_base, tmp_path, expected, chat):
    model = shutil.copytree(tiny_base("gemma"), tmp_path / "chatbot")
    (model / "chat_template.jinja").write_text("{% for m in messages %}[{{m.role}}]{{m.content}}{% endfor %}>", "utf-8")
    args = {"pretrained": str(model), "dtype": "float32", "device": "cpu"}
    options = {"limit": 3, "gen_kwargs": {"max_gen_toks": 6}, "batch_size": 4, "apply_chat_template": chat}
    found, values = evaluate("hf", metadata, model_args=args, log_samples=True, **options)
    given = [s["arguments"][0][0] for s in found["samples"]["arena_judge"]]
    assert given == [f"[user]{p}>" if chat else p for p in PROMPTS[:3]]
    answers = {s["doc"]["prompt"]: s["resps"][0][0] for s in found["samples"]["arena_judge"]}
    assert list(answers) == PROMPTS[:3] and any(answers.values())
    row, _ = expected(answers)
    assert values["win_rate"] == pytest.approx(row["win_rate"], abs=1e-4) and values["n"] == 3


def test_predictions_only_are_logged_with_their_verdicts(metadata):
    found, values = evaluate(Chatbot(), metadata, predict_only=True, log_samples=True, limit=2)
    assert "win_rate" not in values and all(0 < v["win"] < 1 for v in verdicts_of(found))


def test_requests_that_lm_eval_cached_for_another_baseline_are_refused(metadata, baseline, tmp_path, monkeypatch):
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path / "requests"))
    _, first = evaluate(Chatbot(), metadata, cache_requests=True)
    _, again = evaluate(Chatbot(), metadata, cache_requests=True)
    assert again == first
    baseline.write_text(baseline.read_text("utf-8").replace('"output": "', '"output": "And '), "utf-8")
    with pytest.raises(HarnessError, match="add --cache_requests refresh"):
        evaluate(Chatbot(), metadata, cache_requests=True)


def test_the_judge_itself_is_no_chatbot(metadata, tiny_base, tiny_adapter):
    args = {"pretrained": str(tiny_base("gemma")), "peft": str(tiny_adapter("gemma")), "device": "cpu"}
    with pytest.raises(HarnessError, match="writes none"):
        evaluate("arena_rm", metadata, model_args=args)


# -- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """(address, payloads): an OpenAI-like server that answers as `said`."""
    payloads = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            payloads.append(payload)
            if "messages" in payload:
                choices = [{"index": 0, "message": {"content": said(payload["messages"][-1]["content"])}}]
            else:
                prompts = payload["prompt"] if isinstance(payload["prompt"], list) else [payload["prompt"]]
                choices = [{"index": n, "text": said(p)} for n, p in enumerate(prompts)]
            body = json.dumps({"choices": choices}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", payloads
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("kind", ["local-completions", "local-chat-completions"])
def test_a_model_behind_an_api_is_judged_like_any_other(server, metadata, kind):
    pytest.importorskip("tenacity", reason="lm-eval's API models need lm_eval[api]")
    address, payloads = server
    chat = kind == "local-chat-completions"
    path = "/v1/chat/completions" if chat else "/v1/completions"
    args = {"model": "ibis", "base_url": address + path, "tokenizer_backend": None, "tokenized_requests": False}
    _, values = evaluate(kind, metadata, model_args=args, apply_chat_template=chat)
    _, direct = evaluate(Chatbot(), metadata)
    assert values == direct and len(payloads) == 7
    if chat:
        assert [p["messages"] for p in payloads] == [[{"role": "user", "content": q}] for q in PROMPTS]
    assert all((p["temperature"], p.get("max_tokens", p.get("max_gen_toks"))) == (0, 1024) for p in payloads)
    assert not any(p["stop"] and any(s and s.isspace() for s in p["stop"]) for p in payloads), "no empty line ends it"


# -- the command line, and two processes ------------------------------------------------------------------------------

TWO = """
import json, os, sys
sys.path.insert(0, {tests!r})
import torch
torch.cuda.is_available = lambda: False
from lm_eval.models.huggingface import HFLM
from harness_plugin.engine.processes import accelerator as of_processes
from harness_plugin.harness import judge_filter
from test_harness_arena_judge import run

class Shared(HFLM):
    "lm-eval's own takes each process for the only one where there are no GPUs."
    def __init__(self, **args):
        accelerator = of_processes(on_cpu=True)
        super().__init__(**args)
        self.accelerator, self._rank, self._world_size = accelerator, accelerator.process_index, 2

judged = judge_filter.judged_pairs
def counting(pairs, settings):
    with open("counts-" + os.environ["RANK"], "a") as out:
        print(len(pairs), file=out)
    return judged(pairs, settings)
judge_filter.judged_pairs = counting
found = run(Shared(**{args}), {metadata}, gen_kwargs={{"max_gen_toks": 5}}, log_samples=True)
if found:
    with open("found.json", "w") as out:
        json.dump({{name: found[name] for name in ("results", "samples")}}, out, default=str)
"""


def program(folder, *command, **variables):
    """Runs Python in `folder`; it must end well. Returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.mark.slow
def test_two_processes_judge_a_share_each_and_give_the_numbers_of_one(metadata, tiny_base, tmp_path, monkeypatch):
    args = {"pretrained": str(tiny_base("gemma")), "dtype": "float32", "device": "cpu"}
    (tmp_path / "two.py").write_text(TWO.format(tests=str(ROOT / "tests"), metadata=metadata, args=args), "utf-8")
    program(tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "two.py")
    assert [(tmp_path / f"counts-{rank}").read_text("utf-8") for rank in (0, 1)] == ["4\n", "3\n"]
    two = json.loads((tmp_path / "found.json").read_text("utf-8"))
    one = run("hf", metadata, model_args=args, gen_kwargs={"max_gen_toks": 5}, log_samples=True)
    numbers = [{k: v for k, v in values_of(f).items() if isinstance(v, (int, float))} for f in (one, two)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5, nan_ok=True) and numbers[0]["win_rate_stderr"] > 0
    keys = [sorted(v["key"] for v in verdicts_of(f)) for f in (one, two)]
    assert keys[0] == keys[1] and len(keys[0]) == 7


@pytest.mark.slow
def test_the_command_line_takes_the_judge_from_metadata_and_environment(metadata, tmp_path):
    said = [f"{name}={value}" for name, value in metadata.items() if name != "judge_dtype"]
    command = ["-m", "harness_plugin", "--model", "dummy", "--tasks", "arena_judge", "--metadata", *said]
    done = program(
        tmp_path,
        *command,
        "--log_samples",
        "--output_path",
        "out",
        ARENA_RM_JUDGE_DTYPE="float32",
        ARENA_RM_JUDGE_PEFT="nowhere",
    )
    assert re.search(r"\|arena_judge *\| +2\|arena_rm\| +0\|cut_rate +\| ", done.stdout), done.stdout
    assert re.search(r"\|win_rate +\|↑ +\| *0\.\d+\|± +\| *0\.\d+\|", done.stdout)
    (file,) = tmp_path.glob("out/*/samples_arena_judge_*.jsonl")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in file.read_text("utf-8").splitlines()]
    assert len(rows) == 7 and {row["resps"][0][0] for row in rows} == {"lol"}
    (results,) = tmp_path.glob("out/*/results_*.json")
    judge = json.loads(results.read_text("utf-8"))["configs"]["arena_judge"]["filter_list"][0]["filter"][1]["function"]
    assert (judge["adapter"], judge["dtype"]) == (metadata["judge_peft"], "float32")
