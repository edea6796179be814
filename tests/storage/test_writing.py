"""What counts is written whole or not at all: a full disk and a kill leave the old file."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from beyond_ce.errors import RunError, UsageError
from beyond_ce.storage import writing
from beyond_ce.storage.writing import new_folder, replacing, replacing_in, write_atomically


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is found full when what was written is flushed to it."""

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing.os, "fsync", no_space)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    for text in ("old", "é"):
        write_atomically(path, text)
        assert path.read_bytes() == text.encode()
    assert names(path.parent) == ["a.txt"]


@pytest.mark.usefixtures("full")
def test_a_full_disk_keeps_the_old_file_and_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RunError, match=r"cannot write .*a\.txt: No space left.*free some space"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_device_without_space_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No space left on device"), replacing(tmp_path / "a") as new:
        new[0].symlink_to("/dev/full")
        new[0].write_text("text")
    assert names(tmp_path) == []


def test_of_several_files_all_are_replaced_or_none(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.csv", "a.md", "a.tex")]
    for path in paths:
        path.write_text("old")
    with pytest.raises(RunError, match="No space left"), replacing(*paths) as new:
        new[0].write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(KeyboardInterrupt), replacing(*paths) as new:
        new[1].write_text("new")
        raise KeyboardInterrupt
    assert {path.read_text() for path in paths} == {"old"}
    assert names(tmp_path) == ["a.csv", "a.md", "a.tex"]
    (tmp_path / "b").mkdir()
    with pytest.raises(RunError, match="Is a directory"), replacing(paths[0], tmp_path / "b"):
        pass
    assert paths[0].read_text() == "old"


def test_a_place_that_is_a_file_is_the_users_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((UsageError, RunError), match="cannot write"):
        write_atomically(tmp_path / "file" / "a", "text")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    (tmp_path / "a.partial").mkdir()
    (tmp_path / "a.partial" / "left").touch()
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "a") as new:
        (new / "file").write_text("text")
        raise ZeroDivisionError
    assert names(tmp_path) == []
    with new_folder(tmp_path / "a") as new:
        (new / "file").write_text("text")
        assert names(tmp_path) == ["a.partial"]
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["file"]


def test_files_go_into_a_folder_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "users").touch()
    moved: list[str] = []
    replace = os.replace
    monkeypatch.setattr(
        writing.os, "replace", lambda old, new: (moved.append(Path(old).name), replace(old, new))
    )
    with replacing_in(folder, last="index") as new:
        (new / "index").touch()
        (new / "sub").mkdir()
        (new / "sub" / "z").touch()
    assert moved == ["z", "index"]
    assert names(folder) == ["index", "sub", "users"] and names(tmp_path) == ["a"]


def test_a_kill_while_writing_leaves_the_old_file_and_is_cleaned_up(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    program = f"""
import os, signal
from pathlib import Path
from beyond_ce.storage.writing import replacing
with replacing(Path({str(path)!r})) as (new,):
    new.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert path.read_text() == "old" and len(names(tmp_path)) == 2
    write_atomically(path, "new")
    assert path.read_text() == "new" and names(tmp_path) == ["a.txt"]


def test_predictions_and_figures_are_written_beside_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from beyond_ce.reproduction.figures import _save
    from beyond_ce.runs.scoring import save_scores

    written: list[Path] = []

    def half(self: object, path: Path, *_: object, **__: object) -> None:
        written.append(Path(path))
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", half)
    monkeypatch.setattr(Figure, "savefig", half)
    for name in ("test.parquet", "test.json", "a.png"):
        (tmp_path / name).write_text("old")
    with pytest.raises(RunError, match=r"test\.parquet: No space left"):
        save_scores({"loss": 1.0}, pd.DataFrame({"a": [1]}), tmp_path / "test.json")
    with pytest.raises(RunError, match=r"a\.png: No space left"):
        _save(Figure(), tmp_path / "a.png", dpi=10)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}
    assert names(tmp_path) == ["a.png", "test.json", "test.parquet"] and len(written) == 2
