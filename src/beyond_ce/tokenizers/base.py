"""The tokenizer interface for data, models and losses, and the tokenizer's folder on disk."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from beyond_ce.errors import RunError, one_line
from beyond_ce.storage.reading import read_object
from beyond_ce.storage.writing import replacing_in

if TYPE_CHECKING:
    from typing_extensions import Self

_SETTINGS_FILE = "tokenizer.json"


class Tokenizer(ABC):
    """Text to ids and back over a vocabulary of V tokens, ids 0 to V - 1.

    Attributes:
        pad_id: fills up batches; `decode` skips it.
        eos_id: ends an answer; `decode` stops at it.
        unk_id: replaces text that the vocabulary cannot encode.
        bos_id: the decoder's first token; usually the padding token, as in T5.
        carries_numbers: whether tokens have values besides their ids (see `token_numbers`).
    """

    pad_id: int
    eos_id: int
    unk_id: int
    bos_id: int
    carries_numbers: ClassVar[bool] = False
    encoding: ClassVar[int] = 1
    """Version of `encode`, part of the names of token caches: raise it when the same vocabulary
    starts to give other ids for some texts."""

    _classes: ClassVar[dict[str, type[Tokenizer]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Tokenizer._classes[cls.__name__] = cls

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V, special tokens included."""

    @abstractmethod
    def fit(self, texts: Iterable[str], cache_dir: Path, key: str) -> Tokenizer:
        """Learn the vocabulary from the training split, or load it from the cache; returns self.

        Args:
            texts: only read if there is a vocabulary to learn and it is not in the cache.
            cache_dir: the vocabulary is cached under `<cache_dir>/tokenizers`.
            key: identifies the content of `texts`, such as the data set's fingerprint.

        Raises:
            UsageError: no vocabulary can be learned from these texts with these settings.
            RunError: the cache is corrupt or cannot be written.
        """

    @abstractmethod
    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, without special tokens.

        A text is only text: what spells a special token in it is encoded like other characters.
        """

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids before the first `eos_id`.

        Skips padding, and ids outside the vocabulary, which a padded embedding can produce.
        """

    @abstractmethod
    def number_values(self) -> torch.Tensor:
        """float32 [V]: each token's numeric value, NaN for tokens that are not numbers."""

    def decimal_points(self) -> torch.Tensor:
        """bool [V]: the tokens that are a decimal point, if the point is a token of its own."""
        points = torch.zeros(self.vocab_size, dtype=torch.bool)
        for i in self.encode(["1.1"])[0]:
            points[i] = self.decode([i]) == "."
        return points

    def number_encodings(self, dim: int) -> torch.Tensor | None:
        """float32 [V, dim]: fixed vectors that a model adds to its token embeddings, or None."""
        return None

    def token_numbers(self, texts: list[str]) -> list[list[float]] | None:
        """The number that belongs to each token of `encode(texts)`, NaN for tokens without one.

        None if the tokenizer's ids already carry all information.
        """
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of everything that `encode` and `decode` depend on."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """Keyword arguments of the constructor, as JSON values."""

    @abstractmethod
    def _save_vocabulary(self, folder: Path) -> None:
        """Write what `_load_vocabulary` reads."""

    @abstractmethod
    def _load_vocabulary(self, folder: Path) -> None:
        """Read the vocabulary; any exception counts as a corrupt folder."""

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs into the folder, creating it if necessary.

        Raises:
            RunError: the folder cannot be written.
        """
        identity = {"class": type(self).__name__, "fingerprint": self.fingerprint()}
        try:
            with replacing_in(folder, last=_SETTINGS_FILE) as new:
                self._save_vocabulary(new)
                text = json.dumps({**identity, **self._settings()}, indent=2) + "\n"
                (new / _SETTINGS_FILE).write_text(text, encoding="utf-8")
        except OSError as error:
            raise RunError(f"cannot save the tokenizer in {folder}: {error.strerror}") from error

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The tokenizer that `save` wrote, as an instance of its own subclass.

        Raises:
            RunError: the folder has no complete tokenizer, or not one of this class.
        """
        try:
            settings = read_object(folder / _SETTINGS_FILE, "it holds the settings")
            name = settings.pop("class")
            # The package imports a class that takes long only when it is asked for it.
            getattr(importlib.import_module(__package__), name, None)
            saved_class = Tokenizer._classes[name]
            fingerprint = settings.pop("fingerprint")
            tokenizer = saved_class(**settings)
            tokenizer._load_vocabulary(folder)
            if tokenizer.fingerprint() != fingerprint:
                raise ValueError("the vocabulary is not the one that was saved")
        except Exception as error:  # a damaged file can raise almost anything
            reason = one_line(error)[:160] or type(error).__name__
            raise RunError(
                f"{folder} has no readable tokenizer ({reason}): delete it and start the run again"
            ) from error
        if not isinstance(tokenizer, cls):
            raise RunError(f"{folder} has a {saved_class.__name__}, not a {cls.__name__}")
        return tokenizer
