"""The model card of a trained adapter: README.md, with the front matter that the hub reads.

It is made from the manifest and the facts of the run. What is not known is marked as "not known", and no path of the
machine gets into the text.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness_plugin.files.printable import one_line
from harness_plugin.model.embedded import BASE_NAME
from harness_plugin.model.manifest import Manifest
from harness_plugin.model.spec import POINTWISE
from harness_plugin.report.markdown_syntax import table
from harness_plugin.train.card_values import (
    UNKNOWN,
    bare,
    block,
    code,
    count,
    duration,
    flattened,
    is_number,
    last_part,
    literal,
    number,
    setting,
)
from harness_plugin.train.init import earlier_adapters

GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
EMBEDDED_HUB_ID = "google/gemma-3-270m"
HUB_ID = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)
FIRST = (
    "acc",
    "longer_wins",
    "surface_acc",
    "acc_length_balanced",
    "acc_3way",
    "log_loss",
    "prior_log_loss",
    "surface_log_loss",
    "order_agreement",
)
BASELINES = ("longer_wins", "surface_acc", "prior_log_loss", "surface_log_loss")  # can be had without a judge
COUNTS = ("n_pairs", "n_decisive")  # not rows of the table, since each row has its own n


@dataclass(frozen=True)
class Base:
    """The base model as the model card names it."""

    name: str  # for people
    hub: str | None  # its id on the hub; None for a folder
    revision: str | None
    gemma: bool  # whether the Gemma Terms of Use apply to models derived from it


def model_card(manifest: Manifest, run: Mapping, terms: str | None = None) -> str:
    """README.md for the folder of an adapter that the manifest describes.

    run: as for `write_record`, and `own_tokenizer`, whether the folder has a tokenizer; keys that are missing are left
    out. terms: one sentence on the terms of the training data from the person who trained; None becomes "not stated".
    Names are quoted so that they cannot break the front matter or a table, and of absolute paths only the last part is
    shown.
    """
    base = _base(manifest)
    parts = [
        _front_matter(base),
        _what(manifest, base),
        _use(manifest, base, bool(run.get("own_tokenizer"))),
        _training(manifest, run, base),
    ]
    parts += [_measured(manifest), _calibration(manifest), _limits(manifest, base, terms)]
    return "\n\n".join(parts) + "\n"


def _base(manifest: Manifest) -> Base:
    recorded = manifest.base or ""
    if recorded == BASE_NAME:
        return Base(f"Gemma 3 270M ({code(BASE_NAME)})", EMBEDDED_HUB_ID, None, True)
    hub = recorded if HUB_ID.fullmatch(recorded) else None
    name = hub or last_part(recorded)
    gemma = _under_gemma_terms(name) or _holds_gemma(Path(recorded))
    return Base(code(name) if recorded else "an unrecorded base", hub, manifest.base_revision, gemma)


def _under_gemma_terms(name: str) -> bool:
    """Whether the name is of a Gemma under the Gemma Terms of Use, which are the generations 1 to 3.

    Later generations are under Apache-2.0, and the medical ones have other terms. The 7 of gemma-7b is a size, not a
    generation.
    """
    name = name.lower()
    generation = re.search(r"gemma[-_]?(\d)(?![\d.]*[bm])", name)
    return bool(re.search("(?<!med)(?<!tx)gemma", name)) and (generation is None or int(generation[1]) <= 3)


def _holds_gemma(folder: Path) -> bool:
    """Whether the config of a local folder says that it is such a Gemma, whatever the folder's name is."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8")) if folder.is_absolute() else {}
        return _under_gemma_terms(str(config.get("model_type")))
    except (OSError, ValueError, AttributeError):
        return False


def _front_matter(base: Base) -> str:
    data: dict = {"base_model": base.hub} if base.hub else {}
    data |= {"library_name": "peft", "pipeline_tag": "text-classification"}
    data |= {"tags": ["reward-model", "lora", "arena-rm", "peft"]}
    if base.gemma:
        data |= {"license": "other", "license_name": "gemma", "license_link": GEMMA_TERMS}
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}---"


def _what(manifest: Manifest, base: Base) -> str:
    if manifest.kind == POINTWISE:
        return f"""# A pointwise reward model on {base.name}

A LoRA adapter that makes {base.name} a reward model: it reads a conversation that ends with an answer and
gives one logit; **larger means a better answer**. Of two answers to a prompt, the logit for B is r(B) - r(A).
It reads at most {manifest.max_length} tokens, in this chat template (Jinja):

{block(manifest.template or "")}"""
    gives = "gives one logit; **positive means that response B is preferred**"
    if manifest.num_labels == 3:
        gives = "gives three logits: **A is preferred, B is preferred, tie**"
    cut = "cut on the right"
    if manifest.truncation == "budget":
        cut = "the length shared out between the prompt and the responses where the text is longer"
    return f"""# A judge of pairs on {base.name}

A LoRA adapter that makes {base.name} a judge of pairs: it reads a prompt and two responses and
{gives}.
The text that it reads, byte for byte, after the tokenizer's own BOS, at most {manifest.max_length} tokens ({cut}):

{block(manifest.template or "")}"""


def _use(manifest: Manifest, base: Base, own_tokenizer: bool) -> str:
    where, pretrained, option = "`FOLDER` is this folder.", "", ""
    if not base.hub:
        where = "`FOLDER` is this folder, `BASE` the base: its folder, or its id on the hub."
        pretrained, option = "pretrained=BASE,", "--pretrained BASE "
    apart = []
    if manifest.kind == POINTWISE:
        apart.append("longer texts are not cut there")
    elif manifest.truncation == "budget":
        apart.append("longer texts are then cut on the right")
    if manifest.base == BASE_NAME:
        apart.append("the original weights differ a little from the quantized ones trained on")
    both = """show every pair in both orders, which cancels any preference for a position,
and apply the calibration. One order"""
    if manifest.kind == POINTWISE:
        both = "score each answer once and apply the calibration. One answer"
    alone = "; ".join(["with transformers and PEFT alone", *apart])
    return f"""## Use

{where}

```sh
lm_eval --model arena_rm --model_args {pretrained}peft=FOLDER --tasks arena_pairs
arena-rm score pairs.jsonl {option}--peft FOLDER -o scores.jsonl
```

Both (from the package lm-eval-arena-rm) {both}, {alone}:

{block(_snippet(manifest, base, own_tokenizer), "python")}"""


def _snippet(manifest: Manifest, base: Base, own_tokenizer: bool) -> str:
    revision = f", revision={literal(base.revision)}" if base.revision else ""
    verdict = 'print("B" if logits[0] > 0 else "A", logits[0].item())'
    if manifest.kind == POINTWISE:
        verdict = "print(logits[0].item())"
    if manifest.num_labels == 3:
        verdict = 'print(dict(zip(("A", "B", "tie"), logits.softmax(-1).tolist())))'
    return f"""import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

base, adapter = {literal(base.hub or "BASE")}, "FOLDER"
tokenizer = AutoTokenizer.from_pretrained({"adapter" if own_tokenizer else f"base{revision}"})
model = AutoModelForSequenceClassification.from_pretrained(
    base{revision}, num_labels={manifest.num_labels}, dtype=torch.float32
)
model = PeftModel.from_pretrained(model, adapter).eval()

template = {literal(manifest.template or "")}
{_inputs(manifest)}
with torch.no_grad():
    logits = model(**inputs).logits[0]
{verdict}"""


def _inputs(manifest: Manifest) -> str:
    """The lines of the snippet that make the ids of a text."""
    if manifest.kind == POINTWISE:
        return """said = [("user", "What is 7 times 8?"), ("assistant", "7 times 8 is 56.")]
messages = [{"role": role, "content": text} for role, text in said]
inputs = tokenizer.apply_chat_template(messages, chat_template=template, return_tensors="pt", return_dict=True)"""
    return f"""text = template.format(prompt="What is 7 times 8?", a="7 times 8 is 56.", b="It is 54, I think.")
inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length={manifest.max_length})"""


def _training(manifest: Manifest, run: Mapping, base: Base) -> str:
    facts = manifest.training
    files = [(f.get("name"), f.get("pairs"), f.get("sha256")) for f in facts.get("files") or []]
    for adapter in earlier_adapters(facts):
        own = adapter.get("files") or [{"name": UNKNOWN, "sha256": UNKNOWN}]
        files += [(f"{f.get('name')} (data of {adapter.get('name')})", f.get("pairs"), f.get("sha256")) for f in own]
    if facts.get("teacher"):
        files.append((f"{facts['teacher'].get('name')} (labels of a teacher)", None, facts["teacher"].get("sha256")))
    rows = [(code(bare(str(name))), count(pairs), code(str(sha))) for name, pairs, sha in files]
    fields = flattened(facts.get("recipe") or {})
    recipe = [(code(name), code(setting(value))) for name, value in fields if name not in ("base", "revision")]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))
    return f"""## Training

{table(("data", "pairs", "sha256"), rows or [(UNKNOWN,) * 3])}

{table(("run", ""), _run_rows(facts, run))}

{table(("recipe", ""), [("base", base.name), ("revision", code(base.revision or "not named")), *recipe])}

Made with {code(versions or UNKNOWN)}. `training.json` holds all of this and the curves of the losses."""


def _run_rows(facts: Mapping, run: Mapping) -> list[tuple[str, str]]:
    """The facts of the run that are known, as rows of a table."""
    counts = {"pairs trained on": facts.get("pairs"), "pairs validated on": facts.get("validation_pairs")}
    counts |= {"tokens": run.get("tokens"), "devices": run.get("devices")}
    rows = [(name, count(value)) for name, value in counts.items() if value is not None]
    if facts.get("init"):
        name, sha = (str(facts["init"].get(key)) for key in ("name", "sha256"))
        rows.insert(0, ("started from the adapter", f"{code(bare(name))}, sha256 {code(sha)}"))
    if run.get("device") is not None:
        rows.append(("device", code(bare(str(run["device"])))))
    if is_number(run.get("seconds")):
        rows.append(("time", duration(run["seconds"])))
    for name, value in flattened(run.get("truncation") or {}):
        rows.append((f"truncation: {code(name)}", code(f"{value:.4g}" if isinstance(value, float) else setting(value))))
    return rows or [(UNKNOWN, "")]


def _measured(manifest: Manifest) -> str:
    rows = []
    for data, metrics in sorted((d, m) for d, m in manifest.metrics.items() if isinstance(m, Mapping)):
        names = sorted(set(metrics) - set(COUNTS), key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))
        rows += [(code(data), *_metric(name, metrics[name])) for name in names]
    return f"""## Measured

Both orders averaged; 95% intervals clustered by prompt. Read `acc` beside `longer_wins`, which is what always naming
the longer answer scores on the same pairs, and beside 0.5, which is chance; `log_loss` beside `prior_log_loss`, which
knows the shares of A, B and tie and nothing else.

{table(("data", "metric", "value", "95% interval", "n"), rows or [(UNKNOWN, "", "", "", "")])}"""


def _metric(name: str, entry) -> tuple[str, str, str, str]:
    entry = entry if isinstance(entry, Mapping) else {"value": entry}
    low, high = number(entry.get("low")), number(entry.get("high"))
    interval = f"{low} to {high}" if UNKNOWN not in (low, high) else ""
    label = code(name) + (" (baseline)" if name in BASELINES else "")
    return label, number(entry.get("value")), interval, count(entry["n"]) if "n" in entry else ""


def with_calibration(card: str, manifest: Manifest) -> str:
    """The card with the section on the calibration written anew from the manifest; as it is without such a section."""
    section = re.compile(r"^## Calibration\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    return section.sub(lambda _: _calibration(manifest) + "\n\n", card, count=1)


def _calibration(manifest: Manifest) -> str:
    fitted = manifest.calibration
    if fitted:
        tie = ", and the head says P(tie) itself" if manifest.num_labels == 3 else ""
        tie = tie or f", tie mass {number(fitted.get('tie_nu'))} (Davidson)"
        if "tie_share" in fitted:
            tie += f" for a stated share of ties of {number(fitted['tie_share'])}"
        measured = "Metrics of probabilities above are on the pairs that it was fitted on."
        if "log_loss" in fitted:
            measured = "Fitted after training: metrics of probabilities above are with the calibration before."
        if fitted.get("surface_worth"):
            tie += f", and {number(fitted['surface_worth'])} for each unit of the log odds of the surface features"
        text = f"""Temperature {number(fitted.get("temperature"))}{tie}; by maximum likelihood on
{count(fitted.get("n"))} held-out pairs. {measured}"""
    elif manifest.num_labels == 3:
        text = "None; the head says P(tie) itself."
    else:
        text = "None: P(tie) is not known, and three-way metrics need one (`arena-rm calibrate FOLDER pairs.jsonl`)."
    return f"## Calibration\n\n{text}"


def _limits(manifest: Manifest, base: Base, terms: str | None) -> str:
    licence = "the licence of the base applies to what is derived from it."
    if base.gemma:
        licence = f"a model derivative of Gemma under the Gemma Terms of Use ({GEMMA_TERMS}) and its use restrictions."
    stated = one_line(terms or "") or "not stated"
    order = """The order in which answers are shown matters to it (see
`order_agreement`), so use both. It says which answer people would prefer, not which is true or safe."""
    if manifest.kind == POINTWISE:
        order = """Logits of answers to different prompts
cannot be compared. They say which answer people would prefer, not which is true or safe."""
    return f"""## Limits

The validation pairs were held out by prompt from the same data, and the weights that are kept were chosen on them: on
other prompts, lengths and languages it may do worse. {order}

## Terms

- Adapter: {licence}
- Data terms: {stated}"""
