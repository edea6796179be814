"""Corpora as token batches: tokenized once, cached, and cut into rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from beyond_ce.batches.base import SplitBatches, cache_name
from beyond_ce.batches.order import Shuffled
from beyond_ce.batches.packed_tokens import PackedTokens, pack
from beyond_ce.errors import UsageError

if TYPE_CHECKING:
    import datasets

    from beyond_ce.batches.batch import Batch
    from beyond_ce.models import LanguageModel
    from beyond_ce.tokenizers import Tokenizer

_LAYOUT = 1  # part of a token folder's name; raise it when its files change


def pack_tokens(
    split: datasets.Dataset,
    tokenizer: Tokenizer,
    sequence_length: int,
    cache_dir: Path,
    key: str,
) -> PackedTokens:
    """The split as rows of tokens.

    Args:
        split: column text.
        sequence_length: tokens per row.
        key: identifies the split's content; key and tokenizer fingerprint name the cache folder.

    Raises:
        RunError: the cache is damaged or cannot be written.
    """
    folder = cache_dir / "tokens" / cache_name(key, tokenizer, _LAYOUT)
    pack(split, tokenizer.encode, tokenizer.eos_id, tokenizer.vocab_size, folder)
    return PackedTokens(folder, sequence_length)


class PackedBatches(SplitBatches):
    """The trainer's batches over packed corpora, all rows in random order.

    Args:
        model: turns rows into a `Batch`.
        train, validation: splits.
        batch_size: rows per optimizer step.
        seed: the run's seed, which determines the order.
        validation_batch_size: rows per validation batch.
        most_validation_rows: maximum number of validation rows, spread evenly over the split.

    Raises:
        UsageError: a split has too few rows, or the model cannot train on its rows.
    """

    def __init__(
        self,
        model: LanguageModel,
        train: PackedTokens,
        validation: PackedTokens,
        batch_size: int,
        seed: int,
        validation_batch_size: int,
        most_validation_rows: int = 256,
    ) -> None:
        advice = "lower it, shorten dataset.sequence_length or use more data"
        order = Shuffled(len(train), batch_size, seed, advice)
        super().__init__(train, validation, order, validation_batch_size)
        if not len(validation):
            raise UsageError("the validation split has no text: use more data")
        self.model = model
        self.sequence_length = train.sequence_length
        kept = np.linspace(0, len(validation) - 1, min(most_validation_rows, len(validation)))
        self._validation_rows = kept.round().astype(np.int64)
        # Build one batch now, so rows that the model cannot train on fail here.
        self.batch(train, np.zeros(1, dtype=np.int64))

    def batch(self, split: PackedTokens, rows: np.ndarray) -> Batch:
        return self.model.packed_batch(split.rows(rows))

    def validation_rows(self) -> np.ndarray:
        return self._validation_rows

    def describe(self, step: int) -> str:
        return f"{super().describe(step)}, of {self.sequence_length} tokens each"
