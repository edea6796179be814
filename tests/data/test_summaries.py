from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import datasets
import pytest

from beyond_ce.configuration import build, compose
from beyond_ce.data import Summaries
from beyond_ce.data.summaries import END, SOURCES
from beyond_ce.errors import RunError, UsageError

Row = dict[str, Any]


def row(i: int, **columns: Any) -> Row:
    return {"document": f" Text {i} says much. ", "summary": f"It says {i}.\n"} | columns


def write(folder: Path, start: str = "", dev: str = "dev", **splits: list[Row]) -> Path:
    folder.mkdir(exist_ok=True)
    every = {"train": [row(0), row(1)], "dev": [row(2)], "test": [row(3)]} | splits
    for split, rows in every.items():
        name = dev if split == "dev" else split
        lines = "".join(json.dumps(each) + "\n" for each in rows)
        (folder / f"{start}{name}.jsonl").write_text(lines)
    return folder


def load(tmp_path: Path, **options: Any) -> dict[str, list[dict[str, str]]]:
    options = {"source": "scitldr", "cache_dir": tmp_path / "cache", **options}
    return {split: list(rows) for split, rows in Summaries(**options).load().items()}


@pytest.mark.parametrize(("start", "dev"), [("", "validation"), ("", "val"), ("scitldr_a_", "dev")])
def test_a_document_its_end_and_a_summary(tmp_path: Path, start: str, dev: str) -> None:
    splits = load(tmp_path, path=write(tmp_path / "data", start, dev))
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 2,
        "validation": 1,
        "test": 1,
    }
    assert splits["test"] == [
        {"prompt": f"Text 3 says much.{END}", "answer": "It says 3.", "task": "scitldr"}
    ]


def test_columns_of_the_hub_and_lists_of_texts(tmp_path: Path) -> None:
    theirs = {"source": ["One. ", "Two."], "target": ["First.", "Second."]}
    splits = load(tmp_path, path=write(tmp_path / "data", test=[theirs]))
    assert splits["test"][0]["prompt"] == f"One. Two.{END}"
    assert splits["test"][0]["answer"] == "First."


@pytest.mark.parametrize(
    ("document", "most", "expected"),
    [
        ("one two three", None, "one two three"),
        ("one two three", 13, "one two three"),
        ("one two three", 12, "one two"),
        ("one two three", 8, "one two"),
        ("one two three", 7, "one two"),
        ("one two three", 6, "one"),
        ("ข่าววันนี้", 4, "ข่าว"),  # no spaces
    ],
)
def test_where_a_document_is_cut(
    tmp_path: Path, document: str, most: int | None, expected: str
) -> None:
    path = write(tmp_path / "data", test=[row(0, document=document)])
    splits = load(tmp_path, path=path, max_characters=most)
    assert splits["test"][0]["prompt"] == expected + END


def test_rows_without_a_text_go_and_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row(0, summary=" "), row(1), row(2, document=""), row(3)]
    path = write(tmp_path / "data", train=rows)
    with caplog.at_level(logging.WARNING):
        splits = load(tmp_path, path=path, max_train=1)
    assert [each["answer"] for each in splits["train"]] == ["It says 1."]
    assert "scitldr, train: 2 of 4 rows have no document or no summary" in caplog.text
    with pytest.raises(RunError, match="scitldr, test: no row has a document and a summary"):
        load(tmp_path, path=write(tmp_path / "none", test=[row(0, summary="")]))


@pytest.mark.parametrize("wrong", [{"text": "x"}, row(0, summary=3), row(0, document=[])])
def test_a_row_of_something_else_is_named(tmp_path: Path, wrong: Row) -> None:
    path = write(tmp_path / "data", test=[wrong])
    with pytest.raises(UsageError, match=r"test\.jsonl, line 1: no text '(source|target)'"):
        load(tmp_path, path=path)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dataset.source=cnn: "):
        load(tmp_path, source="cnn")
    with pytest.raises(UsageError, match="dataset.max_characters=0: give at least 1"):
        load(tmp_path, max_characters=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"has no file train\.jsonl or scitldr_a_train\.jsonl"):
        load(tmp_path, path=tmp_path / "empty")


@pytest.mark.parametrize("source", SOURCES)
def test_the_hub_is_the_default(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts of data sets are never run: the copy in parquet is read."""
    place = SOURCES[source]
    asked: list[Any] = []

    def hub(name: str, config: str | None = None, **options: Any) -> Any:
        asked.append((name, config, options))
        rows = datasets.Dataset.from_dict({place.document: ["a b"], place.summary: ["c"]})
        return rows if options else {"train": rows, "validation": rows, "test": rows}

    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", hub)
    overrides = [f"dataset.source={source}", f"cache_dir={tmp_path}"]
    data = build(compose(["dataset=summaries", *overrides]).dataset, "dataset")
    assert data.hub_name == place.hub
    splits = data.load()
    assert splits["test"][0] == {"prompt": f"a b{END}", "answer": "c", "task": source}
    if place.converted is None:
        assert asked == [(place.hub, place.config, {})] * 3
    else:
        folder = f"hf://datasets/{place.hub}@refs/convert/parquet/{place.converted}"
        assert [each[2]["data_files"] for each in asked] == [
            f"{folder}/{split}/*.parquet" for split in ("train", "validation", "test")
        ]


def test_as_documents(tmp_path: Path) -> None:
    path = write(tmp_path / "data")
    overrides = [f"dataset.data.path={path}", f"cache_dir={tmp_path / 'cache'}"]
    data = build(compose(["dataset=summaries_packed", *overrides]).dataset, "dataset")
    splits = data.load()
    assert set(splits) == {"train", "validation", "test"}
    assert splits["train"][1] == {
        "text": f"Text 1 says much.{END}It says 1.",
        "task": "scitldr",
        "prompt": f"Text 1 says much.{END}",
        "answer": "It says 1.",
    }
    assert data.hub_name is None and data.cache_folder.is_dir()
    longer = compose(["dataset=summaries_packed", *overrides, "dataset.sequence_length=64"])
    assert build(longer.dataset, "dataset").fingerprint() == data.fingerprint()
    cut = compose(["dataset=summaries_packed", *overrides, "dataset.data.max_characters=5"])
    assert build(cut.dataset, "dataset").fingerprint() != data.fingerprint()


@pytest.mark.skipif("BEYOND_CE_DATA" not in os.environ, reason="needs BEYOND_CE_DATA")
def test_the_real_files(tmp_path: Path) -> None:
    splits = load(tmp_path, max_characters=600)
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 1992,
        "validation": 619,
        "test": 618,
    }
    for rows in splits.values():
        assert all(0 < len(each["prompt"]) <= 600 + len(END) and each["answer"] for each in rows)
