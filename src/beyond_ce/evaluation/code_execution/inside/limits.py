"""What a program's process may use, and what it keeps of the process that it was forked from."""

from __future__ import annotations

import os
import platform
import resource
import signal
import sys
from dataclasses import dataclass

from beyond_ce.evaluation.code_execution.inside import system_calls

_BASE_BYTES = 96 * 2**20  # address space of the interpreter itself, with what it has imported
_STACK_BYTES = 100 * 2**20  # the kernel leaves about 128 MiB below a stack, whatever the limit
_FILES = 64
_THREADS = 64


@dataclass(frozen=True)
class Limits:
    """The limits of one program.

    Attributes:
        seconds: of the wall clock, and, to the next whole second, of the processor; None for a
            process that serves several programs.
        memory_bytes: of address space, beyond the interpreter's own.
        file_bytes: of each file, the standard output and error among them.
    """

    seconds: float | None
    memory_bytes: int
    file_bytes: int


def confine(limits: Limits, descriptors: list[int], apart: bool) -> None:
    """Turn a fork of the server into a process for code that nobody trusts, or for what it sends.

    Args:
        descriptors: what become its file descriptors 0, 1, 2, ...; all others are closed.
        apart: this user's processes elsewhere do not count as its own; then their number has a
            limit.
    """
    os.setpgid(0, 0)  # what it sends to its group goes to itself
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    keep_only(descriptors)
    seconds = resource.RLIM_INFINITY if limits.seconds is None else int(limits.seconds) + 1
    for kind, amount in (
        (resource.RLIMIT_AS, _BASE_BYTES + limits.memory_bytes),
        (resource.RLIMIT_STACK, _STACK_BYTES),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            amount = most if amount == resource.RLIM_INFINITY else min(amount, most)
        resource.setrlimit(kind, (amount, amount))
    if apart:
        resource.setrlimit(resource.RLIMIT_NPROC, (_THREADS, _THREADS))
    if system_calls.is_supported():
        system_calls.restrict(system_calls.for_program(platform.machine(), os.getpid()))


def open_streams() -> None:
    """Make `sys.stdin`, `stdout` and `stderr` anew, as all programs are to have them.

    The forks of this process keep them, for whatever their file descriptors 0, 1 and 2 are.
    """
    _open_stream("stdin", 0, "r")
    _open_stream("stdout", 1, "w")
    _open_stream("stderr", 2, "w", 1, "backslashreplace")  # by line, as Python has it


def _open_stream(
    name: str, number: int, mode: str, buffering: int = 2**16, errors: str = "strict"
) -> None:
    stream = open(  # noqa: SIM115
        number, mode, buffering, encoding="utf-8", errors=errors, closefd=False
    )
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def keep_only(descriptors: list[int]) -> None:
    """Make them the file descriptors 0, 1, 2, ... of this process, and close all others."""
    # First out of the way of the numbers that they get.
    high = [os.dup(d) for d in descriptors]
    while min(high) < len(descriptors):
        high = [os.dup(d) for d in high]
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number)
    os.closerange(len(descriptors), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
