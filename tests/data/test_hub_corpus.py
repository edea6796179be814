"""Corpora of the hub, read from files of the same kind."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from beyond_ce.configuration import build, compose
from beyond_ce.data import HubCorpus, files
from beyond_ce.errors import RunError, UsageError

ROWS = [{"content": f"def f{i}():\n    return {i}\n", "stars": i} for i in range(60)]


def corpus(path: Path | None, cache_dir: Path, **options: Any) -> HubCorpus:
    settings: dict[str, Any] = {
        "hub": "some/code",
        "column": "content",
        "name": "code",
        "sequence_length": 8,
        "validation_share": 0.2,
        "test_share": 0.2,
    }
    return HubCorpus(path=path, cache_dir=cache_dir, **{**settings, **options})


def parquet_files(folder: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    folder.mkdir(exist_ok=True)
    for part, start in enumerate(range(0, len(rows), 40)):
        table = pa.Table.from_pylist(rows[start : start + 40])
        parquet.write_table(table, folder / f"train-{part:05}.parquet")
    return folder


def test_local_files_of_either_kind_are_the_same_corpus(tmp_path: Path) -> None:
    one = corpus(parquet_files(tmp_path / "parquet"), tmp_path)
    (tmp_path / "json").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    (tmp_path / "json" / "file-1.json.gz").write_bytes(gzip.compress(lines))
    two = corpus(tmp_path / "json", tmp_path)
    assert one.fingerprint() == two.fingerprint()
    splits = one.load()
    assert {split: len(rows) > 0 for split, rows in splits.items()} == {
        "train": True,
        "validation": True,
        "test": True,
    }
    found = {row["task"]: row["text"] for rows in splits.values() for row in rows}
    assert found == {f"code/{i + 1}": row["content"] for i, row in enumerate(ROWS)}


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    path = parquet_files(tmp_path / "data")
    few = corpus(path, tmp_path, max_documents=45)
    assert [each.text for each in few.documents()] == [row["content"] for row in ROWS[:45]]
    assert few.fingerprint() != corpus(path, tmp_path).fingerprint()


@pytest.mark.parametrize(
    ("dataset", "hub", "column", "most"),
    [
        ("github_code", ("codeparrot/codeparrot-clean", None), "content", 100000),
        ("wikipedia", ("wikimedia/wikipedia", "20231101.en"), "text", 100000),
        ("books", ("emozilla/pg19", None), "text", 2000),
        ("hub_corpus", ("a/b", None), "text", None),
    ],
)
def test_the_hub_is_the_default(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: str,
    hub: tuple[str, str | None],
    column: str,
    most: int | None,
) -> None:
    def rows(*where: object) -> Iterator[dict[str, str]]:
        assert where == (*hub, "train", most is not None)
        for i in range(4000):
            yield {column: f"text {i}", "title": "x"}

    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    monkeypatch.setattr(files, "hub_rows", rows)
    name = ["dataset.hub=a/b"] if dataset == "hub_corpus" else []
    data = build(compose([f"dataset={dataset}", *name, f"cache_dir={tmp_path}"]).dataset, "dataset")
    assert sum(map(len, data.load().values())) == min(most or 4000, 4000)


def test_the_hub_itself_is_asked_for_one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: object, **kwargs: object) -> list[dict[str, str]]:
        assert (args, kwargs) == (("a/b", "en"), {"split": "train", "streaming": True})
        return [{"text": "x"}]

    monkeypatch.setattr("datasets.load_dataset", load)
    assert list(files.hub_rows("a/b", "en", "train", True)) == [{"text": "x"}]

    def fail(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(RunError, match=r"cannot load a/b from the hub \(no route\)"):
        list(files.hub_rows("a/b", None, "train", False))


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    path = parquet_files(tmp_path / "data")
    with pytest.raises(UsageError, match=r"row 1: no text 'text' among content, stars") as error:
        corpus(path, tmp_path, column="text").load()
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=r"no text 'stars'"):
        corpus(path, tmp_path, column="stars").load()
    with pytest.raises(UsageError, match=r"dataset.max_documents=0: give at least 1"):
        corpus(path, tmp_path, max_documents=0)
    (path / "train-00001.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(RunError, match=r"train-00001\.parquet cannot be read") as broken:
        corpus(path, tmp_path).load()
    assert "\n" not in str(broken.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"has no file of rows"):
        corpus(tmp_path / "empty", tmp_path)


@pytest.mark.skipif("BEYOND_CE_DATA" not in os.environ, reason="needs BEYOND_CE_DATA")
def test_the_real_stories(tmp_path: Path) -> None:
    options = {"hub": "roneneldan/TinyStories", "column": "text", "name": "stories"}
    splits = corpus(None, tmp_path, **options).load()
    assert sum(map(len, splits.values())) == 200


def test_a_pipe_among_the_rows_is_refused(tmp_path: Path) -> None:
    parquet_files(tmp_path / "rows")
    os.mkfifo(tmp_path / "rows" / "more.jsonl")
    with pytest.raises(UsageError, match=r"more\.jsonl is a pipe or a device"):
        corpus(tmp_path / "rows", tmp_path / "cache").load()


def test_the_test_split_may_get_another_name(tmp_path: Path) -> None:
    folder = parquet_files(tmp_path / "rows")
    before = corpus(folder, tmp_path / "cache").load()
    after = corpus(folder, tmp_path / "cache", test_split="code").load()
    assert list(after) == ["train", "validation", "code"]
    assert list(after["code"]) == list(before["test"])
