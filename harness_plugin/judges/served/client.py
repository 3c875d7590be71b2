"""Sends questions over HTTP and repeats those that may yet be answered.

Repeated, with growing random pauses or as long as the server asks: 408, 409, 425, 429, 500 and above, broken
connections, slow or half responses. Not repeated: every other status, and those for a quota or a credit that is used
up. Redirects are not followed, since the key would go with them. May be used by several threads.
"""

import contextlib
import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import requests
from urllib3.exceptions import HTTPError, LocationParseError

from harness_plugin.errors import ModelError, ScoreError
from harness_plugin.files.printable import log_line
from harness_plugin.files.rows import parse_json
from harness_plugin.judges.served.api_key import OPENAI_VARIABLE, VARIABLE, ApiKey, host_variable
from harness_plugin.judges.served.budget import Budget
from harness_plugin.judges.served.dialect import Question, used_tokens
from harness_plugin.judges.served.error_bodies import is_filtered, is_used_up, message_of
from harness_plugin.judges.served.pace import Pace, asked_wait, exhausted_for
from harness_plugin.judges.served.states import FAILED, FILTERED, FORBIDDEN, REJECTED, Malformed, Unusable

log = logging.getLogger("lm_eval.arena_rm")

ATTEMPTS = 6  # that fail; a server that says "not now" is asked again for as long as MOST_PATIENCE
LOOKS = 3  # attempts to learn what a server is, before a run
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts, doubled each time
MOST_PATIENCE = 900.0  # seconds that a server may ask to wait, and that a question may wait in all
SILENT = 60.0  # seconds without an answer after which the log says why, and that it then is silent about it
CONNECT, WEEK = 10.0, 7 * 86400.0  # seconds; no operating system waits for any number of them
LARGEST, PART = 32 << 20, 1 << 16  # bytes of a response, and read of it at once
SHOWN = 200  # characters of a server's message
AGAIN = {408, 409, 425, 429}
IN_URL = re.compile(r"://[^\s/]*@")  # of a proxy: its user and password
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
        self.url, self.key, self.budget, self.pace = url, key, budget, pace
        self.timeout = min(timeout, WEEK)
        self._threads = threading.local()
        self._silent_until = 0.0  # time of `Pace.now`

    def ask(self, question: Question, read: Callable[[dict[str, Any]], Value]) -> Value:
        """What `read` makes of the answer. Raises Unusable for a question that has none, BudgetSpent, Stopped, and
        ModelError or ScoreError where no other question would be answered either."""
        problem, failed, tries, waited, start = "", 0, 0, 0.0, self.pace.now()
        while failed < ATTEMPTS:
            if tries:
                self._say(problem, self.pace.now() - start)
                waited += self._rest(tries)
            self.pace.wait_for_turn()
            self.budget.take(question.tokens)
            tries += 1
            try:
                response = self._sent("POST", question.path, question.body)
                if response.status < 300:
                    return self._answer(question, response, read)
                problem = self._refused(response, question.path)
            except (requests.RequestException, Malformed) as e:
                problem = self.told(e)
            else:
                is_limit = response.status == HTTPStatus.TOO_MANY_REQUESTS
                if is_limit:
                    self.budget.give_back(question.tokens)
                asked = asked_wait(response.headers) or 0.0
                waited += asked
                if waited >= MOST_PATIENCE:
                    break
                if is_limit or asked >= FIRST_PAUSE:
                    continue
            failed += 1
        raise Unusable(FAILED, problem)

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at a path that a server may have, such as its version; None where it has none. Costs nothing.
        Raises ModelError where the key is not let in, and where nobody answers."""
        problem: str | None = None
        for attempt in range(LOOKS):
            if attempt:
                self._rest(attempt)
            try:
                response = self._sent("GET", path, None)
            except (requests.RequestException, Malformed) as e:
                problem = self.told(e)
                continue
            if response.status == 401:
                raise self._shut_out(response.status)
            if response.status < 300:
                with contextlib.suppress(Malformed):
                    return _object(response)
            passes = response.status in AGAIN or (response.status >= 500 and response.status != 501)
            if not passes:
                return None
            problem = None
        if problem is not None:
            raise ModelError(
                f"{self.url} does not answer ({problem})", "no server is there", "check the URL, and that it runs"
            )
        return None

    def told(self, problem: Exception | str) -> str:
        """What went wrong, on one line, without the key."""
        text = str(problem)
        if isinstance(problem, requests.RequestException):
            reason = getattr(problem.args[0], "reason", None) if problem.args else None  # without what urllib3 tried
            text = f"{type(problem).__name__}: {reason or problem}"
        return log_line(IN_URL.sub("://", self.key.removed_from(" ".join(text.split())))[:SHOWN])

    def _answer(self, question: Question, response: Response, read: Callable[[dict[str, Any]], Value]) -> Value:
        answer = _object(response)
        self.budget.correct(question.tokens, used_tokens(answer))
        pause = min(exhausted_for(response.headers) or 0.0, MOST_PATIENCE)
        if self.pace.pause(pause):
            log.info("arena_rm: %s has no call left for now, and the run waits %.0f seconds", self.url, pause)
        try:
            return read(answer)
        except Unusable as e:
            raise Unusable(e.state, self.told(e.detail)) from None

    def _say(self, problem: str, seconds: float) -> None:
        """Says now and then, for all threads together, why a question has waited for its answer for so many seconds."""
        now = self.pace.now()
        if seconds >= SILENT and now >= self._silent_until:
            self._silent_until = now + SILENT
            log.info(
                "arena_rm: %s has not answered a question for %.0f seconds (%s), and is asked again",
                self.url,
                seconds,
                problem,
            )

    def _rest(self, attempt: int) -> float:
        """A pause before another attempt; returns its seconds. Random, so that many clients do not come back at
        once."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        self.pace.wait_until(self.pace.now() + pause)
        return pause

    def _shut_out(self, status: int) -> ModelError:
        """The error for a server that wants another key. Its message is not shown, since it may hold a part of the
        key."""
        return ModelError(
            f"{self.url} answers {status} {_phrase(status)} with {'a' if self.key.is_set else 'no'} key",
            "the server does not let this key in" if self.key.is_set else "the server wants a key",
            f"set the environment variable {VARIABLE} (for openai: also {OPENAI_VARIABLE}), or for this host alone "
            f"{host_variable(self.url)}, to a valid key",
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
                "check the URL (of a chat model it is what stands before /chat/completions, often with /v1 at its "
                "end) and the model's name",
            )
        waits = status != HTTPStatus.PAYMENT_REQUIRED and asked_wait(response.headers) is not None
        if is_used_up(status, response.body) and not waits:
            raise ScoreError(
                f"{found} ({said})",
                "a quota that is used up does not come back by waiting",
                "raise it, and repeat the command, which continues",
            )
        if (status in AGAIN or status >= 500) and again != "false":
            self._hold(response, found)
            return f"{status} {said}"
        if is_filtered(response.body):
            raise Unusable(FILTERED, f"{status} {said}")
        raise Unusable(FORBIDDEN if status == 403 else REJECTED, f"{status} {said}")

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
            if "certificate" not in str(e).lower():
                raise  # such as a connection that broke while it was made
            raise ModelError(
                f"{self.url} has no certificate that is trusted here ({self.told(e)})",
                "the connection could be read by others",
                "correct the URL, or name the certificate in REQUESTS_CA_BUNDLE",
            ) from None
        except requests.RequestException:
            raise
        except LocationParseError as e:
            raise ModelError(
                f"{self.url} cannot be asked ({self.told(e)})", "no host has this name", "check the URL"
            ) from None
        except HTTPError as e:  # of urllib3, while the body is read
            raise Malformed(f"a broken response ({type(e).__name__}: {e})") from e
        except OSError as e:
            raise ModelError(
                f"{self.url} cannot be asked ({self.told(e)})",
                "a setting of this machine does not allow it",
                "check the environment variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE",
            ) from None

    def _read(self, response: requests.Response, end: float) -> bytes:
        """The body, each part as it comes: `timeout` of requests is for each read only, and a server that sends a byte
        now and then would never end."""
        parts, size = [], 0
        while part := response.raw.read1(PART, decode_content=True):
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


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
