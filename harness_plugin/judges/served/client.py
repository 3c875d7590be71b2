"""Sends questions over HTTP and repeats those that may yet be answered.

Repeated, with growing random pauses or as long as the server asks: 408, 409, 425, 429, 500 and above, broken
connections, slow or half responses. Not repeated: every other status, and 429 for a quota that is used up. Redirects
are not followed, since the key would go with them. May be used by several threads.
"""

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import requests

from harness_plugin.errors import ModelError, ScoreError
from harness_plugin.files.printable import log_line
from harness_plugin.files.rows import parse_json
from harness_plugin.judges.served.api_key import ApiKey
from harness_plugin.judges.served.budget import Budget
from harness_plugin.judges.served.dialect import Question, used_tokens
from harness_plugin.judges.served.pace import Pace, asked_wait, exhausted_for
from harness_plugin.judges.served.states import FAILED, REJECTED, Malformed, Unusable

log = logging.getLogger("lm_eval.arena_rm")

ATTEMPTS = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts, doubled each time
MOST_PATIENCE = 900.0  # seconds that a server may ask to wait: longer, and the run stops and says so
CONNECT = 10.0  # seconds
LARGEST = 32 << 20  # bytes of a response
SHOWN = 200  # characters of a server's message
AGAIN = {408, 409, 425, 429}
USED_UP = ("insufficient_quota", "billing", "quota_exceeded", "credit")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Response:
    """A whole response: status, headers (names in any case), and the bytes of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """One server. `url`: without a slash at the end; `timeout`: seconds for one response, from its start to its end."""

    def __init__(self, url: str, key: ApiKey, budget: Budget, pace: Pace, timeout: float):
        self.url, self.key, self.budget, self.pace, self.timeout = url, key, budget, pace, timeout
        self._threads = threading.local()

    def ask(self, question: Question, read: Callable[[dict[str, Any]], Value]) -> Value:
        """What `read` makes of the answer. Raises Unusable for a question that has none, BudgetSpent, Stopped, and
        ModelError or ScoreError where no other question would be answered either."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._rest(attempt)
            self.pace.wait_for_turn()
            self.budget.take(question.tokens)
            try:
                response = self._sent("POST", question.path, question.body)
                if response.status < 300:
                    return self._answer(question, response, read)
                problem = self._refused(response, question.path)
            except (requests.RequestException, Malformed) as e:
                problem = self.told(e)
        raise Unusable(FAILED, problem)

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at a path that a server may have, such as its version; None where it has none. Costs nothing and
        is asked once. Raises ModelError where the key is not let in."""
        try:
            response = self._sent("GET", path, None)
            if response.status == 401:
                raise self._shut_out(response.status)
            return None if response.status >= 300 else _object(response)
        except (requests.RequestException, Malformed):
            return None

    def told(self, problem: Exception | str) -> str:
        """What went wrong, on one line, without the key."""
        text = str(problem)
        if isinstance(problem, requests.RequestException):
            reason = getattr(problem.args[0], "reason", None) if problem.args else None  # without what urllib3 tried
            text = f"{type(problem).__name__}: {reason or problem}"
        return log_line(self.key.removed_from(" ".join(text.split()))[:SHOWN])

    def _answer(self, question: Question, response: Response, read: Callable[[dict[str, Any]], Value]) -> Value:
        answer = _object(response)
        self.budget.correct(question.tokens, used_tokens(answer))
        if pause := exhausted_for(response.headers):
            self.pace.pause(min(pause, MOST_PATIENCE))
        try:
            return read(answer)
        except Unusable as e:
            raise Unusable(e.state, self.told(e.detail)) from None

    def _rest(self, attempt: int) -> None:
        """A pause before another attempt. Random, so that many clients do not come back at once."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1))
        self.pace.wait_until(self.pace.now() + longest * random.uniform(0.5, 1.0))

    def _shut_out(self, status: int) -> ModelError:
        """The error for a server that wants another key. Its message is not shown, since it may hold a part of the
        key."""
        return ModelError(
            f"{self.url} answers {status} {_phrase(status)} with {'a' if self.key.is_set else 'no'} key",
            "the server does not let this key in" if self.key.is_set else "the server wants a key",
            "set the environment variable ARENA_RM_API_KEY (for openai: also OPENAI_API_KEY) to a valid key",
        )

    def _refused(self, response: Response, path: str) -> str:
        """What the server said, where asking again may help. Raises Unusable or an ArenaError where it does not."""
        status, said = response.status, self.told(message_of(response.body))
        found = f"{self.url} answers {status} {_phrase(status)}"
        again = response.headers.get("x-should-retry", "").lower()
        if status == 401:
            raise self._shut_out(status)
        if 300 <= status < 400:
            raise ModelError(f"{found}, a redirect", "a key would be sent to another server", "name the final URL")
        if status in (404, 405, 501):
            raise ModelError(
                f"{self.url}{path} answers {status} {_phrase(status)} ({said})",
                "the server has no such interface or model",
                "check the URL and the model's name",
            )
        if status == 429 and any(word in response.body.decode("utf-8", "replace").lower() for word in USED_UP):
            raise ScoreError(
                f"{found} ({said})",
                "a quota that is used up does not come back by waiting",
                "raise it, and repeat the command, which continues",
            )
        if (status in AGAIN or status >= 500) and again != "false":
            self._hold(response, found)
            return f"{status} {said}"
        raise Unusable(REJECTED, f"{status} {said}")

    def _hold(self, response: Response, found: str) -> None:
        """Lets all threads wait for as long as the server asks."""
        wait = asked_wait(response.headers)
        if wait is None:
            return
        if wait > MOST_PATIENCE:
            raise ScoreError(
                f"{found} and asks to wait {wait:.0f} seconds",
                f"a run waits {MOST_PATIENCE:.0f} seconds at most",
                "repeat the command later, which continues",
            )
        if self.pace.pause(wait):
            log.info("arena_rm: %s, and asks to wait %.0f seconds", found, wait)

    def _sent(self, method: str, path: str, body: Mapping[str, Any] | None) -> Response:
        end = time.monotonic() + self.timeout
        data = None if body is None else json.dumps(body).encode()
        try:
            with self._session.request(
                method,
                self.url + path,
                data=data,
                headers={"Content-Type": "application/json"},
                timeout=(min(CONNECT, self.timeout), self.timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                return Response(response.status_code, response.headers, self._read(response, end))
        except requests.exceptions.SSLError as e:
            raise ModelError(
                f"{self.url} has no certificate that is trusted here ({self.told(e)})",
                "the connection could be read by others",
                "correct the URL, or name the certificate in REQUESTS_CA_BUNDLE",
            ) from None

    def _read(self, response: requests.Response, end: float) -> bytes:
        """The body. `timeout` of requests is for each read only: a server that sends a byte now and then never ends."""
        parts, size = [], 0
        for part in response.iter_content(1 << 16):
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                raise Malformed(f"a response of more than {LARGEST >> 20} MiB")
            if time.monotonic() > end:
                raise Malformed(f"no whole response within {self.timeout:.0f} seconds")
        return b"".join(parts)

    @property
    def _session(self) -> requests.Session:
        """This thread's connections: a session of requests belongs to one thread."""
        session = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = requests.Session()
            session.auth = self.key
        return session


def _object(response: Response) -> dict[str, Any]:
    """The JSON object in a response. Raises Malformed, for an object that holds only an error too: some proxies send
    these with status 200."""
    try:
        value = parse_json(response.body.decode("utf-8"))
    except ValueError as e:
        raise Malformed(f"a response that is not JSON ({e})") from e
    if isinstance(value, list) and len(value) == 1:  # SGLang answers a list of one question with a list
        (value,) = value
    if not isinstance(value, dict):
        raise Malformed("a response that is no JSON object")
    if value.get("error"):
        raise Malformed(f"an error with status {response.status}: {message_of(response.body)}")
    return value


def message_of(body: bytes) -> str:
    """The message in the body of an error, as far as there is one: OpenAI's `error.message`, FastAPI's `detail`."""
    text = body.decode("utf-8", "replace")
    value: Any = text
    with contextlib.suppress(ValueError):
        value = parse_json(text)
    for name in ("error", "detail", "message", "msg"):
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    return value if isinstance(value, str) else json.dumps(value)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
