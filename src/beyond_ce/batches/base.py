"""What the trainer's batches have in common, whatever their rows are."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from beyond_ce.batches.order import Order

if TYPE_CHECKING:
    from beyond_ce.batches.batch import Batch
    from beyond_ce.tokenizers import Tokenizer

_ROWS_SHOWN = 32  # of a batch, in an error's one line


class SplitBatches(ABC):
    """Batches of rows of a training and a validation split (see `training.session.Batches`).

    What a step trains on depends on the seed and the step alone.

    Args:
        train, validation: the splits; what they are is the subclass's affair.
        order: which rows a step trains on.
        validation_batch_size: rows that the model reads at once in validation.
    """

    def __init__(
        self, train: Any, validation: Any, order: Order, validation_batch_size: int
    ) -> None:
        self.splits = {"train": train, "validation": validation}
        self.order = order
        self.validation_batch_size = validation_batch_size

    @abstractmethod
    def batch(self, split: Any, rows: np.ndarray) -> Batch:
        """The batch of these rows of a split."""

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
        """With several ranks the remainder that does not divide among them is left out, as every
        rank must run the same number of batches."""
        rows = self.validation_rows()
        rows = rows[: len(rows) // ranks * ranks][rank::ranks]
        size = self.validation_batch_size
        return [
            self.batch(self.splits["validation"], rows[i : i + size])
            for i in range(0, len(rows), size)
        ]

    def describe(self, step: int) -> str:
        rows = sorted(self.order[step].tolist())
        shown = ", ".join(map(str, rows[:_ROWS_SHOWN])) + ", ..." * (len(rows) > _ROWS_SHOWN)
        return f"rows {shown} of the training split, counted from 0"


def cache_name(key: str, tokenizer: Tokenizer, layout: int) -> str:
    """Hex digits that name the cached tokens of a split.

    Args:
        key: names the split's text.
        layout: version of the cached files; raised when their content changes.
    """
    text = f"{key}-{tokenizer.fingerprint()}-{layout}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
