"""Whether an output is right, as contest systems judge it.

Kattis's default validator, which CodeContests' own checker resembles: outputs are compared token by
token, so that white space only separates; letters' case does not matter; and where the problem
allows it, numbers may differ by an absolute amount or, with some validators, a relative one.
"""

from __future__ import annotations

import math
import re

# What a contest's output calls a number; `float` takes more, such as "nan" and "1_0".
# A program may print millions of digits, and its time limit is over: no two repetitions may share
# the same ones, or the search would take the square of their number.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TOKEN = re.compile(r"\S+")


def difference(
    output: str, expected: str, tolerance: float | None, relative: bool = True
) -> str | None:
    """Where an output is wrong, as one line; None where it is right.

    Args:
        tolerance: difference that numbers may have; None: their tokens must be equal.
        relative: it counts relative to expected numbers above 1, too.
    """
    theirs = expected.split()
    ours = output.split(maxsplit=len(theirs))  # what is too much stays one text: it may be large
    for place, (got, wanted) in enumerate(zip(ours, theirs, strict=False), 1):
        if not _is_same(got, wanted, tolerance, relative):
            return f"token {place} is {got[:40]!r} instead of {wanted[:40]!r}"
    if len(ours) != len(theirs):
        count = sum(1 for _ in _TOKEN.finditer(output))
        return f"{count} tokens instead of {len(theirs)}"
    return None


def _is_same(got: str, wanted: str, tolerance: float | None, relative: bool) -> bool:
    if got == wanted or got.casefold() == wanted.casefold():
        return True
    if tolerance is None or not (_NUMBER.fullmatch(wanted) and _NUMBER.fullmatch(got)):
        return False
    a, b = float(got), float(wanted)
    if not (math.isfinite(a) and math.isfinite(b)):  # too large to tell how far apart they are
        return False
    allowed = tolerance * max(1, abs(b)) if relative else tolerance
    return abs(a - b) <= allowed
