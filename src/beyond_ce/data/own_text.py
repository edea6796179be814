"""Text that a model wrote itself, to train heads that are to guess what it will say."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from beyond_ce.data.base import PackedData
from beyond_ce.data.cache import load_or_write
from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.settings import COUNT, PATH, takes
from beyond_ce.storage.shards import Shards

if TYPE_CHECKING:
    import datasets


class TextWriter(Protocol):
    """See `runs.writer.Writer`."""

    def definition(self, cache_dir: Path) -> dict[str, Any]: ...

    def __call__(self, texts: Callable[[], Iterable[str]], done: int) -> Iterator[list[str]]: ...


class OwnText(PackedData):
    """Trains on pieces of a corpus as a model goes on with them, and validates and tests on the
    corpus itself.

    Head 1 verifies what the others draft, so they are to predict what it would say rather than what
    a person wrote. Source: Cai et al. (2024), "Medusa" (arXiv 2401.10774), self-distillation.

    Args:
        corpus: the documents; its own settings of rows do not matter.
        writer: continues pieces of them.
        sequence_length: tokens per row.
        cache_dir: where the Arrow file goes, in a folder named by `fingerprint`.
    """

    @takes("dataset", sequence_length=COUNT, cache_dir=PATH)
    def __init__(
        self,
        *,
        corpus: Corpus,
        writer: TextWriter,
        sequence_length: int,
        cache_dir: str | Path,
    ) -> None:
        self.corpus = corpus
        self.writer = writer
        self.sequence_length = sequence_length
        self.name = f"{corpus.name}_own_text"
        self.test_splits = corpus.test_splits
        self.cache_dir = Path(cache_dir)

    @property
    def hub_name(self) -> str | None:
        return self.corpus.hub_name

    def _definition(self) -> dict[str, Any]:
        return {
            "corpus": self.corpus.fingerprint(),
            "writer": self.writer.definition(self.cache_dir),
        }

    def load(self) -> dict[str, datasets.Dataset]:
        splits = self.corpus.load()
        written = load_or_write(
            self.cache_folder,
            lambda: iter([("train", self._documents(splits["train"]))]),
            self.columns,
        )
        shutil.rmtree(self._parts, ignore_errors=True)
        return splits | written

    @property
    def _parts(self) -> Path:
        """Where texts are kept until all are written, to go on after a kill."""
        return self.cache_folder.with_name(f"{self.cache_folder.name}.parts")

    def _documents(self, train: datasets.Dataset) -> Iterator[Document]:
        import pyarrow as pa

        kept = Shards(self._parts, {"text": pa.string()})
        texts: list[str] = kept.read()["text"].to_pylist()
        for batch in self.writer(lambda: (row["text"] for row in train), len(texts)):
            kept.append([{"text": text} for text in batch])
            texts += batch
        for number, text in enumerate(texts, start=1):
            yield Document(text, f"{self.name}/{number}", "train")
