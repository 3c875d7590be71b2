"""One HTML file with everything in it, assembled from the files in `assets`. No network, no build step.

Data travels in it as JSON that cannot end its script element, and scripts put it on the page as text only. A content
security policy lets the page's own script run and nothing else: no request leaves it, and no text can become code.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

# What could end the script element or start another for an HTML parser, what JavaScript once took for line ends, and
# what no encoding can write or nobody could see in the file.
UNSAFE = re.compile("[<>&\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufff0-\uffff]")

DOCUMENT = "document.html"  # what stands around the body of every page


def assembled(body: str, title: str, styles: Sequence[str], scripts: Sequence[str], data: Any) -> str:
    """The page as HTML text. `body`, `styles`, `scripts`: names of assets; `data`: what the script reads, JSON-able
    with finite numbers."""
    script, style = ("\n".join(map(_asset, names)) for names in (scripts, styles))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    parts = {"title": html.escape(title), "policy": policy, "style": style, "body": _asset(body)}
    parts |= {"data": embedded(data), "script": script}
    return re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], _asset(DOCUMENT))


def embedded(data: Any) -> str:
    """JSON that can stand in a script element: it is the same value, and holds no character of HTML's syntax."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _asset(name: str) -> str:
    return (files("harness_plugin.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
