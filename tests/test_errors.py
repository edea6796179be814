from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from beyond_ce.checkpoints.files import JsonFile
from beyond_ce.data.files import read_lines, read_parquet
from beyond_ce.errors import RunError, UsageError, check_no_device, one_line
from beyond_ce.storage.untrusted import read_yaml
from beyond_ce.tokenizers import Tokenizer


def test_the_text_of_an_error_on_one_line() -> None:
    assert one_line(ValueError("no such\n  key:\t'a'\n")) == "no such key: 'a'"
    assert one_line(ValueError()) == ""


READERS: list[Callable[[Path], object]] = [
    lambda path: list(read_lines(path)),
    lambda path: list(read_parquet(path)),
    lambda path: read_yaml(path, remedy="get it again"),
    lambda path: Tokenizer.load(path.parent),
    JsonFile,
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
def test_what_never_ends_is_not_read(
    read: Callable[[Path], object], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(kind)
    with pytest.raises((UsageError, RunError)) as error:
        read(path)
    assert str(path.parent) in str(error.value) and "\n" not in str(error.value)


def test_files_folders_and_nothing_are_no_devices(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "missing"):
        check_no_device(path)
