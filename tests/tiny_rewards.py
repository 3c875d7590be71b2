"""Random pointwise reward models small enough for tests, each with a tokenizer and a chat template of its family.

The templates do what the published ones of these families do, in fewer lines. All text is made up.
"""

from functools import cache
from pathlib import Path

import tiny

KINDS = ("qwen3", "llama", "gemma3", "gemma2", "gemma")

# Gemma 2 knows no system message; Gemma 3 puts it before the first question. Both strip texts.
GEMMA_TURNS = (
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}"
    "{{ message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
)
TEMPLATES = {
    "gemma2": (
        "{{ bos_token }}{% set first = '' %}"
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + GEMMA_TURNS
    ),
    "gemma3": (
        "{{ bos_token }}{% set first = '' %}"
        "{% if messages[0]['role'] == 'system' %}"
        "{% set first = messages[0]['content'] + '\n\n' %}{% set messages = messages[1:] %}"
        "{% endif %}" + GEMMA_TURNS
    ),
    # Llama 3 writes a date, and strips texts.
    "llama": (
        "{{ bos_token }}{% set day = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}"
        "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + day + '\n\n' }}"
        "{% if messages[0]['role'] == 'system' %}"
        "{{ messages[0]['content'] | trim }}{% set messages = messages[1:] %}"
        "{% endif %}{{ '<|eot_id|>' }}"
        "{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
        "{{ message['content'] | trim + '<|eot_id|>' }}"
        "{% endfor %}"
    ),
    # Qwen 3 keeps texts as they are, but writes thoughts before the last answer, from which it strips line ends.
    "qwen3": (
        "{% for message in messages %}"
        "{% set last = loop.last and message['role'] == 'assistant' %}"
        "{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% if last %}{% set parts = message['content'].split('</think>') %}"
        "{{ '<think>\n' + (parts[0] if parts | length > 1 else '') + '\n</think>\n\n' + parts[-1].lstrip('\n') }}"
        "{% else %}{{ message['content'] }}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
    ),
}
TEMPLATES["gemma"] = TEMPLATES["gemma2"]
SPECIAL = {
    "llama": (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|pad|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ),
    "qwen3": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
}
END = {
    "gemma": "<end_of_turn>",
    "gemma2": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "llama": "<|eot_id|>",
    "qwen3": "<|im_end|>",
}


@cache
def tokenizer(kind: str):
    """The tokenizer of a family, with its chat template."""
    made = tiny.tokenizer() if kind.startswith("gemma") else _byte_level(kind)
    made.chat_template = TEMPLATES[kind]
    return made


def _byte_level(kind: str):
    """A BPE on bytes, as Llama 3 and Qwen have it: a text is split into words and runs of line ends first."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import AddedToken, PreTrainedTokenizerFast

    words = Regex(r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    learner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(SPECIAL[kind])
    trainer = trainers.BpeTrainer(
        vocab_size=560, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator([tiny.CORPUS], trainer)
    if kind == "llama":
        begin = special[0]
        learner.post_processor = TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, learner.token_to_id(begin))]
        )
        names = {"bos_token": begin, "eos_token": "<|eot_id|>", "pad_token": "<|pad|>"}
    else:
        names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    made = PreTrainedTokenizerFast(tokenizer_object=learner, **names)
    if kind == "qwen3":
        made.add_tokens([AddedToken(word, special=False, normalized=False) for word in ("<think>", "</think>")])
    return made


def config(kind: str, **changes):
    """The configuration of a tiny classifier with one logit; `changes` override fields."""
    own = tokenizer(kind)
    ids = {"pad_token_id": own.pad_token_id, "eos_token_id": own.eos_token_id, "bos_token_id": own.bos_token_id}
    return tiny.config(kind, **{"num_labels": 1, **ids, **changes})


def save_reward_model(kind: str, folder: Path, seed: int = 5, **changes) -> Path:
    """A random classifier with one logit in float32, its tokenizer and its chat template, as a hub folder is."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config(kind, **changes), dtype=torch.float32)
    with torch.no_grad():
        model.score.weight.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer(kind).save_pretrained(folder)
    return folder
