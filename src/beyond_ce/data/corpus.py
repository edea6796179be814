"""Corpora: data sets whose examples are whole documents, for language modelling."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beyond_ce.data.base import DataSet
from beyond_ce.data.cache import load_or_write
from beyond_ce.errors import UsageError, check_at_least_one

if TYPE_CHECKING:
    import datasets

_DOCUMENTS_PER_BATCH = 100  # of an Arrow file; a document can be a whole book


@dataclass(frozen=True)
class Document:
    """A text and its name.

    Attributes:
        split: "train", "validation" or the corpus's test split.
    """

    text: str
    task: str
    split: str


class Corpus(DataSet):
    """Documents, divided into training, validation and test by a hash of each.

    A document's split depends on nothing but itself: a corpus that grows keeps its test documents
    out of training. A subclass says what is hashed, so that no text is in two splits.

    Args:
        sequence_length: tokens that a model reads at once; a row of training.
        cache_dir: where the Arrow file goes, in a folder named by `fingerprint`.
        validation_share, test_share: of the documents, on average.

    Raises:
        UsageError: a setting is out of its range.
    """

    columns = ("text", "task")
    test_splits: tuple[str, ...] = ("test",)

    def __init__(
        self,
        *,
        sequence_length: int,
        cache_dir: str | Path,
        validation_share: float,
        test_share: float,
    ) -> None:
        check_at_least_one("dataset", sequence_length=sequence_length)
        shares = {"validation_share": validation_share, "test_share": test_share}
        for key, share in shares.items():
            if not 0 < share < 1:
                raise UsageError(f"dataset.{key}={share}: give a number between 0 and 1")
        if validation_share + test_share >= 1:
            raise UsageError(
                "dataset.validation_share and dataset.test_share leave nothing to train on: "
                "lower them"
            )
        self.sequence_length = sequence_length
        self.cache_dir = Path(cache_dir)
        self.shares = shares

    @abstractmethod
    def identity(self) -> str:
        """What the documents are: a digest of their content, or where on the hub they are."""

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """All documents, in an order that is the same on every machine."""

    def split_of(self, key: str) -> str:
        """The split of the document with that key."""
        place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
        if place < self.shares["test_share"]:
            return self.test_splits[0]
        if place < self.shares["test_share"] + self.shares["validation_share"]:
            return "validation"
        return "train"

    def _definition(self) -> dict[str, Any]:
        # The length of rows is left out: documents and their splits do not depend on it.
        return {
            "class": type(self).__name__,
            "identity": self.identity(),
            **self.shares,
        }

    def load(self) -> dict[str, datasets.Dataset]:
        """All splits, read on first use; the task is the document's name.

        Raises:
            UsageError: there are too few documents for every split to have one.
        """
        # One file for all splits, so that a corpus is read once, however large.
        documents = load_or_write(
            self.cache_folder,
            lambda: iter([("documents", self.documents())]),
            columns=(*self.columns, "split"),
            rows_per_batch=_DOCUMENTS_PER_BATCH,
        )["documents"]
        split_of = np.array(documents["split"][:], dtype=object)
        splits = {}
        for split in ("train", "validation", *self.test_splits):
            rows = np.flatnonzero(split_of == split)
            if not len(rows):
                raise UsageError(
                    f"dataset {self.name} has {len(documents)} documents and none of them is in "
                    f"the split '{split}': give more or shorter documents, or larger shares"
                )
            splits[split] = documents.select(rows).select_columns(list(self.columns))
        return splits
