"""Names made of syllables: thousands that can be pronounced, as few as are asked for."""

from __future__ import annotations

import math

import numpy as np

from beyond_ce.data.sampling import bit_generator, sample_distinct

_ONSETS = (
    *("b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"),
    *("br", "dr", "fl", "gr", "kl", "pl", "sh", "sl", "st", "tr"),
)
_VOWELS = ("a", "e", "i", "o", "u")
_ENDS = ("", "", "l", "n", "r", "s", "m", "k", "na", "lo", "ri", "ta", "mi")
_PARTS = (_ONSETS, _VOWELS, _ONSETS, _VOWELS, tuple(dict.fromkeys(_ENDS)))
_STREAM = 0  # of random numbers; stories have another one

MOST_NAMES = 10_000


def make_names(count: int, avoid: frozenset[str], seed: int) -> list[str]:
    """Distinct names of two or three syllables, such as "Tamori".

    Args:
        count: at most `MOST_NAMES`; a larger count with the same seed begins with the same names.
        avoid: words in lower case that are no names.
    """
    sizes = [len(part) for part in _PARTS]
    total = math.prod(sizes)
    names: dict[str, None] = {}  # in order; two ways of composing a name give it once
    for number in sample_distinct(bit_generator(seed, _STREAM), total, total):
        syllables = np.unravel_index(number, sizes)
        name = "".join(part[i] for part, i in zip(_PARTS, syllables, strict=True))
        if name not in avoid:
            names[name.capitalize()] = None
            if len(names) == count:
                break
    return list(names)
