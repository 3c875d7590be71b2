"""The configuration of the embedded base without transformers' class of it, whose import takes more than a second."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness_plugin.files.rows import read_object
from harness_plugin.model.part_hashes import NAMES, STAMPS

CONFIG = "config.json"


def _rope(theta: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


@dataclass(frozen=True)
class BareConfig:
    """The fields of a Gemma 3's config.json that say what it computes. The defaults are those of transformers'
    Gemma3TextConfig: `part_hashes.settings` leaves them out of what identifies a judge."""

    model_type: str = "gemma3_text"
    architectures: list[str] | None = None
    vocab_size: int = 262208
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 131072
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | None = 1
    bos_token_id: int | None = 2
    unk_token_id: int | None = None
    tie_word_embeddings: bool = True
    rope_parameters: dict[str, Any] = field(
        default_factory=lambda: {"sliding_attention": _rope(10000.0), "full_attention": _rope(1000000.0)}
    )
    attention_bias: bool = False
    attention_dropout: float = 0.0
    query_pre_attn_scalar: float = 256
    sliding_window: int = 4096
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None
    use_bidirectional_attention: bool = False
    _sliding_window_pattern: int = 6

    def get_text_config(self) -> "BareConfig":
        """Itself, as transformers' configurations of models that read text only."""
        return self

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def read_bare_config(folder: Path) -> BareConfig:
    """The configuration of the converted base in `folder`. Raises DataError for a file that is no JSON object, and
    TypeError for a field that no Gemma 3 has."""
    fields = read_object(folder / CONFIG)
    return BareConfig(**{name: value for name, value in fields.items() if name not in NAMES | STAMPS})
