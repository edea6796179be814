"""Runs a config again and again, each time killed at another of its changes to files.

    python kill_points.py <folder> <stride> <first> <override> ...

A run goes on in `<folder>/<n>` for n = first, first + stride, ... It is killed when it is about to
make change n to a file of its results or cache, or a moment later; started again and killed at an
earlier change of that start; and started until it ends. The last n is the one that is not reached.
Prints how many starts were killed. Every start is a fork, as importing torch takes seconds.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from beyond_ce.configuration import compose
from beyond_ce.runs.experiment import run

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
MOMENT_S = 0.0005


def main(folder: Path, stride: int, first: int, overrides: list[str]) -> None:
    killed, n, draw = 0, first, random.Random(0)
    while True:
        place = folder / str(n)
        if not _start(place, overrides, n, draw.random() < 0.5):
            break
        killed += 1 + _start(place, overrides, draw.randint(1, n), draw.random() < 0.5)
        if _start(place, overrides, None, False):
            sys.exit(f"a start that nobody killed died, after change {n}")
        n += stride
    print(killed)


def _start(place: Path, overrides: list[str], last: int | None, later: bool) -> bool:
    """Whether the run was killed at its `last` change (None: never)."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        if last is not None:
            sys.addaudithook(_Killer(str(place), last, later))
        with (place.parent / "log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = 1
        try:
            run(compose([*overrides, f"results_dir={place}/results", f"cache_dir={place}/cache"]))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"a start failed: see {place.parent / 'log'}")
    return os.WIFSIGNALED(status)


class _Killer:
    """Counts the changes to files below a folder, and kills this process at the last."""

    def __init__(self, folder: str, last: int, later: bool) -> None:
        self.folder, self.left, self.later = folder, last, later
        self.process = os.getpid()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            changes = event in CHANGES
        if not changes or not str(arguments[0]).startswith(self.folder):
            return
        if os.getpid() != self.process:
            return
        self.left -= 1
        if self.left == 0:
            if self.later:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, as SIGKILL does
                signal.setitimer(signal.ITIMER_REAL, MOMENT_S)
            else:
                os.kill(self.process, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
