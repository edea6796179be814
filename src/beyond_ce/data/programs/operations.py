"""The vocabulary of generated programs: operations on a whole number, a list of them, or a text.

Each is an expression in Python with x as its argument. Expressions never fail, whatever the
argument of their type, and the same expression is written into programs and evaluated here: it is
this module's own, never a model's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from beyond_ce.data.programs.vocabulary import VOCABULARY

Kind = Literal["number", "list", "text"]
"""The type of a value: int, list of int, or str."""

CONSTANTS = range(2, 7)

LARGEST = 10_000
"""Of the numbers in a value; what computes more is no program of ours."""
LONGEST = {"list": 16, "text": 40}


@dataclass(frozen=True, eq=False)  # there is one of each
class Operation:
    """A step of a program.

    Attributes:
        family: name, which operations that differ only in a constant share.
        takes, gives: types of its argument and its value.
        phrases: ways to say it, in a list of steps.
        spellings: expressions of x with the same value.
        mistakes: expressions that a hasty programmer might write instead: another operator, off by
            one, a case forgotten. They never fail either.
    """

    family: str
    takes: Kind
    gives: Kind
    phrases: tuple[str, ...]
    spellings: tuple[str, ...]
    mistakes: tuple[str, ...]


@cache
def function_of(expression: str) -> Callable[[Any], Any]:
    """The function of x that an expression of this module is."""
    function: Callable[[Any], Any] = eval(f"lambda x: {expression}", {"__builtins__": _BUILTINS})
    return function


_BUILTINS = {
    f.__name__: f
    for f in (
        *(abs, dict, enumerate, format, int, len, list, map, max, min, range, reversed),
        *(set, sorted, str, sum, zip),
    )
}


@cache
def vocabulary() -> tuple[Operation, ...]:
    """All operations, in a fixed order."""
    lines = VOCABULARY.splitlines()
    entries = zip(*(lines[i::4] for i in range(4)), strict=True)
    return tuple(operation for entry in entries for operation in _operations(*entry))


def _operations(head: str, *alternatives: str) -> Iterator[Operation]:
    """Those of four lines of the vocabulary: one, or one for each constant."""
    family, takes, gives = re.split(": | -> ", head)
    for constant in CONSTANTS if "K" in alternatives[0] else [0]:
        lines = [
            line.replace("K", str(constant)).replace("J", str(constant + 1))
            for line in alternatives
        ]
        phrases, spellings, mistakes = (tuple(line.strip().split(" ; ")) for line in lines)
        yield Operation(family, takes, gives, phrases, spellings, mistakes)  # type: ignore[arg-type]


def within_limits(value: Any) -> bool:
    """Whether a value is short, and its numbers small."""
    if isinstance(value, int):
        return abs(value) <= LARGEST
    if isinstance(value, str):
        return len(value) <= LONGEST["text"]
    return len(value) <= LONGEST["list"] and all(abs(number) <= LARGEST for number in value)
