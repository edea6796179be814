"""Prompts and answers as documents, for models that train on packed rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beyond_ce.data.base import PackedData, PromptAnswerData
from beyond_ce.data.cache import Splits, load_or_write
from beyond_ce.settings import PATH, takes, whole


@dataclass(frozen=True)
class _Document:
    text: str
    task: str
    prompt: str
    answer: str


class PackedAnswers(PackedData):
    """Each prompt with its answer as one document, and both apart for evaluators.

    Unlike with `PromptAnswerData` itself, a model also learns the tokens of the prompts, rows need
    no padding, and no document is too long for one: it goes on in the next.

    Args:
        data: the prompts and answers; their splits stay as they are.
        sequence_length: tokens that a model reads at once: the length of a training row.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
    """

    columns = ("text", "task", "prompt", "answer")

    @takes("dataset", sequence_length=whole(1, 2**24), cache_dir=PATH)
    def __init__(
        self, *, data: PromptAnswerData, sequence_length: int, cache_dir: str | Path
    ) -> None:
        self.data = data
        self.name = f"{data.name}_documents"
        self.test_splits = data.test_splits
        self.sequence_length = sequence_length
        self.cache_dir = Path(cache_dir)

    def _definition(self) -> dict[str, Any]:
        # Without sequence_length: the documents do not depend on it.
        return {"documents of": self.data.fingerprint()}

    @property
    def hub_name(self) -> str | None:
        return self.data.hub_name

    def load(self) -> Any:
        return load_or_write(self.cache_folder, self._splits, self.columns)

    def _splits(self) -> Splits:
        for split, rows in self.data.load().items():
            yield split, map(_document, rows)


def _document(row: dict[str, str]) -> _Document:
    text = row["prompt"] + row["answer"]
    return _Document(text, row["task"], row["prompt"], row["answer"])
