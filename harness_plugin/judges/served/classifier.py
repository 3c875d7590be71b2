"""A classifier behind a server that takes token ids and gives logits: what vLLM and SGLang have in common.

The ids are ours: the server's own way from a text to ids would add a BOS token, put its chat template around the text
or cut it in another place. `/score` is not used: it joins two texts as cross-encoders read them, which no judge here
was trained on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness_plugin.judges.presentations import reading_of_answers, reading_of_views
from harness_plugin.judges.served.dialect import Asked, Question, Values
from harness_plugin.judges.served.states import Malformed
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.prompt import AnswerRenderer, Rendered, RenderedAnswer

if TYPE_CHECKING:
    from harness_plugin.model.served_files import ServedFiles  # loads transformers

READING = 1


@dataclass(frozen=True)
class Classifier(ABC):
    """`files`: what the model's folder says of it; `model`: its name on the server."""

    files: ServedFiles
    model: str
    classifier: bool = True

    @property
    @abstractmethod
    def server(self) -> str:
        """The server's name, which is a part of the judge's identity."""

    @abstractmethod
    def body(self, ids: tuple[int, ...]) -> dict[str, Any]:
        """The request for the logits of the ids."""

    @abstractmethod
    def logits(self, answer: dict[str, Any]) -> Any:
        """The list of logits in an answer. Raises KeyError, IndexError or TypeError for another shape."""

    @property
    def num_labels(self) -> int:
        return len(self.files.classes)

    @property
    def calibration(self) -> Calibration:
        return self.files.calibration

    @property
    def pointwise(self) -> bool:
        return self.files.pointwise

    @property
    def limit(self) -> str:
        return self.files.limit

    @property
    def identity(self) -> dict[str, Any]:
        return {
            **self.files.identity,
            "kind": f"served {self.files.identity['kind']}",
            "num_labels": self.num_labels,
            "server": self.server,
            "served_model": self.model,
            "reading": READING,
        }

    @property
    def answers(self) -> dict[str, Any]:
        parts = {"kind": "classifier", "server": self.server, "served_model": self.model, "reading": READING}
        return {**parts, "classes": list(self.files.classes)}

    def asked(self, pair: Pair, both: bool) -> Asked:
        renderer = self.files.renderer
        if isinstance(renderer, AnswerRenderer):
            a, b = renderer.render_answers(pair)
            return self._asked(pair, (a, b), reading_of_answers(a, b))
        views = renderer.render_orders(pair, both=both)
        return self._asked(pair, views, reading_of_views(views))

    def _asked(self, pair: Pair, views: Sequence[Rendered | RenderedAnswer], reading: dict[str, Any]) -> Asked:
        return Asked(pair, tuple(self._question(view.ids) for view in views), reading)

    def _question(self, ids: tuple[int, ...]) -> Question:
        return Question("/classify", self.body(ids), len(ids))

    def read(self, answer: dict[str, Any]) -> Values:
        try:
            logits = self.logits(answer)
            if not isinstance(logits, list) or not all(type(number) in (int, float) for number in logits):
                raise TypeError("no list of numbers")
            numbers = [float(number) for number in logits]
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as e:
            raise Malformed(f"an answer without logits ({type(e).__name__}: {e})") from e
        if len(numbers) != self.num_labels:
            raise Malformed(f"{len(numbers)} numbers where the model has {self.num_labels} logits")
        if not all(map(math.isfinite, numbers)):
            raise Malformed("logits that are not finite")
        return tuple(numbers[place] for place in self.files.classes)
