"""Batches of examples of similar length, in an order that depends on the seed and step alone."""

from __future__ import annotations

import numpy as np

from beyond_ce.errors import UsageError


class LengthGroupedBatches:
    """Shuffled batches whose members have similar lengths, so that little of a batch is padding.

    Each epoch is a fresh permutation; within pools of `pool` batches the examples are sorted by
    length, cut into batches, and the batches are shuffled. What a step sees is a pure function of
    (seed, step): a resumed run needs no sampler state. The examples that do not fill a last batch
    sit out that epoch.

    Args:
        lengths: [N, k] token counts, most expensive sequence first (sorting is lexicographic).
        batch_size: examples a batch.
        seed: the run's seed.
        pool: batches sorted together. More of them mean less padding, but batches of one length are
            also of one difficulty, and training on those learns less per step.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, pool: int = 8) -> None:
        if batch_size < 1:
            raise UsageError(f"trainer.batch_size is {batch_size}: it must be at least 1")
        if len(lengths) < batch_size:
            raise UsageError(
                f"trainer.batch_size is {batch_size} but the training split has only "
                f"{len(lengths)} examples: lower it or use more data"
            )
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.pool = pool
        self.batches_per_epoch = len(lengths) // batch_size
        self._epoch = -1
        self._batches = np.empty((0, batch_size), dtype=np.int64)

    def __getitem__(self, step: int) -> np.ndarray:
        """Row numbers [batch_size] of the batch that step `step` (from 0) trains on."""
        epoch, index = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffle(epoch)
        return self._batches[index]

    def _shuffle(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng((self.seed, epoch))
        kept = self.batches_per_epoch * self.batch_size
        rows = random.permutation(len(self.lengths))[:kept]
        pool_of_row = np.arange(kept) // (self.pool * self.batch_size)
        # np.lexsort sorts by its last key first: pool, then the first length, then the others.
        keys = [self.lengths[rows, k] for k in reversed(range(self.lengths.shape[1]))]
        batches = rows[np.lexsort((*keys, pool_of_row))].reshape(-1, self.batch_size)
        return batches[random.permutation(self.batches_per_epoch)]
