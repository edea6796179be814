"""Corpora from the Hugging Face hub, or from local files with the same rows."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beyond_ce.data import files
from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.errors import UsageError
from beyond_ce.settings import NO_LIMIT, TEXT, optional, takes
from beyond_ce.storage.content import remembered

_SUFFIXES = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz")


class HubCorpus(Corpus):
    """One text column of a data set on the hub; each row's text is a document.

    Splits are made by a hash of the text, so all copies of a text are in the same split; the hub's
    own splits do not matter. Blank texts are dropped.

    Args:
        hub: name on the hub.
        config: the data set's configuration there; null if it has only one.
        split: the hub's split to take rows from.
        column: name of the text column.
        max_documents: use only the first rows, this many, and download no more; null for all.
        path: a folder with the rows in .parquet, .jsonl or .json files (one object per line, plain
            or .gz); null for the folder `name` in $BEYOND_CE_DATA if there is one, else the hub.
        name: the corpus's name.
        test_split: the name of its test split.
        settings: as for `Corpus`.

    Raises:
        UsageError: the folder has no such files, or settings are out of their range.
    """

    @takes(
        "dataset",
        hub=TEXT,
        column=TEXT,
        config=optional(TEXT),
        name=TEXT,
        split=TEXT,
        max_documents=NO_LIMIT,
        path=optional(TEXT),
        test_split=TEXT,
    )
    def __init__(
        self,
        *,
        hub: str,
        column: str,
        name: str,
        config: str | None = None,
        split: str = "train",
        max_documents: int | None = None,
        path: str | Path | None = None,
        test_split: str = "test",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.hub = hub
        self.config = config
        self.split = split
        self.column = column
        self.max_documents = max_documents
        self.name = name
        self.test_splits = (test_split,)
        folder = files.data_folder(path, name)
        self.paths = [] if folder is None else _row_files(folder)

    def identity(self) -> str:
        if not self.paths:
            parts = (self.config, self.split, self.column, self.max_documents)
            return files.hub_identity(self.hub, *parts)
        what = f"rows {self.column} {self.max_documents}"
        return remembered(self.paths, what, self._digest, self.cache_dir)

    @property
    def hub_name(self) -> str | None:
        return None if self.paths else self.hub

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for text in self._texts():
            digest.update(f"{len(text)} {text}".encode())
        return digest.hexdigest()

    def documents(self) -> Iterator[Document]:
        for number, text in enumerate(self._texts(), start=1):
            if text.strip():
                yield Document(text, f"{self.name}/{number}", self.split_of(text))

    def _texts(self) -> Iterator[str]:
        for where, row in itertools.islice(self._rows(), self.max_documents):
            text = row.get(self.column)
            if not isinstance(text, str):
                raise UsageError(
                    f"{where}: no text '{self.column}' among {', '.join(row)}: set dataset.column"
                )
            yield text

    def _rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields each row's location for messages, and the row."""
        for path in self.paths:
            if path.suffix == ".parquet":
                yield from files.read_parquet(path)
            else:
                for line, row in files.read_json_lines(path):
                    yield f"{path}, line {line}", row
        if not self.paths:
            stream = self.max_documents is not None
            rows = files.hub_rows(self.hub, self.config, self.split, stream)
            for number, row in enumerate(rows, start=1):
                yield f"{self.hub}, {self.split} row {number}", row


def _row_files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.name.endswith(_SUFFIXES))
    if not paths:
        raise UsageError(f"{folder} has no file of rows ({', '.join(_SUFFIXES)})")
    return paths
