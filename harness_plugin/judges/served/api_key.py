"""The key of a server's interface: from the environment only, and kept out of everything that people or files see."""

import os
import re
from urllib.parse import urlsplit

from harness_plugin.errors import UsageError
from harness_plugin.model.naming import CHAT

VARIABLE, OPENAI_VARIABLE = "ARENA_RM_API_KEY", "OPENAI_API_KEY"
PREFIX = 8  # characters: servers that mask a key in a message leave its beginning


class ApiKey:
    """A key, or none. Its text is only in the header that a call of it sets: `repr` and `str` do not show it."""

    def __init__(self, text: str | None = None):
        self._text = text

    def __repr__(self) -> str:
        return "ApiKey(set)" if self._text else "ApiKey(none)"

    @property
    def is_set(self) -> bool:
        return bool(self._text)

    def __call__(self, request):
        """As the `auth` of requests: adds the key to the headers. Given as `auth`, it also keeps requests from looking
        for a password in the user's .netrc file."""
        if self._text:
            request.headers["Authorization"] = f"Bearer {self._text}"
        return request

    def removed_from(self, text: str) -> str:
        """The text without the key and without masked forms of it that begin as the key does."""
        if not self._text:
            return text
        if len(self._text) < PREFIX:  # such as the x that people give to a server of their own
            return re.sub(rf"(?<!\w){re.escape(self._text)}(?!\w)", "[key]", text)
        return re.sub(re.escape(self._text[:PREFIX]) + r"\S*", "[key]", text)


def host_variable(url: str) -> str:
    """The environment variable for the key of one host, such as ARENA_RM_API_KEY_API_EXAMPLE_ORG: with it, judges at
    several providers have a key each."""
    return f"{VARIABLE}_{re.sub('[^A-Za-z0-9]', '_', urlsplit(url).hostname or '').upper()}"


def key_for(server: str, url: str) -> ApiKey:
    """The key in the variable of the URL's host, in ARENA_RM_API_KEY, or for chat completions in OPENAI_API_KEY. Raises
    UsageError for a text that cannot be a header, without quoting it."""
    names = (host_variable(url), VARIABLE, *([OPENAI_VARIABLE] if server == CHAT else []))
    name = next((name for name in names if os.environ.get(name, "").strip()), None)
    if name is None:
        return ApiKey()
    text = os.environ[name].strip()
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise UsageError(
            f"the key in {name} has spaces or characters that are not ASCII",
            "it cannot be sent as a header",
            "set the variable to the key alone",
        )
    return ApiKey(text)
