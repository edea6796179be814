"""The choices that conf/ offers, for tests that must hold for each of them, a new one included."""

from __future__ import annotations

import inspect
from pathlib import Path

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).resolve().parents[2] / "conf"


def choices(group: str, kind: type = object) -> list[str]:
    """Names of conf/<group>/*.yaml whose `_target_` is a class of this kind; folders are left out.

    Args:
        kind: a class, or `object` for all files, also for those whose `_target_` is a function.
    """
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    return names if kind is object else [n for n in names if issubclass(target(group, n), kind)]


def settings(group: str, name: str) -> DictConfig:
    """conf/<group>/<name>.yaml over the files of the group that it is based on, not composed."""
    config = OmegaConf.load(CONF / group / f"{name}.yaml")
    assert isinstance(config, DictConfig)
    bases = []
    for entry in config.pop("defaults", []):
        base, _, package = str(entry).partition("@")  # as /tokenizer/pretrained@_here_
        if isinstance(entry, str) and entry != "_self_" and package in ("", "_here_"):
            bases.append(settings(group, base.rpartition("/")[2]))
    return OmegaConf.merge(*bases, config)


def target(group: str, name: str) -> type:
    """The class that this choice names."""
    return get_class(settings(group, name)._target_)


def is_preset(group: str, name: str) -> bool:
    """Whether the file has no `_target_` of its own, but the settings of another file's choice."""
    return "_target_" not in OmegaConf.load(CONF / group / f"{name}.yaml")


def with_blocks(kind: type) -> list[str]:
    """Names of the heads of this kind that take any of `head/block`."""
    return [
        name
        for name in choices("head", kind)
        if "block" in inspect.signature(target("head", name)).parameters
    ]


def classes(group: str, kind: type = object) -> list[type]:
    """The classes that those choices name."""
    return [target(group, name) for name in choices(group, kind)]


def on_tokens(group: str, kind: type = object) -> list[str]:
    """The losses or heads whose target are tokens; others, as of a value, have their own tests."""
    return [name for name in choices(group, kind) if target(group, name).target == "tokens"]


def token_losses(kind: type = object) -> list[str]:
    return on_tokens("loss", kind)
