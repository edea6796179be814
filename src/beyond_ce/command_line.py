"""What all scripts have in common: errors as one line, configs from the command line, `--help`."""

from __future__ import annotations

import functools
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from beyond_ce.configuration import CONF_DIR, check_scale, choices, experiments, explain_missing
from beyond_ce.errors import RunError, UsageError, one_line

Main = Callable[..., None]


def command(config: str | None = None) -> Callable[[Main], Callable[[], None]]:
    """Turns a function into a script's command, which shows a user's errors as one line.

    Args:
        config: a file of conf/, as "train": the function then takes what Hydra composes from it and
            the command line. Without it the function takes nothing and reads `sys.argv` itself.
    """

    def decorate(main: Main) -> Callable[[], None]:
        run = main
        if config is not None:
            compose = hydra.main(config_path=str(CONF_DIR), config_name=config, version_base="1.3")
            run = compose(_job(main))

        @functools.wraps(main)
        def decorated() -> None:
            with one_line_errors():
                run()

        return decorated

    return decorate


def _job(main: Main) -> Main:
    """What Hydra calls: `main`, with its errors shown before Hydra adds a line of its own.

    Not in a sweep, whose other jobs an exit would end as well.
    """

    @functools.wraps(main)
    def job(config: DictConfig) -> None:
        single = HydraConfig.get().mode == RunMode.RUN
        with one_line_errors() if single else nullcontext():
            check_scale(HydraConfig.get())
            main(config)

    return job


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


def _fail(error: Exception, code: int) -> None:
    if os.environ.get("BEYOND_CE_TRACEBACK") == "1":
        raise error
    print(f"error: {_describe(error)}", file=sys.stderr)
    sys.exit(code)


def _describe(error: Exception) -> str:
    """A config error of Hydra or OmegaConf as one line, its cause included."""
    if isinstance(error, MissingConfigException) and (advice := explain_missing(error)):
        return advice
    # Hydra ends its message with where it looked, which helps nobody with a mistyped name.
    parts = [one_line(error).split(" Config search path:")[0]]
    if isinstance(error.__cause__, OmegaConfBaseException):
        parts.append(one_line(error.__cause__))
    return ": ".join(parts)


def choices_text() -> str:
    """All that a run chooses from, a paragraph per group, for `--help`."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, found in experiments().items():
        alike.setdefault(tuple(found), []).append(name)
    lines = []
    for scales, names in alike.items():
        each = f", each with {', '.join(f'/{s}' for s in scales)}" if scales else ""
        lines.append(f"experiment: {', '.join(names)}{each}")
    lines += [f"{group}: {', '.join(options)}" for group, options in choices().items()]
    return "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines)


# conf/train.yaml has it in its help: Hydra's own list would also have what is no choice of a run.
OmegaConf.register_new_resolver("choices", choices_text, replace=True)
