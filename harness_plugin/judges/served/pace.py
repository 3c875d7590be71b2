"""When the next request may be sent: a rate that the user names, and pauses that the server asks for."""

import re
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from harness_plugin.judges.served.states import Stopped

MINUTE = 60.0
SHORT = 1.0  # seconds that nobody need hear of
MOMENT, IN_MILLISECONDS = 1e9, 1e11  # a number from here on is no wait but a time since 1970, in s or in ms
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Pace:
    """Holds all threads of a run to one rate. `per_minute`: most requests in a minute, None for no limit. `stop` ends
    every wait with `Stopped`."""

    def __init__(self, per_minute: float | None = None):
        self._between = MINUTE / per_minute if per_minute else 0.0
        self._next = self._resumes = 0.0  # times of `now`
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @staticmethod
    def now() -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def stop(self) -> None:
        self._stopped.set()

    def resume(self) -> None:
        self._stopped.clear()

    def wait_for_turn(self) -> None:
        """Returns when this thread may send a request. Raises Stopped where the run ends before that."""
        with self._lock:
            turn = max(self._next, self._resumes, self.now())
            self._next = turn + self._between
        self.wait_until(turn)
        if self._resumes > self.now():  # the server asked for a pause in the meantime
            self.wait_until(self._resumes)

    def wait_until(self, moment: float) -> None:
        left = moment - self.now()
        if left > 0:
            self.sleep(left)
        if self._stopped.is_set():
            raise Stopped

    def pause(self, seconds: float) -> bool:
        """No thread sends a request for so long. Returns whether the run waits longer by it."""
        with self._lock:
            before, self._resumes = self._resumes, max(self._resumes, self.now() + seconds)
            return self._resumes - max(before, self.now()) > SHORT


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds that a response asks to wait: `retry-after-ms`, `retry-after` in seconds or as a date, or where a
    limit has nothing left, the time until it is reset (`x-ratelimit-reset-requests: 6m30s`). None where it asks for
    none."""
    after = _number(headers.get("retry-after-ms"))
    if after is not None:
        return after / 1000
    text = headers.get("retry-after", "")
    after = duration(text)
    if after is None:
        after = _until(text)
    return exhausted_for(headers) if after is None else max(after, 0.0)


def exhausted_for(headers: Mapping[str, str]) -> float | None:
    """The seconds until a limit of requests or tokens that has nothing left is reset; None where there is none."""
    waits = [
        duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if _number(headers.get(f"x-ratelimit-remaining-{what}")) == 0
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def duration(text: str) -> float | None:
    """The seconds of a duration such as 6m30s, 1h, 250ms or 12, or until a time in seconds or milliseconds since 1970,
    as some servers write it; None for any other text."""
    number = _number(text)
    if number is not None:
        moment = number / 1000 if number >= IN_MILLISECONDS else number
        return number if number < MOMENT else max(moment - time.time(), 0.0)
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", text)
    if not parts or "".join(map("".join, parts)) != text:
        return None
    return sum((_number(count) or 0.0) * UNITS[unit] for count, unit in parts)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else None


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return (moment.replace(tzinfo=moment.tzinfo or timezone.utc) - datetime.now(timezone.utc)).total_seconds()
