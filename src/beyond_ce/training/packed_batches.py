"""Corpora as token batches: tokenized once, cached, and drawn row by row."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from beyond_ce.data.packed import PackedTokens, pack
from beyond_ce.errors import UsageError
from beyond_ce.models import LanguageModel
from beyond_ce.tokenizers import Tokenizer

_LAYOUT = 1  # part of a token folder's name; to be raised when its files change
_ROWS_SHOWN = 32  # of a batch, in an error's one line


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
        sequence_length: tokens a row.
        key: names the split's content; with the tokenizer's fingerprint it names the cache folder.

    Raises:
        RunError: the cache is damaged or cannot be written.
    """
    digest = hashlib.sha256(f"{key}-{tokenizer.fingerprint()}-{_LAYOUT}".encode()).hexdigest()[:16]
    folder = cache_dir / "tokens" / digest
    pack(split, tokenizer.encode, tokenizer.eos_id, tokenizer.vocab_size, folder)
    return PackedTokens(folder, sequence_length)


class PackedBatches:
    """The trainer's batches over packed corpora.

    Each epoch is a fresh permutation of all rows. What a step sees is a pure function of (seed,
    step): a resumed run needs no sampler state. The rows that do not fill a last batch sit out
    that epoch.

    Args:
        model: makes a `Batch` of rows.
        train, validation: splits.
        batch_size: rows per optimizer step.
        seed: the run's seed, which the order depends on.
        validation_batch_size: rows that the model reads at once in validation.
        validation_rows: at most so many, spread evenly over the split.

    Raises:
        UsageError: a split has too few rows, or its rows are nothing for the model.
    """

    def __init__(
        self,
        model: LanguageModel,
        train: PackedTokens,
        validation: PackedTokens,
        batch_size: int,
        seed: int,
        validation_batch_size: int,
        validation_rows: int = 256,
    ) -> None:
        if len(train) < batch_size:
            raise UsageError(
                f"trainer.batch_size is {batch_size} but the training split has only "
                f"{len(train)} rows: lower it, shorten dataset.sequence_length or use more data"
            )
        if not len(validation):
            raise UsageError("the validation split has no text: use more data")
        self.model = model
        self.tokens = train
        self.validation_tokens = validation
        self.batch_size = batch_size
        self.validation_batch_size = validation_batch_size
        self.seed = seed
        kept = np.linspace(0, len(validation) - 1, min(validation_rows, len(validation)))
        self.validation_rows = kept.round().astype(np.int64)
        self.batches_per_epoch = len(train) // batch_size
        self._epoch = -1
        self._order: np.ndarray = np.empty(0, dtype=np.int64)
        model.packed_batch(train.rows([0]))  # what is nothing for the model is to fail now

    def train(self, step: int, rank: int, ranks: int, parts: int) -> list[Any]:
        rows = self._rows(step)
        return [
            self.model.packed_batch(self.tokens.rows(rows[part * ranks + rank :: parts * ranks]))
            for part in range(parts)
        ]

    def validation(self, rank: int, ranks: int) -> list[Any]:
        """Batches in the split's order; with several ranks the remainder that does not divide
        among them is left out, as every rank must run the same number of batches."""
        rows = self.validation_rows
        rows = rows[: len(rows) // ranks * ranks][rank::ranks]
        size = self.validation_batch_size
        return [
            self.model.packed_batch(self.validation_tokens.rows(rows[i : i + size]))
            for i in range(0, len(rows), size)
        ]

    def describe(self, step: int) -> str:
        rows = sorted(self._rows(step).tolist())
        shown = ", ".join(map(str, rows[:_ROWS_SHOWN])) + ", ..." * (len(rows) > _ROWS_SHOWN)
        return (
            f"rows {shown} of the training split, counted from 0, "
            f"of {self.tokens.sequence_length} tokens each"
        )

    def _rows(self, step: int) -> np.ndarray:
        """Row numbers [batch_size] of the batch that step `step` (from 0) trains on."""
        epoch, index = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            random = np.random.default_rng((self.seed, epoch))
            self._epoch, self._order = epoch, random.permutation(len(self.tokens))
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]
