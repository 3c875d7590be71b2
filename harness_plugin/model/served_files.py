"""What the folder of a served classifier says of it: how texts become its token ids, and what its logits mean. Its
weights are on the server: none are read here, and the folder needs none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness_plugin.files.rows import read_object
from harness_plugin.model.adapter import WEIGHTS, Adapter, from_hub
from harness_plugin.model.base import base_config, base_of, has_tokenizer, local_folder
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.embedded import embedded_adapter
from harness_plugin.model.file_hashes import short_hash
from harness_plugin.model.load import IN_IDENTITY, calibration_of
from harness_plugin.model.manifest import MANIFEST_FILE, read_manifest
from harness_plugin.model.naming import ADAPTER_CONFIG, EMBEDDED
from harness_plugin.model.network import labels_of_whole
from harness_plugin.model.part_hashes import tokenizer_hash
from harness_plugin.model.reading import Named, reading_of
from harness_plugin.model.spec import POINTWISE, ModelSpec
from harness_plugin.prompt import PROMPT_VERSION, AnswerRenderer, Renderer

WANTED = [ADAPTER_CONFIG, MANIFEST_FILE, "config.json", "tokenizer*", "special_tokens_map.json", "*.jinja"]


@dataclass(frozen=True)
class ServedFiles:
    """`classes` as in `RewardModel`; `identity`: the parts of a judge's identity that the files decide."""

    renderer: Renderer | AnswerRenderer
    calibration: Calibration
    classes: list[int]
    pointwise: bool
    identity: dict[str, Any]

    @property
    def limit(self) -> str:
        """What longer texts are cut to, in words."""
        return f"{self.renderer.max_length} tokens ({self.renderer.truncation})"


def read_served_files(spec: ModelSpec) -> ServedFiles:
    """The files that `peft` or `pretrained` names: a folder, or an id of which the hub's small files are loaded. Raises
    ModelError for files that are missing or damaged, and where nobody says what kind of judge it is."""
    name = str(spec.peft or spec.pretrained)
    named = _named(spec, _folder(name))
    manifest = named.manifest
    if named.adapter is None:
        num_labels = labels_of_whole(name, named.config, spec.kind is not None or manifest.found)
    else:
        num_labels = manifest.num_labels  # 1 without a manifest, which is then the user's word or the reference card's
    kind, classes, renderer = reading_of(spec, named, name, num_labels)
    adapter = named.adapter
    own = adapter.folder if adapter and has_tokenizer(adapter) else local_folder(named.base, named.revision)
    identity = {
        "kind": IN_IDENTITY[kind],
        "tokenizer": tokenizer_hash(own),
        "prompt_version": PROMPT_VERSION,
        "template": short_hash(renderer.template),
        "max_length": renderer.max_length,
        "truncation": renderer.truncation,
    }
    return ServedFiles(renderer, calibration_of(spec, manifest), classes, kind == POINTWISE, identity)


def _named(spec: ModelSpec, folder: Path) -> Named:
    """What the folder names: of an adapter its base, whose configuration and maybe tokenizer are needed."""
    manifest = read_manifest(folder)
    if not (folder / ADAPTER_CONFIG).is_file():
        place = str(folder)
        return Named(None, manifest, place, place, None, base_config(place, None, whole=True))
    adapter = Adapter(folder, read_object(folder / ADAPTER_CONFIG), manifest, {}, folder / WEIGHTS)
    name, base = base_of(adapter, spec.pretrained)
    return Named(adapter, manifest, base, name, spec.revision, base_config(base, spec.revision))


def _folder(name: str) -> Path:
    if name == EMBEDDED:
        return embedded_adapter()
    if Path(name).is_dir():
        return Path(name)
    return from_hub(name, WANTED, "folder", "the tokenizer and the settings of the served model are needed")
