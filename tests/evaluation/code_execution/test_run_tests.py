"""Programs judged by tests: right ones pass, wrong ones fail, and none passes by a trick."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

from beyond_ce.data.programs.problem import FunctionTests, InputOutputTests
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.code_execution import Verdict, execute, run_tests, unsupported
from beyond_ce.storage.shards import Shards

DOUBLE = FunctionTests("def check(c):\n  assert c(2) == 4\n  assert c(3) == 6\ncheck(f)", "f")


def judge(program: str, tests: str, entry_point: str | None = None) -> Verdict:
    return run_tests(textwrap.dedent(program), FunctionTests(textwrap.dedent(tests), entry_point))


def sums(**changes: object) -> InputOutputTests:
    settings: dict = {
        "cases": (("1 2", "3\n"), ("5 5\n", "10")),
        "time_limit_s": 5.0,
        "memory_mb": 256,
        "tolerance": None,
        "grader": None,
    }
    return InputOutputTests(**{**settings, **changes})


@pytest.mark.parametrize(
    ("program", "verdict", "reason"),
    [
        ("def f(x):\n  return 2 * x", "passed", ""),
        ("f = (2).__mul__", "passed", ""),
        ("def f(x):\n  return 4", "failed", "AssertionError in: assert c(3) == 6"),
        (
            "def f(x):\n  return x / 0",
            "failed",
            "ZeroDivisionError: division by zero in: assert c(",
        ),
        ("def f(x):\n  pass", "failed", "AssertionError in: assert c(2) == 4"),
        ("", "failed", "NameError: name 'f' is not defined in: check(f)"),
        ("def f(x:", "failed", "SyntaxError"),
        ("def f(x): return 2 * x\n1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("def f(x): return 2 * x\nexit()", "failed", "it ended before its tests"),
        ("def f(x): return 2 * x\nexit(3)", "failed", "exit code 3"),
        ("def f(x): raise MemoryError", "memory", "MemoryError in: assert c(2) == 4"),
        ("def f(x): return bytearray(2**40)", "memory", "MemoryError in: assert c(2) == 4"),
        ("import ctypes\ndef f(x): ctypes.string_at(0)", "crashed", "ended by SIGSEGV"),
        ("if __name__ == '__main__': 1 / 0\ndef f(x): return 2 * x", "passed", ""),
    ],
)
def test_verdict_says_what_the_tests_found(program: str, verdict: str, reason: str) -> None:
    found = run_tests(program, DOUBLE)
    assert found.verdict == verdict
    assert found.reason.startswith(reason)
    assert found.passed == (found.reason == "")


SURROGATES = [
    "def f(x): raise ValueError('\\ud800')",
    "import sys\nsys.exit('\\udfff')",
    "raise type('\\ud800', (Exception,), {})",
    "print('\\ud800')\ndef f(x): return '\\ud800'",
    "import os\nos.write(1, b'\\xed\\xa0\\x80')\nos.write(2, b'\\xed\\xa0\\x80')",
]


@pytest.mark.parametrize("program", SURROGATES)
def test_what_a_verdict_says_can_be_written(program: str, tmp_path: Path) -> None:
    shards = Shards(tmp_path, {name: pa.string() for name in ("reason", "stdout", "stderr")})
    tests = FunctionTests("assert f('\\ud800') == '\\udfff', f('\\ud800')", "f")
    for found in (run_tests(program, DOUBLE), run_tests(program, tests), execute(program)):
        row = {"reason": found.reason, "stdout": found.stdout, "stderr": found.stderr}
        shards.append([row])
        assert shards.read().to_pylist()[-1] == row
    assert run_tests(SURROGATES[0], DOUBLE).reason == "ValueError: \\ud800 in: assert c(2) == 4"


@pytest.mark.parametrize("where", ["while True: pass", "def f(x):\n  while True: pass"])
def test_ends_at_the_time_limit(where: str) -> None:
    found = run_tests(where, DOUBLE, timeout_s=1)
    assert (found.verdict, found.reason) == ("timeout", "it ran longer than 1 s")


# Each tries to pass without a right answer.
TRICKS = {
    "os._exit": "import os\nos._exit(0)",
    "os._exit in a call": "import os\ndef f(x): os._exit(0)",
    "sys.exit in a call": "def f(x): exit(0)",
    "an end that is registered": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): 1 / 0",
    "an equal object": """
        class Equal:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return 0
        def f(x): return Equal()
    """,
    "an equal number": """
        class Equal(int):
            def __eq__(self, other): return True
        def f(x): return Equal(0)
    """,
    "an equal text": """
        class Equal(str):
            def __eq__(self, other): return True
        def f(x): return Equal()
    """,
    "other builtins": """
        import builtins
        class Quiet(BaseException): pass
        builtins.AssertionError = AssertionError = Quiet
        builtins.compile = builtins.exec = lambda *_, **__: None
        def f(x): return 0
    """,
    "other tests": "def check(c): pass\ndef f(x): return 0",
    "asserts that are skipped": """
        import sys
        def skip(frame, event, arg):
            frame.f_trace_lines = False
            return skip
        sys.settrace(skip)
        def f(x): return 0
    """,
    "what the stack holds": """
        import sys
        def f(x):
            frame = sys._getframe()
            while frame:
                for value in (*frame.f_locals.values(), *frame.f_code.co_consts):
                    if value == 2 * x + 0 and isinstance(value, int) and frame.f_back: return value
                frame = frame.f_back
    """,
    "what is in memory": """
        import gc
        def f(x):
            for o in gc.get_objects():
                if isinstance(o, str) and "assert" in o and "c(" in o: return 2 * x
    """,
    "what it can open": """
        import os
        def f(x):
            for number in range(64):
                try: text = os.pread(number, 10**6, 0)
                except OSError: continue
                if b"assert" in text.replace(b'b"assert"', b""): return 2 * x
    """,
    "a verdict of its own": """
        import os
        for number in range(64):
            for text in (b'{"passed": true}', b'\\0\\0\\0\\x10{"passed": true}'):
                try: os.write(number, text)
                except OSError: pass
        def f(x): return 0
    """,
    "answers without a question": """
        import os
        def f(x):
            for number in range(3, 64):
                try: os.write(number, b'\\0\\0\\0\\x17{"ok": {"result": true}}')
                except OSError: pass
    """,
    "a claim about its arguments": """
        def f(x): return NotImplemented
    """,
}


@pytest.mark.parametrize("program", TRICKS.values(), ids=TRICKS)
def test_no_trick_passes(program: str) -> None:
    assert not run_tests(textwrap.dedent(program), DOUBLE).passed
    assert run_tests("def f(x): return 2 * x", DOUBLE).passed


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        # What the tests compare with is never an argument of an object of the program.
        (
            """
            class Any:
                def __sub__(self, other): return 0.0
                def __lt__(self, other): return True
                __le__ = __gt__ = __ge__ = __lt__
                def __float__(self): return 3.0
                def __contains__(self, item): return True
                def __len__(self): return 1
            def f(): return Any()
            """,
            {
                "assert abs(f() - 3) < 1e-6": 3.0,
                "assert f() < 3": 2,
                "assert 3 in f()": [3],
                "assert f() == 3": 3,
            },
        ),
        # Nor is it the program's to say what `abs`, `math` and `set` are.
        (
            """
            def abs(x): return 0
            def set(x): return 0
            def all(x): return True
            class math:
                isclose = lambda *_: True
            def f(): return 5
            """,
            {
                "assert abs(f() - 3) < 1e-6": 3,
                "assert math.isclose(f(), 3)": 3,
                "assert set([f()]) == set([3])": 3,
                "assert all([f() == 3])": 3,
            },
        ),
    ],
)
def test_comparison_is_not_the_programs(program: str, tests: dict[str, object]) -> None:
    for test, right in tests.items():
        assert judge(program, test).verdict == "failed", test
        assert judge(f"import math\ndef f(): return {right}", test).passed, test


# Values, and what tests do with them.
USES = {
    "plain values": (
        "def f(x): return x",
        """
        import math
        from collections import deque
        from decimal import Decimal
        from fractions import Fraction
        big = 10**6000 + 1
        values = [None, True, 1, -big, 0.1, -0.0, 1e400, 1j, 'a\\ud800', b'\\xff', [1], (1,), {1},
                  frozenset([1]), {'a': [(1,)], (1, 2): {}}, range(3), Decimal('0.10'),
                  Fraction(1, 3), deque([1]), bytearray(b'a'), ..., int, [[]], ()]
        for value in values:
            back = f(value)
            assert back == value and type(back) is type(value), value
        assert math.isnan(f(math.nan)) and math.copysign(1, f(-0.0)) == -1
        """,
    ),
    "subclasses": (
        """
        from collections import Counter, OrderedDict, defaultdict, namedtuple
        import enum
        P = namedtuple('P', 'x y')
        class E(enum.IntEnum):
            A = 3
        def f(): return [Counter('aab'), OrderedDict(a=1), P(1, 2), E.A, defaultdict(int)]
        """,
        "assert f() == [{'a': 2, 'b': 1}, {'a': 1}, (1, 2), 3, {}]",
    ),
    "objects": (
        """
        class Node:
            made = 0
            def __init__(self, value): self.value, self.next = value, None; Node.made += 1
            def last(self): return self.next.last() if self.next else self
            def __str__(self): return f'<{self.value}>'
        def total(node): return node.value + total(node.next) if node else 0
        """,
        """
        a, b = Node(1), Node(value=2)
        a.next = b
        assert total(a) == 3 and a.last() == b and a.last() != a and a.next.value == 2
        assert Node.made == 2 and str(b) == '<2>'
        assert isinstance(b, Node) and not isinstance(1, Node)
        assert len({a, a.last(), b}) == 2
        """,
    ),
    "iterators": (
        "def f(n): yield from range(n)\nclass S:\n  def __getitem__(self, k): return k\n"
        "  def __len__(self): return 7",
        "assert list(f(3)) == [0, 1, 2] and sum(f(4)) == 6\n"
        "it = f(2)\nassert next(it) == 0 and next(it) == 1 and next(it, None) is None\n"
        "assert S()[5] == 5 and len(S()) == 7 and S() and 3 in f(4) and 4 not in f(4)",
    ),
    "exceptions": (
        "def f(x): raise KeyError('k') if x else ValueError('v')\nclass E(LookupError): pass\n"
        "def g(): raise E('e')",
        """
        for call, kind in ((lambda: f(1), KeyError), (lambda: f(0), ValueError), (g, LookupError)):
            try: call()
            except kind: pass
            else: assert False
        """,
    ),
    "changed arguments": (
        "def f(x, d, *, s):\n  x.sort()\n  d['a'] = 1\n  s.add(3)",
        "x, d, s = [2, 1], {}, {1}\nassert f(x, d, s=s) is None\n"
        "assert (x, d, s) == ([1, 2], {'a': 1}, {1, 3})",
    ),
    "functions of the tests": (
        "def apply(g, x): return g(x, k=1)\ndef twice(g): return lambda x: g(g(x))",
        "assert apply(lambda x, k: x + k, 2) == 3\n"
        "assert twice(lambda x: x * 3)(2) == 18\n"
        "assert apply(lambda x, k: twice(lambda y: y + k)(x), 5) == 7\n"
        "assert apply(max, 2) if False else True",
    ),
    "helpers and modules of the program": (
        "import sys, math\ndef helper(x): return x + 1\nLIMIT = 5\n"
        "def f(x): return sys.getsizeof(x)",
        "assert helper(LIMIT) == 6 and f(()) == sys.getsizeof(()) and math.floor(1.5) == 1",
    ),
    "a function with a builtin's name": ("def sum(a, b): return a - b", "assert sum(3, 1) == 2"),
    "a large argument": ("def f(x): return len(x)", "assert f(list(range(10**5))) == 10**5"),
}


@pytest.mark.parametrize(("program", "tests"), USES.values(), ids=USES)
def test_tests_use_the_program_as_if_it_were_in_their_file(program: str, tests: str) -> None:
    found = judge(program, tests)
    assert found.passed, found


def test_the_entry_point_may_have_a_builtins_name() -> None:
    tests = "def check(c):\n  assert c(3) == 4\ndef other(x): return abs(x)\n"
    assert judge("def max(x): return x + 1", tests + "check(max)", "max").passed


def test_tests_that_cannot_be_run_fail_with_the_reason() -> None:
    assert judge("def f(x): pass", "class T: pass\nf(T())").reason.startswith(
        "TypeError: tests cannot pass a T to the program"
    )
    assert judge("def f(x): pass", "exit(0)").reason.startswith("SystemExit")


def test_tests_stay_for_the_next_program_and_start_anew_for_it() -> None:
    tests = "seen = []\nassert f(seen) is None and seen == [1]\nimport os\nprint(os.getpid())"
    right = "def f(x): x.append(1)"
    assert judge(right, tests).passed
    assert judge("def f(x): x += [1, 1]", tests).reason.startswith("AssertionError")
    assert judge(right, tests).passed
    hung = run_tests("def f(x):\n  while True: pass", FunctionTests(tests, None), timeout_s=1)
    assert hung.verdict == "timeout"
    assert judge(right, tests).passed
    assert judge(right, "import os\nos._exit(0)").reason == "it ended before its tests"
    assert judge(right, tests).passed


def test_tests_that_are_no_python_are_an_error() -> None:
    with pytest.raises(UsageError, match="the tests of a problem are no Python"):
        judge("", "assert (")


def test_outputs_are_compared() -> None:
    assert run_tests("print(sum(map(int, input().split())))", sums()).passed
    found = run_tests("print(3)", sums())
    assert (found.verdict, found.reason) == (
        "failed",
        "test 2: token 1 is '3' instead of '10'",
    )
    assert found.stdout == "3\n"
    assert run_tests("print(int(input()))", sums()).reason.startswith("test 1: ValueError")
    assert run_tests("print(3.0000001)", sums(cases=(("", "3"),), tolerance=1e-6)).passed
    slow = run_tests("while True: pass", sums(time_limit_s=1.0))
    assert (slow.verdict, slow.reason) == ("timeout", "test 1: it ran longer than 1 s")
    assert run_tests("x = bytearray(2**30)", sums()).verdict == "memory"


def test_a_program_may_end_itself_once_it_has_printed() -> None:
    quick = "import os, sys\nprint(sum(map(int, input().split())))\nsys.stdout.flush()\n"
    assert run_tests(quick + "os._exit(0)", sums()).passed
    assert run_tests(quick + "os._exit(1)", sums()).verdict == "failed"


def test_problems_that_cannot_be_judged_are_named() -> None:
    assert unsupported(sums()) is None and unsupported(DOUBLE) is None
    for tests, why in (
        (sums(grader="interactive"), "its grader interactive is not supported"),
        (sums(cases=()), "it has no tests"),
    ):
        assert unsupported(tests) == why
        with pytest.raises(UsageError, match=why):
            run_tests("print(3)", tests)
