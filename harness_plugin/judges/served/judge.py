"""A judge behind a server: asked about pairs, several at a time, with every answer kept."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from harness_plugin.errors import ModelError, ScoreError
from harness_plugin.files.printable import listed
from harness_plugin.judges.judge import NAMED, Done
from harness_plugin.judges.presentations import naming_pairs
from harness_plugin.judges.served.budget import BudgetSpent
from harness_plugin.judges.served.client import Client
from harness_plugin.judges.served.dialect import Answer, Asked, Dialect, Question, prompt_tokens, used_tokens
from harness_plugin.judges.served.handshake import PROBES, shake_hands
from harness_plugin.judges.served.lengths import Lengths
from harness_plugin.judges.served.states import FAILED, Stopped, Unusable
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import calibration_identity, identity_hash
from harness_plugin.scoring.judgement import Judgement, judged, total_tokens
from harness_plugin.scoring.store import ScoreCache

log = logging.getLogger("lm_eval.arena_rm")

AHEAD = 128  # pairs whose answers are looked up in the store at once
WAITING = 4 * AHEAD  # pairs at most that wait for one before them
DOWN = "it seems to be down", "repeat the command when it answers again; it continues"
TOO_FAST = (
    "it takes fewer calls than it is sent",
    "repeat the command, which continues, with a smaller --concurrency or with --calls-per-minute",
)
DRIFT = 0.25  # a logit of the handshake that moved so far since it was kept is another model's


class ServedJudge:
    """A judge behind a server. Made by `open_judge`; it is a context manager, which closes the store.

    `concurrency`: questions under way at once. Every answer is put into the `store` as it comes, so that a run that was
    stopped or killed asks only for what is missing.
    """

    def __init__(self, dialect: Dialect, client: Client, store: ScoreCache, order: str, concurrency: int, name: str):
        self.dialect, self.client, self.store, self.order, self.name = dialect, client, store, order, name
        self.concurrency = concurrency
        numbers = calibration_identity(dialect.calibration)
        self.identity: dict[str, Any] = {**dialect.identity, "order": order, **numbers}
        self.hash = identity_hash(self.identity)
        self._answering: dict[str, str] = {}
        self._read = Lengths()
        self._met: Mapping[bytes, Answer] = {}
        self._open = ExitStack()
        store.bind(dialect.answers, dialect.num_labels + 1)  # as `Answer.stored`

    def __enter__(self) -> ServedJudge:
        return self

    def __exit__(self, *exc) -> None:
        self._open.close()
        budget = self.client.budget
        log.info("arena_rm: %s: %d calls, %d tokens", self.name, budget.calls, budget.tokens)
        if cut := self._read.seem_cut():
            log.warning("arena_rm: %s %s", self.name, cut)

    def keep_open(self, opened: ExitStack) -> None:
        """Closes with the judge what was opened for it."""
        self._open = opened

    @property
    def calibration(self) -> Calibration:
        return self.dialect.calibration

    @property
    def limit(self) -> str:
        return self.dialect.limit

    def meet(self, probes: int) -> None:
        """The handshake. Raises ModelError as `shake_hands`, and where the answers of a classifier are not those that
        an earlier run kept: another model now has its name."""
        answers = shake_hands(self.dialect, self._ask, self.name, probes)
        kept = self.kept(list(answers))
        for digest in kept:
            self._compare(kept[digest], answers[digest])
        self.keep(answers)
        self._met = answers

    def check_unchanged(self) -> None:
        """Asks a classifier a question of the handshake once more. Raises ModelError where the answer is another one:
        a server may be given another model while it is asked. One that gives no answer now takes no verdict away."""
        if not self.dialect.classifier:
            return
        question = self.dialect.asked(PROBES[0], both=False).questions[0]
        self.client.pace.resume()
        with suppress(BudgetSpent, ScoreError, Unusable):
            self._compare(self._met[question.digest], self.client.ask(question, partial(self.read, question)))

    def _compare(self, before: Answer, now: Answer) -> None:
        """Raises ModelError for two answers of a classifier to one question that cannot be of one model."""
        if self.dialect.classifier and max(map(_distance, now.values, before.values)) > DRIFT:
            raise ModelError(
                f"{self.name} now gives {now.values[0]:.3f} where it gave {before.values[0]:.3f}",
                "another model has been put behind its name, and the stored answers are not its",
                "use another store of answers (--cache-file), or serve the model under another name",
            )

    def _ask(self, question: Question) -> Answer:
        try:
            return self.client.ask(question, partial(self.read, question))
        except BudgetSpent as e:
            raise over_before(e.limit) from e

    def read(self, question: Question, answer: dict[str, Any]) -> Answer:
        """What the response to a question says. Raises as `Dialect.read`, and ModelError where another model gave it
        than those before: behind one address may be several servers."""
        name = answer.get("model")
        if isinstance(name, str) and name:
            first = self._answering.setdefault("model", name)  # in one step, since several threads read
            if name != first:
                raise ModelError(
                    f"{self.name} answers with the model {self.client.told(name)}, and answered with "
                    f"{self.client.told(first)}",
                    "verdicts of two models are not those of one judge",
                    "name one of them, and where several servers are behind the address, one server",
                )
        values = self.dialect.read(answer)
        self._read.add(question.characters, prompt_tokens(answer))
        return Answer(values, used_tokens(answer))

    def kept(self, digests: Sequence[bytes]) -> dict[bytes, Answer]:
        """The answers that the store has, by the digests of their questions."""
        return {digest: Answer.of_stored(numbers) for digest, numbers in self.store.get(digests).items()}

    def keep(self, answers: Mapping[bytes, Answer]) -> None:
        """Puts answers into the store."""
        self.store.put({digest: answer.stored for digest, answer in answers.items()})

    def judge(self, pairs: Sequence[Pair], done: Done | None = None) -> Iterator[Judgement]:
        """As `Judge.judge`, in the order of the pairs.

        Pairs without a usable answer are left out; when all others are judged, the ScoreError names them and the states
        of their answers with counts. The same call again asks only for these. Raises ScoreError too where the budget is
        spent, after everything that was paid for has been passed on, and ModelError where the server turns away.
        """
        run = _Run(self, pairs)
        try:
            for asked in run.answered():
                if done:
                    done(1)
                if (judgement := run.judgement(asked)) is not None:
                    yield judgement
        finally:
            run.close()
        if run.has_asked and run.ended is None:
            self.check_unchanged()
        run.check_complete()

    def judgement(self, asked: Asked, answers: Sequence[Answer]) -> Judgement:
        """What the answers to the questions about a pair say of it."""
        values = [answer.values for answer in answers]
        z_ab, z_ba, reading = values[0], values[-1], {"tokens": total_tokens(answers), **asked.reading}
        if self.dialect.pointwise:
            (r_a,), (r_b,) = values
            z_ab, z_ba = (r_b - r_a,), (r_a - r_b,)
            reading |= {"r_a": r_a, "r_b": r_b}
        other = [z_ba] if self.order == "both" else None
        (judgement,) = judged([asked.pair], [z_ab], other, self.calibration, self.hash, [reading])
        return judgement


class _Run:
    """One call of `ServedJudge.judge`: what is asked, what is answered, what stays without a verdict."""

    def __init__(self, judge: ServedJudge, pairs: Sequence[Pair]):
        self.judge, self.pairs = judge, pairs
        self.answers: dict[bytes, Answer | Unusable] = {}
        self.under_way: dict[Future, Question] = {}
        self.unusable: list[tuple[Pair, Unusable]] = []
        self.ended: Exception | None = None  # why no more is asked
        self.judged = self.failures_in_a_row = 0
        self.has_asked = False  # whether an answer came that was not in the store
        judge.client.pace.resume()
        self.pool = ThreadPoolExecutor(judge.concurrency, thread_name_prefix="arena-rm")

    def close(self) -> None:
        """Waits for what is under way, which is paid for, and keeps it."""
        self.judge.client.pace.stop()
        for future in self.under_way:
            future.cancel()
        self.pool.shutdown(wait=True)
        self._take_in(list(self.under_way))

    def answered(self) -> Iterator[Asked]:
        """Each pair once all of its questions have an answer, usable or not, in the order of the pairs."""
        coming, waiting, held = self._looked_up(), deque[Asked](), None
        while True:
            while self.ended is None and len(self.under_way) < 2 * self.judge.concurrency and len(waiting) < WAITING:
                held = next(coming, None)
                if held is None:
                    break
                waiting.append(held)
                self._send(held)
            while waiting and self._is_answered(waiting[0]):
                yield waiting.popleft()
            if self.under_way:
                self._take_in(list(wait(self.under_way, return_when=FIRST_COMPLETED).done))
            elif held is None or self.ended is not None:
                yield from filter(self._is_answered, waiting)  # some, where the run ends before all are asked
                return

    def _is_answered(self, asked: Asked) -> bool:
        return all(question.digest in self.answers for question in asked.questions)

    def _looked_up(self) -> Iterator[Asked]:
        """The pairs with their questions; what the store has of them is known from here on."""
        both = self.judge.order == "both"
        ask = naming_pairs(lambda pair: self.judge.dialect.asked(pair, both))
        for start in range(0, len(self.pairs), AHEAD):
            part = [ask(pair) for pair in self.pairs[start : start + AHEAD]]
            digests = {question.digest for asked in part for question in asked.questions}
            self.answers.update(self.judge.kept([d for d in digests if d not in self.answers]))
            yield from part

    def _send(self, asked: Asked) -> None:
        sent = {question.digest for question in self.under_way.values()}
        for question in asked.questions:
            if question.digest not in self.answers and question.digest not in sent:
                sent.add(question.digest)
                future = self.pool.submit(self.judge.client.ask, question, partial(self.judge.read, question))
                self.under_way[future] = question

    def _take_in(self, futures: list[Future]) -> None:
        """Keeps the answers that came."""
        new = {}
        for future in futures:
            question = self.under_way.pop(future)
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                new[question.digest] = future.result()
                self.has_asked = True
                self.failures_in_a_row = 0
            elif isinstance(error, Unusable):
                self._count(question, error)
            elif not isinstance(error, Stopped):
                self._end(error)
        self.answers.update(new)
        self.judge.keep(new)

    def _count(self, question: Question, error: Unusable) -> None:
        self.answers[question.digest] = error
        self.failures_in_a_row = self.failures_in_a_row + 1 if error.state == FAILED else 0
        if self.failures_in_a_row > max(8, self.judge.concurrency):
            self._end(
                ScoreError(
                    f"{self.judge.name} left {self.failures_in_a_row} questions in a row unanswered ({error.detail})",
                    *(TOO_FAST if error.detail.startswith("429") else DOWN),
                )
            )

    def _end(self, error: BaseException) -> None:
        """Nothing more is asked. What is under way is waited for; pauses end at once."""
        if self.ended is None:
            self.ended = error if isinstance(error, Exception) else RuntimeError(repr(error))
            if not isinstance(error, BudgetSpent):
                self.judge.client.pace.stop()

    def judgement(self, asked: Asked) -> Judgement | None:
        """The judgement of a pair whose questions are answered; None where an answer is unusable."""
        sound: list[Answer] = []
        for answer in (self.answers[question.digest] for question in asked.questions):
            if isinstance(answer, Unusable):
                self.unusable.append((asked.pair, answer))
                return None
            sound.append(answer)
        self.judged += 1
        return self.judge.judgement(asked, sound)

    def check_complete(self) -> None:
        """Raises what ended the run, or the ScoreError that names the pairs without a verdict."""
        if isinstance(self.ended, BudgetSpent):
            raise over(self.ended.limit, f"{self.judged} of {len(self.pairs)} pairs are judged") from self.ended
        if self.ended is not None:
            raise self.ended
        if self.unusable:
            raise self._incomplete()

    def _incomplete(self) -> ScoreError:
        states = Counter(error.state for _, error in self.unusable)
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        names = listed([pair.id for pair, _ in self.unusable], NAMED)
        pair, first = self.unusable[0]
        error = ScoreError(
            f"{len(self.unusable)} of {len(self.pairs)} pairs have no verdict of {self.judge.name} ({counts}): pairs "
            f"{names} (pair {pair.id}: {first.detail})",
            "an answer without a verdict is neither a tie nor a zero; the other pairs are judged and kept",
            "repeat the command, which asks for these pairs only, and leave out those that the judge never answers",
        )
        error.unjudged = tuple(pair.key for pair, _ in self.unusable)
        return error


def over(limit: str, state: str) -> ScoreError:
    """The error for a budget that is spent. `state`: what is done and what is not."""
    return ScoreError(
        f"the budget of {limit} is spent, and {state}",
        "no more is asked than the budget allows",
        "repeat the command, which continues where this run stopped, or give a larger budget",
    )


def over_before(limit: str) -> ScoreError:
    """The error for a budget that the questions before a run go beyond: the same command would end in the same way."""
    return ScoreError(
        f"the budget of {limit} is spent on the questions before a run",
        "a judge is tried with them each time, and no pair is judged yet",
        "give a larger budget",
    )


def _distance(one: float, other: float) -> float:
    return abs(one - other)
