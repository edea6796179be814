from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.batches.order import LengthGrouped
from beyond_ce.errors import UsageError


def random_lengths(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([random.integers(5, 60, count), random.integers(1, 8, count)], axis=1)


@given(st.integers(1, 400), st.integers(1, 32), st.integers(0, 5))
def test_an_epoch_sees_every_example_at_most_once(count: int, size: int, seed: int) -> None:
    size = min(size, count)
    batches = LengthGrouped(random_lengths(count), size, seed, pool=4)
    rows = np.concatenate([batches[step] for step in range(batches.batches_per_epoch)])
    assert len(rows) == len(set(rows.tolist())) == count // size * size


def test_the_order_depends_on_seed_and_step_alone() -> None:
    lengths = random_lengths(500)
    forward = LengthGrouped(lengths, 16, seed=3)
    jumping = LengthGrouped(lengths, 16, seed=3)
    for step in (70, 2, 31, 70, 0):  # across epochs, in any order
        assert (forward[step] == jumping[step]).all()
    assert (forward[0] != LengthGrouped(lengths, 16, seed=4)[0]).any()
    assert sorted(forward[0]) != sorted(forward[forward.batches_per_epoch])


def test_lengths_are_grouped() -> None:
    lengths = random_lengths(20_000)
    batches = LengthGrouped(lengths, 64, seed=0)
    chosen = [lengths[batches[step]] for step in range(batches.batches_per_epoch)]
    padded = sum(64 * part.max(axis=0).sum() for part in chosen)
    assert 1 - sum(part.sum() for part in chosen) / padded < 0.15


@pytest.mark.parametrize(("size", "message"), [(0, "at least 1"), (11, "only 10 rows")])
def test_impossible_batch_sizes(size: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LengthGrouped(random_lengths(10), size, seed=0)
