"""The base class of the trainer's batches."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from beyond_ce.batches.order import Order

if TYPE_CHECKING:
    from beyond_ce.batches.batch import Batch
    from beyond_ce.tokenizers import Tokenizer

_ROWS_SHOWN = 32  # rows of a batch that an error message lists


class SplitBatches(ABC):
    """Batches of rows of a training and a validation split (see `training.session.Batches`).

    The rows of a step depend on the seed and the step alone.

    Args:
        train, validation: the splits; each subclass has its own type.
        order: gives the rows of each training step.
        validation_batch_size: rows per validation batch.
    """

    def __init__(
        self, train: Any, validation: Any, order: Order, validation_batch_size: int
    ) -> None:
        self.splits = {"train": train, "validation": validation}
        self.order = order
        self.validation_batch_size = validation_batch_size

    @abstractmethod
    def batch(self, split: Any, rows: np.ndarray) -> Batch:
        """Build a batch from these rows of a split."""

    @abstractmethod
    def validation_rows(self) -> np.ndarray:
        """The rows of the validation split to score, in the order to read them."""

    def train(self, step: int, rank: int, ranks: int, parts: int) -> list[Batch]:
        rows = self.order[step]
        return [
            self.batch(self.splits["train"], rows[part * ranks + rank :: parts * ranks])
            for part in range(parts)
        ]

    def validation(self, rank: int, ranks: int) -> list[Batch]:
        """Every rank runs the same number of batches: one that has no rows left for the last of
        them gets a row without labels."""
        rows = self.validation_rows()
        share, size = rows[rank::ranks], self.validation_batch_size
        parts = [
            self.batch(self.splits["validation"], share[i : i + size])
            for i in range(0, len(share), size)
        ]
        if len(parts) < math.ceil(len(rows[::ranks]) / size):
            parts.append(self.batch(self.splits["validation"], rows[:1]).without_labels())
        return parts

    def describe(self, step: int) -> str:
        rows = sorted(self.order[step].tolist())
        shown = ", ".join(map(str, rows[:_ROWS_SHOWN])) + ", ..." * (len(rows) > _ROWS_SHOWN)
        return f"rows {shown} of the training split, counted from 0"


def cache_name(key: str, tokenizer: Tokenizer, layout: int) -> str:
    """Hex digits that name the cached tokens of a split.

    Args:
        key: identifies the split's text.
        layout: version of the cached files; raised when their format changes.
    """
    text = f"{key}-{tokenizer.fingerprint()}-{layout}"
    if tokenizer.encoding > 1:  # the first version's caches are named without it
        text += f"-{tokenizer.encoding}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
