"""Generated programs: distinct compositions of operations, and which of them are held out."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from beyond_ce.data.programs.operations import (
    CONSTANTS,
    Kind,
    Operation,
    function_of,
    vocabulary,
    within_limits,
)
from beyond_ce.data.sampling import Below, random_below
from beyond_ce.errors import UsageError

Task = TypeVar("Task")

INPUTS: dict[Kind, tuple[Any, ...]] = {
    "number": (0, 1, 2, 3, 5, 8, 10, 11, 12, -7),
    "list": (
        *([], [3], [2, 2], [5, -1, 4], [-3, -6, -8], [0, 7, 2, 9, 2], [1, 4, 6, 3, 8]),
        [-2, 5, 5, 10, -9, 6, 4, 1],
    ),
    "text": ("", "a", "Cat", "hello", "Red Sea", "blue banana", "no lemon", "Otto eats it"),
}
"""What every program is tested with: two programs that differ on none of them count as one."""

HELD_OUT = {"test": 0.08, "validation": 0.04}
"""Shares of the pairs of neighbouring operations that only these splits have."""

_SAMPLED = 20_000  # programs of each length of three and more that are tried, of millions
_STREAMS = {"pairs": 0, "longer": 1}
_MOST_REPEATS = 500  # draws in a row that give nothing new, before there is taken to be no more


@dataclass(frozen=True)
class Program:
    """A composition of operations.

    Attributes:
        steps: the first one is applied first.
        values: its value for each of the `INPUTS` of its kind.
    """

    steps: tuple[Operation, ...]
    values: tuple[Any, ...] = field(compare=False)

    @property
    def takes(self) -> Kind:
        return self.steps[0].takes

    @property
    def gives(self) -> Kind:
        return self.steps[-1].gives

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(step.family for step in self.steps)


def evaluate(expressions: Sequence[str], argument: Any) -> Any:
    """The value of expressions of `operations`, each applied to the value of the one before."""
    for expression in expressions:
        argument = function_of(expression)(argument)
    return argument


class Programs:
    """Programs that can be told apart by their values, in splits by pairs of operations.

    A program that has a pair of neighbouring operations (whatever their constants) that is held out
    for testing is a test program, so all its operations may be known from training, but not how it
    combines them; the same for validation. Programs that give the same for every input, or give
    back the input, and those that some input makes too large are left out.

    Args:
        longest: operations of the longest programs.
        seed: chooses the held-out pairs, and which programs of three and more operations there are.
        shown: a value as the tests compare it: programs whose values look the same are one.
        constants: how many different ones an operation may have.
    """

    def __init__(
        self,
        longest: int,
        seed: int,
        shown: Callable[[Any], str],
        constants: int = len(CONSTANTS),
    ) -> None:
        self.seed = seed
        self.shown = shown
        self._seen = {self._signature(kind, inputs) for kind, inputs in INPUTS.items()}
        self._after: dict[Kind, dict[str, list[Operation]]] = defaultdict(lambda: defaultdict(list))
        for operation in vocabulary():
            family = self._after[operation.takes][operation.family]
            if len(family) < constants:  # operations of a family differ in their constant alone
                family.append(operation)
        start = [Program((), inputs) for inputs in INPUTS.values()]
        kinds = list(INPUTS)
        level = [
            program
            for kind, empty in zip(kinds, start, strict=True)
            for program in self._extended(empty, kind)
        ]
        self.of_length = {1: level}
        if longest > 1:
            self.of_length[2] = [p for one in level for p in self._extended(one, one.gives)]
        for length in range(3, longest + 1):
            self.of_length[length] = list(self._sampled(length))
        self._held_out = self._draw_pairs()

    def split(self, name: str, length: int) -> list[Program]:
        """The programs of a split with this many operations."""
        return [p for p in self.of_length[length] if self._split_of(p) == name]

    def _signature(self, kind: Kind, values: Sequence[Any]) -> str:
        return f"{kind} {' | '.join(map(self.shown, values))}"

    def _extended(self, program: Program, kind: Kind) -> Iterator[Program]:
        for operations in self._after[kind].values():
            for operation in operations:
                if (longer := self._with(program, operation)) is not None:
                    yield longer

    def _with(self, program: Program, operation: Operation) -> Program | None:
        """The program with one more operation, if it is a new one."""
        function = function_of(operation.spellings[0])
        values = []
        for value in program.values:
            values.append(function(value))
            if not within_limits(values[-1]):
                return None
        steps = (*program.steps, operation)
        signature = self._signature(steps[0].takes, values)
        constant = len(set(map(self.shown, values))) == 1
        if constant or signature in self._seen:
            return None
        self._seen.add(signature)
        return Program(steps, tuple(values))

    def _sampled(self, length: int) -> Iterator[Program]:
        """Longer programs, from families of operations that are drawn uniformly."""
        below = random_below(self.seed, _STREAMS["longer"], length)
        groups = by_families(self.of_length[length - 1])
        for _ in range(_SAMPLED):
            program = draw(groups, below)
            following = list(self._after[program.gives].values())
            operations = following[below(len(following))]
            longer = self._with(program, operations[below(len(operations))])
            if longer is not None:
                yield longer

    def _draw_pairs(self) -> dict[tuple[str, str], str]:
        """The split of each held-out pair of families."""
        pairs = sorted({p.families for p in self.of_length.get(2, [])})
        below = random_below(self.seed, _STREAMS["pairs"])
        order = sorted(range(len(pairs)), key=lambda _: below(2**63))
        held_out, start = {}, 0
        for split, share in HELD_OUT.items():
            end = start + round(share * len(pairs))
            held_out.update({pairs[i]: split for i in order[start:end]})
            start = end
        return held_out  # type: ignore[return-value]

    def _split_of(self, program: Program) -> str:
        found = {self._held_out.get(pair) for pair in itertools.pairwise(program.families)}
        return "test" if "test" in found else "validation" if "validation" in found else "train"


Groups = list[list[Program]]
"""Programs with the same families of operations, which differ in constants, together."""


def by_families(programs: Sequence[Program]) -> Groups:
    groups: dict[tuple[str, ...], list[Program]] = defaultdict(list)
    for program in programs:
        groups[program.families].append(program)
    return list(groups.values())


def draw(groups: Groups, below: Below) -> Program:
    """A program, such that operations with a constant are not drawn more often than others."""
    group = groups[below(len(groups))]
    return group[below(len(group))]


def draw_tasks(
    programs: Programs, split: str, size: int, below: Below, make: Callable[[Program], Task]
) -> list[Task]:
    """Distinct tasks of a split in random order, of each length of programs as many, if possible.

    Args:
        make: words a program as a task. Held-out programs are asked for once, in training every
            wording counts.

    Raises:
        UsageError: there are fewer of them.
    """
    tasks: list[Task] = []
    seen: set[Any] = set()
    lengths = [n for n in programs.of_length if programs.split(split, n)]
    for position, length in enumerate(lengths):
        groups = by_families(programs.split(split, length))
        wanted = len(tasks) + (size - len(tasks)) // (len(lengths) - position)
        repeats = 0
        while len(tasks) < wanted and repeats < _MOST_REPEATS:
            program = draw(groups, below)
            task = make(program)
            key = task if split == "train" else program
            repeats += 1
            if key not in seen:
                seen.add(key)
                tasks.append(task)
                repeats = 0
    if len(tasks) < size:
        raise UsageError(
            f"dataset.{split}_size={size}: there are about {len(tasks)} such tasks; lower it, or "
            "raise dataset.longest"
        )
    return sorted(tasks, key=lambda _: below(2**63))


def say(program: Program, below: Below) -> str:
    """What the program does, as "Sort, drop last, sum."."""
    phrases = [step.phrases[below(len(step.phrases))] for step in program.steps]
    text = ", ".join(phrases)
    return f"{text[0].upper()}{text[1:]}."


def spell(program: Program, below: Below) -> tuple[str, ...]:
    """Expressions for the program's steps."""
    return tuple(step.spellings[below(len(step.spellings))] for step in program.steps)


def check_spelling(program: Program, spelling: Sequence[str]) -> None:
    """Raises AssertionError, as the fault is ours, if these expressions give other values."""
    found = tuple(evaluate(spelling, value) for value in INPUTS[program.takes])
    if found != program.values:
        raise AssertionError(f"{spelling} does not do what {program.families} do")
