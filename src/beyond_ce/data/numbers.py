"""Numbers in text: finding them, comparing them, and their values.

Evaluation follows the NTL paper's code: the last number in a text is the answer, and numbers are
clipped to +-1e10 before any distance is measured.
"""

from __future__ import annotations

import math
import re
import sys
from decimal import Decimal

import numpy as np

CLIP = 1e10
_LARGEST_LOG = math.log(sys.float_info.max)

# A sign directly after a digit is an operator: "12-5" ends in 5, "is -5" ends in -5.
NUMBER = re.compile(r"(?:(?<![0-9.])[+-])?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)")
"""A decimal number: "42", "-4.50", "+7", ".5"."""


_MINUS = str.maketrans(dict.fromkeys("\u2212\ufe63\uff0d", "-"))  # the minus, a small, a wide one
CURRENCY = r"\\?[$€£¥]"
"""A regular expression for the sign before an amount of money, also as LaTeX writes it."""
_SIGNED_AMOUNT = re.compile(rf"([+-]){CURRENCY}(?=[.0-9])")


def ascii_minus(text: str) -> str:
    """The text with Unicode's minus signs as hyphens, as `float` reads them."""
    return text.translate(_MINUS)


def last_number(text: str) -> str | None:
    """The last number in `text`, or None: "x = 3, y = -4.50" gives "-4.50".

    It is given as it is written, but with a plain minus: "-$18" gives "-18".
    """
    numbers = NUMBER.findall(_SIGNED_AMOUNT.sub(r"\1", ascii_minus(text)))
    return numbers[-1] if numbers else None


def same_number(first: str, second: str) -> bool:
    """Whether two numbers are equal as exact decimals: "4.0", "+4" and "04" are 4, "-0" is 0.

    Floats cannot tell 2**53 from 2**53 + 1 and overflow on the digit strings that an untrained
    model writes.
    """
    return Decimal(first) == Decimal(second)


def number_value(number: str | None) -> float:
    """The nearest finite float64, NaN for None."""
    if number is None:
        return float("nan")
    return min(max(float(number), -sys.float_info.max), sys.float_info.max)


def magnitude(number: str | None, clip: float = CLIP) -> float:
    """The value clipped to +-`clip`, NaN for None.

    Otherwise a single runaway answer of forty digits would dominate the mean.

    NOTE: the paper's evaluation clips only predictions. We clip targets as well; otherwise a right
    answer beyond 1e10 would count as far off.
    """
    if number is None:
        return float("nan")
    return min(max(float(number), -clip), clip)


def log_scale(value: float) -> float:
    """sign(x) log(1 + |x|), NaN for NaN: the logarithm of large numbers, continued through 0."""
    return math.copysign(math.log1p(abs(value)), value)


def exp_scale(value: float) -> float:
    """The inverse of `log_scale`, clipped to the range of float64."""
    if abs(value) > _LARGEST_LOG:
        return math.copysign(sys.float_info.max, value)
    return math.copysign(math.expm1(abs(value)), value)


def rounded(number: str | None, decimals: int) -> str | None:
    """The number rounded to so many decimals, half to even; None for None."""
    return None if number is None else plain(round(float(number), decimals) + 0.0)  # no minus zero


def plain(value: float) -> str:
    """A float as a decimal without exponent, with the fewest digits that parse back to it.

    Whole numbers have no decimal point; `last_number` finds no number in "nan" and "inf".
    """
    return np.format_float_positional(value, trim="-")
