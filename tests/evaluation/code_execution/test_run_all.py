from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from beyond_ce.data.programs.problem import FunctionTests, InputOutputTests
from beyond_ce.errors import RunError, UsageError
from beyond_ce.evaluation.code_execution import (
    Tests,
    Verdict,
    execute,
    isolation,
    many,
    run_all,
    run_tests,
    sandbox,
)
from beyond_ce.evaluation.code_execution.sandbox import SANDBOXES

ONE = FunctionTests("assert f() == 1", None)


def program(value: int) -> str:
    return f"def f(): return {value}"


def test_gives_every_job_its_verdict() -> None:
    values = [1, 2, 1, 3, 1, 2]
    found = dict(run_all([(program(value), ONE) for value in values], workers=2))
    assert [found[place].passed for place in range(len(values))] == [v == 1 for v in values]
    assert list(run_all([])) == []


def test_runs_a_program_once_with_the_same_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def count(*job: object) -> object:
        runs.append(job[:2])
        return run_tests(*job)  # type: ignore[arg-type]

    monkeypatch.setattr(many, "run_tests", count)
    other = FunctionTests("assert f() == 2", None)
    jobs: list[tuple[str, Tests]] = [(program(1), ONE)] * 40 + [(program(1), other)] * 40
    verdicts = dict(run_all(jobs, workers=2))
    assert sorted(verdicts) == list(range(80))
    assert sum(verdict.passed for verdict in verdicts.values()) == 40
    assert len(runs) == 2


def test_a_hung_program_holds_up_one_worker_until_its_limit() -> None:
    jobs = [("while True: pass", ONE), *((program(n), ONE) for n in range(8))]
    start = time.monotonic()
    order = [place for place, _ in run_all(jobs, workers=2, timeout_s=4)]
    assert order[-1] == 0
    assert sorted(order) == list(range(9))
    assert time.monotonic() - start < 30


def test_reads_only_a_little_ahead() -> None:
    read = []

    def jobs() -> Iterator[tuple[str, Tests]]:
        for n in range(1000):
            read.append(n)
            yield program(n), ONE

    verdicts = run_all(jobs(), workers=1)
    next(verdicts)
    assert len(read) < 20
    verdicts.close()


def test_a_problem_that_cannot_be_judged_is_an_error() -> None:
    special = InputOutputTests((("", ""),), 1.0, 64, None, "interactive")
    with pytest.raises(UsageError, match="interactive"):
        list(run_all([("", special)]))


def test_shows_progress(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = []
    real = many.tqdm

    def bar(**settings: object) -> object:
        bars.append(real(**{**settings, "disable": False}))
        return bars[-1]

    monkeypatch.setattr(many, "tqdm", bar)
    list(run_all([(program(n), ONE) for n in (1, 2, 2)]))
    assert (bars[0].n, bars[0].total) == (3, 3)


def test_a_sandbox_that_has_ended_is_replaced() -> None:
    assert execute("print(1)").passed
    for idle in SANDBOXES._idle:
        idle.process.kill()
        idle.process.wait()
    assert execute("print(1)").passed


def test_a_sandbox_outlives_the_thread_that_asked_for_it() -> None:
    SANDBOXES.close()
    thread = threading.Thread(target=execute, args=["print(1)"])
    thread.start()
    thread.join()
    (kept,) = SANDBOXES._idle
    time.sleep(0.2)
    assert kept.process.poll() is None
    assert execute("print(1)").passed
    assert SANDBOXES._idle == [kept]


def test_a_program_whose_sandbox_ends_is_run_again_from_the_start() -> None:
    isolation()  # which starts processes of its own, once
    SANDBOXES.close()
    found: list[Verdict] = []
    program = "import time\nprint(input(), flush=True)\ntime.sleep(2)"
    thread = threading.Thread(target=lambda: found.append(execute(program, "a\n")))
    started = set(psutil.Process().children())
    thread.start()
    while not (new := set(psutil.Process().children()) - started):
        time.sleep(0.05)
    time.sleep(1)
    new.pop().kill()
    thread.join()
    assert (found[0].verdict, found[0].stdout) == ("passed", "a\n")


def test_a_sandbox_that_is_killed_while_it_starts_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    SANDBOXES.close()
    start = sandbox._Sandbox.__init__
    killed: list[Any] = []

    def start_and_kill_the_first(self: Any) -> None:
        start(self)
        if not killed:
            killed.append(self)
            self.process.kill()

    monkeypatch.setattr(sandbox._Sandbox, "__init__", start_and_kill_the_first)
    assert execute("print(1)").passed
    assert len(killed) == 1


def test_a_dead_sandbox_is_not_waited_for_though_somebody_holds_its_channel() -> None:
    held = sandbox._Sandbox()
    held.wait_until_ready()
    ours, somebody = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    held.channel.close()
    held.channel = ours
    held.process.kill()
    start = time.monotonic()
    with somebody, pytest.raises(sandbox._Ended):
        held._answer(60)
    assert time.monotonic() - start < 30
    held.close()


def test_a_program_that_ends_every_sandbox_has_crashed_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = sandbox._run_in

    def run(held: Any, job: dict, source: str, *rest: Any) -> Any:
        if source == program(2):
            held.process.kill()
            # What is inside ends a moment after it, and could still answer.
            assert held.channel.recv(1, socket.MSG_PEEK) == b""
        return real(held, job, source, *rest)

    monkeypatch.setattr(sandbox, "_run_in", run)
    found = dict(run_all([(program(value), ONE) for value in (2, 1, 3)], workers=2))
    assert [found[place].verdict for place in range(3)] == ["crashed", "passed", "failed"]
    assert found[0].reason == "its sandbox ended every time that it ran"


def test_a_machine_that_ends_all_sandboxes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(held: Any, *rest: Any) -> Any:
        raise sandbox._Ended

    monkeypatch.setattr(sandbox, "_run_in", end)
    with pytest.raises(RunError, match="out of memory"):
        list(run_all([(program(1), ONE)]))


def test_a_fork_of_this_process_starts_sandboxes_of_its_own(tmp_path: Path) -> None:
    assert execute("print(1)").passed
    pid = os.fork()
    if pid == 0:
        passed = execute("print(1)").passed
        SANDBOXES.close()
        os._exit(0 if passed else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert execute("print(1)").passed
