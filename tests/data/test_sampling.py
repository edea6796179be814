from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.data.sampling import Integers, bit_generator, sample_distinct


class Counted:
    """Raw bits that count how often they are asked for."""

    def __init__(self, seed: int) -> None:
        self.bits = bit_generator(seed)
        self.calls = 0

    def random_raw(self, size: int) -> Integers:
        self.calls += 1
        return self.bits.random_raw(size)


@given(seed=st.integers(0, 2**64), total=st.integers(0, 300), wanted=st.integers(0, 400))
def test_as_many_different_integers_as_there_are(seed: int, total: int, wanted: int) -> None:
    drawn = sample_distinct(bit_generator(seed), total, wanted)
    assert drawn.dtype == np.int64
    assert len(drawn) == len(set(drawn.tolist())) == min(total, wanted)
    assert set(drawn.tolist()) <= set(range(total))
    np.testing.assert_array_equal(drawn, sample_distinct(bit_generator(seed), total, wanted))


@given(seed=st.integers(0, 2**32), wanted=st.integers(1, 500), spare=st.integers(-500, 1))
def test_sampling_ends(seed: int, wanted: int, spare: int) -> None:
    """At worst every second draw is a new integer: twice as many as wanted, and one."""
    bits = Counted(seed)
    sample_distinct(bits, max(0, 2 * wanted + spare), wanted)
    assert bits.calls <= 30


def test_every_integer_is_equally_probable_at_every_place() -> None:
    for total in (5, 9):  # drawn by sorting, and one by one
        drawn = np.array([sample_distinct(bit_generator(seed), total, 3) for seed in range(3000)])
        for place in range(3):
            counts = np.bincount(drawn[:, place], minlength=total)
            assert counts == pytest.approx(3000 / total, rel=0.2)


def test_the_draws_are_the_same_for_ever() -> None:
    assert sample_distinct(bit_generator(0), 6, 4).tolist() == [3, 2, 1, 0]
    assert sample_distinct(bit_generator(0, 1, 2), 10**12, 3).tolist() == [
        523293538914,
        987962299574,
        506362230464,
    ]
