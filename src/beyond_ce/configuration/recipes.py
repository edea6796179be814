"""Hydra's composition, in which a recipe's settings go away with the choice they belong to.

A recipe chooses in groups and sets keys of its choices. Hydra would also set those keys when the
command line chooses another option of the group, whether or not that option has them. Here

- a key that the other option does not have goes away, unless both options are of the same class;
- a key that it has keeps the recipe's value: `tokenizer.vocab_size` holds for any tokenizer;
- a key in `_OF_THE_CHOICE` gets the other option's value, if the two options differ in it;
- a key on the command line is left alone: if nothing takes it, the checks of a run refuse it.

This holds wherever Hydra composes: in our `compose`, scripts, the jobs of a sweep, and `--cfg`.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import hydra._internal.hydra as hydra_internals
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

_WITHOUT_SETTINGS = {"experiment", "scale", "hydra"}
# A rate tuned for one optimizer says nothing about another, and a published vocabulary is all that
# a choice such as tokenizer=gpt2 stands for.
_OF_THE_CHOICE = ("optimizer.lr", "tokenizer.model")

_loaded: dict[tuple[Any, ...], DictConfig] = {}
# Pickled, because unpickling makes each composition its own copy in a fifth of the time of copying.
_parsed: dict[tuple[tuple[str, int], ...], bytes] = {}


class Repository(ConfigRepository):
    """Parses a file once for all compositions, as long as it does not change.

    All tables together compose some two hundred configs, each from about thirty files.
    """

    def load_config(self, config_path: str) -> ConfigResult | None:
        name = f"{config_path.removesuffix('.yaml')}.yaml"
        files = (Path(f"{source.path}/{name}") for source in self.sources)
        found = tuple((str(f), f.stat().st_mtime_ns) for f in files if f.is_file())
        if not found:  # Hydra's own; the classes of some are imported anew and cannot be pickled
            return super().load_config(config_path)
        if found not in _parsed:
            _parsed[found] = pickle.dumps(super().load_config(config_path))
        result: ConfigResult = pickle.loads(_parsed[found])
        return result


class Loader(ConfigLoaderImpl):
    """Loads configs as Hydra does, but without settings of choices that were replaced."""

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = Repository(config_search_path)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        config = super().load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )
        # Of a sweep as a whole there is nothing to say: each of its jobs is composed by itself.
        if run_mode == RunMode.RUN and config.hydra.runtime.choices.get("experiment") is not None:
            self._settle(config)
        return config

    def _settle(self, config: DictConfig) -> None:
        """Makes the changes that the module's docstring lists."""
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        keys = [override.package or override.key_or_group for override in overrides]
        if not any(_may_choose(key, config) for key in keys):
            return
        choices = config.hydra.runtime.choices
        recipe = self._load(config, [f"experiment={choices.experiment}"])
        of_recipe = recipe.hydra.runtime.choices
        groups = {
            _group(key)
            for key in {*choices, *of_recipe}
            if "@" not in key and choices.get(key) != of_recipe.get(key)
        } - _WITHOUT_SETTINGS
        if not groups:
            return
        own = self._load(config, _overrides(choices, groups))
        chosen = _plain(own, (group for group in groups if choices.get(group) is not None))
        set_by_user = [key for key in keys if "." in key]
        for key in _stale(_plain(config, groups), chosen, _plain(recipe, groups)):
            if not _touches(key, set_by_user):
                parent, _, last = key.rpartition(".")
                with open_dict(config):
                    del (OmegaConf.select(config, parent) if parent else config)[last]
        for key in _OF_THE_CHOICE:
            if _group(key) in groups and not _touches(key, set_by_user):
                value = OmegaConf.select(own, key)
                before = self._load(config, _overrides(of_recipe, {_group(key)}))
                if value is not None and value != OmegaConf.select(before, key):
                    OmegaConf.update(config, key, value)

    def _load(self, config: DictConfig, overrides: list[str]) -> DictConfig:
        """Hydra's composition with other overrides, and with the same files; not to be changed."""
        search_path = [each for each in config.hydra.overrides.hydra if "searchpath" in each]
        overrides = [*overrides, *search_path]
        name = config.hydra.job.config_name
        folders = [source.path for source in self.get_sources() if source.path]
        files = (path for folder in folders for path in Path(folder).rglob("*.yaml"))
        newest = max((path.stat().st_mtime_ns for path in files), default=0)
        key = (*folders, newest, name, *overrides)
        if key not in _loaded:
            _loaded[key] = super().load_configuration(
                name, overrides, RunMode.RUN, from_shell=False
            )
        return _loaded[key]


# `hydra.main` and `initialize_config_dir` take no loader, but make one of this name.
hydra_internals.ConfigLoaderImpl = Loader  # type: ignore[misc]


def _group(key: str) -> str:
    """Top-level group of a choice ("head" of "head/block") or of a setting ("head" of "head.n")."""
    return key.partition("/")[0].partition(".")[0]


def _may_choose(key: str, config: DictConfig) -> bool:
    """Whether an override of this key may be a choice, and not a setting such as `seed`."""
    if "." in key or _group(key) in _WITHOUT_SETTINGS:
        return False
    return key not in config or OmegaConf.is_dict(config[key])


def _overrides(choices: DictConfig, groups: set[str]) -> list[str]:
    """Overrides that choose the same in these groups, at the same scale."""
    return [
        f"{key}={choice}"
        for key, choice in ((str(key), choice) for key, choice in choices.items())
        if choice is not None and "@" not in key and _group(key) in {*groups, "scale"}
    ]


def _plain(config: DictConfig, groups: Iterable[str]) -> dict[str, Any]:
    """These groups as plain mappings, with interpolations as they are written."""
    nodes = ((group, config.get(group)) for group in groups)
    return {group: OmegaConf.to_container(node) for group, node in nodes if node is not None}


def _stale(node: dict[str, Any], own: dict[str, Any], recipe: dict[str, Any]) -> Iterator[str]:
    """Dotted keys that only the recipe has set, for a choice of its own.

    Args:
        node: composed, with what the recipe and the command line set.
        own: the same part of the choices alone.
        recipe: the same part of the recipe.
    """
    same_class = "_target_" in node and node["_target_"] == recipe.get("_target_")
    for key, value in node.items():
        if key not in own:
            if not same_class:
                yield key
        elif isinstance(value, dict) and isinstance(own[key], dict):
            inner = recipe.get(key)
            below = _stale(value, own[key], inner if isinstance(inner, dict) else {})
            yield from (f"{key}.{each}" for each in below)


def _touches(key: str, others: list[str]) -> bool:
    """Whether one of the others is this key, is in it, or has it in it."""
    return any(f"{key}.".startswith(f"{o}.") or f"{o}.".startswith(f"{key}.") for o in others)
