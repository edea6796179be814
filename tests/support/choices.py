"""The choices that conf/ offers, for tests that must hold for each of them, a new one included."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import get_class
from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[2] / "conf"


def choices(group: str, kind: type = object) -> list[str]:
    """Names of conf/<group>/*.yaml whose `_target_` is a class of this kind; folders are left out.

    Args:
        kind: a class, or `object` for all files, also for those whose `_target_` is a function.
    """
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    return names if kind is object else [n for n in names if issubclass(target(group, n), kind)]


def target(group: str, name: str) -> type:
    """The class that conf/<group>/<name>.yaml names, or the file of the group that it is based on.

    Raises:
        LookupError: neither names one.
    """
    config = OmegaConf.load(CONF / group / f"{name}.yaml")
    if "_target_" in config:
        return get_class(config._target_)
    for base in config.get("defaults", []):
        if isinstance(base, str) and base != "_self_":  # as /tokenizer/pretrained@_here_
            return target(group, base.partition("@")[0].rpartition("/")[2])
    raise LookupError(f"conf/{group}/{name}.yaml has no _target_")


def is_preset(group: str, name: str) -> bool:
    """Whether the file has no `_target_` of its own, but the settings of another file's choice."""
    return "_target_" not in OmegaConf.load(CONF / group / f"{name}.yaml")


def classes(group: str, kind: type = object) -> list[type]:
    """The classes that those choices name."""
    return [target(group, name) for name in choices(group, kind)]


def on_tokens(group: str, kind: type = object) -> list[str]:
    """The losses or heads whose target are tokens; others, as of a value, have their own tests."""
    return [name for name in choices(group, kind) if target(group, name).target == "tokens"]


def token_losses(kind: type = object) -> list[str]:
    return on_tokens("loss", kind)
