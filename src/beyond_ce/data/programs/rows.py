"""Where the rows of a benchmark come from: files of the same schema, or the hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beyond_ce.data import files
from beyond_ce.errors import RunError, UsageError
from beyond_ce.storage.content import remembered

Row = tuple[str, dict[str, Any]]
"""A row's location for messages, such as "mbpp.jsonl, line 3", and its fields."""

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_SPLIT_WORDS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "prompt": "prompt",
}


@dataclass(frozen=True)
class Hub:
    """A data set on the hub.

    Attributes:
        name: its name there.
        config: its configuration there, if it has several.
        splits: our names of the splits to read, with the hub's.
        files: a file of JSON lines for a hub's split, where the data set has a script of its own.
    """

    name: str
    config: str | None
    splits: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)


class BenchmarkRows:
    """The rows of a benchmark, from the local folder if there is one.

    A local file belongs to the split that is a word of its name, as `test` in data/test-01.parquet;
    rows of other files belong to no split.

    Args:
        name: that of its folder under `$BEYOND_CE_DATA`.
        hub: where the rows are otherwise.
        path: folder of the files; null as for `data_folder`.

    Raises:
        UsageError: the folder is missing or has no such file.
    """

    def __init__(self, name: str, hub: Hub, path: str | Path | None) -> None:
        self.hub = hub
        self.paths: list[Path] = []
        folder = files.data_folder(path, name)
        if folder is not None:
            self.paths = sorted(p for p in folder.rglob("*") if p.name.endswith(SUFFIXES))
            if not self.paths:
                raise UsageError(f"{folder} has no file of rows ({', '.join(SUFFIXES)})")

    @property
    def hub_name(self) -> str | None:
        """The name on the hub if the rows come from there."""
        return None if self.paths else self.hub.name

    def identity(self, cache_dir: Path | None) -> str:
        """Identifies the rows: a digest of them, or the name on the hub and its commit."""
        if not self.paths:
            return files.hub_identity(*(part for part in (self.hub.name, self.hub.config) if part))
        return remembered(self.paths, "rows of a benchmark", self._digest, cache_dir)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for split in (*_SPLITS, None):
            for _, row in self.read(split):
                text = json.dumps([split, row], sort_keys=True, default=str)
                digest.update(f"{text}\n".encode())
        return digest.hexdigest()

    def read(self, split: str | None) -> Iterator[Row]:
        """The rows of a split; None for those of files that belong to none."""
        for path in self.paths:
            if _split_of(path) == split:
                yield from _file_rows(path)
        if not self.paths and split is not None and split in self.hub.splits:
            theirs = self.hub.splits[split]
            if theirs in self.hub.files:
                rows = files.hub_file_rows(self.hub.name, self.hub.files[theirs])
            else:
                rows = files.hub_rows(self.hub.name, self.hub.config, theirs, stream=False)
            for number, row in enumerate(rows, start=1):
                yield f"{self.hub.name}, {theirs} row {number}", row

    def read_all(self) -> Iterator[Row]:
        """All rows."""
        for split in (*_SPLITS, None):
            yield from self.read(split)


_SPLITS = tuple(dict.fromkeys(_SPLIT_WORDS.values()))


def _split_of(path: Path) -> str | None:
    words = re.findall("[a-z]+", path.name.lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)


def _file_rows(path: Path) -> Iterator[Row]:
    """Raises RunError if there is none."""
    number = 0
    if path.suffix == ".parquet":
        for where, row in files.read_parquet(path):
            number += 1
            yield where, row
    else:
        for number, row in files.read_json_lines(path):
            yield f"{path}, line {number}", row
    if not number:
        raise RunError(f"{path} is empty: fetch it again")


def code_of(row: dict[str, Any], key: str, where: str) -> str:
    """Source code at `key`, exactly as written but for its line ends, which become newlines.

    Raises:
        UsageError: the row has no text at `key`.
    """
    return files.exact_text_of(row, key, where).replace("\r\n", "\n").replace("\r", "\n")


def texts_of(row: dict[str, Any], key: str, where: str) -> list[str]:
    """The list of texts at `key`.

    Raises:
        UsageError: there is none.
    """
    texts = row.get(key)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{where}: no list of texts '{key}'; is this the right file?")
    return texts
