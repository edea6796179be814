"""Reading a number out of generated text, and comparing it with the answer.

The habits are those of the paper's own evaluation: the last number in the text is the prediction,
and for every measure of distance numbers are clipped to +-1e10.
"""

from __future__ import annotations

import re
from decimal import Decimal

CLIP = 1e10

# A sign right after a digit is an operator: "12-5" ends in 5, "is -5" ends in -5.
_NUMBER = re.compile(r"(?:(?<![0-9.])[+-])?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)")


def last_number(text: str) -> str | None:
    """The last number in `text` as written there, if any: "x = 3, y = -4.50" gives "-4.50"."""
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def same_number(first: str, second: str) -> bool:
    """Whether two numbers are equal as exact decimals: "4.0", "+4" and "04" are 4, "-0" is 0.

    Not compared as floats, which cannot tell 2**53 from 2**53 + 1 and have too little range for
    the digit strings that an untrained model writes.
    """
    return Decimal(first) == Decimal(second)


def magnitude(number: str | None) -> float:
    """The value clipped to +-1e10, NaN for None.

    One runaway answer of forty digits would otherwise be the whole mean.

    NOTE: the paper's evaluation clips predictions alone. Targets are clipped here as well, or a
    right answer beyond 1e10 would count as far off.
    """
    if number is None:
        return float("nan")
    return min(max(float(number), -CLIP), CLIP)
