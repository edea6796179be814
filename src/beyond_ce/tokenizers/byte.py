"""Bytes as tokens: nothing to learn, and exactly one encoding of every text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from beyond_ce.settings import NO_LIMIT, takes
from beyond_ce.tokenizers.base import Tokenizer

_BYTES = 256


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, then the padding and end tokens: V = 258.

    The bytes come first, so a byte is its own id. `encode` never gives `unk_id`.

    Any text that UTF-8 can encode round-trips exactly. Files that are not UTF-8 keep their bytes
    too if they are read with `errors="surrogateescape"`. `decode` replaces such bytes, and
    incomplete characters that a model generates, by U+FFFD, because lone bytes cannot be written as
    text.

    Args:
        vocab_size: ignored; experiments set it for tokenizers that learn their vocabulary.
    """

    pad_id = _BYTES
    eos_id = _BYTES + 1
    unk_id = pad_id
    bos_id = pad_id

    @takes(
        "tokenizer",
        vocab_size=NO_LIMIT,
    )
    def __init__(self, vocab_size: int | None = None) -> None:
        pass

    @property
    def vocab_size(self) -> int:
        return _BYTES + 2

    def fit(self, texts: Iterable[str], cache_dir: Path, key: str) -> ByteTokenizer:
        return self

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [list(text.encode("utf-8", "surrogateescape")) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        answer = takewhile(lambda i: i != self.eos_id, map(int, ids))
        return bytes(i for i in answer if 0 <= i < _BYTES).decode("utf-8", "replace")

    def number_values(self) -> torch.Tensor:
        values = torch.full((self.vocab_size,), torch.nan)
        values[ord("0") : ord("9") + 1] = torch.arange(10.0)
        return values

    def fingerprint(self) -> str:
        content = f"{type(self).__name__} {self.pad_id} {self.eos_id}"
        return hashlib.sha256(content.encode()).hexdigest()

    def _settings(self) -> dict[str, Any]:
        return {}

    def _save_vocabulary(self, folder: Path) -> None:
        pass

    def _load_vocabulary(self, folder: Path) -> None:
        pass
