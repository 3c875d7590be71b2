"""What one model's answer to one prompt is. Two models' answers to the same prompt make a `Pair`.

This file knows nothing of files or formats.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness_plugin.pairs.pair import Text


@dataclass(frozen=True)
class Answer:
    """One model's answer. `response`: None where the answer is missing, which is not an empty one. `id`: the file's own
    name for the prompt, or the prompt's content id; unique among the model's answers in a file. Where the file says
    which `document` of a benchmark the prompt was made of, answers to one document meet, in whatever words each model
    was asked; `question` is then the prompt without its system messages. `samples`: how many samples of the answer the
    file has, of which `response` is the first."""

    prompt: Text
    response: Text | None
    model: str | None = None
    category: str | None = None
    id: str = ""
    document: str = field(default="", compare=False)
    question: Text | None = field(default=None, compare=False)
    samples: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Question:
    """A prompt from a file of its own, for answers that are stored without their prompts. `turns`: how many turns of
    the user's it has, each of which wants an answer."""

    prompt: Text
    category: str | None
    turns: int = 1


Questions = Mapping[str, Question]
"""Question id -> question; empty where no file of questions was given."""
