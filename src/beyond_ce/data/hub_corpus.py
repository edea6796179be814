"""Corpora of the Hugging Face hub, or files of the same kind."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beyond_ce.data import files
from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.errors import UsageError, check_at_least_one

_SUFFIXES = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz")


class HubCorpus(Corpus):
    """One column of a data set of the hub; each row's text is a document.

    The split is by a hash of the text, so that copies of it are in one split, whatever splits the
    hub has. Blank texts are left out.

    Args:
        hub: name on the hub.
        config: of the data set there, null for its only one.
        split: of the hub to take rows from.
        column: of the text.
        max_documents: take so many of the first rows, and download no more than these; null for
            all.
        path: a folder with the rows in files .parquet, or .jsonl or .json (an object a line, plain
            or .gz); null for the folder `name` in $BEYOND_CE_DATA if there is one, else the hub.
        name: of the corpus.
        test_split: what its test split is called.
        settings: as for `Corpus`.

    Raises:
        UsageError: the folder has no such files, or settings are out of their range.
    """

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
        check_at_least_one("dataset", max_documents=max_documents)
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
            parts = (self.hub, self.config, self.split, self.column, self.max_documents)
            return " ".join(["hub", *map(str, parts)])
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
        """Each row after where it stands, for messages."""
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
    found = sorted(path for path in folder.rglob("*") if path.name.endswith(_SUFFIXES))
    if not found:
        raise UsageError(f"{folder} has no file of rows ({', '.join(_SUFFIXES)})")
    return found
