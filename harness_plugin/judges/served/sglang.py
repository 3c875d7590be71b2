"""SGLang's native `/classify` (a server started with `--is-embedding`): the logits are in the field `embedding`.

Its `/v1/classify` is not used: it applies a softmax, under which one logit is always 1.0.
"""

from dataclasses import dataclass
from typing import Any

from harness_plugin.judges.served.classifier import Classifier


@dataclass(frozen=True)
class Sglang(Classifier):
    """A classifier that SGLang serves."""

    @property
    def server(self) -> str:
        return "sglang"

    def body(self, ids: tuple[int, ...]) -> dict[str, Any]:
        return {"input_ids": list(ids)}

    def logits(self, answer: dict[str, Any]) -> Any:
        return answer["embedding"]
