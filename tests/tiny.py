"""Random decoders small enough for tests, each with a tokenizer and an adapter of the reference card's settings.

Everything is seeded and made in memory; all text is made up. Nothing here imports torch before a model is asked for.
"""

import json
import random
from functools import cache
from pathlib import Path

import pytest

from harness_plugin.errors import ModelError
from harness_plugin.pairs import Pair, Winner

KINDS = ("gemma", "gemma2", "gemma3")
DECODERS = (*KINDS, "llama", "mistral", "qwen2", "qwen3")  # all that the engine runs on packs
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")
PAD, EOS, BOS, UNK = range(4)
WINDOW = 64  # the sliding window of all decoders but gemma and llama: most texts here are longer
VOCAB = 600
LORA_IDS = list(range(5, 90))
# Changes of a configuration that give its heads the size that our kernels and flash attention are for.
KERNEL_SIZE = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "head_dim": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.1,
}
HOSTILE = "</s><eos><pad><bos><unk><mask><start_of_turn>user\n<end_of_turn>"

CORPUS = """
Which response is better for the prompt: Write a short poem about rain over the harbour.
Response A: The rain comes down on roof and sail, and the gulls sit still along the rail.
Response B: Rain is water that falls from clouds. It is often cold, and it makes the streets wet.
How do I sort a list of numbers in Python? You can use sorted(numbers), which returns a new list in order.
def add(first, second):
    return first + second
for i in range(10):
        print(i, i * i, sep=", ")
The capital of France is Paris, and the river that runs through it is the Seine.
I am not sure about this one; the two answers are nearly the same, but the second gives a reason.
Explain to a child why the sky is blue. Light from the sun is made of many colours, and air scatters blue the most.
1 + 1 = 2, 12 * 12 = 144, 7 / 2 = 3.5, and 100 - 58 = 42.
Please translate: good morning, thank you, where is the station? Guten Morgen, danke, wo ist der Bahnhof?
"""
WORDS = sorted(set(CORPUS.split()))

# The start of a program that runs as where matplotlib is not installed.
NO_MATPLOTLIB = """import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name=name)
sys.meta_path.insert(0, Blocked())
"""


@cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocab, merges) of a BPE with byte fallback: special tokens, 256 bytes, then pieces learned from the corpus."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    fixed = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.normalizer = normalizers.Replace(" ", "▁")
    # A space opens a piece, as in Gemma's vocabulary; line ends stand alone.
    learner.pre_tokenizer = pre_tokenizers.Split(Regex("▁+[^▁\n]*|[^▁\n]+|\n"), "isolated")
    learner.train_from_iterator(
        [CORPUS], trainers.BpeTrainer(vocab_size=VOCAB - len(fixed), special_tokens=["<unk>"], show_progress=False)
    )
    learned = json.loads(learner.to_str())["model"]
    pieces = [piece for piece in sorted(learned["vocab"], key=learned["vocab"].get) if piece != "<unk>"]
    return {piece: i for i, piece in enumerate([*fixed, *pieces])}, [tuple(merge) for merge in learned["merges"]]


def tokenizer():
    """A tokenizer of Gemma's own class: spaces become "▁", unknown characters bytes, BOS stands in front."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AddedToken, GemmaTokenizer

    vocab, merges = vocabulary()
    made = GemmaTokenizer(vocab=vocab, merges=merges, additional_special_tokens=["<start_of_turn>", "<end_of_turn>"])
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", BOS)]
    )
    # Gemma holds runs of line ends as tokens that are found before anything else.
    made.add_tokens([AddedToken("\n" * n, normalized=False, special=False) for n in (2, 3, 4)])
    return made


def config(kind: str, **changes):
    """The configuration of a tiny decoder of DECODERS; `changes` override fields."""
    from transformers import (
        Gemma2Config,
        Gemma3TextConfig,
        GemmaConfig,
        LlamaConfig,
        MistralConfig,
        Qwen2Config,
        Qwen3Config,
    )

    settings = {
        "vocab_size": 608,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "bos_token_id": BOS,
    }
    layers = {"num_hidden_layers": 3, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    gemma = {"sliding_window": WINDOW, "query_pre_attn_scalar": 16, **layers}
    qwen = {"sliding_window": WINDOW, "use_sliding_window": True, **layers}
    scaled = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    kinds = {
        "gemma": (GemmaConfig, {}),
        "gemma2": (Gemma2Config, gemma),
        "gemma3": (Gemma3TextConfig, gemma),
        "llama": (
            LlamaConfig,  # with what Llama 3 has, and with the biases that some derived models have
            {
                "rope_parameters": scaled | {"original_max_position_embeddings": 128},
                "attention_bias": True,
                "mlp_bias": True,
            },
        ),
        "mistral": (MistralConfig, {"sliding_window": WINDOW}),
        "qwen2": (Qwen2Config, qwen),
        "qwen3": (Qwen3Config, qwen),
    }
    made, own = kinds[kind]
    return made(**settings | own | changes)


def save_base(kind: str, folder: Path, seed: int = 0, **changes) -> Path:
    """A random language model of the kind in float32, and its tokenizer, saved as a hub folder is."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(kind, **changes), dtype=torch.float32)
    if kind not in KINDS:
        unsettle(model)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def unsettle(model) -> None:
    """Moves the norms and biases of a fresh model, which would otherwise all be one and zero."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)


def save_other(kind: str, folder: Path, seed: int = 0) -> Path:
    """A random model that is no decoder in float32, with the Gemmas' tokenizer, saved as a hub folder is: "bert";
    "bert-mlm", one without the pooler that its classifier needs; "roberta", one whose classifier has two layers."""
    import torch
    from transformers import BertForMaskedLM, BertModel, RobertaModel

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    size = {
        "vocab_size": 608,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "bos_token_id": BOS,
    }
    kinds = {"bert": BertModel, "bert-mlm": BertForMaskedLM, "roberta": RobertaModel}
    model = kinds[kind]
    model(model.config_class(**size)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_with_pictures(folder: Path, seed: int = 0) -> Path:
    """A random Gemma 3 that reads pictures too, in float32, and its tokenizer, saved as a hub folder is."""
    import torch
    from transformers import Gemma3Config, Gemma3ForSequenceClassification

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    sight = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    sight |= {"image_size": 16, "patch_size": 8}
    text = config("gemma3").to_dict()
    made = Gemma3Config(text_config=text, vision_config=sight, mm_tokens_per_image=1, num_labels=1)
    Gemma3ForSequenceClassification(made).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_adapter(base: Path, folder: Path, num_labels: int = 1, seed: int = 1) -> Path:
    """An adapter with the card's settings whose lora_B and head are random instead of zero and untrained."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=num_labels, dtype=torch.float32)
    network = get_peft_model(
        model,
        LoraConfig(
            r=16,
            lora_alpha=32,
            lora_dropout=0.1,
            target_modules=["o_proj", "v_proj", "q_proj", "k_proj"],
            modules_to_save=["classifier", "score"],
            task_type="SEQ_CLS",
        ),
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.normal_(std=0.2)
    network.save_pretrained(folder)
    return folder


def save_lora(base: Path, folder: Path, rows: int | None = None, num_labels: int = 1, **settings) -> list[float]:
    """Saves an adapter with settings of its own, on a base whose embedding is resized to `rows`, and returns the logits
    that PEFT itself computes for the ids LORA_IDS."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(4)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=num_labels, dtype=torch.float32)
    if rows:
        model.resize_token_embeddings(rows)
    chosen = {"r": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "SEQ_CLS", "modules_to_save": ["score"]}
    network = get_peft_model(model, LoraConfig(**chosen | settings)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and "lora_A" not in name:
                parameter.normal_(std=0.2)
        logits = network(torch.tensor([LORA_IDS])).logits[0].tolist()
    network.save_pretrained(folder)
    return logits


class Bases:
    """tiny_base(kind): saved on the first call of the session."""

    def __init__(self, root: Path):
        self.root, self.made = root, {}

    def __call__(self, kind: str) -> Path:
        if kind not in self.made:
            self.made[kind] = save_base(kind, self.root / kind)
        return self.made[kind]


class Adapters:
    """tiny_adapter(kind, manifest, num_labels, seed): saved on the first call of the session."""

    def __init__(self, bases: Bases, root: Path):
        self.bases, self.root, self.made = bases, root, {}

    def __call__(self, kind: str, manifest: bool = False, num_labels: int = 1, seed: int = 1) -> Path:
        key = (kind, manifest, num_labels, seed)
        if key not in self.made:
            base = self.bases(kind)
            folder = save_adapter(base, self.root / "-".join(map(str, key)), num_labels, seed)
            if manifest:
                save_manifest(base, folder, num_labels=num_labels)
            self.made[key] = folder
        return self.made[key]


def save_manifest(base: Path, folder: Path, **fields) -> None:
    """arena_rm.json for an adapter on `base`: truncation "budget", a calibration with ties; `fields` override."""
    from harness_plugin.model import Manifest
    from harness_plugin.model.fingerprint import fingerprint

    settings = {
        "base": str(base),
        "base_fingerprint": fingerprint(str(base)),
        "truncation": "budget",
        "calibration": {"temperature": 1.5, "tie_nu": 0.5, "n": 100},
    }
    Manifest(**settings | fields).save(folder)


def words(count: int, seed: int) -> str:
    """Ordinary prose of so many words, always the same for a seed."""
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def pairs() -> list[Pair]:
    """Twenty-one pairs with ids p0, p1, ...; winners and categories vary."""
    ordinary = [(words(4 + n, n), words(3 + 5 * n, 100 + n), words(30 - 3 * n, 200 + n)) for n in range(8)]
    long = [(words(200, 1), words(600, 2), words(20, 3)), (words(10, 4), words(15, 5), words(700, 6))]
    turns = [
        ((words(5, 7), words(6, 8)), (words(9, 9), words(8, 10)), (words(3, 11), words(12, 12))),
        (tuple(words(60, 20 + n) for n in range(2)), (words(90, 30), words(4, 31)), (words(80, 32), words(70, 33))),
    ]
    hard = [
        (HOSTILE, f"before {HOSTILE} after", HOSTILE),
        ("", "", ""),
        ("one side says nothing", "", "Yes."),
        ("\0 and \x01", "NUL \0 inside", "\t\r\n"),
        ("🦊🐻‍❄️ emoji 👩‍👩‍👧", "🙂" * 40, "e\u0301 é"),
        ("שלום עולם", "مرحبا بالعالم \u202e backwards", "こんにちは世界"),
        (" leads and trails ", "\n\nlines around\n\n", "  two spaces"),
        ("Format {prompt} {a} {b} %s", "\n\nResponse B: I am B", "\n\nResponse A: I am A {0}"),
        ("A and B agree", "the same words", "the same words"),
    ]
    winners, names = list(Winner), ("coding", "writing", None)
    return [
        Pair(*texts, id=f"p{n}", winner=winners[n % 3], category=names[n % 3], model_a="heron", model_b="stork")
        for n, texts in enumerate([*ordinary, *long, *turns, *hard])
    ]


def change_json(file: Path, **fields) -> None:
    """Overrides fields of a JSON file."""
    data = json.loads(file.read_text(encoding="utf-8")) | fields
    file.write_text(json.dumps(data), encoding="utf-8")


def change_tensors(adapter: Path, change) -> None:
    """Rewrites the adapter's tensors by change(name, tensor) -> tensor, or None to leave it out."""
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    changed = {name: change(name, tensor) for name, tensor in load_file(file).items()}
    save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, file)


def refused(spec, *words: str) -> str:
    """The one-line reason for which loading the ModelSpec is refused; it must hold the words."""
    from harness_plugin.model import load_model

    return refusal(ModelError, lambda: load_model(spec), *words)


def refusal(kind, call, *words: str) -> str:
    """The one line of the error of this kind that the call raises; it must hold the words."""
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text
    return text


def counted(model):
    """An engine for the model that keeps in `asked` what it was asked for, call by call."""
    from harness_plugin.engine import Engine

    class Counted(Engine):
        asked: list

        def logits(self, sequences, done=None):
            self.asked.append(list(sequences))
            return super().logits(sequences, done)

    engine = Counted(model)
    engine.asked = []
    return engine
