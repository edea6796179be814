"""Two corpora in one training split, in a proportion that is set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beyond_ce.data.base import PackedData
from beyond_ce.data.cache import load_or_write
from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.settings import COUNT, PATH, SHARE, takes

if TYPE_CHECKING:
    import datasets

_ROWS_PER_BATCH = 100  # a document can be a book


class MixedText(PackedData):
    """Trains on a corpus mixed with another one, and validates and tests on the first alone.

    Training has all documents of `main`, and of `other` as many as give it `other_share` of all
    characters: whole documents in their order, from the start again when there are no more. The
    order of rows in training is random. A model reads about as many tokens of each as its share of
    the characters says.

    Source: MTP paper, appendix J and figure S14, a 9:1 mix of books and stories.

    Args:
        main, other: the corpora; their own settings of rows do not matter.
        other_share: share of `other`, of the training split's characters.
        sequence_length: tokens per row.
        cache_dir: where the Arrow file goes, in a folder named by `fingerprint`.
    """

    @takes("dataset", other_share=SHARE, sequence_length=COUNT, cache_dir=PATH)
    def __init__(
        self,
        *,
        main: Corpus,
        other: Corpus,
        other_share: float,
        sequence_length: int,
        cache_dir: str | Path,
    ) -> None:
        self.main = main
        self.other = other
        self.other_share = other_share
        self.sequence_length = sequence_length
        self.name = f"{main.name}_with_{other.name}"
        self.test_splits = main.test_splits
        self.cache_dir = Path(cache_dir)

    @property
    def hub_name(self) -> str | None:
        return self.main.hub_name or self.other.hub_name

    def _definition(self) -> dict[str, Any]:
        return {
            "main": self.main.fingerprint(),
            "other": self.other.fingerprint(),
            "other_share": self.other_share,
        }

    def load(self) -> dict[str, datasets.Dataset]:
        splits = self.main.load()
        mixed = load_or_write(
            self.cache_folder,
            lambda: iter([("train", self._documents(splits["train"]))]),
            self.columns,
            rows_per_batch=_ROWS_PER_BATCH,
        )
        return splits | mixed

    def _documents(self, main: datasets.Dataset) -> Iterator[Document]:
        characters = 0
        for row in main:
            characters += len(row["text"])
            yield Document(row["text"], row["task"], "train")
        wanted = characters * self.other_share / (1 - self.other_share)
        for row in itertools.cycle(self.other.load()["train"]):
            if wanted <= 0:
                return
            wanted -= len(row["text"])
            yield Document(row["text"], row["task"], "train")
