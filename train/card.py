"""The model card of a trained adapter: README.md, with the front matter that the hub reads.

Manifest and run in, text out; what is not known is said to be so, and no path of the machine gets in.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path, PurePosixPath, PureWindowsPath

import yaml

from harness_plugin.files.printable import one_line
from harness_plugin.model.embedded import BASE_NAME
from harness_plugin.model.manifest import Manifest

GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
EMBEDDED_HUB_ID = "google/gemma-3-270m"
HUB_ID = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)
UNKNOWN = "not known"
FIRST = ("acc", "longer_wins", "acc_length_balanced", "acc_3way", "log_loss", "prior_log_loss", "order_agreement")
BASELINES = ("longer_wins", "prior_log_loss")  # what no judge has to be trained for
COUNTS = ("n_pairs", "n_decisive")  # each row of the table says its own n


@dataclass(frozen=True)
class Base:
    """The base model as the card may name it: `name` for people, `hub` its id there (None: a folder of somebody's),
    `gemma` whether the Gemma Terms of Use bind what is derived from it."""

    name: str
    hub: str | None
    revision: str | None
    gemma: bool


def model_card(manifest: Manifest, run: Mapping, terms: str | None = None) -> str:
    """README.md for the folder of an adapter that the manifest describes.

    run: what `write_record` takes; keys that are missing are left out. terms: one sentence on the terms of the training
    data, from whoever trained; None is said as "not stated". Names are quoted so that neither the front matter nor a
    table breaks, and of absolute paths only the last part is shown.
    """
    base = _base(manifest)
    parts = [_front_matter(base), _what(manifest, base), _use(manifest, base), _training(manifest, run, base)]
    parts += [_measured(manifest), _calibration(manifest), _limits(base, terms)]
    return "\n\n".join(parts) + "\n"


def _base(manifest: Manifest) -> Base:
    given = manifest.base or ""
    if given == BASE_NAME:
        return Base(f"Gemma 3 270M ({_code(BASE_NAME)})", EMBEDDED_HUB_ID, None, True)
    hub = given if HUB_ID.fullmatch(given) else None
    name = hub or _last(given)
    gemma = _under_gemma_terms(name) or _holds_gemma(Path(given))
    return Base(_code(name) if given else "an unrecorded base", hub, manifest.base_revision, gemma)


def _under_gemma_terms(name: str) -> bool:
    """Whether a name is a Gemma's that Google's own terms bind: generations 1 to 3. Later ones are Apache-2.0, those
    for medicine have yet other terms. The 7 of gemma-7b is a size and no generation."""
    name = name.lower()
    generation = re.search(r"gemma[-_]?(\d)(?![\d.]*[bm])", name)
    return bool(re.search("(?<!med)(?<!tx)gemma", name)) and (generation is None or int(generation[1]) <= 3)


def _holds_gemma(folder: Path) -> bool:
    """Whether a local folder, whatever its name, holds such a Gemma."""
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

{_block(manifest.template)}"""


def _use(manifest: Manifest, base: Base) -> str:
    where, pretrained, option = "`FOLDER` is this folder.", "", ""
    if not base.hub:
        where = "`FOLDER` is this folder, `BASE` the base: its folder, or its id on the hub."
        pretrained, option = "pretrained=BASE,", "--pretrained BASE "
    apart = []
    if manifest.truncation == "budget":
        apart.append("longer texts are then cut on the right")
    if manifest.base == BASE_NAME:
        apart.append("the original weights differ a little from the quantized ones trained on")
    return f"""## Use

{where}

```sh
lm_eval --model arena_rm --model_args {pretrained}peft=FOLDER --tasks arena_pairs
arena-rm score pairs.jsonl {option}--peft FOLDER -o scores.jsonl
```

Both (from the package lm-eval-arena-rm) show every pair in both orders, which cancels any preference for a position,
and apply the calibration. One order, with transformers and PEFT alone{"".join(f"; {part}" for part in apart)}:

{_block(_snippet(manifest, base), "python")}"""


def _snippet(manifest: Manifest, base: Base) -> str:
    revision = f", revision={_literal(base.revision)}" if base.revision else ""
    verdict = 'print("B" if logits[0] > 0 else "A", logits[0].item())'
    if manifest.num_labels == 3:
        verdict = 'print(dict(zip(("A", "B", "tie"), logits.softmax(-1).tolist())))'
    return f"""import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

base, adapter = {_literal(base.hub or "BASE")}, "FOLDER"
tokenizer = AutoTokenizer.from_pretrained(base{revision})
model = AutoModelForSequenceClassification.from_pretrained(
    base{revision}, num_labels={manifest.num_labels}, dtype=torch.float32
)
model = PeftModel.from_pretrained(model, adapter).eval()

template = {_literal(manifest.template)}
text = template.format(prompt="What is 7 times 8?", a="7 times 8 is 56.", b="It is 54, I think.")
inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length={manifest.max_length})
with torch.no_grad():
    logits = model(**inputs).logits[0]
{verdict}"""


def _training(manifest: Manifest, run: Mapping, base: Base) -> str:
    facts = manifest.training
    files = [(f.get("name"), f.get("pairs"), f.get("sha256")) for f in facts.get("files") or []]
    if facts.get("teacher"):
        files.append((f"{facts['teacher'].get('name')} (labels of a teacher)", None, facts["teacher"].get("sha256")))
    rows = [(_code(_shown(str(name))), _count(pairs), _code(str(sha))) for name, pairs, sha in files]
    recipe = [(_code(k), _code(_text(v))) for k, v in _flat(facts.get("recipe") or {}) if k not in ("base", "revision")]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))
    return f"""## Training

{_table(("data", "pairs", "sha256"), rows or [(UNKNOWN,) * 3])}

{_table(("run", ""), _run_rows(facts, run))}

{_table(("recipe", ""), [("base", base.name), ("revision", _code(base.revision or "not named")), *recipe])}

Made with {_code(versions or UNKNOWN)}. `training.json` holds all of this and the curves of the losses."""


def _run_rows(facts: Mapping, run: Mapping) -> list[tuple[str, str]]:
    """What is known of the run, each fact once."""
    known = {"pairs trained on": facts.get("pairs"), "pairs validated on": facts.get("validation_pairs")}
    known |= {"tokens": run.get("tokens"), "devices": run.get("devices")}
    rows = [(name, _count(value)) for name, value in known.items() if value is not None]
    if run.get("device") is not None:
        rows.append(("device", _code(_shown(str(run["device"])))))
    if _is_number(run.get("seconds")):
        rows.append(("time", _duration(run["seconds"])))
    for name, value in _flat(run.get("truncation") or {}):
        rows.append((f"truncation: {_code(name)}", _code(f"{value:.4g}" if isinstance(value, float) else _text(value))))
    return rows or [(UNKNOWN, "")]


def _measured(manifest: Manifest) -> str:
    rows = []
    for data, found in sorted((d, f) for d, f in manifest.metrics.items() if isinstance(f, Mapping)):
        names = sorted(set(found) - set(COUNTS), key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))
        rows += [(_code(data), *_metric(name, found[name])) for name in names]
    return f"""## Measured

Both orders averaged; 95% intervals clustered by prompt. Read `acc` beside `longer_wins`, which is what always naming
the longer answer scores on the same pairs, and beside 0.5, which is chance; `log_loss` beside `prior_log_loss`, which
knows the shares of A, B and tie and nothing else.

{_table(("data", "metric", "value", "95% interval", "n"), rows or [(UNKNOWN, "", "", "", "")])}"""


def _metric(name: str, entry) -> tuple[str, str, str, str]:
    entry = entry if isinstance(entry, Mapping) else {"value": entry}
    low, high = _number(entry.get("low")), _number(entry.get("high"))
    interval = f"{low} to {high}" if UNKNOWN not in (low, high) else ""
    label = _code(name) + (" (baseline)" if name in BASELINES else "")
    return label, _number(entry.get("value")), interval, _count(entry["n"]) if "n" in entry else ""


def _calibration(manifest: Manifest) -> str:
    found = manifest.calibration
    if found:
        tie = ", and the head says P(tie) itself" if manifest.num_labels == 3 else ""
        tie = tie or f", tie mass {_number(found.get('tie_nu'))} (Davidson)"
        text = f"""Temperature {_number(found.get("temperature"))}{tie}; by maximum likelihood on
{_count(found.get("n"))} held-out pairs. Metrics of probabilities above are on the pairs that it was fitted on."""
    elif manifest.num_labels == 3:
        text = "None; the head says P(tie) itself."
    else:
        text = "None: P(tie) is not known, and three-way metrics need one (`arena-rm calibrate FOLDER pairs.jsonl`)."
    return f"## Calibration\n\n{text}"


def _limits(base: Base, terms: str | None) -> str:
    licence = "the licence of the base applies to what is derived from it."
    if base.gemma:
        licence = f"a model derivative of Gemma under the Gemma Terms of Use ({GEMMA_TERMS}) and its use restrictions."
    stated = one_line(terms or "") or "not stated"
    return f"""## Limits

The validation pairs were held out by prompt from the same data, and the weights that are kept were chosen on them: on
other prompts, lengths and languages it may do worse. The order in which answers are shown matters to it (see
`order_agreement`), so use both. It says which answer people would prefer, not which is true or safe.

## Terms

- Adapter: {licence}
- Data terms: {stated}"""


def _flat(values: Mapping, prefix: str = "") -> Iterable[tuple[str, object]]:
    """(dotted name, value) of nested mappings, in their own order."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{_shown(str(name))}.")
        else:
            yield f"{prefix}{_shown(str(name))}", value


def _text(value) -> str:
    """A setting as it is shown: strings bare, of paths the last part; all else as JSON."""
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value) or "none"
    return json.dumps(value, ensure_ascii=False, default=str)


def _shown(text: str) -> str:
    """The text; of an absolute path, anybody's, only the last part."""
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith("~"):
        return _last(text)
    return text


def _last(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "a folder"


def _code(text: str) -> str:
    """The text as code that is safe in a sentence and in a table: one line, and its pipes and backticks in a form that
    every Markdown reads the same."""
    text = one_line(text)
    if not re.search(r"[|`\\]", text):
        return f"`{text}`" if text else UNKNOWN
    return "<code>" + "".join(c if c.isalnum() or c in " .,:/-" else f"&#{ord(c)};" for c in text) + "</code>"


def _literal(text: str) -> str:
    """The text between double quotes, as Python reads it."""
    return json.dumps(text, ensure_ascii=False)


def _block(text: str, language: str = "") -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _number(value) -> str:
    return f"{value:.3f}" if _is_number(value) else UNKNOWN


def _count(value) -> str:
    return f"{value:,.0f}" if _is_number(value) else UNKNOWN


def _duration(seconds: float) -> str:
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
