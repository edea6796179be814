"""Digests of large files are computed once, for as long as the files stay as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from beyond_ce.data.files import content_digest
from beyond_ce.errors import UsageError
from beyond_ce.storage import content
from beyond_ce.storage.content import bytes_digest, remembered


def written(path: Path, text: bytes, seconds_ago: int = 60) -> Path:
    path.write_bytes(text)
    then = path.stat().st_mtime_ns - seconds_ago * 10**9
    os.utime(path, ns=(then, then))
    return path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if files were written long ago: their time of change cannot be set."""
    monkeypatch.setattr(content, "_SETTLED_S", -1)


@pytest.mark.usefixtures("settled")
def test_a_digest_is_computed_again_when_a_file_changes(tmp_path: Path) -> None:
    file = written(tmp_path / "a", b"1" * 2**20)
    calls = []

    def digest() -> str:
        calls.append(file.read_bytes()[:1])
        return "0" * 63 + calls[-1].decode()

    def get(what: str = "x") -> str:
        return remembered([file], what, digest, tmp_path / "cache")

    assert get() == get() and calls == [b"1"]
    assert get("y") and calls == [b"1"] * 2
    before = file.stat()
    file.write_bytes(b"2" * 2**20)  # the same size, and then the same time of modification
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert get()[-1] == "2" and len(calls) == 3
    (entry, *_) = (tmp_path / "cache" / "digests").iterdir()
    for path in (tmp_path / "cache" / "digests").iterdir():
        path.write_text("damaged")
    assert get()[-1] == "2" and len(calls) == 4
    assert entry.exists()


def test_small_and_new_files_are_not_remembered(tmp_path: Path) -> None:
    for size in (10, 2**20):
        bytes_digest([written(tmp_path / "a", b"1" * size)], tmp_path / "cache")
        assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    file = written(tmp_path / "a", b"1" * 2**20)
    (tmp_path / "cache").write_text("a file")
    expected = bytes_digest([file])
    assert bytes_digest([file], tmp_path / "cache") == expected != content_digest([file])


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is a pipe or a device"):
        bytes_digest([tmp_path / "pipe"])
