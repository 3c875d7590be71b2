"""The prompt of a chat model that judges: a file with the text around a pair.

    [system]            may be left out
    What is to be judged and how. It is the same for all pairs, so that a server can keep what it has read of it.
    [user]
    {prompt} {response_a} {response_b}, each exactly once, and {tag} where wanted
    [verdicts]          may be left out
    A B C               A, B, and C for a tie; `A B` for a judge without ties

`{tag}` becomes eight hexadecimal digits that follow from the pair, so that no response can close its own mark.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness_plugin.errors import DataError
from harness_plugin.pairs import Pair, Text

DEFAULT = Path(__file__).parent / "prompts" / "default.txt"
FIELDS = ("prompt", "response_a", "response_b")
SECTIONS = ("system", "user", "verdicts")
HEAD = re.compile(r"^\[(\w+)\][ \t]*$", re.MULTILINE)
PLACE = re.compile(r"\{(prompt|response_a|response_b|tag)\}")


@dataclass(frozen=True)
class ChatPrompt:
    """`system`: "" for none. `letters`: the legal verdicts, "AB" or "ABC"."""

    system: str
    user: str
    letters: str = "ABC"

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits that identify the prompt by its content."""
        return hashlib.sha256("\0".join((self.system, self.user, self.letters)).encode()).hexdigest()[:16]

    @property
    def in_one_message(self) -> "ChatPrompt":
        """The same with the text of [system] before that of [user], for a model that knows no system turn."""
        return ChatPrompt("", f"{self.system}\n\n{self.user}", self.letters)

    def messages(self, pair: Pair) -> list[dict[str, str]]:
        """The messages about a pair with A first. All places are filled in one pass, so that the spelling of a place in
        a text stays text."""
        texts = {"prompt": in_turns(pair.prompt, "Turn"), "tag": pair.key[:8]}
        texts |= {"response_a": in_turns(pair.response_a, "Reply"), "response_b": in_turns(pair.response_b, "Reply")}
        user = PLACE.sub(lambda place: texts[place[1]], self.user)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": user}]


def in_turns(text: Text, name: str) -> str:
    """A field as one text; several turns are numbered, so that it is clear which reply answers which turn."""
    if isinstance(text, str):
        return text
    if len(text) == 1:
        return text[0]
    return "\n\n".join(f"[{name} {n}]\n{turn}" for n, turn in enumerate(text, start=1))


def read_chat_prompt(path: str | None) -> ChatPrompt:
    """The prompt in a file, or the default one. Raises DataError for a file without the three places, with sections
    that have no meaning, or with verdicts other than A, B and C."""
    file = DEFAULT if path is None else Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise DataError(f"the prompt {file} cannot be read ({e})", "it says what to ask", "name a text file") from e
    before, *parts = HEAD.split(text)
    sections = dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))
    if before.strip() or set(sections) - set(SECTIONS) or len(sections) * 2 != len(parts) or "user" not in sections:
        raise DataError(
            f"the prompt {file} has the sections {', '.join(parts[::2]) or 'none'}",
            f"its sections are {', '.join(f'[{name}]' for name in SECTIONS)}, each once, and [user] is needed",
            "write these heads, each on a line of its own",
        )
    for name in FIELDS:
        count = sections["user"].count(f"{{{name}}}")
        if count != 1:
            raise DataError(
                f"the prompt {file} has {{{name}}} {count} times in [user]",
                "each text is shown once",
                f"write {{{name}}} once where the text belongs",
            )
    if place := PLACE.search(sections.get("system", "")):
        raise DataError(
            f"the prompt {file} has {place[0]} in [system]",
            "nothing is put there: that text is the same for all pairs",
            "write it in [user]",
        )
    letters = "".join(sections.get("verdicts", "A B C").split())
    if letters not in ("AB", "ABC"):
        raise DataError(
            f"the prompt {file} has the verdicts {sections['verdicts']!r}",
            "A and B, and C for a tie",
            "write A B C or A B",
        )
    return ChatPrompt(sections.get("system", ""), sections["user"], letters)
