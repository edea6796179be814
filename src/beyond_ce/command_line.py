"""Shared by all scripts: errors as one line, configs from the command line, `--help`."""

from __future__ import annotations

import functools
import gc
import io
import os
import select
import shutil
import signal
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from beyond_ce.configuration import (
    CONF_DIR,
    check_overrides,
    check_scale,
    choices,
    experiments,
    explain,
)
from beyond_ce.errors import RunError, UsageError, one_line, report_fault
from beyond_ce.processes.ranks import end_with_first, only_first_reports
from beyond_ce.processes.sweeps import is_sweep, stopping_jobs, sweep_job

Main = Callable[..., None]

_ONE_LINE = (UsageError, RunError, HydraException, OmegaConfBaseException)


def command(config: str | None = None) -> Callable[[Main], Callable[[], None]]:
    """Turns a function into a script's command, which shows user errors as one line.

    Args:
        config: a file in conf/, such as "train": the function then gets the config that Hydra
            composes from it and the command line. None for a function without arguments, which
            parses `sys.argv` itself.
    """

    def decorate(main: Main) -> Callable[[], None]:
        run = main
        if config is not None:
            compose = hydra.main(config_path=str(CONF_DIR), config_name=config, version_base="1.3")
            run = compose(_job(main))

        @functools.wraps(main)
        def decorated() -> None:
            end_with_first()
            if isinstance(sys.stdout, io.TextIOWrapper):
                # What a locale other than UTF-8 lacks is shown as "?" and does not end the command.
                sys.stdout.reconfigure(errors="replace")
            sweep = config is not None and is_sweep()
            jobs = stopping_jobs() if sweep else nullcontext()
            try:
                with _ending_with_the_reader(), one_line_errors(), _failures_at_the_end(), jobs:
                    if config is not None:
                        check_overrides(sys.argv[1:])
                    run()
            finally:
                # Python's last garbage collection would take more than a second to look through
                # all that torch and transformers have loaded.
                gc.freeze()

        return decorated

    return decorate


def _job(main: Main) -> Main:
    """The function that Hydra calls: `main`, but errors are shown before Hydra adds a line to them.

    In a sweep they are left to Hydra, as exiting would end the other jobs as well.
    """

    @functools.wraps(main)
    def job(config: DictConfig) -> None:
        single = HydraConfig.get().mode == RunMode.RUN
        with one_line_errors() if single else _sweep_job():
            check_scale(HydraConfig.get())
            main(config)

    return job


@contextmanager
def _sweep_job() -> Iterator[None]:
    """As `sweep_job`; a fault of ours is reported here, as the parent gets no traceback of it."""
    with sweep_job():
        try:
            yield
        except _ONE_LINE:
            raise
        except Exception as error:
            report_fault(error)
            raise


@contextmanager
def _ending_with_the_reader() -> Iterator[None]:
    """End quietly when nobody reads the output any more, as in `train.py --help | head -1`."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        output = select.poll()
        output.register(sys.stdout, 0)  # asks for errors alone
        if not output.poll(0):
            raise  # it was another pipe
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)  # as the pipe itself does to other programs


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show user errors as one line without a traceback, and exit.

    Any other error is a fault of ours: below its traceback stands where to report it. Exit code 2
    for a wrong config or path, 1 for a broken run or a fault, 130 for Ctrl-C;
    `BEYOND_CE_TRACEBACK=1` raises the error instead.
    """
    # Otherwise Hydra prints several lines of its own and exits.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        with only_first_reports():
            yield
    except (UsageError, HydraException, OmegaConfBaseException) as error:
        _fail(error, 2)
    except RunError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        raise  # `_ending_with_the_reader` knows what it means
    except Exception as error:
        if os.environ.get("BEYOND_CE_TRACEBACK") == "1":
            raise
        report_fault(error)
        sys.exit(1)


def _fail(error: Exception, code: int) -> None:
    if os.environ.get("BEYOND_CE_TRACEBACK") == "1":
        raise error
    print(f"error: {_describe(error)}", file=sys.stderr)
    sys.exit(code)


def _describe(error: Exception) -> str:
    """A config error of Hydra or OmegaConf as one line, its cause included."""
    if isinstance(error, HydraException) and (advice := explain(error)):
        return advice
    # Hydra appends its search path, which does not help with a mistyped name.
    parts = [one_line(error).split(" Config search path:")[0]]
    if isinstance(error.__cause__, OmegaConfBaseException):
        parts.append(one_line(error.__cause__))
    return ": ".join(parts)


class SweepFailures(Callback):
    """Remembers every job of a sweep that fails; Hydra itself names only the first.

    `hydra.callbacks` in conf/train.yaml names it. Jobs may run in other processes or on other
    machines, which get a copy of it, so they leave their errors as files.
    """

    sweeps: ClassVar[list[SweepFailures]] = []
    """Those that this process has started."""
    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        self.folder = Path(config.hydra.sweep.dir).absolute() / f"failed-{uuid.uuid4().hex}"
        self.sweeps.append(self)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if self.folder is None or job_return.status != JobStatus.FAILED:
            return
        error = job_return._return_value  # the property raises it
        known = isinstance(error, UsageError | RunError)
        what = one_line(error) if known else f"{type(error).__name__}: {one_line(error)}"
        self.note(config.hydra.job.num, config.hydra.overrides.task, what)

    def note(self, number: int, overrides: Iterable[str], what: str) -> None:
        """Remember that the sweep's job of this number failed."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{number:06}"
        path.write_text(f"{' '.join(overrides)}: {what}", encoding="utf-8")

    def lines(self) -> list[str]:
        """A line for every job that failed, in their order; they are read only once."""
        if self.folder is None or not self.folder.is_dir():
            return []
        lines = [path.read_text(encoding="utf-8") for path in sorted(self.folder.iterdir())]
        shutil.rmtree(self.folder, ignore_errors=True)
        return lines


@contextmanager
def _failures_at_the_end() -> Iterator[None]:
    """Name the failed jobs of the sweeps that were run inside, each in a line."""
    try:
        yield
    finally:
        for sweep in SweepFailures.sweeps:
            for line in sweep.lines():
                print(f"failed: {line}", file=sys.stderr)
        SweepFailures.sweeps.clear()


def choices_text() -> str:
    """The choices of a run for `--help`, a paragraph per group."""
    by_scales: dict[tuple[str, ...], list[str]] = {}
    for name, scales in experiments().items():
        by_scales.setdefault(tuple(scales), []).append(name)
    lines = []
    for options, names in by_scales.items():
        suffix = f", each with {', '.join(f'/{scale}' for scale in options)}" if options else ""
        lines.append(f"experiment: {', '.join(names)}{suffix}")
    lines += [f"{group}: {', '.join(names)}" for group, names in choices().items()]
    return "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines)


# The help in conf/train.yaml uses it: Hydra's own list has groups that no run chooses from.
OmegaConf.register_new_resolver("choices", choices_text, replace=True)
