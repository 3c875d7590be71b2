"""Chat completions, as OpenAI's interface and many others' have them: a chat model that names the better response.

The verdict is a letter. Where the server gives log probabilities, those of the letters are the probabilities of A, B
and a tie; elsewhere only the letter is known, and it gets a stated probability (`verdict.CERTAIN`). Which of the two it
is, and which parameters the model takes, is found out once, before a run.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness_plugin.errors import ModelError
from harness_plugin.judges.served.chat_prompt import ChatPrompt
from harness_plugin.judges.served.dialect import Asked, Question, Values, expected_tokens
from harness_plugin.judges.served.handshake import PROBES
from harness_plugin.judges.served.states import FAILED, REJECTED, UNLISTED, Unusable
from harness_plugin.judges.served.verdict import (
    CERTAIN,
    letter_in,
    likelihoods,
    listed_tokens,
    log_weights,
    smoothed,
    text_of,
)
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair

log = logging.getLogger("lm_eval.arena_rm")

READING = 1  # the number of the rules by which an answer is read; a change of them needs another
PATH = "/chat/completions"
LISTED, FEWER = 20, 5  # log probabilities at a position: the most that the interface allows, and that all servers do
NO_SYSTEM = re.compile(
    r"system (role|message|prompt|instruction)|system['\" ]+role|developer instruction|roles must alternate",
    re.IGNORECASE,
)
PROBABILITIES, LETTERS = "log probabilities", "letters"


@dataclass(frozen=True)
class Chat:
    """A chat model with a prompt. `model`: its name on the server; `answer_tokens`: the longest answer; `parameters`:
    those of a request beside model, messages and log probabilities; `reads`: PROBABILITIES or LETTERS; `listed`: how
    many log probabilities are asked for at each position; `answering`: the model that answers under that name, where
    the server says another name."""

    model: str
    prompt: ChatPrompt
    calibration: Calibration
    answer_tokens: int
    parameters: tuple[tuple[str, Any], ...]
    reads: str = PROBABILITIES
    listed: int = LISTED
    answering: str | None = None
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
            "parameters": dict(self.parameters) | ({} if self.listed == LISTED else {"top_logprobs": self.listed}),
        } | ({} if self.answering is None else {"answering_model": self.answering})

    @property
    def answers(self) -> dict[str, Any]:
        answering = {} if self.answering is None else {"answering_model": self.answering}
        return {"kind": "chat", "reads": self.reads, "reading": READING, "letters": self.prompt.letters} | answering

    def asked(self, pair: Pair, both: bool) -> Asked:
        views = (pair, pair.swap()) if both else (pair,)
        return Asked(pair, tuple(self._question(view) for view in views))

    def _question(self, pair: Pair) -> Question:
        messages = self.prompt.messages(pair)
        body = {"model": self.model, "messages": messages, **dict(self.parameters)}
        if self.reads == PROBABILITIES:
            body |= {"logprobs": True, "top_logprobs": self.listed}
        characters = sum(len(m["content"]) for m in messages)
        return Question(PATH, body, expected_tokens(characters), characters)

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
    `max_tokens` and no `temperature`, some models give no `logprobs` or fewer of them, some know no system turn. Some
    take `logprobs` and answer without them. What is asked otherwise than at first is said on the log. Raises ModelError
    where the server rejects the plainest request too, and Unusable where it gives no answer at all.
    """
    asked_first = chat
    while True:
        question = chat.asked(PROBES[0], both=False).questions[0]
        try:
            answer = send(question)
            break
        except Unusable as e:
            no_system = bool(chat.prompt.system and NO_SYSTEM.search(e.detail))
            if e.state == FAILED and not no_system:
                raise
            if e.state not in (REJECTED, FAILED):
                return chat  # the handshake says what is wrong with the answer
            simpler = replace(chat, prompt=chat.prompt.in_one_message) if no_system else _simpler(chat, str(e))
            if simpler is None:
                raise ModelError(
                    f"{chat.model} takes no chat request ({e.detail})",
                    "it was asked without any parameter that may be left out",
                    "check the model's name, and whether it is a chat model",
                ) from e
            chat = simpler
    if not listed_tokens(answer):
        chat = replace(chat, reads=LETTERS, listed=LISTED)
    name = answer.get("model")
    if isinstance(name, str) and name not in ("", chat.model) and name.isprintable():
        chat = replace(chat, answering=name)
    _say(asked_first, chat)
    return chat


def _say(first: Chat, chat: Chat) -> None:
    """Says how the model is asked otherwise than it was at first."""
    said = []
    if chat.reads == LETTERS:
        said.append(f"gives no log probabilities, so that each verdict has the probability {CERTAIN}")
    elif chat.listed != first.listed:
        said.append(f"gives {chat.listed} log probabilities for a token in the place of {first.listed}")
    if chat.prompt != first.prompt:
        said.append("knows no system turn, whose text stands before the question")
    if chat.parameters != first.parameters:
        said.append(
            f"is asked with {', '.join(f'{name}={value}' for name, value in chat.parameters) or 'no parameters'}"
        )
    if chat.answering is not None:
        said.append(f"answers as {chat.answering}")
    for each in said:
        log.info("arena_rm: %s %s", chat.model, each)


def _simpler(chat: Chat, said: str) -> Chat | None:
    """The same without what the server complains of, or where it does not say, without the next thing that may be left
    out; None where nothing is left."""
    given = dict(chat.parameters)
    without_listed = replace(chat, reads=LETTERS, listed=LISTED) if chat.reads == PROBABILITIES else None
    if without_listed is not None and chat.listed > FEWER and re.search(r"logprobs\D.*\d", said):
        return replace(chat, listed=FEWER)
    if "max_completion_tokens" in said and "max_tokens" in given:
        return _renamed(chat, given)
    for name in given:
        if name in said:
            return _without(chat, name)
    if without_listed is not None:
        return without_listed
    if "max_tokens" in given:
        return _renamed(chat, given)
    if given:
        return _without(chat, next(iter(given)))
    return replace(chat, prompt=chat.prompt.in_one_message) if chat.prompt.system else None


def _renamed(chat: Chat, given: dict[str, Any]) -> Chat:
    limit = given.pop("max_tokens")
    return replace(chat, parameters=(*given.items(), ("max_completion_tokens", limit)))


def _without(chat: Chat, name: str) -> Chat:
    return replace(chat, parameters=tuple((n, v) for n, v in chat.parameters if n != name))
