"""Configs from a folder that somebody else may have written: plain values, and classes of ours.

People share run folders and checkpoints. Hydra calls whatever a `_target_` names, and OmegaConf
resolves `${oc.create:...}` into further targets, so such a config would run code as soon as it is
opened. Everything read from a folder goes through `check_plain` before it is resolved or built.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import CONF_DIR, FORMER_NAMES
from beyond_ce.errors import RunError, check_no_device, one_line

PLUGINS_VARIABLE = "BEYOND_CE_PLUGINS"
"""Environment variable with the packages whose classes are trusted too, separated by commas."""

_MOST_BYTES = 2**20  # a run's config has about 3,000
_MOST_NODES = 20_000
_DEEPEST = 32
_SHOWN = 60  # characters of a refused value

# A target in the text of conf/, in a key, an override or a comment that offers it.
_NAMED = re.compile(r"_target_\s*[:=]\s*([A-Za-z_][\w.]*)")
_SPECIAL = {"_target_", "_partial_"}


def read_yaml(path: Path, remedy: str) -> DictConfig:
    """A config of plain values from a YAML file.

    Args:
        remedy: what to do about a damaged file.

    Raises:
        RunError: the file is no such config, or holds something that would run code.
    """
    try:
        check_no_device(path)
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
        _check_events(text)
        config = OmegaConf.load(path)
        values = OmegaConf.to_container(config, resolve=False)
    except Exception as error:  # as many kinds as there are ways to be no YAML
        raise RunError(f"{path} is damaged ({one_line(error)}): {remedy}") from error
    if not isinstance(config, DictConfig) or not config:
        raise RunError(f"{path} is damaged (it is no mapping with keys): {remedy}")
    check_plain(values, path)
    return config


def _check_events(text: str) -> None:
    """Raises ValueError for YAML that is no mapping, or grows when it is read: aliases, depth,
    sheer number."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases (*name)")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if isinstance(event, yaml.NodeEvent) and not depth and not is_mapping:
            raise ValueError("it is no mapping with keys")  # OmegaConf makes {word: None} of a word
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or count > _MOST_NODES:
            raise ValueError(f"it is nested more than {_DEEPEST} deep or has too many values")


def check_plain(values: Any, source: Path, trusted: Callable[[str], bool] | None = None) -> None:
    """Refuse what a config of ours never holds: interpolations, targets that are not ours.

    Args:
        values: mappings, lists and plain values, as read from `source`.
        trusted: whether a `_target_` may be built; default: `is_trusted`.

    Raises:
        RunError: with the key and the value that are refused.
    """
    foreign = "no class that conf/ of this repository names"
    if trusted is None:
        trusted = is_trusted
        foreign += f" ({PLUGINS_VARIABLE} may hold the package of a plugin that you trust)"
    for count, (key, value, depth) in enumerate(_walk(values)):
        if depth > _DEEPEST or count > _MOST_NODES:
            raise RunError(f"{source} is nested too deep or has too many values: get it again")
        name = key.rpartition(".")[2]
        if not _is_text(key) or (isinstance(value, str) and not _is_text(value)):
            raise _refused(source, ascii(key), value, "text with half a character")
        if "${" in key or (isinstance(value, str) and "${" in value):
            raise _refused(source, key, value, "an interpolation, and only plain values are read")
        if name == "_target_" and not (isinstance(value, str) and trusted(value)):
            raise _refused(source, key, value, foreign)
        if name.startswith("_") and name not in _SPECIAL:
            raise _refused(source, key, value, "a setting for Hydra that no config here has")


def _is_text(text: str) -> bool:
    """Whether a file can hold it: it has no half of a surrogate pair, which YAML can escape."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _walk(values: Any) -> Iterator[tuple[str, Any, int]]:
    """Every value below, with its dotted key and its depth; iteratively, as depth is unchecked."""
    waiting: list[tuple[str, Any, int]] = [("", values, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        yield key, value, depth
        if depth > _DEEPEST:
            continue
        start = f"{key}." if key else ""
        if isinstance(value, Mapping):
            waiting += [(f"{start}{name}", inner, depth + 1) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{start}{i}", inner, depth + 1) for i, inner in enumerate(value)]


def _refused(source: Path, key: str, value: Any, what: str) -> RunError:
    return RunError(f"{source}: {key}={str(value)[:_SHOWN]!r} is {what}; nothing was run")


@functools.cache
def own_targets() -> frozenset[str]:
    """The classes and functions that conf/ names, by their present and their former names.

    A closed set: of what this package can do, a config from elsewhere may ask for no more than the
    configs that come with it.
    """
    files = sorted(CONF_DIR.rglob("*.yaml"))
    named = {name for path in files for name in _NAMED.findall(path.read_text(encoding="utf-8"))}
    ours = {name for name in named if name.startswith("beyond_ce.")}
    return frozenset(ours | set(FORMER_NAMES.values()))


def is_trusted(target: str) -> bool:
    """Whether a config from a folder may build this: one of ours, or of a trusted plugin."""
    plugins = os.environ.get(PLUGINS_VARIABLE, "").split(",")
    package = target.split(".")[0]
    return target in own_targets() or package in (name.strip() for name in plugins if name.strip())
