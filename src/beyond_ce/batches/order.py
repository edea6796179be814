"""The order of training rows: a function of the run's seed and the step.

A resumed run therefore needs no sampler state. Rows that do not fill the last batch of an epoch are
skipped in that epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from beyond_ce.errors import UsageError


class Order(ABC):
    """Row numbers of each step's batch; every epoch is a fresh permutation.

    Args:
        count: number of rows in the training split.
        batch_size: rows per batch.
        seed: the run's seed.
        advice: what the error message suggests if the split is too small.

    Raises:
        UsageError: the split is smaller than a batch.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        advice: str = "lower it or use more data",
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"trainer.batch_size is {batch_size}: it must be at least 1")
        if count < batch_size:
            raise UsageError(
                f"trainer.batch_size is {batch_size} but the training split has only "
                f"{count} rows: {advice}"
            )
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.batches_per_epoch = count // batch_size
        self._epoch = -1
        self._batches = np.empty((0, batch_size), dtype=np.int64)

    def __getitem__(self, step: int) -> np.ndarray:
        """Row numbers [batch_size] of the batch of step `step` (from 0)."""
        epoch, index = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            random = np.random.default_rng((self.seed, epoch))
            self._epoch, self._batches = epoch, self._shuffle(random, epoch)
        return self._batches[index]

    @abstractmethod
    def _shuffle(self, random: np.random.Generator, epoch: int) -> np.ndarray:
        """An epoch's batches, [batches_per_epoch, batch_size] row numbers."""


class Shuffled(Order):
    """All rows in random order."""

    def _shuffle(self, random: np.random.Generator, epoch: int) -> np.ndarray:
        kept = self.batches_per_epoch * self.batch_size
        return random.permutation(self.count)[:kept].reshape(-1, self.batch_size)


class LengthGrouped(Order):
    """Batches of rows of similar length, to reduce padding.

    Rows are sorted by length within pools of `pool` batches and cut into batches, which are then
    shuffled.

    Args:
        lengths: [N, k] token counts, the most expensive sequence first (sorting is lexicographic).
        pool: number of batches sorted together. More means less padding, but batches of one length
            are also of one difficulty, and training on those learns less per step.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, pool: int = 8) -> None:
        super().__init__(len(lengths), batch_size, seed)
        self.lengths = lengths
        self.pool = pool

    def _shuffle(self, random: np.random.Generator, epoch: int) -> np.ndarray:
        kept = self.batches_per_epoch * self.batch_size
        rows = random.permutation(self.count)[:kept]
        pool_of_row = np.arange(kept) // (self.pool * self.batch_size)
        # np.lexsort sorts by its last key first: pool, then the first length, then the others.
        keys = [self.lengths[rows, k] for k in reversed(range(self.lengths.shape[1]))]
        batches = rows[np.lexsort((*keys, pool_of_row))].reshape(-1, self.batch_size)
        return batches[random.permutation(self.batches_per_epoch)]


class Endless(LengthGrouped):
    """Batches of similar length from data that never end: every epoch has rows of its own, which
    are numbered on from those of the epoch before.

    Args:
        lengths_of: the lengths of an epoch's rows, as for `LengthGrouped`; always as many.
    """

    def __init__(
        self, lengths_of: Callable[[int], np.ndarray], batch_size: int, seed: int, pool: int = 8
    ) -> None:
        super().__init__(lengths_of(0), batch_size, seed, pool)
        self.lengths_of = lengths_of

    def _shuffle(self, random: np.random.Generator, epoch: int) -> np.ndarray:
        self.lengths = self.lengths_of(epoch)
        return super()._shuffle(random, epoch) + epoch * self.count
