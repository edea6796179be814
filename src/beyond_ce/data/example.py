"""What a data set of prompts and answers is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Example:
    """A prompt, the answer wanted, and the name of the task it belongs to."""

    prompt: str
    answer: str
    task: str = ""


class PromptAnswerData(Protocol):
    """Data for training and testing; what `conf/dataset/` names is such a class, or a `Corpus`."""

    name: str
    test_splits: tuple[str, ...]

    def fingerprint(self) -> str:
        """Hex digest of everything that defines the examples; paths and workers do not."""
        ...

    def load(self) -> dict[str, datasets.Dataset]:
        """The splits "train", "validation" and `test_splits`; columns prompt, answer, task."""
        ...
