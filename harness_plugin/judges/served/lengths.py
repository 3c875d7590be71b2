"""Notices a server that cuts long texts and does not say so.

Such a server (Ollama with its default context, some decision models) reads the same number of tokens of every text that
is longer than its context. Texts of plainly different lengths that are all read as the largest number of tokens of a
run are a sign of it.
"""

import threading

ENOUGH = 3  # texts that are read as the same number of tokens
LONGER = 1.25  # how many times as long as the shortest of them the longest is, at least


class Lengths:
    """What a server reads of the texts of a run. May be used by several threads."""

    def __init__(self) -> None:
        self._most = 0
        self._characters: set[int] = set()  # of the texts that were read as so many tokens
        self._lock = threading.Lock()

    def add(self, characters: int, tokens: int | None) -> None:
        """A text of so many characters was read as so many tokens; None where the server does not say."""
        with self._lock:
            if not (characters and tokens) or tokens < self._most:
                return
            if tokens > self._most:
                self._most, self._characters = tokens, set()
            self._characters.add(characters)

    def seem_cut(self) -> str | None:
        """What there is to be said of texts that seem to be cut; None where there is nothing."""
        lengths = self._characters
        if len(lengths) < ENOUGH or max(lengths) < LONGER * min(lengths):
            return None
        return (
            f"read {len(lengths)} texts of {min(lengths)} to {max(lengths)} characters as {self._most} tokens each, "
            "and no text as more: it seems to cut long texts, so that these verdicts are of a part; serve the model "
            "with a larger context (in Ollama OLLAMA_CONTEXT_LENGTH), and judge with another --cache-file"
        )
