"""A config's data, as text and as tokens, and its tokenizer: prepared once, then cached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from omegaconf import DictConfig

from beyond_ce.batches.endless import EndlessTokens
from beyond_ce.batches.packed import pack_tokens
from beyond_ce.batches.packed_tokens import PackedTokens
from beyond_ce.batches.prompt_answer import tokenize
from beyond_ce.configuration import build
from beyond_ce.data import EndlessData, PackedData, PromptAnswerData
from beyond_ce.data.base import NO_TEXT
from beyond_ce.errors import UsageError
from beyond_ce.runs.source import source_tokenizer
from beyond_ce.tokenizers import Tokenizer


@dataclass
class Prepared:
    """What runs with the same data and tokenizer share.

    Attributes:
        splits: all splits as text.
        train, validation: their tokens: `PackedTokens` of a corpus, else the columns of `tokenize`,
            which `EndlessTokens` makes on demand.
        fingerprint: of the data.
    """

    splits: dict[str, datasets.Dataset]
    train: Any
    validation: Any
    test_splits: tuple[str, ...]
    tokenizer: Tokenizer
    fingerprint: str


def prepare(config: DictConfig) -> Prepared:
    """Generate or read the data and fit the tokenizer, or read both from `cache_dir`.

    A run that starts from another one takes that run's tokenizer.

    Call it before several runs start, or each of them prepares the same things.

    Raises:
        UsageError: the data are only for testing.
    """
    data = build(config.dataset, "dataset")
    cache = Path(config.cache_dir)
    splits = data.load()
    if not {"train", "validation"} <= splits.keys():
        raise UsageError(
            f"dataset {data.name} has no examples to train and validate on, only the splits "
            f"{', '.join(splits)}: choose another one, such as dataset=code_tasks"
        )
    key = data.fingerprint()
    tokenizer = source_tokenizer(config)
    if tokenizer is None:
        tokenizer = build(config.tokenizer, "tokenizer").fit(_texts(splits["train"]), cache, key)
    if isinstance(data, EndlessData):
        train: Any = EndlessTokens(data, tokenizer, config.seed)
    else:
        train = _tokens(data, splits["train"], tokenizer, cache, f"{key}-train")
    return Prepared(
        splits=splits,
        train=train,
        validation=_tokens(data, splits["validation"], tokenizer, cache, f"{key}-validation"),
        test_splits=data.test_splits,
        tokenizer=tokenizer,
        fingerprint=key,
    )


def _texts(split: datasets.Dataset) -> Iterator[str]:
    columns = [name for name in split.column_names if name not in NO_TEXT]
    if "text" in columns:  # what else there is are parts of it
        columns = ["text"]
    for rows in split.select_columns(columns).iter(batch_size=1000):
        for column in columns:
            yield from rows[column]


def _tokens(
    data: PackedData | PromptAnswerData,
    split: datasets.Dataset,
    tokenizer: Tokenizer,
    cache: Path,
    key: str,
) -> datasets.Dataset | PackedTokens:
    if isinstance(data, PackedData):
        return pack_tokens(split, tokenizer, data.sequence_length, cache, key)
    return tokenize(split, tokenizer, cache, key)
