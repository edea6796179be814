"""Random sampling that gives the same result on every platform and with every version of numpy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_HELD_OUT = 10  # a split that is held out takes at most one row in ten

Below = Callable[[int], int]
"""Gives a random whole number below another one."""


def bit_generator(*seed: int) -> np.random.PCG64:
    """A source of raw random bits. numpy may change how its distributions use them, but not the
    bits themselves."""
    return np.random.PCG64(np.random.SeedSequence(seed))


def random_below(*seed: int) -> Below:
    """Random numbers one by one, much faster than from numpy's distributions."""
    bits = bit_generator(*seed)
    raw = (value for _ in itertools.count() for value in bits.random_raw(4096).tolist())
    return lambda most: next(raw) % most


def integers_below(bits: np.random.PCG64, end: int, shape: int | tuple[int, ...]) -> Integers:
    """Uniform integers of 0..`end`-1."""
    raw = bits.random_raw(int(np.prod(shape))) % np.uint64(end)
    drawn: Integers = raw.reshape(shape).astype(np.int64)
    return drawn


def sample_distinct(bits: np.random.PCG64, total: int, size: int) -> Integers:
    """`size` distinct integers of 0..total-1 in random order; all of them if there are fewer."""
    if total <= 2 * size:  # rejecting repetitions would need many draws for the last ones
        return np.argsort(bits.random_raw(total), kind="stable")[:size]
    drawn: Integers = np.empty(0, dtype=np.int64)
    while len(drawn) < size:
        drawn = np.concatenate([drawn, integers_below(bits, total, size)])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return drawn[:size]


def divide(rows: Integers, sizes: Mapping[str, int]) -> Iterator[tuple[str, Integers]]:
    """Name and rows of each split, in the order of `sizes`.

    The last one is training. Of few rows, every other one takes at most a tenth, and training the
    rest, up to its size.
    """
    *held_out, train = sizes
    taken = [min(sizes[split], len(rows) // _HELD_OUT) for split in held_out]
    ends = np.cumsum([*taken, sizes[train]])
    yield from zip(sizes, np.split(rows, ends), strict=False)
