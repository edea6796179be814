"""Text of the user's own."""

from __future__ import annotations

import glob
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from beyond_ce.configuration import build, compose
from beyond_ce.data import TextFiles
from beyond_ce.data.files import read_lines
from beyond_ce.errors import RunError, UsageError


def corpus(path: Path | None, cache_dir: Path, **options: Any) -> TextFiles:
    settings = {"sequence_length": 8, "validation_share": 0.2, "test_share": 0.2}
    return TextFiles(path=path, cache_dir=cache_dir, **{**settings, **options})


def texts(path: Path | None, cache_dir: Path, **options: Any) -> dict[str, str]:
    return {each.task: each.text for each in corpus(path, cache_dir, **options).documents()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "novels"
    (folder / "old").mkdir(parents=True)
    (folder / "a.txt").write_bytes("Call me\r\nÜ.".encode())
    (folder / "old" / "b.txt.gz").write_bytes(gzip.compress(b"one\n<end>\n\n<end>\ntwo\n"))
    (folder / "blank.txt").write_text(" \n")
    (folder / "notes.md").write_text("no text\n")
    return folder


def test_files_of_a_folder_are_documents(folder: Path, tmp_path: Path) -> None:
    expected = {"a.txt": "Call me\nÜ.\n", "old/b.txt.gz": "one\n<end>\n\n<end>\ntwo\n"}
    assert texts(folder, tmp_path) == expected
    assert texts(folder / "a.txt", tmp_path) == {"a.txt": "Call me\nÜ.\n"}
    assert list(texts(folder / "**" / "*.gz", tmp_path)) == ["b.txt.gz"]
    assert list(texts(folder, tmp_path, pattern="*.md")) == ["notes.md"]


def test_a_separator_ends_documents(folder: Path, tmp_path: Path) -> None:
    found = texts(folder, tmp_path, separator="<end>")
    assert found == {
        "a.txt#1": "Call me\nÜ.\n",
        "old/b.txt.gz#1": "one\n",
        "old/b.txt.gz#3": "two\n",
    }


def test_copies_are_in_one_split(tmp_path: Path) -> None:
    for i in range(60):
        (tmp_path / f"{i}.txt").write_text(f"text {i % 30}\n")
    splits = corpus(tmp_path, tmp_path / "cache").load()
    found = [set(rows["text"]) for rows in splits.values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 30


def test_the_fingerprint_is_of_content(folder: Path, tmp_path: Path) -> None:
    def fingerprint(path: Path, **options: Any) -> str:
        return corpus(path, tmp_path, **options).fingerprint()

    one = fingerprint(folder / "a.txt")
    moved = (folder / "a.txt").rename(folder / "c.txt")
    assert fingerprint(moved) == one
    assert fingerprint(moved, separator="<end>") != one
    moved.write_text("other")
    assert fingerprint(moved) != one


def test_the_root_of_all_data_is_looked_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEYOND_CE_DATA", str(tmp_path))
    overrides = ["dataset=text_files", "dataset.name=novels", f"cache_dir={tmp_path}"]
    data = build(compose(overrides).dataset, "dataset")
    assert len(list(data.documents())) == 2
    monkeypatch.delenv("BEYOND_CE_DATA")
    with pytest.raises(UsageError, match=r"dataset.path: give a file.*novels in \$BEYOND_CE_DATA"):
        build(compose(overrides).dataset, "dataset")


def test_what_cannot_be_read_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*nowhere"):
        corpus(tmp_path / "nowhere", tmp_path)
    with pytest.raises(UsageError, match=r"there is no file \*\.rst"):
        corpus(folder, tmp_path, pattern="*.rst")
    with pytest.raises(UsageError, match=r"has 0 documents"):
        corpus(folder / "blank.txt", tmp_path).load()
    (folder / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=r"a\.txt cannot be read") as error:
        corpus(folder, tmp_path).load()
    assert "\n" not in str(error.value)


def test_links_in_loops_are_followed_once(folder: Path, tmp_path: Path) -> None:
    for name in "abcdef":
        (folder / f"loop-{name}").symlink_to(folder, target_is_directory=True)
        (folder / "old" / f"up-{name}").symlink_to("..", target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.txt").write_text("three\n")
    (folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    expected = {folder / name for name in ("a.txt", "blank.txt", "link/c.txt")}
    assert set(corpus(folder / "**" / "*.txt", tmp_path).paths) == expected
    assert len(corpus(folder / "**", tmp_path).paths) == len(expected) + 2  # notes.md and b.txt.gz
    assert corpus(folder / "**" / "old" / "**" / "*.gz", tmp_path).paths
    assert corpus(folder, tmp_path).paths  # not a glob


def test_globs_find_what_pythons_own_do(folder: Path, tmp_path: Path) -> None:
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "d.txt").write_text("four\n")
    (folder / ".e.txt").write_text("five\n")
    (folder / "[odd]").mkdir()
    (folder / "[odd]" / "f.txt").write_text("six\n")
    for pattern in ("**/*.txt", "**", "*.txt", "old/**/*.gz", "**/[!a].txt*", "**/old/*"):
        theirs = {Path(name) for name in glob.glob(str(folder / pattern), recursive=True)}
        found = corpus(folder / pattern, tmp_path).paths
        assert set(found) == {path for path in theirs if path.is_file()}


def test_pipes_and_devices_are_no_texts(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    (folder / "zero.txt").symlink_to("/dev/zero")
    assert {path.name for path in corpus(folder, tmp_path).paths} >= {"a.txt", "blank.txt"}
    assert not {"pipe.txt", "zero.txt"} & {path.name for path in corpus(folder, tmp_path).paths}
    for name in ("pipe.txt", "zero.txt"):
        with pytest.raises(UsageError, match="there is no file"):
            corpus(folder / name, tmp_path)
        with pytest.raises(UsageError, match="is a pipe or a device: give a file"):
            list(read_lines(folder / name))
