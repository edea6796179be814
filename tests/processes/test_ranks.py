"""Two ranks on a machine end together, whichever ends first, and one of them says why."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PROGRAM = """
import atexit, os, signal, sys, time
from lightning_fabric import Fabric
from lightning_fabric.strategies.launchers import subprocess_script
from beyond_ce.command_line import one_line_errors
from beyond_ce.errors import UsageError
from beyond_ce.processes.ranks import launch

# Lightning's own observer looks every 5 seconds: a slow exit would meet it only by chance.
subprocess_script._ChildProcessObserver.__init__.__defaults__ = (0.05,)

def first(fabric):
    {first}

def second(fabric):
    {second}

with one_line_errors():
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    launch(fabric)
    fabric.barrier()
    os.write(1, b"begun\\n")  # the whole line at once, as both ranks write it
    (first if fabric.global_rank == 0 else second)(fabric)
"""


Start = Callable[[str, str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(first, second)` starts two ranks, each with a line of its own."""
    started: list[subprocess.Popen[str]] = []

    def run(first: str, second: str) -> subprocess.Popen[str]:
        program = tmp_path / "program.py"
        program.write_text(PROGRAM.format(first=first, second=second))
        process = subprocess.Popen(
            [sys.executable, str(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_rank_that_reports_is_not_killed_for_having_ended_the_others(start: Start) -> None:
    first = "atexit.register(time.sleep, 1); raise UsageError('wrong')"
    process = start(first, "fabric.barrier()")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert [line for line in errors.splitlines() if "rror" in line] == ["error: wrong"]


def test_a_killed_rank_ends_the_first_which_says_so(start: Start) -> None:
    process = start("fabric.barrier()", "os.kill(os.getpid(), signal.SIGKILL)")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert errors.count("error: rank 1 was ended by SIGKILL") == 1 and "Traceback" not in errors


def test_an_error_of_another_rank_is_told_once(start: Start) -> None:
    process = start("fabric.barrier()", "raise UsageError('wrong')")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert errors.count("error: ") == 1 and "error: wrong" in errors and "Traceback" not in errors


def test_no_rank_outlives_the_first(start: Start) -> None:
    process = start("time.sleep(100)", "time.sleep(100)")
    assert process.stdout and process.stderr
    assert process.stdout.readline() == "begun\n"
    others = psutil.Process(process.pid).children(recursive=True)
    assert others
    process.kill()
    begin = time.monotonic()
    assert psutil.wait_procs(others, timeout=20)[1] == []
    assert time.monotonic() - begin < 10
    assert "Traceback" not in process.stderr.read()
