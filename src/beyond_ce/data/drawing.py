"""Random draws that are the same on every platform and with every version of numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def raw_bits(*seed: int) -> np.random.PCG64:
    """A source of raw bits: numpy may change what its distributions make of them, not the bits."""
    return np.random.PCG64(np.random.SeedSequence(seed))


def distinct(bits: np.random.PCG64, total: int, wanted: int) -> Integers:
    """`wanted` different integers of 0..total-1 in random order, all of them if there are fewer."""
    if total <= 2 * wanted:  # drawing would mostly repeat itself before it had the last ones
        return np.argsort(bits.random_raw(total), kind="stable")[:wanted]
    drawn: Integers = np.empty(0, dtype=np.int64)
    while len(drawn) < wanted:
        more = (bits.random_raw(wanted) % np.uint64(total)).astype(np.int64)
        drawn = np.concatenate([drawn, more])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return drawn[:wanted]
