"""Documents as one long array of tokens on disk, read through memory mapping.

Shapes: N tokens, B rows, T predicted tokens per row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from beyond_ce.errors import RunError, one_line
from beyond_ce.storage.reading import parse_json
from beyond_ce.storage.writing import write_atomically

if TYPE_CHECKING:
    import datasets

_SHARD_CHARACTERS = 2**22
_TOKENS, _MANIFEST = "tokens.bin", "index.json"
_DTYPES = ("uint16", "uint32")


@dataclass
class _Manifest:
    """The contents of a token file; written after every shard, so a killed writer can resume.

    Attributes:
        dtype: of a token, "uint16" or "uint32".
        documents, tokens: their number in the file, end tokens included.
        bytes: size of the documents' text in UTF-8.
    """

    dtype: str
    documents: int = 0
    tokens: int = 0
    bytes: int = 0

    @property
    def file_size(self) -> int:
        return self.tokens * np.dtype(self.dtype).itemsize

    @classmethod
    def read(cls, folder: Path) -> _Manifest:
        """Raises OSError, ValueError or TypeError if the file is missing or incomplete."""
        manifest = cls(**parse_json((folder / _MANIFEST).read_bytes()))
        counts = (manifest.documents, manifest.tokens, manifest.bytes)
        if any(type(count) is not int or count < 0 for count in counts):
            raise ValueError(f"{_MANIFEST} has counts that are no whole numbers")
        if manifest.dtype not in _DTYPES:
            raise ValueError(f"{_MANIFEST} has an unknown dtype")
        return manifest

    def write(self, folder: Path) -> None:
        write_atomically(folder / _MANIFEST, json.dumps(asdict(self)) + "\n")


class PackedTokens:
    """The tokens of all documents of a split, cut into rows regardless of document boundaries.

    Each document ends in an end token. Row i has T + 1 tokens; its last token is also the first of
    row i + 1. With inputs `row[:-1]` and labels `row[1:]`, every token except the very first is a
    label once. The last row is padded with end tokens.

    Args:
        folder: a folder written by `pack`.
        sequence_length: T.

    Attributes:
        tokens: [N], in the order of the documents.
        documents: number of documents, and so of end tokens.
        bytes: size of the documents' text in UTF-8; end tokens add nothing to it.

    Raises:
        RunError: the folder is damaged.
    """

    def __init__(self, folder: Path, sequence_length: int) -> None:
        path = folder / _TOKENS
        try:
            manifest = _Manifest.read(folder)
            size = path.stat().st_size
            if size != manifest.file_size:
                raise ValueError(f"it has {size} bytes, expected {manifest.file_size}")
            self.tokens = np.memmap(path, dtype=manifest.dtype, mode="r")
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"token cache {path} is damaged ({one_line(error)}): delete its folder and start "
                "the same command again"
            ) from error
        self.sequence_length = sequence_length
        self.documents = manifest.documents
        self.bytes = manifest.bytes

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // self.sequence_length)

    def rows(self, indices: ArrayLike) -> Tensor:
        """long [B, T + 1]: the rows with these indices."""
        starts = np.asarray(indices, dtype=np.int64)[:, None] * self.sequence_length
        positions = starts + np.arange(self.sequence_length + 1)
        # The very last token is an end token: repeat it to pad the last row.
        positions = np.minimum(positions, len(self.tokens) - 1)
        return torch.from_numpy(self.tokens[positions].astype(np.int64))


def pack(
    split: datasets.Dataset,
    encode: Callable[[list[str]], list[list[int]]],
    eos_id: int,
    vocab_size: int,
    folder: Path,
) -> None:
    """Write the tokens of a split's documents, each followed by `eos_id`, for `PackedTokens`.

    After a killed process, writing resumes behind its last complete shard. If several processes
    want the same folder, one writes and the others wait.

    Args:
        split: column text.
        encode: gives the ids of each text, all below `vocab_size`, without special tokens.
        folder: its name must identify all of the above; an existing folder is left as it is.

    Raises:
        RunError: the folder cannot be written.
    """
    if folder.exists():
        return
    from filelock import FileLock

    partial = folder.with_name(f"{folder.name}.partial")
    dtype = _DTYPES[vocab_size > 2**16]
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                partial.mkdir(exist_ok=True)
                _append(split, encode, eos_id, _resume_point(partial, dtype), partial)
                partial.replace(folder)
    except OSError as error:
        raise RunError(
            f"cannot write the tokens to {folder}: {error}; free some space or choose another "
            "cache_dir"
        ) from error


def _resume_point(partial: Path, dtype: str) -> _Manifest:
    """The usable contents of an unfinished folder; an empty manifest if there are none."""
    try:
        manifest = _Manifest.read(partial)
        if (partial / _TOKENS).stat().st_size >= manifest.file_size:
            return manifest
    except (OSError, ValueError, TypeError):
        pass
    return _Manifest(dtype)


def _append(
    split: datasets.Dataset, encode: Callable, eos_id: int, manifest: _Manifest, folder: Path
) -> None:
    bar = tqdm(
        total=len(split),
        initial=manifest.documents,
        desc="tokenizing",
        unit="document",
        dynamic_ncols=True,
        mininterval=0.5 if os.isatty(2) else 30.0,
    )
    with (folder / _TOKENS).open("ab") as file, bar:
        file.truncate(manifest.file_size)  # drop an incomplete shard
        for texts in _shards(split, manifest.documents):
            ids = ([*document, eos_id] for document in encode(texts))
            tokens = np.fromiter(chain.from_iterable(ids), dtype=manifest.dtype)
            file.write(tokens.tobytes())
            file.flush()
            os.fsync(file.fileno())  # the tokens must be on disk before the manifest counts them
            manifest.documents += len(texts)
            manifest.tokens += len(tokens)
            manifest.bytes += sum(len(text.encode()) for text in texts)
            manifest.write(folder)
            bar.update(len(texts))


def _shards(split: datasets.Dataset, start: int) -> Iterator[list[str]]:
    """The texts from `start` on, about `_SHARD_CHARACTERS` at a time."""
    if start == len(split):
        return  # the killed process had only to move its folder; `select` would refuse the range
    texts: list[str] = []
    characters = 0
    rows: Any = split.select(range(start, len(split)))
    for row in rows:
        texts.append(row["text"])
        characters += len(row["text"])
        if characters >= _SHARD_CHARACTERS:
            yield texts
            texts, characters = [], 0
    if texts:
        yield texts
