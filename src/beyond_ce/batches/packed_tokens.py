"""Documents as one long array of tokens on disk, read through memory mapping.

Shapes: N tokens, B rows, T tokens that a row predicts.
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

if TYPE_CHECKING:
    import datasets

_SHARD_CHARACTERS = 2**22
_TOKENS, _INDEX = "tokens.bin", "index.json"


@dataclass
class _Index:
    """What a token file holds; written after every shard, so that a killed writer can go on.

    Attributes:
        dtype: of a token, "uint16" or "uint32".
        documents, tokens: how many the file holds, end tokens included.
        bytes: of the documents' text in UTF-8.
    """

    dtype: str
    documents: int = 0
    tokens: int = 0
    bytes: int = 0

    @property
    def file_size(self) -> int:
        return self.tokens * np.dtype(self.dtype).itemsize

    @classmethod
    def read(cls, folder: Path) -> _Index:
        """Raises OSError, ValueError or TypeError where there is no whole index."""
        return cls(**json.loads((folder / _INDEX).read_text()))

    def write(self, folder: Path) -> None:
        new = folder / f"{_INDEX}.new"
        new.write_text(json.dumps(asdict(self)) + "\n")
        new.replace(folder / _INDEX)


class PackedTokens:
    """The tokens of all documents of a split, cut into rows that begin and end anywhere.

    Each document ends in an end token. Row i has T + 1 tokens, of which the last is the first of
    row i + 1: read as inputs `row[:-1]` and labels `row[1:]`, every token but the first of all is
    a label once. The last row is filled up with end tokens.

    Args:
        folder: that `pack` wrote.
        sequence_length: T.

    Attributes:
        tokens: [N], in the order of the documents.
        documents: their number.
        bytes: of their text in UTF-8, which the N tokens spell but for `documents` end tokens.

    Raises:
        RunError: the folder is damaged.
    """

    def __init__(self, folder: Path, sequence_length: int) -> None:
        path = folder / _TOKENS
        try:
            index = _Index.read(folder)
            size = path.stat().st_size
            if size != index.file_size:
                raise ValueError(f"it has {size} bytes and was written with {index.file_size}")
            self.tokens = np.memmap(path, dtype=index.dtype, mode="r")
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"token cache {path} is damaged ({one_line(error)}): delete the "
                "folder that it is in and start the same command again"
            ) from error
        self.sequence_length = sequence_length
        self.documents = index.documents
        self.bytes = index.bytes

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // self.sequence_length)

    def rows(self, indices: ArrayLike) -> Tensor:
        """long [B, T + 1]: the rows with these numbers."""
        starts = np.asarray(indices, dtype=np.int64)[:, None] * self.sequence_length
        places = starts + np.arange(self.sequence_length + 1)
        # The last token of all is an end token: the last row is filled up with it.
        places = np.minimum(places, len(self.tokens) - 1)
        return torch.from_numpy(self.tokens[places].astype(np.int64))


def pack(
    split: datasets.Dataset,
    encode: Callable[[list[str]], list[list[int]]],
    eos_id: int,
    vocab_size: int,
    folder: Path,
) -> None:
    """Write the tokens of a split's documents, each followed by `eos_id`, for `PackedTokens`.

    What a killed process has written is kept, but for its last shard. Of several processes that
    want the same folder, one writes and the others wait.

    Args:
        split: column text.
        encode: ids below `vocab_size` of each text, without special tokens.
        folder: which names all of the above; left alone if it exists.

    Raises:
        RunError: the folder cannot be written.
    """
    if folder.exists():
        return
    from filelock import FileLock

    partial = folder.with_name(f"{folder.name}.partial")
    dtype = "uint16" if vocab_size <= 2**16 else "uint32"
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                partial.mkdir(exist_ok=True)
                _append(split, encode, eos_id, _written(partial, dtype), partial)
                partial.replace(folder)
    except OSError as error:
        raise RunError(
            f"cannot write the tokens to {folder}: {error}; make room there or choose another "
            "cache_dir"
        ) from error


def _written(partial: Path, dtype: str) -> _Index:
    """What of an unfinished folder can be relied on."""
    try:
        index = _Index.read(partial)
        if (partial / _TOKENS).stat().st_size >= index.file_size:
            return index
    except (OSError, ValueError, TypeError):
        pass
    return _Index(dtype)


def _append(
    split: datasets.Dataset, encode: Callable, eos_id: int, index: _Index, folder: Path
) -> None:
    bar = tqdm(
        total=len(split),
        initial=index.documents,
        desc="tokenizing",
        unit="document",
        dynamic_ncols=True,
        mininterval=0.5 if os.isatty(2) else 30.0,
    )
    with (folder / _TOKENS).open("ab") as file, bar:
        file.truncate(index.file_size)  # a shard that was cut off
        for texts in _shards(split, index.documents):
            ids = ([*document, eos_id] for document in encode(texts))
            tokens = np.fromiter(chain.from_iterable(ids), dtype=index.dtype)
            file.write(tokens.tobytes())
            file.flush()
            os.fsync(file.fileno())  # the index must never be ahead of what it tells of
            index.documents += len(texts)
            index.tokens += len(tokens)
            index.bytes += sum(len(text.encode()) for text in texts)
            index.write(folder)
            bar.update(len(texts))


def _shards(split: datasets.Dataset, start: int) -> Iterator[list[str]]:
    """The texts from `start` on, about `_SHARD_CHARACTERS` at a time."""
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
