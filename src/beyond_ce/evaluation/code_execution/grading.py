"""Whether an output is right, as contest systems judge it.

Kattis's default validator, which CodeContests' own checker resembles: outputs are compared token by
token, so that white space only separates; letters' case does not matter; and where the problem
allows it, numbers may differ by an absolute amount or, with some validators, a relative one.
"""

from __future__ import annotations

import math
import re

# What a contest's output calls a number; `float` takes more, such as "nan" and "1_0".
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def difference(
    output: str, expected: str, tolerance: float | None, relative: bool = True
) -> str | None:
    """Where an output is wrong, as one line; None where it is right.

    Args:
        tolerance: difference that numbers may have; None: their tokens must be equal.
        relative: it counts relative to expected numbers above 1, too.
    """
    ours, theirs = output.split(), expected.split()
    for place, (got, wanted) in enumerate(zip(ours, theirs, strict=False), 1):
        if not _is_same(got, wanted, tolerance, relative):
            return f"token {place} is {got[:40]!r} instead of {wanted[:40]!r}"
    if len(ours) != len(theirs):
        return f"{len(ours)} tokens instead of {len(theirs)}"
    return None


def _is_same(got: str, wanted: str, tolerance: float | None, relative: bool) -> bool:
    if got == wanted or got.casefold() == wanted.casefold():
        return True
    if tolerance is None or not (_NUMBER.fullmatch(got) and _NUMBER.fullmatch(wanted)):
        return False
    a, b = float(got), float(wanted)
    allowed = tolerance * max(1, abs(b)) if relative else tolerance
    return math.isfinite(a) and abs(a - b) <= allowed
