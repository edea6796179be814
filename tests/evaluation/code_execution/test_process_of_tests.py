"""What decides about a program is out of its reach, and no more than the program is itself."""

from __future__ import annotations

import textwrap

import pytest

from beyond_ce.data.programs.problem import FunctionTests
from beyond_ce.evaluation.code_execution import Verdict, run_tests
from beyond_ce.evaluation.code_execution.sandbox import SANDBOXES


def judge(program: str, tests: str, memory_mb: int = 1024) -> Verdict:
    judged = FunctionTests(textwrap.dedent(tests), None)
    return run_tests(textwrap.dedent(program), judged, timeout_s=60, memory_mb=memory_mb)


# A module that the tests import, and would judge by if it were the program's.
HIJACK = """
source = '''
import os
os.unlink('/tmp/{name}.py')
from beyond_ce.evaluation.code_execution.inside import asserts
asserts._judge = lambda *a: dict(passed=True)
asserts.json = type('J', (), dict(dumps=staticmethod(lambda v: '{{"passed": true}}')))
def mean(x): return 3
randint = mean
'''
open('/tmp/{name}.py', 'w').write(source)
def f(): return 0
"""


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("random", "import random\nassert f() == random.randint(3, 3)"),
        ("statistics", "assert statistics.mean([f()]) == 3"),
        ("statistics", "from statistics import mean\nassert mean([f()]) == 3"),
    ],
)
def test_imports_nothing_from_where_programs_write(name: str, tests: str) -> None:
    hijack = HIJACK.format(name=name)
    for program in (hijack, f"import {name}\n{hijack}"):
        SANDBOXES.close()  # as a module that it has imported already would be its own
        assert judge(program, tests).verdict == "failed"
        assert judge(f"import {name}\ndef f(): return 0", tests).verdict == "failed"
        assert judge(f"import {name}\ndef f(): return 3", tests).passed


def test_a_program_finds_its_files_where_it_is_but_imports_none() -> None:
    program = "open('x.py', 'w').write('1')\nprint(open('/tmp/x.py').read())\n"
    assert run_tests(program + "def f(): return 1", FunctionTests("assert f() == 1", None)).passed
    found = run_tests(program + "import x", FunctionTests("", None))
    assert found.reason.startswith("ModuleNotFoundError")


def test_is_confined_as_programs_are() -> None:
    tests = """
    import os, resource
    def stopped(attempt, *args):
        try: attempt(*args)
        except OSError: return True
    assert f() == 1
    assert stopped(os.fork)
    assert stopped(os.kill, 1, 2) and stopped(os.kill, -1, 9)
    assert stopped(open, 'x', 'w')
    held = resource.getrlimit(resource.RLIMIT_AS)[1] // 2**20
    assert held == limit()
    """
    program = "def f(): return 1\ndef limit(): return {}"
    # The interpreter's own memory comes on top.
    for memory_mb in (128, 256, 256, 128):
        assert judge(program.format(96 + memory_mb), tests, memory_mb).passed


def test_what_programs_send_takes_no_more_memory_than_they_may() -> None:
    many = "def f():\n  x = 'x' * 5 * 10**6\n  for n in range(40): yield x"
    found = judge(many, "x = list(f())", memory_mb=32)
    assert (found.verdict, found.reason) == ("memory", "MemoryError in: x = list(f())")
    # Small in a frame, and large as objects.
    lists = """
    import os, struct
    def f():
        frame = b'{"ok": {"result": [' + b'[],' * 1_500_000 + b'1]}}'
        frame = struct.pack('!I', len(frame)) + frame
        while frame: frame = frame[os.write(5, frame):]
    """
    assert judge(lists, "x = f()", memory_mb=16).verdict == "memory"


def test_a_value_that_is_too_long_is_refused() -> None:
    found = judge("def f(): return 'x' * 2**24", "x = f()")
    assert found.verdict == "memory"
    assert found.reason == "MemoryError: more than 16 MiB in one value in: x = f()"
    assert judge("def f(x): return x", "f('x' * 2**24)").verdict == "memory"
    assert judge("def f(): return 'x' * 2**23", "x = f()").passed


def test_a_process_that_has_grown_is_replaced() -> None:
    tests = "import os\nx = f()\nassert 0, os.getpid()"
    small, large = "def f(): return 1", "def f(): return 'x' * (2**24 - 100)"
    first, second, third, fourth = (judge(p, tests).reason for p in (small, small, large, small))
    assert first == second == third != fourth
