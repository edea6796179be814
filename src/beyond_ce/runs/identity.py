"""Which settings define a run, and their hash, which names the run's folder."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import warnings
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from tqdm import TqdmWarning

from beyond_ce.configuration import FORMER_NAMES
from beyond_ce.errors import UsageError
from beyond_ce.settings import Rule, declared, in_one_form

# Keys that say where and how fast a run happens but not what it computes are left out of the hash.
# `precision` and `compile` change the arithmetic, so they stay in it.
_NOT_HASHED = {
    "results_dir",
    "logger",
    "dataset.num_workers",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.num_threads",
    "trainer.progress",
    "trainer.log_every",
    "trainer.checkpoint_every",
}

_PRESENT_NAMES = {former: present for present, former in FORMER_NAMES.items()}
_HASHED_OF_START = ("checkpoint", "weights")
_HASHED_FOR_BASELINE = ("dataset", "baseline", "evaluator", "seed", "scale")


def definition(config: DictConfig) -> dict[str, Any]:
    """The part of a config that defines the run's numbers, with plain Python values.

    Only the last component of a data set's `path` counts, so that the same files give the same
    run wherever they are; `inputs` compares their content. A run with a baseline has no model, so
    the model's settings are left out. Equal numbers are the same: where a setting takes any number,
    1 stands as 1.0. Of a run to start from, its own definition counts, however it was named (see
    `runs.start`).
    """
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return _definition(plain)


def _definition(plain: dict[Any, Any]) -> dict[str, Any]:
    if "baseline" in plain:
        plain = {key: plain[key] for key in _HASHED_FOR_BASELINE}
    start = plain.get("start")

    def prune(node: dict, prefix: str) -> dict:
        kept = {}
        rules = rules_of(node["_target_"]) if "_target_" in node else {}
        for part in (node.get("evaluators") or {}).values():  # a shared setting is theirs
            rules = rules_of(part["_target_"]) | rules
        for key, value in node.items():
            name = f"{prefix}{key}"
            if name in _NOT_HASHED or key == "cache_dir":  # also of data that other data contain
                continue
            if key in rules:
                value = in_one_form(rules[key], value)
            if isinstance(value, dict):
                value = prune(value, f"{name}.")
            elif key == "path" and isinstance(value, str):
                value = PurePath(value).name
            elif key == "_target_":
                value = FORMER_NAMES.get(value, value)
            kept[key] = value
        return kept

    defined = prune({key: value for key, value in plain.items() if key != "start"}, "")
    if start is not None:
        source = _definition(start["source"])
        defined["start"] = {**{key: start[key] for key in _HASHED_OF_START}, "source": source}
    return defined


@functools.cache
def rules_of(target: str) -> dict[str, Rule]:
    """The rules of what a config names; none for what is no longer there."""
    module, _, name = _PRESENT_NAMES.get(target, target).rpartition(".")
    try:  # not Hydra's get_object, which prints what it does not find
        with warnings.catch_warnings():
            # In a notebook without widgets, some of what is imported warns that they are missing.
            warnings.simplefilter("ignore", TqdmWarning)
            return declared(getattr(importlib.import_module(module), name))[0]
    except (ImportError, AttributeError, TypeError, ValueError):
        return {}


def run_hash(config: DictConfig) -> str:
    """Sixteen hex digits that name the run; the same for equal definitions."""
    text = json.dumps(definition(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_folder(config: DictConfig) -> Path:
    """`<results_dir>/runs/<hash>`."""
    return Path(config.results_dir) / "runs" / run_hash(config)


def kept_folder(config: DictConfig) -> Path:
    """`<results_dir>/reports/<hash>`: where git keeps the run's report for the tables.

    It is not the run's own folder, so that repeating a run leaves a checkout as it was.
    """
    return kept_folder_of(run_folder(config))


def kept_folder_of(folder: Path) -> Path:
    """`kept_folder` of the run in `folder`."""
    return folder.parents[1] / "reports" / folder.name


def reconfigure(config: DictConfig, overrides: Iterable[str], group: str) -> DictConfig:
    """A run's config with Hydra overrides of keys in `group`, or of keys left out of the hash.

    Raises:
        UsageError: an override would make it another run.
    """
    changed = config.copy()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        OmegaConf.update(changed, override.get_key_element(), override.value())
        same = changed.copy()
        same[group] = config[group]
        if run_hash(same) != run_hash(config):
            raise UsageError(
                f"{override.input_line} would be another run: only {group}.* can change here"
            )
    return changed
