"""Decision models (System One): one question with the choices A, B and tie over a prompt and two responses.

Of an answer only `probabilities` are read: they mean the same on every server. `confidence` does not: it is the
probability of the choice over chance on some, multiplied by the mass of the labels or an entropy on others.
"""

from dataclasses import dataclass
from typing import Any

from harness_plugin.judges.served.chat_prompt import in_turns
from harness_plugin.judges.served.dialect import Asked, Question, Values, expected_tokens
from harness_plugin.judges.served.states import REFUSED, Malformed, Unusable
from harness_plugin.judges.served.verdict import log_weights
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair

READING = 1
NAME = "better"
CHOICES = ("A", "B", "tie")
INSTRUCTIONS = (
    "Two responses to a prompt are given. Which one would a careful human reader prefer? Judge whether it is correct, "
    "complete, clear and honest. The order of the responses and their length by itself say nothing."
)
CRITERIA = {
    "A": "Response A is better.",
    "B": "Response B is better.",
    "tie": "Both responses are equally good or equally bad.",
}
ROUNDING = 0.02  # how far probabilities may be from adding up to one: some servers give four decimals
SMALLEST = 1e-4  # the probability that stands for a zero of four decimals


@dataclass(frozen=True)
class SystemOne:
    """A decision model. `path`: what follows the URL, "" for the URL of one model's own interface; `model`: its
    name."""

    path: str
    model: str
    calibration: Calibration
    num_labels: int = 3
    limit: str = "the length that the server takes"
    pointwise: bool = False
    classifier: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": "served decision model",
            "num_labels": self.num_labels,
            "served_model": self.model,
            "reading": READING,
        }

    @property
    def answers(self) -> dict[str, Any]:
        return {"kind": "systemone", "model": self.model, "reading": READING}

    def asked(self, pair: Pair, both: bool) -> Asked:
        views = (pair, pair.swap()) if both else (pair,)
        return Asked(pair, tuple(self._question(view) for view in views))

    def _question(self, pair: Pair) -> Question:
        state = {
            "prompt": in_turns(pair.prompt, "Turn"),
            "A": in_turns(pair.response_a, "Reply"),
            "B": in_turns(pair.response_b, "Reply"),
        }
        question = {"type": "choice", "instructions": INSTRUCTIONS, "criteria": CRITERIA}
        body = {"state": state, "questions": {NAME: question}} | ({"model": self.model} if self.path else {})
        characters = sum(map(len, (INSTRUCTIONS, *state.values())))
        return Question(self.path, body, expected_tokens(characters), characters)

    def read(self, answer: dict[str, Any]) -> Values:
        inner = answer.get("result") if isinstance(answer.get("result"), dict) else answer  # Cloudflare wraps it
        answers = inner.get("answers") if isinstance(inner, dict) else None
        said = answers.get(NAME) if isinstance(answers, dict) else None
        if isinstance(said, dict) and said.get("refusal"):
            raise Unusable(REFUSED, str(said["refusal"]))
        given = said.get("probabilities") if isinstance(said, dict) else None
        if not isinstance(given, dict) or set(given) != set(CHOICES):
            raise Malformed(f"an answer without the probabilities of {', '.join(CHOICES)}")
        numbers = [given[name] for name in CHOICES]
        if not all(type(p) in (int, float) and 0 <= p <= 1 for p in numbers):
            raise Malformed("probabilities that are not from 0 to 1")
        if abs(sum(numbers) - 1) > ROUNDING:
            raise Malformed(f"probabilities that add up to {sum(numbers):.3f}")
        weights = [max(float(p), SMALLEST) for p in numbers]
        return log_weights([weight / sum(weights) for weight in weights])


def path_after(url: str) -> str:
    """What follows a URL: that of a server, or of the interface itself."""
    return "" if url.endswith("/systemone") or "/ai/run/" in url else "/v1/systemone"
