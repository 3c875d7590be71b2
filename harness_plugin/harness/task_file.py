"""What a user's own task file, which includes one of ours, must not say: settings that would be ignored without a word,
or that make numbers mean something else.

Knows how lm-eval's task files are written and does not import it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness_plugin.errors import HarnessError

CHOICES = {"A": 0, "B": 1, "C": 2, "tie": 2}
"""A word for a choice of a pair, and its place."""
_OURS = "!function harness_plugin.harness."


def check_task_file(source: Any) -> None:
    """Raises HarnessError for a setting in a task file, or in one that it includes, that cannot mean what it seems to.
    `source` is its path as lm-eval says it; where that is no path (a task that was written in Python) all is well."""
    path = Path(str(source))
    if not path.is_file():
        return
    said = _settings(path)
    if said.get("dataset_path") is not None and said.get("custom_dataset") is not None:
        raise HarnessError(
            f"{path} sets dataset_path={said['dataset_path']!r}",
            "lm-eval does not read it beside the custom_dataset of arena_pairs, so other pairs would be measured",
            "name the pairs instead: metadata with arena_data: FILE, "
            "or dataset_kwargs with arena_hub: NAME, arena_split: SPLIT and arena_reader: FORMAT",
        )
    if said.get("num_fewshot") and not _own_examples(said):
        raise HarnessError(
            f"{path} sets num_fewshot={said['num_fewshot']}",
            "the examples would be taken from what is measured, with the right answers",
            "leave num_fewshot out, or give examples of your own: fewshot_config with samples",
        )
    if str(said.get("process_results")).startswith(_OURS):
        _check_measured(path, said)


def _check_measured(path: Path, said: Mapping[str, Any]) -> None:
    """What our `process_results` needs."""
    for pipeline in said.get("filter_list") or []:
        if said["process_results"] == f"{_OURS}process_verdict" and "!function" not in str(pipeline):
            raise HarnessError(
                f"{path} has the filter {pipeline.get('name')}, which judges nothing",
                "the metrics of arena_judge are computed from verdicts",
                "end its filters with: function: !function harness_plugin.harness.JUDGE",
            )
    if not str(said.get("metric_list")).startswith(_OURS):
        raise HarnessError(
            f"{path} has a metric_list of its own, and the process_results of our task",
            "lm-eval cannot compute its own metrics of whole judgements",
            "leave metric_list out, or write a process_results of your own too",
        )
    choices = said.get("doc_to_choice")
    if isinstance(choices, list) and (len(choices) != 3 or any(CHOICES.get(c, i) != i for i, c in enumerate(choices))):
        raise HarnessError(
            f"{path} sets doc_to_choice={choices}",
            "the metrics take the choices for A, B and a tie, in this order",
            "leave doc_to_choice out, or name the three in this order",
        )


def _own_examples(said: Mapping[str, Any]) -> bool:
    config = said.get("fewshot_config")
    return isinstance(config, dict) and config.get("samples") is not None


class _Loader(yaml.SafeLoader):
    """Reads a function's name as it is written."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: f"!{suffix} {node.value}")


def _settings(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of a task file over those of the files that it includes, as lm-eval merges them. A file that cannot
    be read says nothing: lm-eval has read it before."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    if not isinstance(found, dict) or path in seen:
        return {}
    included = found.pop("include", [])
    merged: dict[str, Any] = {}
    for name in included if isinstance(included, list) else [included]:
        merged |= _settings(path.parent / str(name), (*seen, path))
    return merged | found
