"""Prompt/answer data as token batches: tokenized once, cached, grouped by length."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np
from filelock import FileLock

from beyond_ce.batches.base import SplitBatches, cache_name
from beyond_ce.batches.batch import Numbers
from beyond_ce.batches.order import LengthGrouped
from beyond_ce.data.numbers import last_number, number_value
from beyond_ce.errors import RunError
from beyond_ce.storage.writing import flush, remove_scratch, scratch_folder

if TYPE_CHECKING:
    from beyond_ce.batches.batch import Batch
    from beyond_ce.models import LanguageModel
    from beyond_ce.tokenizers import Tokenizer

_LAYOUT = 3  # part of a token file's name; raise it when its columns or their contents change


def tokenize(
    split: datasets.Dataset, tokenizer: Tokenizer, cache_dir: Path, key: str
) -> datasets.Dataset:
    """The split with the columns prompt_ids, answer_ids (ending in the end token), prompt_length,
    answer_length, and answer_number: the last number in the answer's text, NaN if there is none.

    If the tokenizer carries numbers: also prompt_numbers and answer_numbers, one for each id.

    Args:
        split: columns prompt and answer.
        key: identifies the split's content; key and tokenizer fingerprint name the cache file.

    If several processes want the same file, one writes it and the others wait.

    Raises:
        RunError: the cached file is damaged or cannot be written.
    """
    digest = cache_name(key, tokenizer, _LAYOUT)
    path = cache_dir / "tokens" / f"{digest}.arrow"

    def mapped(file: Path) -> datasets.Dataset:
        return split.map(
            lambda rows: token_columns(rows, tokenizer),
            batched=True,
            remove_columns=split.column_names,
            cache_file_name=str(file),
            new_fingerprint=digest,
            desc="tokenizing",
        )

    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    # In a folder of its own: `map` has names of its own for what it has begun.
                    with scratch_folder(path) as scratch:
                        mapped(scratch / path.name)
                        flush(scratch / path.name)
                        os.replace(scratch / path.name, path)
        except OSError as error:
            raise RunError(
                f"cannot write the tokens to {path}: {error}; free some space or choose another "
                "cache_dir"
            ) from error
    remove_scratch(path)  # of a process that was killed just after it had moved its file away
    try:
        return mapped(path)
    except Exception as error:
        raise RunError(
            f"token cache {path} is damaged: delete it and start the same command again"
        ) from error


def token_columns(rows: Mapping[str, list[str]], tokenizer: Tokenizer) -> dict[str, list]:
    """The columns of `tokenize`, from prompts and answers."""
    prompts = tokenizer.encode(rows["prompt"])
    answers = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode(rows["answer"])]
    columns: dict[str, list] = {
        "prompt_ids": prompts,
        "answer_ids": answers,
        "prompt_length": [len(ids) for ids in prompts],
        "answer_length": [len(ids) for ids in answers],
        "answer_number": [number_value(last_number(text)) for text in rows["answer"]],
    }
    prompt_numbers = tokenizer.token_numbers(rows["prompt"])
    answer_numbers = tokenizer.token_numbers(rows["answer"])
    if prompt_numbers is not None and answer_numbers is not None:
        columns["prompt_numbers"] = prompt_numbers
        columns["answer_numbers"] = [[*numbers, math.nan] for numbers in answer_numbers]
    return columns


class PromptAnswerBatches(SplitBatches):
    """The trainer's batches over tokenized prompt/answer splits, grouped by length.

    Args:
        model: turns token lists into a `Batch` in its own layout.
        train, validation: tokenized splits.
        batch_size: examples per optimizer step.
        seed: the run's seed, which determines the order.

    Raises:
        UsageError: an example is too long for the model.
    """

    def __init__(
        self,
        model: LanguageModel,
        train: datasets.Dataset,
        validation: datasets.Dataset,
        batch_size: int,
        seed: int,
    ) -> None:
        order = LengthGrouped(lengths(train), batch_size, seed)
        super().__init__(train, validation, order, validation_batch_size=batch_size)
        self.model = model
        for split in (train, validation):
            # Build the longest batches first, so an example that is too long fails here.
            self.batch(split, _longest(split))

    def batch(self, split: datasets.Dataset, rows: np.ndarray) -> Batch:
        columns = split[rows]
        numbers = Numbers(
            answers=columns["answer_number"],
            prompt_tokens=columns.get("prompt_numbers"),
            answer_tokens=columns.get("answer_numbers"),
        )
        return self.model.make_batch(columns["prompt_ids"], columns["answer_ids"], numbers=numbers)

    def validation_rows(self) -> np.ndarray:
        """All rows, sorted by length."""
        return np.lexsort(lengths(self.splits["validation"]).T[::-1])


def lengths(split: datasets.Dataset) -> np.ndarray:
    """[N, 2]: prompt and answer lengths in tokens."""
    table = split.with_format("numpy")
    return np.stack([table["prompt_length"][:], table["answer_length"][:]], axis=1)


def _longest(split: datasets.Dataset) -> np.ndarray:
    """The rows with the longest prompt, the longest answer, and the longest pair."""
    counts = lengths(split)
    return np.append(counts.argmax(axis=0), counts.sum(axis=1).argmax())
