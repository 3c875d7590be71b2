"""A server on this machine that speaks the dialects of judges' servers, version by version, and misbehaves on request.

The shapes of requests and answers were read from the servers' sources; `docs/served-judges.md` lists the versions. What
is judged is a number in the text: `quality 7` is better than `quality 3`, and the good answers of the handshake are
better than the bad ones.
"""

import json
import math
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness_plugin.judges import open_judge
from harness_plugin.judges.served.pace import Pace
from harness_plugin.pairs import Pair

GOOD = ("Paris", "number * number", "chlorophyll")  # in the better answers of the handshake
KEY = "sk-loopback-0123456789abcdef"


def quality(text: str) -> float:
    found = re.findall(r"quality (-?\d+)", text)
    return float(found[-1]) if found else 5.0 * any(word in text for word in GOOD)


def pair(n: int, a: int, b: int, **more: Any) -> Pair:
    return Pair(f"question {n}", f"answer of quality {a}", f"reply of quality {b}", id=f"p{n}", **more)


def letter(a: str, b: str) -> str:
    difference = quality(b) - quality(a)
    return "B" if difference > 0 else "A" if difference < 0 else "C"


def logit(a: str, b: str) -> float:
    """What the served classifier says: linear in quality, with a preference for what stands second."""
    return (quality(b) - quality(a)) / 2 + 0.125


@dataclass
class Reply:
    """One response. `how`: "" for a proper one, else how it is broken: half, reset, slow, drip, chunked drip."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    how: str = ""

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Speaks = Callable[[str, str, Any], Reply]


class Server:
    """`speaks(method, path, body)` gives the proper reply; `trouble(count, method, path, body)` one in its place, or
    None. `requests` holds (path, headers, body) of every POST."""

    def __init__(self, speaks: Speaks):
        self.speaks, self.trouble = speaks, lambda count, method, path, body: None
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                outer.answer(self, "GET", None)

            def do_POST(self):
                size = int(self.headers.get("Content-Length", 0))
                outer.answer(self, "POST", json.loads(self.rfile.read(size)))

            def log_message(self, *args):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exc) -> None:
        self.http.shutdown()
        self.http.server_close()

    @property
    def asked(self) -> int:
        return len(self.requests)

    def answer(self, handler, method, body) -> None:
        with self.lock:
            if method == "POST":
                self.requests.append((handler.path, dict(handler.headers), body))
            reply = self.trouble(len(self.requests), method, handler.path, body)
        self._write(handler, reply or self.speaks(method, handler.path, body))

    @staticmethod
    def _write(handler, reply: Reply) -> None:
        content = reply.content
        if reply.how == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            handler.close_connection = True
            return
        if reply.how == "slow":
            time.sleep(1.0)
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            handler.send_header(name, value)
        chunked = reply.how.startswith("chunked")
        handler.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(content)))))
        handler.end_headers()
        if reply.how == "half":
            handler.wfile.write(content[: len(content) // 2])
            handler.wfile.flush()
            handler.connection.close()
            handler.close_connection = True
            return
        if reply.how.endswith("drip"):
            for n in range(len(content)):
                handler.wfile.write(b"1\r\n%b\r\n" % content[n : n + 1] if chunked else content[n : n + 1])
                handler.wfile.flush()
                time.sleep(0.1)
            return
        handler.wfile.write(content)


# -- chat completions -------------------------------------------------------------------------------------------------


def shown(body: Any) -> tuple[str, str]:
    """The two responses in a request with the default prompt."""
    text = body["messages"][-1]["content"]
    parts = re.findall(r"<response [AB] (\w+)>\n(.*?)\n</response [AB] \1>", text, re.DOTALL)
    return parts[0][1], parts[1][1]


def completion(text: str | None, logprobs: Any = None, reason: str = "stop", **message: Any) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
    usage = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
    return Reply({"object": "chat.completion", "choices": [{**choice, "logprobs": logprobs}], "usage": usage})


def token(text: str, logprob: float, *top: tuple[str, float]) -> dict[str, Any]:
    listed = [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in top]
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": listed}


def letters_for(a: str, b: str) -> dict[str, float]:
    """P of the letters: what `chat` answers with."""
    weights = {"A": math.exp(-logit(a, b) / 2), "B": math.exp(logit(a, b) / 2), "C": 0.5}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def chat(method: str, path: str, body: Any) -> Reply:
    """An OpenAI-compatible server with log probabilities: half of each letter's probability is that of a variant with a
    space before it."""
    if path != "/v1/chat/completions":
        return Reply({"detail": "Not Found"}, 404)
    p = letters_for(*shown(body))
    best = max(p, key=lambda name: p[name])
    if not body.get("logprobs"):
        return completion(best)
    top = [(v, math.log(0.98 * p[name] / 2)) for name in p for v in (name, f" {name}")]
    return completion(best, {"content": [token(best, math.log(0.49 * p[best]), *top)]})


def chat_without_logprobs(method: str, path: str, body: Any) -> Reply:
    """A server that takes `logprobs` and leaves the field null."""
    return completion(letter(*shown(body)))


def reasoning(method: str, path: str, body: Any) -> Reply:
    """A reasoning model: refuses three parameters, one after the other, and writes its thoughts into the answer."""
    for name in ("logprobs", "max_tokens", "temperature"):
        if name in body:
            instead = ", use 'max_completion_tokens' instead" if name == "max_tokens" else ""
            return Reply({"error": {"message": f"Unsupported parameter: '{name}'{instead}", "param": name}}, 400)
    a, b = shown(body)
    wrong = {"A": "B", "B": "A", "C": "A"}[letter(a, b)]
    return completion(f"<think>\nVerdict: {wrong}\n{a}\n{wrong}\n</think>\n\n**Verdict: {letter(a, b)}**")


# -- classifiers ------------------------------------------------------------------------------------------------------


class Classifying:
    """A classifier over token ids, which `tokenizer` turns back into the card's text. `score(a, b)`: its list of
    logits; `version`: of vLLM; `activation`: what is applied although the request says not to."""

    def __init__(self, tokenizer, version: str = "0.32.0", activation=None, score=lambda a, b: [logit(a, b)]):
        self.tokenizer, self.version, self.activation, self.score = tokenizer, version, activation, score
        self.models = ["judge"]

    def values(self, ids: list[int]) -> list[float]:
        text = self.tokenizer.decode(ids)
        a, b = text.split("Response A:")[-1].split("Response B:")
        values = self.score(a, b)
        return [self.activation(value) for value in values] if self.activation else values

    def vllm(self, method: str, path: str, body: Any) -> Reply:
        if path == "/version":
            return Reply({"version": self.version})
        if path == "/v1/models":
            return Reply({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})
        if path != "/classify":
            return Reply({"detail": "Not Found"}, 404)
        if body["model"] not in self.models:
            return Reply({"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}, 404)
        probs = self.values(body["input"])
        if body.get("use_activation", True):
            probs = [1 / (1 + math.exp(-value)) for value in probs]
        row = {"index": 0, "label": "LABEL_0", "probs": probs, "num_classes": len(probs)}
        return Reply(
            {"object": "list", "model": "judge", "data": [row], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
        )

    def sglang(self, method: str, path: str, body: Any) -> Reply:
        if path == "/v1/models":
            return Reply({"object": "list", "data": [{"id": self.models[0], "object": "model"}]})
        if path == "/v1/classify":
            return Reply({"data": [{"label": "LABEL_0", "probs": [1.0], "num_classes": 1}]})
        if path != "/classify":
            return Reply({"detail": "Not Found"}, 404)
        return Reply({"embedding": self.values(body["input_ids"]), "meta_info": {"prompt_tokens": 9}})


# -- decision models --------------------------------------------------------------------------------------------------


def decisions(confidence: Callable[[list[float]], float] = max, wrapped: bool = False) -> Speaks:
    """A System One server. `confidence`: what it calls so; `wrapped`: whether the answer stands in `result`."""

    def speaks(method: str, path: str, body: Any) -> Reply:
        if path.endswith("/models"):
            return Reply({"data": [{"id": "decider-1"}]})
        (name, question), state = next(iter(body["questions"].items())), body["state"]
        p = letters_for(state["A"], state["B"])
        named = dict(zip(question["criteria"], (round(p["A"], 4), round(p["B"], 4), round(p["C"], 4)), strict=True))
        best = max(named, key=lambda option: named[option])
        answer = {"choice": best, "probabilities": named, "confidence": confidence(list(named.values()))}
        reply = {"answers": {name: answer}, "usage": {"input_tokens": 50, "output_tokens": 0}}
        return Reply({"result": reply, "success": True} if wrapped else reply)

    return speaks


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.time, self.slept, self.lock = 1000.0, [], threading.Lock()

    def sleep(self, seconds):
        with self.lock:
            self.time += seconds
            self.slept.append(seconds)


def clock(monkeypatch):
    """A clock in the place of the real one, on which waiting costs no time."""
    made = Clock()
    monkeypatch.setattr(Pace, "now", staticmethod(lambda: made.time))
    monkeypatch.setattr(Pace, "sleep", lambda pace, seconds: made.sleep(seconds))
    return made


def own_home(monkeypatch, tmp_path):
    """A home and a key of the test's own."""
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARENA_RM_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@contextmanager
def servers():
    """started(speaks) -> a server; they are stopped at the end."""
    made = []

    def started(speaks=chat):
        made.append(Server(speaks))
        return made[-1]

    yield started
    for server in made:
        server.__exit__()


def openai(server, **settings):
    return open_judge(judge=f"openai:{server.url}/v1#model-1", **settings)


def late_once(server, judge, reply):
    """The server's next reply is this one, which comes too late. All others have the time that the judge was opened
    with: on a busy machine a server that does its best may take long."""
    enough, judge.client.timeout = judge.client.timeout, 0.3
    assert enough == 100

    def trouble(count, method, path, body):
        if judge.client.timeout == enough:
            return None
        judge.client.timeout = enough
        return reply

    server.trouble = trouble


def judged(server, pairs, **settings):
    with openai(server, **settings) as judge:
        return list(judge.judge(pairs))


SOME = [pair(n, a, b) for n, (a, b) in enumerate([(1, 3), (4, 2), (3, 3), (9, 1), (0, 8)])]
