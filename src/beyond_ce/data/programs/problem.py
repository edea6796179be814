"""A task of code generation: the prompt, the tests of a program, and JSON of both.

Nothing here runs a program: `evaluation.code_execution` does, in its sandbox.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from beyond_ce.storage.reading import parse_json

TIME_LIMIT_S = 10.0
"""For problems that come without a time limit."""
MEMORY_MB = 1024
"""For problems that come without a memory limit."""


@dataclass(frozen=True)
class FunctionTests:
    """Tests that call a function, as in HumanEval, MBPP and a part of APPS.

    Attributes:
        code: Python source that runs after the program and raises when the program is wrong.
        entry_point: the name that the tests call; None where the asserts name it themselves.
    """

    code: str
    entry_point: str | None


@dataclass(frozen=True)
class InputOutputTests:
    """Tests that compare what a program prints, as in CodeContests and a part of APPS.

    Attributes:
        cases: what each run reads on stdin, and what it must print.
        time_limit_s: wall-clock seconds for one case.
        memory_mb: MiB that the program may use.
        tolerance: difference that numbers may have; None: the tokens must be equal.
        grader: name of a special grader. None is supported here, so a problem that has one is
            never counted as tested.
        relative: the tolerance counts relative to a number above 1, too, so that whole numbers may
            differ as well.
    """

    cases: tuple[tuple[str, str], ...]
    time_limit_s: float
    memory_mb: int
    tolerance: float | None
    grader: str | None
    relative: bool = True


@dataclass(frozen=True)
class Problem:
    """A task with tests.

    Attributes:
        id: name of the task, unique in its data set.
        prompt: what the model continues.
        tests: decide whether a program is right.
        stop: a completion ends before the first of these texts.
        solutions, wrong_solutions: whole programs that are known to be right, or wrong.
        prefix: text before a completion that makes it a whole program: the prompt where the
            completion goes on in the same function, "" where it is the program.
    """

    id: str
    prompt: str
    tests: FunctionTests | InputOutputTests
    stop: tuple[str, ...] = ()
    solutions: tuple[str, ...] = ()
    wrong_solutions: tuple[str, ...] = ()
    prefix: str = ""

    def to_json(self) -> str:
        """One line of JSON, from which `from_json` makes an equal problem."""
        fields = dataclasses.asdict(self)
        if fields["tests"].get("relative"):  # as before there was a choice, so that data stay equal
            del fields["tests"]["relative"]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Problem:
        """The problem that `to_json` wrote.

        Raises:
            ValueError: the text is not what `to_json` writes.
        """
        try:
            fields: dict[str, Any] = dict(parse_json(text))
            tests = dict(fields.pop("tests"))
            for name in ("stop", "solutions", "wrong_solutions"):
                fields[name] = tuple(fields[name])
            if "cases" in tests:
                tests["cases"] = tuple((stdin, stdout) for stdin, stdout in tests["cases"])
                return cls(tests=InputOutputTests(**tests), **fields)
            return cls(tests=FunctionTests(**tests), **fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no problem's JSON: {error!r}") from error
