"""How documents are divided and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.errors import UsageError


class Numbered(Corpus):
    """As many documents as asked for."""

    name = "numbered"

    def __init__(self, count: int, cache_dir: Path, **settings: Any) -> None:
        defaults = {"sequence_length": 8, "validation_share": 0.1, "test_share": 0.2}
        super().__init__(cache_dir=cache_dir, **{**defaults, **settings})
        self.count = count

    def identity(self) -> str:
        return str(self.count)

    def documents(self) -> Iterator[Document]:
        for i in range(self.count):
            yield Document(f"text {i}\n", f"{i}", self.split_of(f"{i}"))


def names(corpus: Corpus) -> dict[str, set[str]]:
    return {split: set(rows["task"]) for split, rows in corpus.load().items()}


def test_every_document_is_in_one_split(tmp_path: Path) -> None:
    corpus = Numbered(1000, tmp_path)
    splits = corpus.load()
    assert list(splits) == ["train", "validation", "test"]
    assert splits["test"].column_names == ["text", "task"]
    found = [row["task"] for rows in splits.values() for row in rows]
    assert sorted(found, key=int) == list(map(str, range(1000)))
    assert all(row["text"] == f"text {row['task']}\n" for row in splits["validation"])
    shares = {split: len(rows) / 1000 for split, rows in splits.items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.05)


def test_a_corpus_that_grows_keeps_its_splits(tmp_path: Path) -> None:
    small, large = names(Numbered(100, tmp_path)), names(Numbered(300, tmp_path))
    assert all(small[split] <= large[split] for split in small)


def test_the_fingerprint_is_of_documents_and_splits(tmp_path: Path) -> None:
    one = Numbered(10, tmp_path).fingerprint()
    assert one == Numbered(10, tmp_path / "elsewhere", sequence_length=99).fingerprint()
    assert one != Numbered(11, tmp_path).fingerprint()
    assert one != Numbered(10, tmp_path, test_share=0.3).fingerprint()


def test_a_split_without_documents_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"numbered has 1 documents and none .* split '.*'"
    ) as error:
        Numbered(1, tmp_path).load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequence_length": 0}, "dataset.sequence_length=0: give at least 1"),
        ({"test_share": 0.0}, "dataset.test_share=0.0: give a number between 0 and 1"),
        ({"test_share": 0.6, "validation_share": 0.4}, "leave nothing to train on"),
    ],
)
def test_settings_out_of_range_are_refused(
    tmp_path: Path, settings: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Numbered(10, tmp_path, **settings)
