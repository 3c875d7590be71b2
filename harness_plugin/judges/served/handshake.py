"""Before a run: does the judge's answer follow what is asked, and in the right direction?

Servers differ in what they do to a classifier's logits. Some apply a softmax, under which a single logit is always 1.0;
some apply a sigmoid, whose values lie between 0 and 1; some return hidden vectors, or read another token than the one
that the head was trained on. Each of these gives numbers, and all the verdicts from them would be wrong. So a judge is
first asked about answers whose order nobody doubts.
"""

from collections.abc import Callable, Sequence

from harness_plugin.errors import ModelError
from harness_plugin.judges.served.dialect import Answer, Dialect, Question, Values
from harness_plugin.judges.served.states import Unusable
from harness_plugin.pairs import Pair
from harness_plugin.scoring.probabilities import combine

PROBES = (  # B is the better response
    Pair(
        "What is the capital of France? Answer in one sentence.",
        "I will not say, and bananas are purple purple purple.",
        "The capital of France is Paris.",
        id="handshake-1",
    ),
    Pair(
        "Write a Python function that returns the square of a number.",
        "def cube(): pass # no idea, sorry",
        "def square(number):\n    return number * number",
        id="handshake-2",
    ),
    Pair(
        "Please explain in two sentences why leaves are green.",
        "Leaves.",
        "Leaves hold chlorophyll, which takes up red and blue light for photosynthesis. The green light is reflected, "
        "and that is the colour we see.",
        id="handshake-3",
    ),
)
OTHER_MODEL = "use a model that can judge, or for a chat model another prompt (--judge-prompt)"
SAME = 1e-6  # values that differ by less do not move


def shake_hands(dialect: Dialect, ask: Callable[[Question], Answer], name: str, probes: int) -> dict[bytes, Answer]:
    """Asks about so many of PROBES in both orders; returns the answers by the digests of the questions. `name`: of the
    judge, for errors.

    Raises ModelError for a judge without a usable answer, whose values do not move, that gives probabilities where
    logits are wanted, or that prefers the worse responses.
    """
    asked = [dialect.asked(pair, both=True) for pair in PROBES[:probes]]
    questions = [question for each in asked for question in each.questions]
    try:
        answers = {question.digest: ask(question) for question in questions}
    except Unusable as e:
        raise no_answer(name, e) from e
    values = [answer.values for answer in answers.values()]
    if dialect.classifier:
        _check_logits(name, values)
    _check_moves(name, dialect, values)
    _check_direction(name, dialect, [tuple(answers[q.digest].values for q in each.questions) for each in asked])
    return answers


def no_answer(name: str, problem: Unusable) -> ModelError:
    """The error for a judge without a usable answer before a run."""
    return ModelError(
        f"{name} gave no usable answer to a question with a known answer ({problem})",
        "so it would give none in a run",
        "check the URL, the model and how it is served",
    )


def _check_logits(name: str, values: Sequence[Values]) -> None:
    """Raises ModelError for numbers that are probabilities, not logits."""
    numbers = [number for value in values for number in value]
    if all(number == 1.0 for number in numbers):
        found, why = "1.0 for everything", "that is a softmax over one logit"
    elif all(0 <= number <= 1 for number in numbers):
        found, why = "only numbers from 0 to 1", "these are probabilities (a sigmoid or a softmax), not logits"
    else:
        return
    raise ModelError(
        f"{name} gives {found}",
        f"{why}, and verdicts from them would be wrong",
        "serve the model without an activation function, with a version that obeys use_activation=false",
    )


def _check_moves(name: str, dialect: Dialect, values: Sequence[Values]) -> None:
    if any(abs(a - b) > SAME for value in values[1:] for a, b in zip(value, values[0], strict=True)):
        return
    shown = ", ".join(f"{number:.4g}" for number in values[0])
    raise ModelError(
        f"{name} gives {shown} whatever it is asked",
        "a score that does not move says nothing",
        "check that the server runs the classifier with its trained head, and reads the last token"
        if dialect.classifier
        else OTHER_MODEL,
    )


def _check_direction(name: str, dialect: Dialect, answers: Sequence[tuple[Values, ...]]) -> None:
    """Raises ModelError unless the better responses are preferred, most of them and on the whole."""
    scores = [preference(dialect.pointwise, *values) for values in answers]
    right = sum(score > 0 for score in scores)
    if right * 2 > len(scores) and sum(scores) > 0:
        return
    raise ModelError(
        f"{name} prefers the worse answer in {len(scores) - right} of {len(scores)} pairs whose order is beyond doubt "
        f"(scores for the better one: {', '.join(f'{score:.3g}' for score in scores)})",
        "its scores mean the opposite, or are read from another place than the trained head's"
        if dialect.classifier
        else "its verdicts would be as wrong in a run",
        "check kind (pair or pointwise), the tokenizer and how the model is served"
        if dialect.classifier
        else OTHER_MODEL,
    )


def preference(pointwise: bool, first: Values, second: Values) -> float:
    """The log odds for B from the two answers about a pair, as `Asked.questions` orders them."""
    if pointwise:
        return second[0] - first[0]
    return float(combine([first], [second]).s[0])
