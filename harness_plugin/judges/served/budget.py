"""What a run may spend, in calls and in tokens, and what it has spent."""

import threading


class BudgetSpent(Exception):
    """The next call would go beyond the budget. `limit`: which one, in words."""

    def __init__(self, limit: str):
        super().__init__(limit)
        self.limit = limit


class Budget:
    """Counts every request that is sent, repeated ones too, since a server may charge for each, but not those for which
    the server had no call left (429).

    `max_calls`, `max_tokens`: None for no limit. `calls`, `tokens`: spent so far; tokens are those that the server
    reports, or where it reports none, those that were expected. May be used by several threads.
    """

    def __init__(self, max_calls: int | None = None, max_tokens: int | None = None):
        self.max_calls, self.max_tokens = max_calls, max_tokens
        self.calls = self.tokens = 0
        self._lock = threading.Lock()

    def take(self, expected: int) -> None:
        """Counts one call with so many expected tokens. Raises BudgetSpent, and counts nothing, where the call would go
        beyond a limit."""
        with self._lock:
            if self.max_calls is not None and self.calls + 1 > self.max_calls:
                raise BudgetSpent(f"{self.max_calls} calls")
            if self.max_tokens is not None and self.tokens + expected > self.max_tokens:
                raise BudgetSpent(f"{self.max_tokens} tokens")
            self.calls += 1
            self.tokens += expected

    def give_back(self, expected: int) -> None:
        """Takes back one call of so many expected tokens, which the server did not serve."""
        with self._lock:
            self.calls -= 1
            self.tokens -= expected

    def correct(self, expected: int, used: int | None) -> None:
        """Puts what a call has used in the place of what was expected; `used` is None where the server does not say."""
        if used is not None:
            with self._lock:
                self.tokens += used - expected
