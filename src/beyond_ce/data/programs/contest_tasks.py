"""Generated contest problems: stdin to stdout, with right programs and plausible wrong ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from beyond_ce.data.programs.code_tasks import LENGTHS, NUMBERS, STREAMS
from beyond_ce.data.programs.compositions import (
    INPUTS,
    Program,
    Programs,
    check_spelling,
    draw_tasks,
    say,
    spell,
)
from beyond_ce.data.programs.contests import PYTHON3, ContestData
from beyond_ce.data.programs.operations import CONSTANTS, Kind, function_of, within_limits
from beyond_ce.data.programs.problem import Problem
from beyond_ce.data.programs.rows import Row
from beyond_ce.data.sampling import Below, random_below
from beyond_ce.settings import COUNT, PATH, SEED, takes, whole

_PUBLIC = 2  # tests
_TIME_LIMIT_S = 5
_MEMORY_BYTES = 2**28

_READ: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "number": ("a number", ("int(input())",)),
    "list": ("numbers", ("list(map(int, input().split()))", "[int(v) for v in input().split()]")),
    "text": ("a text", ("input()",)),
}
"""What the description calls each kind of input, and ways to read it."""


class ContestTasks(ContestData):
    '''Programs of one to three operations that read a line and print the result, right and wrong.

    A right and a wrong example for training, of about 150 characters each:

        """                               """
        Read numbers. Keep even, sum.     Read numbers. Keep even, sum.
        """                               """
        # correct                         # incorrect
        x = [int(v) for v in ...]         x = [int(v) for v in ...]
        x = [v for v in x if not v % 2]   x = [v for v in x if v % 2]
        print(sum(x))                     print(sum(x))

    Problems are made as rows of CodeContests' schema. Right programs differ in how they spell an
    operation. Wrong ones have another operator, are off by one, or forget a case or a step, and
    print something else in at least one test. Programs and splits are those of `CodeTasks`: the
    test split "test" and validation have pairs of neighbouring operations that training never
    shows.

    Args:
        train_size, validation_size, test_size: numbers of problems.
        solutions, incorrect_solutions: at most so many right and wrong programs of each problem.
        longest: operations of the longest programs.
        constants: how many different numbers the operations have, as in `CodeTasks`.
        seed: seed of the draw; independent of the run's.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
    '''

    name = "contest_tasks"
    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        train_size=COUNT,
        validation_size=COUNT,
        test_size=COUNT,
        solutions=COUNT,
        incorrect_solutions=whole(),
        longest=LENGTHS,
        constants=NUMBERS,
        seed=SEED,
        cache_dir=PATH,
    )
    def __init__(
        self,
        *,
        train_size: int,
        validation_size: int,
        test_size: int,
        solutions: int,
        incorrect_solutions: int,
        longest: int,
        seed: int,
        cache_dir: str | Path,
        constants: int = len(CONSTANTS),
    ) -> None:
        self.sizes = {"test": test_size, "validation": validation_size, "train": train_size}
        self.solutions = solutions
        self.incorrect_solutions = incorrect_solutions
        self.longest = longest
        self.constants = constants
        self.seed = seed
        self.cache_dir = Path(cache_dir)

    def _definition(self) -> dict[str, Any]:
        definition: dict[str, Any] = {
            "sizes": self.sizes,
            "solutions": self.solutions,
            "incorrect_solutions": self.incorrect_solutions,
            "longest": self.longest,
            "seed": self.seed,
        }
        if self.constants < len(CONSTANTS):
            definition["constants"] = self.constants
        return definition

    @cached_property
    def programs(self) -> Programs:
        """All programs, which takes seconds to make."""
        return Programs(self.longest, self.seed, _shown, self.constants)

    def _rows(self) -> Iterator[tuple[str, Iterable[Row]]]:
        for split in self.sizes:
            yield split, self._of_split(split)

    def _of_split(self, split: str) -> Iterator[Row]:
        below = random_below(self.seed, STREAMS[split], 2)

        def worded(program: Program) -> _Task:
            return _Task(program, f"Read {_READ[program.takes][0]}. {say(program, below)}")

        tasks = draw_tasks(self.programs, split, self.sizes[split], below, worded)
        for number, task in enumerate(tasks):
            name = f"{len(task.program.steps)}_steps/{split}/{number}"
            yield name, {"name": name, **self._row(task, below)}

    def _row(self, task: _Task, below: Below) -> dict[str, Any]:
        program = task.program
        pairs = zip(INPUTS[program.takes], program.values, strict=True)
        cases = [(f"{_printed(value)}\n", f"{_printed(result)}\n") for value, result in pairs]
        right = []
        for _ in range(self.solutions):
            spelling = spell(program, below)
            check_spelling(program, spelling)
            right.append(_text(program, spelling, below))
        wrong = [_text(program, steps, below) for steps in self._wrong(program, below)]
        return {
            "description": task.description,
            "public_tests": _columns("input", "output", cases[-_PUBLIC:]),
            "private_tests": _columns("input", "output", cases[:-_PUBLIC]),
            "generated_tests": _columns("input", "output", []),
            "solutions": _columns("language", "solution", [(PYTHON3[0], t) for t in right]),
            "incorrect_solutions": _columns(
                "language", "solution", [(PYTHON3[0], text) for text in wrong]
            ),
            "time_limit": {"seconds": _TIME_LIMIT_S, "nanos": 0},
            "memory_limit_bytes": _MEMORY_BYTES,
            "input_file": "",
            "output_file": "",
            "validator_flags": "",
        }

    def _wrong(self, program: Program, below: Below) -> list[tuple[str, ...]]:
        """Different spellings of programs that print something else for one of the inputs."""
        found: list[tuple[str, ...]] = []
        candidates = _mistaken(program, spell(program, below))
        expected = list(map(_shown, program.values))
        for steps in sorted(candidates, key=lambda _: below(2**63)):
            if len(found) == self.incorrect_solutions:
                break
            printed = [_evaluated(steps, value) for value in INPUTS[program.takes]]
            if None not in printed and printed != expected:
                found.append(steps)
        return found

    def _task(self, problem: Problem) -> str:
        return problem.id.partition("/")[0]


@dataclass(frozen=True)
class _Task:
    """A program, worded."""

    program: Program
    description: str


def _mistaken(program: Program, spelling: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The program with one mistake in one step, or without one step."""
    for position, step in enumerate(program.steps):
        before, after = spelling[:position], spelling[position + 1 :]
        for mistake in step.mistakes:
            yield (*before, mistake, *after)
        if len(spelling) > 1 and step.takes == step.gives:
            yield before + after


def _evaluated(steps: Sequence[str], value: Any) -> str | None:
    """What a program prints, as the tests compare it; None if it computes something too large."""
    for step in steps:
        value = function_of(step)(value)
        if not within_limits(value):
            return None
    return _shown(value)


def _printed(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _shown(value: Any) -> str:
    """What the comparison of outputs sees of a value: words, whatever their case."""
    return repr(_printed(value).lower().split())


def _text(program: Program, steps: Sequence[str], below: Below) -> str:
    """The whole program."""
    _, readers = _READ[program.takes]
    lines = [readers[below(len(readers))], *steps[:-1]]
    star = "*" if program.gives == "list" else ""
    return "".join(f"x = {line}\n" for line in lines) + f"print({star}{steps[-1]})\n"


def _columns(one: str, other: str, pairs: Sequence[tuple[Any, Any]]) -> dict[str, list[Any]]:
    return {one: [first for first, _ in pairs], other: [second for _, second in pairs]}
