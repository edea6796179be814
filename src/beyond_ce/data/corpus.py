"""Corpora: data sets whose examples are whole documents, for language modelling."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beyond_ce.data.base import PackedData
from beyond_ce.data.cache import load_or_write
from beyond_ce.errors import UsageError
from beyond_ce.settings import PATH, SHARE, takes, whole

if TYPE_CHECKING:
    import datasets

_DOCUMENTS_PER_BATCH = 100  # batch of the Arrow file; a document can be a book


@dataclass(frozen=True)
class Document:
    """A text and its name.

    Attributes:
        task: the name.
        split: "train", "validation" or the corpus's test split.
    """

    text: str
    task: str
    split: str


class Corpus(PackedData):
    """Documents, divided into training, validation and test splits by a hash of each document.

    The split depends on the document alone: when a corpus grows, its test documents stay out of
    training. A subclass chooses what is hashed, such that no text is in two splits.

    Args:
        sequence_length: tokens that a model reads at once: the length of a training row.
        cache_dir: where the Arrow file goes, in a folder named by `fingerprint`.
        validation_share, test_share: shares of the documents, on average.

    Raises:
        UsageError: a setting is out of its range.
    """

    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        sequence_length=whole(1, 2**24),
        cache_dir=PATH,
        validation_share=SHARE,
        test_share=SHARE,
    )
    def __init__(
        self,
        *,
        sequence_length: int,
        cache_dir: str | Path,
        validation_share: float,
        test_share: float,
    ) -> None:
        shares = {"validation_share": validation_share, "test_share": test_share}
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
        """Identifies the documents: a digest of their content, or their address on the hub."""

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """All documents, in an order that is the same on every machine."""

    def split_of(self, key: str) -> str:
        """The split of the document with this key."""
        uniform = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
        if uniform < self.shares["test_share"]:
            return self.test_splits[0]
        if uniform < self.shares["test_share"] + self.shares["validation_share"]:
            return "validation"
        return "train"

    def _definition(self) -> dict[str, Any]:
        # Without sequence_length: documents and their splits do not depend on it.
        return {
            "class": type(self).__name__,
            "identity": self.identity(),
            **self.shares,
        }

    def load(self) -> dict[str, datasets.Dataset]:
        """All splits, read on first use; the task is the document's name.

        Raises:
            UsageError: a split has no document.
        """
        # One file for all splits, so a large corpus is read only once.
        documents = load_or_write(
            self.cache_folder,
            lambda: iter([("documents", self.documents())]),
            columns=(*self.columns, "split"),
            rows_per_batch=_DOCUMENTS_PER_BATCH,
        )["documents"]
        # The cache does not depend on the test split's name: it may have been another then.
        split_of = np.array(documents["split"][:], dtype=object)
        split_of[~np.isin(split_of, ("train", "validation"))] = self.test_splits[0]
        splits = {}
        for split in ("train", "validation", *self.test_splits):
            rows = np.flatnonzero(split_of == split)
            if not len(rows):
                raise UsageError(
                    f"dataset {self.name} has {len(documents)} documents and none in the split "
                    f"'{split}': give more documents, or larger shares"
                )
            splits[split] = documents.select(rows).select_columns(list(self.columns))
        return splits
