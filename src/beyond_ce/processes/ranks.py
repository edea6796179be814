"""Several ranks on a machine: they end together, and one of them says why.

Lightning Fabric starts ranks 1, 2, .. as child processes of rank 0. Its own observer kills rank 0
without a word as soon as a child has failed, even if rank 0 ended that child to report an error
itself; and nothing ends the children of a rank 0 that was killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psutil

from beyond_ce.errors import RunError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PARENT = "BEYOND_CE_FIRST_RANK"  # environment variable: the process id of rank 0, for the others
_LOOK_EVERY_S = 0.5
_CAUSE_WITHIN_S = 15
_WATCHERS: list[threading.Thread] = []
_ENDING = threading.RLock()  # held by the thread that says why the ranks end, until the end


def end_with_first() -> None:
    """In a rank that rank 0 has started: ends this process as soon as rank 0 is gone.

    For the start of a script, as importing torch and waiting for rank 0 take a while.
    """
    if parent := os.environ.pop(_PARENT, None):
        threading.Thread(target=_end_with, args=[int(parent)], daemon=True).start()


def make_fabric(**settings: Any) -> Fabric:
    """Lightning Fabric with these settings.

    Where SLURM is installed, Fabric warns every program that was not started by `srun`, even one
    that has no use for it.
    """
    from lightning_fabric import Fabric

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The `srun` command is available")
        return Fabric(**settings)


def launch(fabric: Fabric) -> None:
    """`fabric.launch()`; from then on, the ranks that it started and rank 0 end together."""
    end_with_first()
    os.environ[_PARENT] = str(os.getpid())
    try:
        fabric.launch()
    finally:
        del os.environ[_PARENT]
    started = getattr(fabric.strategy.launcher, "procs", [])
    if started:
        ranks = dict(enumerate(started, 1))
        started.clear()  # nothing is left to Fabric's observer, which then ends
        watcher = threading.Thread(target=_watch, args=[ranks], daemon=True)
        watcher.start()
        _WATCHERS.append(watcher)


@contextlib.contextmanager
def only_first_reports() -> Iterator[None]:
    """Around what may fail: with several ranks on a machine, an error is reported once.

    Most errors hit every rank or follow from an error of the first. So the first rank kills the
    ranks that it started before it reports, and the others wait a while to be killed.
    """
    try:
        yield
    except Exception as error:
        rank = os.environ.get("LOCAL_RANK")  # set when there are several ranks
        if rank == "0":
            cause = error.__cause__ or error
            if isinstance(cause, RuntimeError) and not isinstance(cause, RunError):
                # Perhaps a broken connection to a rank that is ending: then that one's error is
                # the cause, and the watcher ends this process.
                for watcher in _WATCHERS:
                    watcher.join(timeout=_CAUSE_WITHIN_S)
            _ENDING.acquire()
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        elif rank is not None:
            time.sleep(5)
        raise


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def _watch(ranks: dict[int, subprocess.Popen]) -> None:
    """In rank 0: ends it with the first of the other ranks that fails."""
    while True:
        codes = {rank: process.poll() for rank, process in ranks.items()}
        for rank, code in codes.items():
            if code:
                _end_all(rank, ranks)
        if None not in codes.values():
            return
        time.sleep(_LOOK_EVERY_S)


def _end_all(failed: int, ranks: dict[int, subprocess.Popen]) -> None:
    """Ends all ranks, unless rank 0 does so already, and says what no other has said."""
    code = ranks[failed].returncode
    _ENDING.acquire()
    for process in ranks.values():
        process.kill()
    if code < 0:  # a rank that ended by itself has reported its error
        name = signal.Signals(-code).name
        print(
            f"error: rank {failed} was ended by {name} (out of memory?): start the same command "
            "again to continue",
            file=sys.stderr,
            flush=True,
        )
    os._exit(1 if code < 0 else code)
