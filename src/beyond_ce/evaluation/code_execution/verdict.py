"""The verdict about a program, and how one follows from what became of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any, Literal

from beyond_ce.errors import one_line
from beyond_ce.evaluation.code_execution.inside.folder import MOST_FILES
from beyond_ce.evaluation.code_execution.sandbox import OUTPUT_BYTES, Outcome

Kind = Literal["passed", "failed", "timeout", "memory", "crashed"]

_KILLED = (signal.SIGKILL, signal.SIGXCPU)
_REASON = 300  # characters


@dataclass(frozen=True)
class Verdict:
    """What a program is worth.

    Attributes:
        verdict: passed; failed, by an exception, an exit code or a wrong answer; timeout; memory,
            by asking for more than its limit; crashed, by a signal, by flooding its output or
            its folder, or with its sandbox.
        reason: one line that says why it has not passed; "" if it has.
        stdout, stderr: what it wrote; bytes that are no UTF-8 are U+FFFD.
        wall_s, cpu_s: seconds of the wall clock and of the processor.
    """

    verdict: Kind
    reason: str
    stdout: str
    stderr: str
    wall_s: float
    cpu_s: float

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"


def verdict_of(outcome: Outcome, kind: Kind, reason: str, most: int | None = None) -> Verdict:
    """A verdict of this kind, with the times and the outputs of a run.

    Args:
        most: characters to keep of each output; None for all.
    """
    # A message may hold half of a surrogate pair, which no file of text does.
    written = reason.encode("utf-8", "backslashreplace").decode()
    return Verdict(
        kind,
        one_line(Exception(written))[:_REASON],
        decoded(outcome.stdout)[:most],
        decoded(outcome.stderr)[:most],
        outcome.wall_s,
        outcome.cpu_s,
    )


def decoded(output: bytes) -> str:
    """An output as text."""
    return output.decode("utf-8", "replace")


def failure(outcome: Outcome, seconds: float) -> tuple[Kind, str] | None:
    """The verdict and the reason where a program did not end well; None where it did."""
    if outcome.sandbox_ended:
        return "crashed", "its sandbox ended every time that it ran"
    if outcome.crowded:
        return "crashed", f"it made more than {MOST_FILES} files"
    if outcome.timed_out:
        return "timeout", f"it ran longer than {seconds:g} s"
    if max(len(outcome.stdout), len(outcome.stderr)) >= OUTPUT_BYTES:
        return "crashed", f"it wrote more than {OUTPUT_BYTES // 2**20} MiB"
    code, report = outcome.code, outcome.report
    if code is None:  # the tests have ended, and it was no longer needed
        return None
    if code < 0 and -code in _KILLED and outcome.cpu_s >= seconds:
        return "timeout", f"it used more than {seconds:g} s of the processor"
    if code < 0:
        return "crashed", f"ended by {_signal(-code)}"
    if code == 0:
        return None
    if report.get("end") == "raised":
        return raised(report)
    return "failed", f"exit code {code}: {report.get('message', '')}".rstrip(": ")


def raised(report: dict[str, Any]) -> tuple[Kind, str]:
    """The verdict about an exception, as a process describes it."""
    types = report.get("types")
    names = [str(name) for name in types] if isinstance(types, list) and types else ["Exception"]
    kind: Kind = "memory" if "MemoryError" in names else "failed"
    return kind, f"{names[0]}: {report.get('message', '')}".rstrip(": ")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
