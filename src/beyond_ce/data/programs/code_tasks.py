"""Generated functions: from a docstring to its steps, tested by asserts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from beyond_ce.data.programs.base import ProgramData
from beyond_ce.data.programs.compositions import (
    INPUTS,
    Program,
    Programs,
    check_spelling,
    draw_tasks,
    say,
    spell,
)
from beyond_ce.data.programs.humaneval import STOP
from beyond_ce.data.programs.operations import CONSTANTS, Operation
from beyond_ce.data.programs.problem import FunctionTests, Problem
from beyond_ce.data.sampling import random_below
from beyond_ce.settings import COUNT, PATH, SEED, number, takes, whole

NAMES = ("f", "g", "h", "fn", "run")
LENGTHS = whole(2, 5)
NUMBERS = whole(1, len(CONSTANTS))
BLANK_LINES = ("\n", "    \n")

STREAMS = {"test": 0, "validation": 1, "train": 2}
"""Of random numbers, one for each split."""


class CodeTasks(ProgramData):
    '''Functions of one to three operations on a whole number, a list of them or a text.

    Prompt and answer, of about 100 characters together:

        def f(x):
            """Keep even, sum."""
            x = [v for v in x if v % 2 == 0]
            return sum(x)

    The operations are those of `vocabulary`; several thousand of their compositions do different
    things. A program is tested on all `INPUTS` of its kind, so that no two programs pass the same
    tests. Every task occurs once; tasks of training share their programs, but differ in words and
    spelling. Each number of operations is equally frequent, where there are enough tasks.

    The test split "test" and validation have pairs of neighbouring operations that training never
    shows, though it shows each of the operations (see `Programs`).

    Args:
        train_size, validation_size, test_size: numbers of tasks.
        longest: operations of the longest programs.
        shown_asserts: how many of the asserts the docstring shows, as in MBPP.
        constants: how many different numbers the operations have, of five: with one, "add 2" is all
            that is ever added, and a docstring has no number that a program would have to copy.
        blank_lines: share of training functions with a blank line, of no or four spaces, before
            the first step: to whom this never happened, whitespace after a prompt says nothing.
        seed: seed of the draw; independent of the run's.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
    '''

    name = "code_tasks"
    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        train_size=COUNT,
        validation_size=COUNT,
        test_size=COUNT,
        longest=LENGTHS,
        shown_asserts=whole(0, 3),
        constants=NUMBERS,
        blank_lines=number(0, 1),
        seed=SEED,
        cache_dir=PATH,
    )
    def __init__(
        self,
        *,
        train_size: int,
        validation_size: int,
        test_size: int,
        longest: int,
        shown_asserts: int,
        seed: int,
        cache_dir: str | Path,
        blank_lines: float = 0.0,
        constants: int = len(CONSTANTS),
    ) -> None:
        self.sizes = {"test": test_size, "validation": validation_size, "train": train_size}
        self.longest = longest
        self.shown_asserts = shown_asserts
        self.blank_lines = blank_lines
        self.constants = constants
        self.seed = seed
        self.cache_dir = Path(cache_dir)
        self._known_calls: dict[tuple[Operation, ...], list[str]] = {}

    def _definition(self) -> dict[str, Any]:
        definition = {
            "sizes": self.sizes,
            "longest": self.longest,
            "shown_asserts": self.shown_asserts,
            "seed": self.seed,
        }
        if self.blank_lines:
            definition["blank_lines"] = self.blank_lines
        if self.constants < len(CONSTANTS):
            definition["constants"] = self.constants
        return definition

    @cached_property
    def programs(self) -> Programs:
        """All programs, which takes seconds to make."""
        return Programs(self.longest, self.seed, repr, self.constants)

    def _problems(self) -> Iterator[tuple[str, Iterable[Problem]]]:
        for split in self.sizes:
            yield split, self._of_split(split)

    def _of_split(self, split: str) -> Iterator[Problem]:
        below = random_below(self.seed, STREAMS[split], 1)

        def worded(program: Program) -> _Task:
            name = NAMES[below(len(NAMES))]
            return _Task(program, name, say(program, below), spell(program, below))

        blanks = random_below(self.seed, STREAMS[split], 2)
        share = self.blank_lines if split == "train" else 0
        tasks = draw_tasks(self.programs, split, self.sizes[split], below, worded)
        for index, task in enumerate(tasks):
            blank = BLANK_LINES[blanks(2)] if blanks(10_000) < 10_000 * share else ""
            yield self._problem(task, blank, f"{len(task.spelling)}_steps/{split}/{index}")

    def _problem(self, task: _Task, blank: str, name: str) -> Problem:
        check_spelling(task.program, task.spelling)
        asserts = [f"assert {task.name}{call}\n" for call in self._calls(task.program)]
        # Those of longer inputs say most.
        examples = "".join(f"    {text}" for text in asserts[3 : 3 + self.shown_asserts])
        doc = f"{task.sentence}\n{examples}    " if examples else task.sentence
        prompt = f'def {task.name}(x):\n    """{doc}"""\n'
        *steps, result = task.spelling
        body = "".join(f"    x = {step}\n" for step in steps) + f"    return {result}\n"
        return Problem(
            id=name,
            prompt=prompt,
            tests=FunctionTests("".join(asserts), None),
            stop=STOP,
            solutions=(prompt + blank + body,),
            prefix=prompt,
        )

    def _calls(self, program: Program) -> list[str]:
        """What follows the function's name in each assert."""
        if program.steps not in self._known_calls:
            pairs = zip(INPUTS[program.takes], program.values, strict=True)
            calls = [f"({argument!r}) == {value!r}" for argument, value in pairs]
            self._known_calls[program.steps] = calls
        return self._known_calls[program.steps]

    def _task(self, problem: Problem) -> str:
        return problem.id.partition("/")[0]


@dataclass(frozen=True)
class _Task:
    """A program, worded."""

    program: Program
    name: str
    sentence: str
    spelling: tuple[str, ...]
