"""metrics.jsonl over restarts: no kill and no full disk loses a line that counts."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from beyond_ce.errors import RunError
from beyond_ce.storage import writing
from beyond_ce.training.records import Records, read_records


def records(path: Path, step: int = 0) -> Records:
    return Records(path, step, lambda values, step: None, enabled=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Steps 1 to 5, and half a line of step 6."""
    path = tmp_path / "metrics.jsonl"
    with records(path) as lines:
        for step in range(1, 6):
            lines.write({"loss": step / 2}, step)
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    return path


def test_a_restart_goes_on_after_the_checkpoint(path: Path) -> None:
    with records(path, step=3) as lines:
        lines.write({"loss": 2.0}, 4)
        lines.flush()
    assert [line["step"] for line in read_records(path)] == [1, 2, 3, 4]


def test_a_kill_during_a_restart_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any moment of the restart, the file has all lines of the checkpoint."""

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    for name in ("open", "replace", "fsync"):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(writing.os, name, killed)
            records(path, step=4)
        assert path.read_text().count("\n") == 5
    with records(path, step=4):
        pass
    assert [line["step"] for line in read_records(path)] == [1, 2, 3, 4]


def test_a_file_that_needs_no_change_is_left_alone(path: Path) -> None:
    records(path, step=5).__exit__()
    before = path.stat()
    records(path, step=9).__exit__()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", [b"{\n", b"[]\n", b'{"loss": 1}\n', b"\xff\x00\n"])
def test_a_damaged_line_that_counts_is_named(path: Path, damage: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], damage, *lines[2:5]]))
    for read in (lambda: records(path, step=5), lambda: read_records(path)):
        with pytest.raises(RunError, match=r"line 2 of .*metrics\.jsonl is damaged: delete"):
            read()


@pytest.mark.parametrize("damage", [b"", b"{\n", b'{"step": 4, "loss": "x"}\n'])
def test_lines_that_are_gone_are_missed(path: Path, damage: bytes) -> None:
    """At the end of the file, where a killed process may leave half a line."""
    with records(path, step=5) as written:
        assert written.flush() == 5
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], damage]))
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged \(of 5 lines up to step 5, 3"):
        Records(path, 5, lambda values, step: None, enabled=True, lines=5)
    records(path, step=5).__exit__()  # a checkpoint that does not say how many there were


def test_a_folder_in_its_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match=r"cannot read .*metrics\.jsonl: Is a directory"):
        records(tmp_path / "metrics.jsonl")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot read .*metrics\.jsonl: No such file"):
        read_records(tmp_path / "metrics.jsonl")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: b"")
        lines = records(path)
    with lines, pytest.raises(RunError, match=r"metrics\.jsonl: No space left.*start the same"):
        lines.write({"loss": 1.0}, 1)


def test_a_full_disk_that_shows_late_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with records(path, step=3) as lines:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"metrics\.jsonl: No space left"):
            lines.flush()
    assert json.loads(path.read_text().splitlines()[0])["step"] == 1
