"""What a program writes, how it ends, and what it may use."""

from __future__ import annotations

import time

import pytest

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.code_execution import execute


@pytest.mark.parametrize(
    ("program", "verdict", "reason"),
    [
        ("print(1)", "passed", ""),
        ("", "passed", ""),
        ("import sys\nsys.exit()", "passed", ""),
        ("exit(0)", "passed", ""),
        ("def f():\n  assert True\nf()\nexit()", "passed", ""),
        ("raise SystemExit(3)", "failed", "exit code 3"),
        ("raise SystemExit(256)", "failed", "exit code 1"),
        ("import sys\nsys.exit('no')", "failed", "exit code 1: no"),
        ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("class E(Exception):\n  def __str__(self): 1 / 0\nraise E", "failed", "E"),
        ("def f(:", "failed", "SyntaxError"),
        ("x = '\0'", "failed", ""),
        ("assert 1 == 2, 'no'", "failed", "AssertionError: no"),
        (
            "import os\nos._exit(0)",
            "failed",
            "it ended itself by os._exit before it came to its end",
        ),
        ("import os\nos._exit(4)", "failed", "exit code 4"),
        ("import os\nos.abort()", "crashed", "ended by SIGABRT"),
        ("import ctypes\nctypes.string_at(0)", "crashed", "ended by SIGSEGV"),
        ("import os\nos.kill(0, 9)", "crashed", "ended by SIGKILL"),
        ("x = bytearray(2**36)", "memory", "MemoryError"),
        ("import os\nos.kill(os.getpid(), 19)", "timeout", "it ran longer than 5 s"),
        ("def f(): f()\nf()", "failed", "RecursionError: maximum recursion depth exceeded"),
        ("print('\ud800')", "failed", "UnicodeEncodeError"),
        ("print('\\ud800')", "failed", "UnicodeEncodeError"),
    ],
)
def test_verdict_says_how_the_program_ended(program: str, verdict: str, reason: str) -> None:
    found = execute(program, timeout_s=5)
    assert found.verdict == verdict
    assert found.reason.startswith(reason)
    assert bool(found.reason) == (verdict != "passed")
    assert "\n" not in found.reason


def test_reads_stdin_and_keeps_what_is_written() -> None:
    found = execute("import sys\nprint(input(), *sys.stdin)\nprint('e', file=sys.stderr)", "ä\nb\n")
    assert (found.stdout, found.stderr) == ("ä b\n\n", "e\n")
    assert execute("input()").reason == "EOFError: EOF when reading a line"


def test_output_that_is_no_text_is_replaced() -> None:
    assert execute("import sys\nsys.stdout.buffer.write(b'a\\xffb')").stdout == "a�b"


def test_a_traceback_shows_the_program_alone() -> None:
    stderr = execute("def f():\n  raise ValueError('x')\nf()").stderr
    assert "raise ValueError('x')" in stderr
    assert stderr.count("File ") == stderr.count('File "<program>"') == 2


def test_waits_for_threads_and_calls_what_is_registered_for_the_end() -> None:
    program = """
import atexit, sys, threading, time
def deep(n):
    return n and 1 + deep(n - 1)
def main():
    time.sleep(0.1)
    sys.setrecursionlimit(10**6)
    print(deep(20_000))
atexit.register(print, "last")
threading.stack_size(2**26)
threading.Thread(target=main).start()
"""
    assert execute(program).stdout == "20000\nlast\n"


def test_a_program_may_have_some_threads() -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
barrier = Barrier(32)
with ThreadPoolExecutor(32) as pool:
    print(len(set(pool.map(lambda _: barrier.wait(), range(32)))))
"""
    assert execute(program).stdout == "32\n"


def test_asserts_that_were_left_out_are_no_pass() -> None:
    left = "import sys\ndef f(): sys.exit(0)\n"
    for tests in ("f()\nassert 1 == 2", "def check(c):\n  c()\n  assert 1 == 2\ncheck(f)"):
        found = execute(left + tests)
        assert (found.verdict, found.reason) == ("failed", "it left by sys.exit before its asserts")
    assert execute("assert True\n" + left + "f()").passed


@pytest.mark.parametrize("program", ["while True: pass", "import time\ntime.sleep(100)"])
def test_ends_at_the_time_limit(program: str) -> None:
    start = time.monotonic()
    found = execute(program, timeout_s=1)
    assert (found.verdict, found.reason) == ("timeout", "it ran longer than 1 s")
    assert 1 <= found.wall_s < 5
    assert time.monotonic() - start < 10
    assert execute("print(1)").passed


def test_memory_limit_is_the_programs_own() -> None:
    program = "x = bytearray({} * 2**20)"
    assert execute(program.format(50), memory_mb=64).passed
    assert execute(program.format(200), memory_mb=64).verdict == "memory"


def test_flood_of_output_is_cut_off() -> None:
    found = execute("while True: print('x' * 1000)")
    assert (found.verdict, found.reason) == ("crashed", "it wrote more than 16 MiB")
    assert len(found.stdout) == 2**24


@pytest.mark.parametrize("limits", [{"timeout_s": 0}, {"memory_mb": 0}, {"memory_mb": 1.5}])
def test_refuses_limits_that_are_none(limits: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(limits))):
        execute("", **limits)
