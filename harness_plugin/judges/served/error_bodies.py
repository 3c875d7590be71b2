"""What the body of a refused request says: its message, and which kind of refusal it is."""

import contextlib
import json
import re
from http import HTTPStatus
from typing import Any

from harness_plugin.files.rows import parse_json

# "billing" is none of them: servers with a limit of calls in a minute name the page where one may buy a higher one.
USED_UP = re.compile(
    r"insufficient[_ ](quota|balance|credits?|funds)|quota_exceeded|credit balance is too low", re.IGNORECASE
)
FILTERS = {"content_filter", "content_policy_violation", "data_inspection_failed"}


def message_of(body: bytes) -> str:
    """The message in the body of an error, as far as there is one: OpenAI's `error.message`, FastAPI's `detail`."""
    value = _parsed(body)
    for name in ("error", "detail", "message", "msg"):
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    return value if isinstance(value, str) else json.dumps(value)


def is_used_up(status: int, body: bytes) -> bool:
    """Whether the server wants to be paid before it answers again."""
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return True
    return status < 500 and USED_UP.search(" ".join([*_codes(body), message_of(body)])) is not None


def is_filtered(body: bytes) -> bool:
    """Whether a filter of the server stopped the question, such as Azure's."""
    return not FILTERS.isdisjoint(_codes(body))


def _codes(body: bytes) -> list[str]:
    """What an error calls its `code` or its `type`, in small letters; the outermost first."""
    value, codes = _parsed(body), list[str]()
    for inside in ("error", "innererror", ""):
        if not isinstance(value, dict):
            break
        codes += [value[name].lower() for name in ("code", "type") if isinstance(value.get(name), str)]
        value = value.get(inside)
    return codes


def _parsed(body: bytes) -> Any:
    """The JSON value of a body; its text where it is none."""
    text = body.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        return parse_json(text)
    return text
