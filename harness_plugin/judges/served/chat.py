"""Chat completions, as OpenAI's interface and many others' have them: a chat model that names the better response.

The verdict is a letter. Where the server gives log probabilities, those of the letters are the probabilities of A, B
and a tie; elsewhere only the letter is known, and it gets a stated probability (`verdict.CERTAIN`). Which of the two it
is, and which parameters the model takes, is found out once, before a run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness_plugin.errors import ModelError
from harness_plugin.judges.served.chat_prompt import ChatPrompt
from harness_plugin.judges.served.dialect import Asked, Question, Values
from harness_plugin.judges.served.handshake import PROBES
from harness_plugin.judges.served.states import FAILED, REJECTED, UNLISTED, Unusable
from harness_plugin.judges.served.verdict import (
    letter_in,
    likelihoods,
    listed_tokens,
    log_weights,
    smoothed,
    text_of,
)
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair

READING = 1  # the number of the rules by which an answer is read; a change of them needs another
PATH = "/chat/completions"
LISTED = 20  # log probabilities at a position: the most that the interface allows
CHARACTERS = 3  # of a token, at least: what a call is expected to use is counted so
PROBABILITIES, LETTERS = "log probabilities", "letters"


@dataclass(frozen=True)
class Chat:
    """A chat model with a prompt. `model`: its name on the server; `answer_tokens`: the longest answer; `parameters`:
    those of a request beside model, messages and log probabilities; `reads`: PROBABILITIES or LETTERS."""

    model: str
    prompt: ChatPrompt
    calibration: Calibration
    answer_tokens: int
    parameters: tuple[tuple[str, Any], ...]
    reads: str = PROBABILITIES
    limit: str = "the length that the server takes"
    pointwise: bool = False
    classifier: bool = False

    @property
    def num_labels(self) -> int:
        return 3 if "C" in self.prompt.letters else 1

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": "served chat model",
            "num_labels": self.num_labels,
            "served_model": self.model,
            "judge_prompt": self.prompt.hash,
            "reads": self.reads,
            "reading": READING,
            "parameters": dict(self.parameters),
        }

    @property
    def answers(self) -> dict[str, Any]:
        return {"kind": "chat", "reads": self.reads, "reading": READING, "letters": self.prompt.letters}

    def asked(self, pair: Pair, both: bool) -> Asked:
        views = (pair, pair.swap()) if both else (pair,)
        return Asked(pair, tuple(self._question(view) for view in views))

    def _question(self, pair: Pair) -> Question:
        messages = self.prompt.messages(pair)
        body = {"model": self.model, "messages": messages, **dict(self.parameters)}
        if self.reads == PROBABILITIES:
            body |= {"logprobs": True, "top_logprobs": LISTED}
        return Question(PATH, body, sum(len(m["content"]) for m in messages) // CHARACTERS + 1)

    def read(self, answer: dict[str, Any]) -> Values:
        letters, text = self.prompt.letters, text_of(answer)
        letter, position = letter_in(text, letters)
        if self.reads == LETTERS:
            return log_weights(smoothed(letter, letters))
        if not listed_tokens(answer):  # a stated probability among measured ones would look like one of them
            raise Unusable(UNLISTED, "the answer has a letter alone, and others of this server had log probabilities")
        return log_weights(likelihoods(answer, text, position, letters) or smoothed(letter, letters))


def completed(answer: dict[str, Any]) -> dict[str, Any]:
    """The same answer, if it is a completion with a text. Raises as `text_of`."""
    text_of(answer)
    return answer


def parameters(answer_tokens: int) -> tuple[tuple[str, Any], ...]:
    """What is asked for at first: the likeliest answer, and no longer than it may be."""
    return ("temperature", 0), ("max_tokens", answer_tokens)


def negotiated(chat: Chat, send: Callable[[Question], dict[str, Any]]) -> Chat:
    """The chat model with the parameters that it takes, and log probabilities if the server gives them. `send` asks a
    question and returns the whole response, if it is a `completed` one.

    A server says which parameter it does not take: a reasoning model wants `max_completion_tokens` in the place of
    `max_tokens` and no `temperature`, some models give no `logprobs`. Some take `logprobs` and answer without them.
    Raises ModelError where the server rejects the plainest request too, and Unusable where it gives no answer at all.
    """
    while True:
        question = chat.asked(PROBES[0], both=False).questions[0]
        try:
            answer = send(question)
            break
        except Unusable as e:
            if e.state == FAILED:
                raise
            if e.state != REJECTED:
                return chat  # the handshake says what is wrong with the answer
            simpler = _simpler(chat, str(e))
            if simpler is None:
                raise ModelError(
                    f"{chat.model} takes no chat request ({e.detail})",
                    "it was asked without any parameter that may be left out",
                    "check the model's name, and whether it is a chat model",
                ) from e
            chat = simpler
    return chat if listed_tokens(answer) else replace(chat, reads=LETTERS)


def _simpler(chat: Chat, said: str) -> Chat | None:
    """The same without what the server complains of, or where it does not say, without the next thing that may be left
    out; None where nothing is left."""
    given = dict(chat.parameters)
    without_listed = replace(chat, reads=LETTERS) if chat.reads == PROBABILITIES else None
    if "max_completion_tokens" in said and "max_tokens" in given:
        return _renamed(chat, given)
    for name in given:
        if name in said:
            return _without(chat, name)
    if without_listed is not None:
        return without_listed
    if "max_tokens" in given:
        return _renamed(chat, given)
    return _without(chat, next(iter(given))) if given else None


def _renamed(chat: Chat, given: dict[str, Any]) -> Chat:
    limit = given.pop("max_tokens")
    return replace(chat, parameters=(*given.items(), ("max_completion_tokens", limit)))


def _without(chat: Chat, name: str) -> Chat:
    return replace(chat, parameters=tuple((n, v) for n, v in chat.parameters if n != name))
