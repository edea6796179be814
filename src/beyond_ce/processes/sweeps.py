"""Stopping a sweep: its jobs save before it ends, and none outlives it.

With `hydra/launcher=local`, jobs run in worker processes. When the parent is asked to stop, it
makes a file. Every worker looks for that file, and whether the parent still lives, and sends itself
a SIGTERM, on which training saves a checkpoint; the worker then refuses further jobs. The parent
waits for all of them in the normal way: joblib would kill the others as soon as one worker had
ended.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil

from beyond_ce.errors import RunError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""All that ask a process to stop; SLURM sends SIGUSR1 or SIGUSR2 before a time-out."""

_STOP_FILE = "BEYOND_CE_SWEEP_STOP"  # environment variable with the file's path
_LOOK_EVERY_S = 0.5


def is_sweep() -> bool:
    """Whether the command line asks Hydra for a sweep."""
    asks = ("-m", "--multirun", "hydra.mode=MULTIRUN")
    return any(argument in asks for argument in sys.argv[1:])


@contextlib.contextmanager
def stopping_jobs() -> Iterator[None]:
    """In the sweep's parent: what asks it to stop also stops its jobs, which save first.

    A second signal ends the sweep at once.

    Raises:
        KeyboardInterrupt: it was asked to stop, and there are no worker processes to wait for.
    """
    file = Path(tempfile.gettempdir(), f"beyond-ce-stop-{os.getpid()}")
    file.unlink(missing_ok=True)
    os.environ[_STOP_FILE] = str(file)

    def stop(number: int, frame: FrameType | None) -> None:
        if file.exists() or not _has_workers():
            raise KeyboardInterrupt
        print("stopping: running jobs save a checkpoint first", file=sys.stderr)
        file.touch()

    try:
        with handling(stop):
            yield
    finally:
        file.unlink(missing_ok=True)
        del os.environ[_STOP_FILE]


@contextlib.contextmanager
def handling(stop: signal._HANDLER) -> Iterator[None]:
    """Handle the stop signals in this block, but not a SIGHUP that is ignored, as under nohup."""
    previous = {}
    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            previous[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _has_workers() -> bool:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any("loky" in argument for argument in child.cmdline()):
                return True
    return False


class _Worker:
    """A worker process of a sweep."""

    def __init__(self, stop_file: Path) -> None:
        self.stop_file = stop_file
        self.parent = os.getppid()
        self.busy = False
        signal.signal(signal.SIGTERM, self._stop)
        threading.Thread(target=self._watch, daemon=True).start()

    def is_orphan(self) -> bool:
        return os.getppid() != self.parent

    def should_stop(self) -> bool:
        return self.is_orphan() or self.stop_file.exists()

    def _watch(self) -> None:
        while not self.should_stop():
            time.sleep(_LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.busy:
            raise KeyboardInterrupt
        if self.is_orphan():
            os._exit(1)


_worker: _Worker | None = None


@contextlib.contextmanager
def sweep_job() -> Iterator[None]:
    """Around a job of a sweep: stops it with the sweep, if this is a worker process.

    Raises:
        RunError: the job was stopped.
    """
    global _worker
    stop_file = os.environ.get(_STOP_FILE)
    if stop_file is None or multiprocessing.parent_process() is None:
        yield
        return
    if _worker is None:
        _worker = _Worker(Path(stop_file))
    stopped = "the sweep was stopped: start the same command again to continue"
    try:
        _worker.busy = True
        if _worker.should_stop():
            raise RunError(stopped)
        yield
    except KeyboardInterrupt:
        raise RunError(stopped) from None
    finally:
        _worker.busy = False
        if _worker.is_orphan():
            os._exit(1)
