"""What a data set is: its columns, its splits, and the fingerprint that names both."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from beyond_ce.data.cache import Splits, load_or_write
from beyond_ce.data.example import Example

if TYPE_CHECKING:
    import datasets


class DataSet(ABC):
    """Data for training and testing; what `conf/dataset/` names is such a class."""

    columns: ClassVar[tuple[str, ...]]
    """Of every split. Evaluators are compared with them before any data are made."""
    version: ClassVar[int] = 1
    """Part of the fingerprint: to be raised when the same settings give other examples."""
    name: str
    test_splits: tuple[str, ...]
    cache_dir: Path

    @abstractmethod
    def _definition(self) -> dict[str, Any]:
        """All that the examples depend on besides `version`, as JSON values; no paths, no number
        of workers."""

    @abstractmethod
    def load(self) -> dict[str, datasets.Dataset]:
        """The splits "train", "validation" and `test_splits`, made or read on first use."""

    def fingerprint(self) -> str:
        """Hex digest of everything that defines the examples."""
        definition = {"version": self.version, **self._definition()}
        return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()

    @property
    def cache_folder(self) -> Path:
        """Where the Arrow files are."""
        return self.cache_dir / f"{self.name}-{self.fingerprint()[:16]}"


class PromptAnswerData(DataSet):
    """Prompts and answers: a subclass says what defines them and yields each split's examples."""

    columns = tuple(field.name for field in fields(Example))

    @abstractmethod
    def _splits(self) -> Splits:
        """Name and `Example`s of each split, one split after the other."""

    def load(self) -> dict[str, datasets.Dataset]:
        return load_or_write(self.cache_folder, self._splits, self.columns)
