"""What a network reads of a pair in training, by the recipe's kind: the renderer, its presentations, their lengths."""

from collections.abc import Sequence

from harness_plugin.model.adapter import Adapter
from harness_plugin.model.reading import chat_template
from harness_plugin.model.spec import POINTWISE
from harness_plugin.pairs import Pair
from harness_plugin.prompt import AnswerRenderer, Kept, Rendered, RenderedAnswer, Renderer
from harness_plugin.train.config import TrainConfig

ENDLESS = 10**9

AnyRenderer = Renderer | AnswerRenderer
Views = Sequence[Rendered] | Sequence[RenderedAnswer]


def renderer_for(
    config: TrainConfig, tokenizer, padding: int | None = None, init: Adapter | None = None
) -> AnyRenderer:
    """The renderer of the recipe; `padding` as in `TextEncoder`. Where the recipe of a pointwise model gives no chat
    template, it is that of the adapter `init`, else that of the tokenizer. Raises ModelError where none has one."""
    if config.kind != POINTWISE:
        return Renderer(tokenizer, config.max_length, config.truncation, padding)
    template = config.chat_template or (init.manifest.template if init and init.manifest.found else None)
    template = template or chat_template(tokenizer, f"{config.base} (the recipe's base)", init)
    return AnswerRenderer(tokenizer, config.max_length, template, padding)


def uncut(renderer: AnyRenderer) -> AnyRenderer:
    """The renderer without a maximum length."""
    if isinstance(renderer, AnswerRenderer):
        return AnswerRenderer(renderer.tokenizer, ENDLESS, renderer.template, renderer.padding)
    return Renderer(renderer.tokenizer, ENDLESS, renderer.truncation, renderer.padding)


def views_of(renderer: AnyRenderer, pair: Pair) -> Views:
    """The presentations of a pair: with A first and with B first, or of a pointwise model response A and response B."""
    return renderer.render_answers(pair) if isinstance(renderer, AnswerRenderer) else renderer.render_orders(pair)


def length_of(views: Views) -> int:
    """The tokens of the longest presentation."""
    return max(len(view.ids) for view in views)


def kept_of(views: Views) -> tuple[Kept, Kept, Kept]:
    """How much was kept of the prompt, of response A and of response B."""
    first, second = views
    if isinstance(first, Rendered):
        return first.prompt, first.response_a, first.response_b
    assert isinstance(second, RenderedAnswer)
    return min(first.prompt, second.prompt, key=lambda kept: kept.kept), first.response, second.response
