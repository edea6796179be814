"""Composing and checking configs, building what they name, and showing errors as one line."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from beyond_ce.errors import RunError, UsageError, one_line

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"


def compose(overrides: Iterable[str] = ()) -> DictConfig:
    """Compose `conf/train.yaml` with Hydra override strings, as `scripts/train.py` does."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = hydra_compose("train", overrides=list(overrides))
    check(config)
    return config


@functools.cache
def _known_keys() -> frozenset[str]:
    own = OmegaConf.load(CONF_DIR / "train.yaml")
    groups = {
        str(key).removeprefix("optional ")
        for entry in own.defaults
        if isinstance(entry, DictConfig)
        for key in entry
    }
    return frozenset(groups | {str(key) for key in own}) - {
        "defaults",
        "experiment",
        "at_scale",
        "hydra",
    }


def check(config: DictConfig) -> None:
    """Refuse keys that nothing reads and values that cannot be resolved."""
    unknown = sorted({str(key) for key in config} - _known_keys())
    if unknown:
        raise UsageError(
            f"unknown config key '{unknown[0]}'; known: {', '.join(sorted(_known_keys()))}"
        )
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UsageError(f"config key '{missing[0]}' needs a value: add {missing[0]}=...")
    OmegaConf.resolve(config.copy())


def build(node: DictConfig, what: str, **kwargs: Any) -> Any:
    """Instantiate a config group's choice; say in one line which key its class does not take."""
    try:
        return instantiate(node, **kwargs)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UsageError | RunError):
            raise cause from error
        if isinstance(cause, TypeError | ValueError):
            raise UsageError(f"{what}: {one_line(cause)}") from error
        raise


def _describe(error: Exception) -> str:
    """A config error of Hydra or OmegaConf as one line, its cause included."""
    # Hydra ends its message with where it looked, which helps nobody with a mistyped name.
    parts = [one_line(error).split(" Config search path:")[0]]
    if isinstance(error.__cause__, OmegaConfBaseException):
        parts.append(one_line(error.__cause__))
    return ": ".join(parts)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show errors of the user's making as one line without a traceback, and exit.

    Exit code 2 for a wrong config or path, 1 for a broken run, 130 for Ctrl-C;
    `BEYOND_CE_TRACEBACK=1` shows the traceback all the same.
    """
    # Hydra would otherwise print its own several lines and exit by itself.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        with _told_once():
            yield
    except (UsageError, HydraException, OmegaConfBaseException) as error:
        _fail(error, 2)
    except RunError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


@contextmanager
def _told_once() -> Iterator[None]:
    """Of several ranks on a machine the first tells an error and ends the ranks that it started.

    The others wait for that end, as most errors hit every rank, or follow from the first's.
    """
    try:
        yield
    except Exception:
        rank = os.environ.get("LOCAL_RANK")  # set when there are several ranks
        if rank == "0":
            for child in psutil.Process().children(recursive=True):
                child.kill()
        elif rank is not None:
            time.sleep(5)
        raise


def single_job() -> bool:
    """Whether the running Hydra job is one run and not one of a sweep, where an exit would end
    the sweep's other jobs too."""
    return HydraConfig.get().mode == RunMode.RUN


def _fail(error: Exception, code: int) -> None:
    if os.environ.get("BEYOND_CE_TRACEBACK") == "1":
        raise error
    print(f"error: {_describe(error)}", file=sys.stderr)
    sys.exit(code)
