"""One program: run by itself, or judged by its tests."""

from __future__ import annotations

import dataclasses

from beyond_ce.data.programs.problem import (
    MEMORY_MB,
    TIME_LIMIT_S,
    FunctionTests,
    InputOutputTests,
)
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.code_execution.compiled import compiled
from beyond_ce.evaluation.code_execution.grading import difference
from beyond_ce.evaluation.code_execution.sandbox import SANDBOXES, Outcome
from beyond_ce.evaluation.code_execution.verdict import (
    Kind,
    Verdict,
    decoded,
    failure,
    raised,
    verdict_of,
)
from beyond_ce.settings import number, takes, whole

Tests = FunctionTests | InputOutputTests

_SECONDS = number(above=0, high=86_400)
_MEMORY = whole(1, 2**20)
_KEPT = 4000  # characters of each output, as there may be a hundred thousand verdicts


@takes("", timeout_s=_SECONDS, memory_mb=_MEMORY)
def execute(program: str, stdin: str = "", timeout_s: float = 10, memory_mb: int = 1024) -> Verdict:
    """Run a Python program in the sandbox; it has passed if it came to its end.

    The end is that of its source, or `sys.exit` with code 0 unless asserts were still ahead in a
    function, or in the module, that was left. So a program that is followed by its own tests has
    passed if the tests have run, as long as nobody wants to fool them: in one process a program can
    do what it likes to its tests. `run_tests` is the judge of programs that nobody trusts.

    Args:
        stdin: what it reads.
        timeout_s: limit of the wall clock, in seconds.
        memory_mb: limit of its address space, in MiB, beyond the interpreter's own.

    Raises:
        UsageError: there is no sandbox on this machine.
        RunError: the sandbox does not start.
    """
    outcome = SANDBOXES.run(program, stdin, seconds=timeout_s, memory_mb=memory_mb)
    bad = failure(outcome, timeout_s)
    if bad is None and outcome.report.get("end") not in ("returned", "exit"):
        bad = "failed", "it ended itself by os._exit before it came to its end"
    if bad is None and outcome.report.get("asserts_ahead"):
        bad = "failed", "it left by sys.exit before its asserts"
    return verdict_of(outcome, *(bad or ("passed", "")))


def unsupported(tests: Tests) -> str | None:
    """Why a problem's tests cannot judge a program here; None if they can."""
    if isinstance(tests, FunctionTests):
        return None
    if tests.grader is not None:
        return f"its grader {tests.grader} is not supported"
    return None if tests.cases else "it has no tests"


@takes("", timeout_s=_SECONDS, memory_mb=_MEMORY)
def run_tests(
    program: str, tests: Tests, timeout_s: float = TIME_LIMIT_S, memory_mb: int = MEMORY_MB
) -> Verdict:
    """Judge a Python program by a problem's tests.

    Tests that call functions run in a process of their own, which the program cannot reach: it sees
    the arguments of the calls and nothing else, and comparison is left to what it cannot change. So
    all that a program can do to pass is to give right values. Outputs are compared outside of the
    sandbox; the first wrong one decides.

    What stays possible: a helper that the tests take from the program, such as the `poly` of
    HumanEval/32, is the program's; tests that define it themselves do not ask.

    Args:
        timeout_s, memory_mb: limits for tests that call functions; the others have their own.

    Raises:
        UsageError: the tests are `unsupported`, or there is no sandbox on this machine.
        RunError: the sandbox does not start.
    """
    if (why := unsupported(tests)) is not None:
        raise UsageError(f"a problem cannot be judged, {why}: leave it out")
    if isinstance(tests, FunctionTests):
        outcome = SANDBOXES.run(
            program,
            tests=compiled(tests.code, tests.entry_point),
            seconds=timeout_s,
            memory_mb=memory_mb,
        )
        return verdict_of(outcome, *_by_functions(outcome, timeout_s), _KEPT)
    return _by_outputs(program, tests)


def _by_functions(outcome: Outcome, seconds: float) -> tuple[Kind, str]:
    tests = outcome.tests
    if tests.get("passed") is True:
        return "passed", ""
    bad = failure(outcome, seconds)
    if outcome.timed_out or tests.get("gone") or not tests:
        return bad or ("failed", "it ended before its tests")
    if bad is not None and bad[0] in ("crashed", "timeout"):
        return bad
    kind, reason = raised(tests)
    return kind, f"{reason} in: {tests['line']}" if tests.get("line") else reason


def _by_outputs(program: str, tests: InputOutputTests) -> Verdict:
    wall_s = cpu_s = 0.0
    bad: tuple[Kind, str] | None = None
    for place, (stdin, expected) in enumerate(tests.cases, 1):
        outcome = SANDBOXES.run(
            program, stdin, seconds=tests.time_limit_s, memory_mb=tests.memory_mb
        )
        wall_s, cpu_s = wall_s + outcome.wall_s, cpu_s + outcome.cpu_s
        bad = failure(outcome, tests.time_limit_s)
        if bad is None:
            wrong = difference(decoded(outcome.stdout), expected, tests.tolerance, tests.relative)
            bad = ("failed", wrong) if wrong else None
        if bad is not None:
            bad = bad[0], f"test {place}: {bad[1]}"
            break
    verdict = verdict_of(outcome, *(bad or ("passed", "")), _KEPT)
    return dataclasses.replace(verdict, wall_s=wall_s, cpu_s=cpu_s)
