"""vLLM's `/classify`, which takes token ids since version 0.15.

With `use_activation` false the field `probs` holds logits. Without it, a sigmoid is applied to one label and a softmax
to several. Version 0.12 is the first that knows the field; older ones ignore it.
"""

import re
from dataclasses import dataclass
from typing import Any

from harness_plugin.errors import ModelError
from harness_plugin.judges.served.classifier import Classifier
from harness_plugin.judges.served.client import Client

FIRST = (0, 15)  # the first version whose /classify takes token ids


@dataclass(frozen=True)
class Vllm(Classifier):
    """A classifier that vLLM serves: its logits are in the field `probs`, since no activation is applied to them."""

    @property
    def server(self) -> str:
        return "vllm"

    def body(self, ids: tuple[int, ...]) -> dict[str, Any]:
        return {"model": self.model, "input": list(ids), "use_activation": False}

    def logits(self, answer: dict[str, Any]) -> Any:
        (row,) = answer["data"]
        return row["probs"]


def check_version(client: Client) -> None:
    """Raises ModelError for a version that takes no token ids. A server that does not say its version is tried."""
    version = (client.get("/version") or {}).get("version")
    numbers = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    if numbers and (int(numbers[1]), int(numbers[2])) < FIRST and numbers[0] != "0.0":  # 0.0: built from sources
        raise ModelError(
            f"{client.url} is vLLM {version}",
            f"its /classify takes no token ids, which came with {'.'.join(map(str, FIRST))}, and from a text it makes "
            "other ids than the judge was trained on",
            "serve the model with a newer vLLM",
        )
