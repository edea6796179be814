"""The server of a sandbox: a warm interpreter that forks a process for each program.

It is the sandbox's process 1, which no signal from inside can end as long as it has no handler
for it. It never reads a program, a test or an output: the host sends it file descriptors, and it
hands them to the processes that it forks. So there is nothing in its memory that one program could
leave for the next.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import platform
import re
import resource
import select
import signal
import site
import socket
import time
from typing import Any

from beyond_ce.evaluation.code_execution.inside import asserts, program, system_calls
from beyond_ce.evaluation.code_execution.inside.folder import Folder, Watch
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
    # Python's own handler would end it, though the kernel keeps from process 1 what has none.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    host = socket.socket(fileno=channel)
    folder = Folder()
    tests = _Tests(folder)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    host.send(json.dumps({"filter": filtered}).encode())
    while True:
        message, descriptors, *_ = socket.recv_fds(host, 2**16, _MOST_DESCRIPTORS)
        if not message:
            return
        job = json.loads(message)
        reply = tests.run(job, descriptors) if job["tests"] else _run(job, descriptors, folder)
        reply["clean"] = folder.reset()
        for descriptor in descriptors:
            os.close(descriptor)
        host.send(json.dumps(reply).encode())


def _run(job: dict[str, Any], descriptors: list[int], folder: Folder) -> dict[str, Any]:
    """Run a program that has no tests, and say how it ended."""
    start = time.monotonic()
    limits = Limits(job["seconds"], job["memory_bytes"], job["file_bytes"])
    pid = _fork(limits, descriptors, has_tests=False)
    ended = _wait(pid, Watch(folder, start + job["seconds"]))
    return {
        "program": ended or _kill(pid),
        "timed_out": ended is None,
        "crowded": ended is None and folder.is_crowded(),
        "wall_s": time.monotonic() - start,
    }


class _Tests:
    """The process of a problem's tests, kept for the next program with the same ones and limits.

    It is confined as programs are: what they send must not make it use more than they may.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.serves = ("", 0)  # which tests, in how much memory
        self.pid = 0
        self.process: socket.socket | None = None

    def run(self, job: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Run a program and its tests, and say how it ended."""
        start = time.monotonic()
        limits = Limits(job["seconds"], job["memory_bytes"], job["file_bytes"])
        *files, verdict, tests = descriptors
        serves = job["tests"], job["memory_bytes"]
        if self.process is None or self.serves != serves:
            self.end()
            self._start(tests, Limits(None, limits.memory_bytes, limits.file_bytes))
            self.serves = serves
        assert self.process is not None
        ours, theirs = (end.detach() for end in socket.socketpair())
        pid = _fork(limits, [*files, ours], has_tests=True)
        socket.send_fds(self.process, [b"."], [theirs, verdict])
        os.close(ours)
        os.close(theirs)
        deadline = start + job["seconds"]
        watch = Watch(self.folder, deadline)
        answered: list[Any] = []
        while not answered and (left := watch.left()):
            answered, *_ = select.select([self.process], [], [], left)
        answer = self.process.recv(2) if answered else b""
        ended = None
        passed, is_large = answer or (False, True)  # hung, or ended by the tests themselves
        if is_large:
            self.end()
        if answer and not passed:
            # The tests see that the program is gone a little before it has an exit code.
            ended = _wait(pid, Watch(self.folder, min(deadline, time.monotonic() + _END_S)))
        return {
            "program": ended or _kill(pid),
            "timed_out": not answered,
            "crowded": not answered and self.folder.is_crowded(),
            "wall_s": time.monotonic() - start,
        }

    def _start(self, tests: int, limits: Limits) -> None:
        self.process, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.chdir("/")  # out of the folder that programs write to
                null = os.open(os.devnull, os.O_RDWR)
                confine(limits, [null, null, null, tests, theirs.fileno()], _APART)
                asserts.serve()
            finally:
                os._exit(1)
        theirs.close()

    def end(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None
            _kill(self.pid)


def _fork(limits: Limits, descriptors: list[int], has_tests: bool) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            confine(limits, descriptors, _APART)
            program.run(has_tests)
        finally:
            os._exit(1)
    return pid


def _wait(pid: int, watch: Watch) -> dict[str, Any] | None:
    """How a process ended; None if it has not."""
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return _ended(os.waitstatus_to_exitcode(status), usage)
        if not (left := watch.left()):
            return None
        signal.sigtimedwait([signal.SIGCHLD], left)


def _kill(pid: int) -> dict[str, Any]:
    os.kill(pid, signal.SIGKILL)
    return _ended(None, os.wait4(pid, 0)[2])


def _ended(code: int | None, usage: resource.struct_rusage) -> dict[str, Any]:
    return {"code": code, "cpu_s": usage.ru_utime + usage.ru_stime}
