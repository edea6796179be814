"""The base class of all data sets: columns, splits, and a fingerprint of the contents."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from beyond_ce.data.cache import Splits, load_or_write
from beyond_ce.data.example import Example

if TYPE_CHECKING:
    import datasets

NO_TEXT = ("task", "problem")
"""Columns that no model reads: the example's kind, and the tests of a program."""


class DataSet(ABC):
    """Data for training and testing; the `_target_`s in `conf/dataset/` are subclasses."""

    columns: ClassVar[tuple[str, ...]]
    """Columns of every split. They are checked against the evaluator's before any data is made."""
    version: ClassVar[int] = 1
    """Part of the fingerprint: raise it when the same settings start to give other examples."""
    name: str
    test_splits: tuple[str, ...]
    cache_dir: Path

    @abstractmethod
    def _definition(self) -> dict[str, Any]:
        """Everything that the examples depend on besides `version`, as JSON values. Leave out
        paths and the number of workers."""

    @abstractmethod
    def load(self) -> dict[str, datasets.Dataset]:
        """The splits "train", "validation" and `test_splits`; made on first use, then cached."""

    @property
    def hub_name(self) -> str | None:
        """The name on the Hugging Face hub of what the examples are made from, if it is there."""
        return None

    def fingerprint(self) -> str:
        """Hex digest of everything that defines the examples."""
        definition = {"version": self.version, **self._definition()}
        return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()

    @property
    def cache_folder(self) -> Path:
        """The folder of the Arrow files."""
        return self.cache_dir / f"{self.name}-{self.fingerprint()[:16]}"


class PackedData(DataSet):
    """Data whose rows are texts, which are packed into rows of tokens to train on."""

    columns: ClassVar[tuple[str, ...]] = ("text", "task")
    sequence_length: int
    """Tokens that a model reads at once: the length of a training row."""


class PromptAnswerData(DataSet):
    """Prompts and answers: a subclass implements `_definition` and `_splits`."""

    columns = tuple(field.name for field in fields(Example))

    @abstractmethod
    def _splits(self) -> Splits:
        """Yields each split's name and its `Example`s; a split is consumed before the next."""

    def load(self) -> dict[str, datasets.Dataset]:
        return load_or_write(self.cache_folder, self._splits, self.columns)


class EndlessData(PromptAnswerData):
    """Prompts and answers whose training never ends: its rows are made block by block when they
    are needed, so that none is stored and a run that goes on makes the same ones again.

    A subclass implements `block` besides. The split "train" that it yields in `_splits` is only the
    first block, as a sample: a tokenizer is fitted to it.
    """

    block_size: ClassVar[int] = 2**14
    """Rows of a block."""

    @abstractmethod
    def block(self, stream: int, number: int) -> list[Example]:
        """`block_size` training rows, which depend on the settings and the arguments alone.

        Args:
            stream: each run has its own, by its seed.
            number: counts the blocks from 0.
        """
