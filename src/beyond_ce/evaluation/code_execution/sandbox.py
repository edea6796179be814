"""Warm sandboxes: each is an interpreter that waits to fork a process for a program.

Programs, tests and outputs are files in memory. Their descriptors go to the sandbox; their content
never passes through its server, and what a test expects is never in a file that the program's
process has.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from beyond_ce.errors import RunError, one_line
from beyond_ce.evaluation.code_execution.compiled import Compiled
from beyond_ce.evaluation.code_execution.isolation import ENVIRONMENT, as_user, isolation

OUTPUT_BYTES = 16 * 2**20
"""Most that a program may write, to its standard output and to its standard error each."""

_GRACE_S = 10  # after a program's own limit, until its sandbox is given up
_START_S = 60
_LOOK_S = 1.0  # between looks whether it still runs
_EXIT_S = 1.0  # from the end of its channel to that of its process
_TRIES = 3  # of a program whose sandbox ends: the system may have killed it


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        code: the exit code, or minus the signal that ended it; None if it had to be killed.
        timed_out: it was stopped at its time limit, or since it was `crowded`.
        crowded: it made too many files.
        report: what its process says about its end. The program can write it too, so that it may
            give a reason, but must not decide a verdict about tests.
        tests: what the tests' process says, which the program cannot write.
        wall_s, cpu_s: seconds of the wall clock and of the processor.
        sandbox_ended: every sandbox that it ran in, without an answer; then nothing else is known.
    """

    code: int | None
    timed_out: bool
    crowded: bool
    stdout: bytes
    stderr: bytes
    report: dict[str, Any]
    tests: dict[str, Any]
    wall_s: float
    cpu_s: float
    sandbox_ended: bool = False


class _Ended(Exception):
    """A sandbox has ended, or does not answer."""


class _Sandbox:
    """A running sandbox, for one program at a time."""

    def __init__(self) -> None:
        found = isolation()
        self.owner = os.getpid()
        self.tests = ""  # name of those that its process of tests has
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.log = tempfile.TemporaryFile("w+b")  # noqa: SIM115
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                found.command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env=ENVIRONMENT,
                cwd=self.folder.name,  # bubblewrap leaves it
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.log,
                start_new_session=True,
                **as_user(found.user),
            )

    def wait_until_ready(self) -> None:
        """Raises RunError if it does not start, _Ended if it is killed before it has."""
        try:
            self.reusable = self._answer(_START_S)["filter"]
        except _Ended:
            killed = self._was_killed()
            self.log.seek(0)
            why = one_line(Exception(self.log.read().decode(errors="replace"))) or "no reason given"
            self.close()
            if killed:
                raise
            raise RunError(f"the sandbox for programs does not start: {why}") from None

    def run(self, job: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Run a program; raises _Ended if the sandbox ends first."""
        self.tests = job["tests"] or self.tests
        try:
            socket.send_fds(self.channel, [json.dumps(job).encode()], descriptors)
        except OSError as error:
            raise _Ended from error
        reply = self._answer(job["seconds"] + _GRACE_S)
        # Without the filter a program could leave a process behind, or objects of the kernel.
        self.reusable = self.reusable and reply["clean"]
        return reply

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        # The channel stays open if it is killed while bubblewrap builds it: look now and then.
        until = time.monotonic() + timeout_s
        self.channel.settimeout(min(_LOOK_S, timeout_s))
        message: bytes | None = None
        while message is None:
            try:
                message = self.channel.recv(2**16)
            except TimeoutError:
                if self._status() is not None or time.monotonic() > until:
                    raise _Ended from None
            except OSError as error:
                raise _Ended from error
        if not message:
            raise _Ended
        return json.loads(message)

    def _status(self) -> int | None:
        """The exit status of its process, or the signal that has ended it; None while it runs."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT  # `close` needs the process's number
        try:
            found = os.waitid(os.P_PID, self.process.pid, options)
        except ChildProcessError:  # somebody else has waited for it
            return self.process.returncode or 0
        return None if found is None else found.si_status

    def _was_killed(self) -> bool:
        until = time.monotonic() + _EXIT_S
        while (status := self._status()) is None and time.monotonic() < until:
            time.sleep(0.01)
        return status in (signal.SIGKILL, 128 + signal.SIGKILL)

    def close(self) -> None:
        self.channel.close()
        self.log.close()
        if self.owner == os.getpid():  # and not a fork of the process that started it
            # With it everything inside; what does not end with it yet is still in its group.
            if self.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self.folder.cleanup()


class Sandboxes:
    """Sandboxes that are kept for further programs. Threads share them."""

    def __init__(self) -> None:
        self._idle: list[_Sandbox] = []
        self._lock = threading.Lock()
        self._starter: ThreadPoolExecutor | None = None
        self._owner = 0  # id of the process that the starter's thread is in

    def run(
        self,
        program: str,
        stdin: str = "",
        tests: Compiled | None = None,
        *,
        seconds: float,
        memory_mb: int,
    ) -> Outcome:
        """Run a program in a sandbox.

        Args:
            tests: `compiled` tests that call the program.
            seconds: limit of the wall clock, for the program and its tests together.
            memory_mb: MiB of address space that the program may use.

        Raises:
            UsageError: there is no sandbox on this machine.
            RunError: it does not start, or ends whatever runs in it.
        """
        start = time.monotonic()
        job: dict[str, Any] = {
            "seconds": seconds,
            "memory_bytes": memory_mb * 2**20,
            "file_bytes": OUTPUT_BYTES,
            "tests": tests.name if tests else "",
        }
        for _ in range(_TRIES):
            if (outcome := self._try(job, program, stdin, tests)) is not None:
                return outcome
        # The program's fault, if a sandbox lasts that does nothing: others are still to be run.
        if self._try({**job, "tests": ""}, "", "", None) is None:
            raise RunError("the sandbox for programs ends by itself: is the machine out of memory?")
        wall_s = time.monotonic() - start
        return Outcome(None, False, False, b"", b"", {}, {}, wall_s, 0.0, sandbox_ended=True)

    def _try(
        self, job: dict[str, Any], program: str, stdin: str, tests: Compiled | None
    ) -> Outcome | None:
        """What became of a program; None if its sandbox has ended."""
        try:
            sandbox = self._take(job["tests"]) or self._start()
        except _Ended:
            return None
        try:
            outcome = _run_in(sandbox, job, program, stdin, tests)
        except _Ended:
            sandbox.close()
            return None
        except BaseException:
            sandbox.close()
            raise
        self._give_back(sandbox)
        return outcome

    def _start(self) -> _Sandbox:
        # A sandbox ends with the thread that has started it, so one thread starts them all.
        with self._lock:
            if self._starter is None or self._owner != os.getpid():
                self._starter = ThreadPoolExecutor(1, thread_name_prefix="sandboxes")
                self._owner = os.getpid()
            started = self._starter.submit(_Sandbox)
        sandbox = started.result()
        sandbox.wait_until_ready()
        return sandbox

    def _take(self, tests: str) -> _Sandbox | None:
        """An idle sandbox, if there is one that has these tests already."""
        with self._lock:
            for sandbox in [s for s in self._idle if s.owner != os.getpid()]:
                self._idle.remove(sandbox)
                sandbox.close()
            if not self._idle:
                return None
            best = next((s for s in self._idle if s.tests == tests), self._idle[-1])
            self._idle.remove(best)
        return best

    def _give_back(self, sandbox: _Sandbox) -> None:
        if sandbox.reusable:
            with self._lock:
                self._idle.append(sandbox)
        else:
            sandbox.close()

    def close(self) -> None:
        """End all that are idle."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


SANDBOXES = Sandboxes()
atexit.register(SANDBOXES.close)


def _run_in(
    sandbox: _Sandbox, job: dict[str, Any], program: str, stdin: str, tests: Compiled | None
) -> Outcome:
    with contextlib.ExitStack() as stack:
        source, given = (
            stack.enter_context(_file(text.encode("utf-8", "surrogatepass")))
            for text in (program, stdin)
        )
        stdout, stderr, report = (stack.enter_context(_file()) for _ in range(3))
        descriptors = [given, stdout, stderr, source, report]
        verdict = stack.enter_context(_file())
        if tests is not None:
            descriptors += [verdict, stack.enter_context(_file(tests.content))]
        reply = sandbox.run(job, descriptors)
        return Outcome(
            code=reply["program"]["code"],
            timed_out=reply["timed_out"],
            crowded=reply["crowded"],
            stdout=_content(stdout),
            stderr=_content(stderr),
            report=_mapping(report),
            tests=_mapping(verdict),
            wall_s=reply["wall_s"],
            cpu_s=reply["program"]["cpu_s"],
        )


@contextlib.contextmanager
def _file(content: bytes | None = None) -> Iterator[int]:
    """The descriptor of a file in memory: with content to read, or else empty, to be written."""
    descriptor = os.memfd_create("beyond-ce")
    try:
        if content is not None:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            written, descriptor = descriptor, os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
            os.close(written)
        yield descriptor
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, min(os.fstat(descriptor).st_size, OUTPUT_BYTES), 0)


def _mapping(descriptor: int) -> dict[str, Any]:
    """A report, as it may be written by anybody; empty if it is none."""
    try:
        report = json.loads(_content(descriptor)[: 2**16])
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}
