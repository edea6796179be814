"""The choices that conf/ offers, for tests that must hold for each of them, a new one included."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import get_class
from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[2] / "conf"


def choices(group: str, kind: type = object) -> list[str]:
    """Names of conf/<group>/*.yaml whose `_target_` is a class of this kind; folders are left out.

    Args:
        kind: a class, or `object` for all files, also for those that get their `_target_` from a
            default or whose `_target_` is a function.
    """
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    return names if kind is object else [n for n in names if issubclass(target(group, n), kind)]


def target(group: str, name: str) -> type:
    """The class that conf/<group>/<name>.yaml names itself."""
    return get_class(OmegaConf.load(CONF / group / f"{name}.yaml")._target_)


def classes(group: str, kind: type = object) -> list[type]:
    """The classes that those choices name."""
    return [target(group, name) for name in choices(group, kind)]


def on_tokens(group: str, kind: type = object) -> list[str]:
    """The losses or heads whose target are tokens; others, as of a value, have their own tests."""
    return [name for name in choices(group, kind) if target(group, name).target == "tokens"]


def token_losses(kind: type = object) -> list[str]:
    return on_tokens("loss", kind)
