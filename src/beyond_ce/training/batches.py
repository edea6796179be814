"""Prompt/answer data as token batches: tokenized once, cached, grouped by length."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from beyond_ce.data.sampler import LengthGroupedBatches
from beyond_ce.errors import RunError
from beyond_ce.models import LanguageModel
from beyond_ce.tokenizers import Tokenizer


def tokenize(
    split: datasets.Dataset, tokenizer: Tokenizer, cache_dir: Path, key: str
) -> datasets.Dataset:
    """The split as columns prompt_ids, answer_ids (ending in the end token) and their lengths.

    Args:
        split: columns prompt and answer.
        key: names the split's content; with the tokenizer's fingerprint it names the cache file.

    Raises:
        RunError: the cached file is damaged.
    """

    def encode(rows: dict[str, list[str]]) -> dict[str, list]:
        prompts = tokenizer.encode(rows["prompt"])
        answers = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode(rows["answer"])]
        return {
            "prompt_ids": prompts,
            "answer_ids": answers,
            "prompt_length": [len(ids) for ids in prompts],
            "answer_length": [len(ids) for ids in answers],
        }

    digest = hashlib.sha256(f"{key}-{tokenizer.fingerprint()}".encode()).hexdigest()[:16]
    path = cache_dir / "tokens" / f"{digest}.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    cached = path.exists()
    try:
        return split.map(
            encode,
            batched=True,
            remove_columns=split.column_names,
            cache_file_name=str(path),
            new_fingerprint=digest,
            desc="tokenizing",
        )
    except Exception as error:
        if not cached:
            raise
        raise RunError(
            f"token cache {path} is damaged: delete it and start the same command again"
        ) from error


class PromptAnswerBatches:
    """The trainer's batches over tokenized prompt/answer splits.

    Args:
        model: makes a `Batch` of token lists in its own layout.
        train, validation: tokenized splits.
        batch_size: examples per optimizer step.
        seed: the run's seed, which the order depends on.
    """

    def __init__(
        self,
        model: LanguageModel,
        train: datasets.Dataset,
        validation: datasets.Dataset,
        batch_size: int,
        seed: int,
    ) -> None:
        self.model = model
        self.rows = train
        self.validation_rows = validation
        self.batch_size = batch_size
        self.order = LengthGroupedBatches(_lengths(train), batch_size, seed)

    def train(self, step: int, rank: int, ranks: int, parts: int) -> list[Any]:
        rows = self.order[step]
        return [
            self._batch(self.rows, rows[part * ranks + rank :: parts * ranks])
            for part in range(parts)
        ]

    def validation(self, rank: int, ranks: int) -> list[Any]:
        """Batches in order of length; with several ranks the remainder that does not divide
        among them is left out, as every rank must run the same number of batches."""
        lengths = _lengths(self.validation_rows)
        rows = np.lexsort(lengths.T[::-1])
        rows = rows[: len(rows) // ranks * ranks][rank::ranks]
        size = self.batch_size
        return [
            self._batch(self.validation_rows, rows[i : i + size]) for i in range(0, len(rows), size)
        ]

    def _batch(self, split: datasets.Dataset, rows: np.ndarray) -> Any:
        columns = split[rows]
        return self.model.make_batch(columns["prompt_ids"], columns["answer_ids"])


def _lengths(split: datasets.Dataset) -> np.ndarray:
    """[N, 2]: prompt and answer lengths in tokens."""
    table = split.with_format("numpy")
    return np.stack([table["prompt_length"][:], table["answer_length"][:]], axis=1)
