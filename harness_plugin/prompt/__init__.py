"""What a judge reads becomes token ids here and nowhere else: the text around it, what is cut, and how much is kept.

`pair_text` renders a pair for a judge of pairs, in the text of the reference model card; `answer_text` renders one
answer for a pointwise reward model, in the model's chat template, which `chat_template` reads. `cutting` is the policy
for texts that are too long, `encoder` what both do with a tokenizer.

Training, scoring and lm-eval all use these renderers. They return ids, never text that is tokenized again. User text is
encoded so that the spelling of a special token in it, such as `<eos>` or `<start_of_turn>`, stays text; BOS is put in
front exactly once. This package knows neither models nor files.
"""

from harness_plugin.prompt.answer_text import AnswerRenderer, RenderedAnswer
from harness_plugin.prompt.cutting import MAX_LENGTH, Kept, cut, water_fill
from harness_plugin.prompt.pair_text import (
    PROMPT_VERSION,
    TEMPLATE,
    TRUNCATIONS,
    Rendered,
    Renderer,
    card_text,
    flat,
)

__all__ = [
    "MAX_LENGTH",
    "PROMPT_VERSION",
    "TEMPLATE",
    "TRUNCATIONS",
    "AnswerRenderer",
    "Kept",
    "Rendered",
    "RenderedAnswer",
    "Renderer",
    "card_text",
    "cut",
    "flat",
    "water_fill",
]
