"""The server of a sandbox: a warm interpreter that forks a process for each program.

It is the sandbox's process 1, which no signal from inside can end. It never reads a program, a test
or an output: the host sends it file descriptors, and it hands them to the processes that it forks.
So there is nothing in its memory that one program could leave for the next.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import platform
import re
import signal
import site
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from beyond_ce.evaluation.code_execution.inside import asserts, program, system_calls
from beyond_ce.evaluation.code_execution.inside.limits import Limits, confine, open_streams

_MOST_DESCRIPTORS = 16
_END_S = 1.0

# Importing them once saves each program the time. Those that do work after each fork are left out:
# threading and random, and what imports them.
_MODULES = """
    array bisect cmath collections copy datetime decimal fractions functools hashlib heapq io
    itertools json math operator os re string sys textwrap time typing
"""


# A user namespace of one's own counts its processes for itself, from this kernel on.
_KERNEL = [int(part) for part in re.findall(r"\d+", platform.release())[:2]]
_APART = os.getpid() == 1 and _KERNEL >= [5, 14]


def main(channel: int) -> None:
    """Serve jobs from a socket until its other end is closed."""
    for name in _MODULES.split():
        importlib.import_module(name)
    site.setquit()
    open_streams()
    system_calls.hide_memory()
    if filtered := system_calls.is_supported():
        system_calls.restrict(system_calls.lasting(platform.machine()))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    host = socket.socket(fileno=channel)
    folder = os.getcwd()
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    host.send(json.dumps({"filter": filtered}).encode())
    while True:
        message, descriptors, *_ = socket.recv_fds(host, 2**16, _MOST_DESCRIPTORS)
        if not message:
            return
        reply = _serve(json.loads(message), descriptors)
        reply["clean"] = _is_clean(folder)
        for descriptor in descriptors:
            os.close(descriptor)
        host.send(json.dumps(reply).encode())


def _serve(job: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """Run a program, with its tests if there are any, and say how its processes ended."""
    limits = Limits(job["seconds"], job["memory_bytes"], job["file_bytes"])
    has_tests = len(descriptors) > 5
    start = time.monotonic()
    if has_tests:
        ours, theirs = (end.detach() for end in socket.socketpair())
        files, (tests, verdict) = descriptors[:5], descriptors[5:]
        null = os.open(os.devnull, os.O_RDWR)
        waiting = {
            "program": _fork(limits, [*files, ours], lambda: program.run(True)),
            "tests": _fork(
                limits,
                [null, null, null, tests, verdict, theirs],
                asserts.run,
            ),
        }
        for descriptor in (ours, theirs, null):
            os.close(descriptor)
    else:
        waiting = {"program": _fork(limits, descriptors, lambda: program.run(False))}
    deadline = start + limits.seconds
    last = "tests" if has_tests else "program"
    ended = _wait(waiting, last, deadline)
    timed_out = last in waiting
    if has_tests and not timed_out and ended["tests"]["code"] != 0:
        # The tests see that the program is gone a little before it has an exit code.
        ended |= _wait(waiting, "program", min(deadline, time.monotonic() + _END_S))
    for pid in waiting.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {**ended, "timed_out": timed_out, "wall_s": time.monotonic() - start}


def _fork(limits: Limits, descriptors: list[int], run: Callable[[], NoReturn]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            confine(limits, descriptors, _APART)
            gc.enable()
            run()
        finally:
            os._exit(1)
    return pid


def _wait(waiting: dict[str, int], last: str, deadline: float) -> dict[str, Any]:
    """Wait for the last process to end; takes from `waiting` what has ended."""
    ended: dict[str, Any] = {}
    while True:
        for name, pid in list(waiting.items()):
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                del waiting[name]
                code = os.waitstatus_to_exitcode(status)
                ended[name] = {"code": code, "cpu_s": usage.ru_utime + usage.ru_stime}
        left = deadline - time.monotonic()
        if last not in waiting or left <= 0:
            return ended
        signal.sigtimedwait([signal.SIGCHLD], left)


def _is_clean(folder: str) -> bool:
    """Whether nothing of the program is left in the folder that it could write."""
    try:
        return not os.listdir(folder) and os.stat(folder).st_mode & 0o700 == 0o700
    except OSError:  # it has taken the right to read it
        return False
