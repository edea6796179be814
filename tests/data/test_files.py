"""Finding and reading files of examples."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from beyond_ce.data import files
from beyond_ce.data.files import (
    RowSource,
    content_digest,
    data_folder,
    find_file,
    load_hub,
    read_json_lines,
    read_lines,
    text_of,
)
from beyond_ce.errors import RunError, UsageError


def test_lines_come_with_their_numbers_plain_or_gzipped(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    plain.write_bytes("ü\r\n\nlast".encode())
    zipped.write_bytes(gzip.compress("ü\n\nlast\n".encode()))
    for path in (plain, zipped):
        assert list(read_lines(path)) == [(1, "ü"), (2, ""), (3, "last")]
    assert content_digest([plain]) == content_digest([zipped])
    assert content_digest([plain]) != content_digest([plain, plain])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.gz", gzip.compress(b"line\n" * 9999)[:-12]),
        ("plain.gz", b"not gzipped"),
        ("latin.txt", "ü".encode("latin-1")),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=f"{name} cannot be read") as error:
        list(read_lines(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    rows = read_json_lines(path)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(RunError, match=r"a\.jsonl, line 3 is not a JSON object"):
        next(rows)


def test_the_first_name_that_exists_is_found(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv.gz").touch()
    assert find_file(tmp_path, "train.tsv", "dev.tsv") == tmp_path / "dev.tsv.gz"
    (tmp_path / "train.tsv").touch()
    assert find_file(tmp_path, "train.tsv", "dev.tsv") == tmp_path / "train.tsv"
    with pytest.raises(UsageError, match=r"no file test\.tsv or test\.txt"):
        find_file(tmp_path, "test.tsv", "test.txt")


def test_a_folder_is_given_or_found_under_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jokes").mkdir()
    monkeypatch.setenv("BEYOND_CE_DATA", str(tmp_path))
    assert data_folder(None, "jokes") == tmp_path / "jokes"
    assert data_folder(tmp_path, "jokes") == tmp_path
    assert data_folder(None, "other") is None
    with pytest.raises(UsageError, match="is not a folder"):
        data_folder(tmp_path / "nowhere", "jokes")
    monkeypatch.delenv("BEYOND_CE_DATA")
    assert data_folder(None, "jokes") is None


def test_rows_say_where_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    (tmp_path / "val.jsonl").write_text('{"a": 1}\n')
    splits = {"validation": ("val", "validation")}
    local = RowSource("x", ("some/x", None), splits, tmp_path)
    assert list(local.read("validation")) == [(f"{tmp_path}/val.jsonl, line 1", {"a": 1})]
    monkeypatch.setattr(files, "load_hub", lambda *name: {"validation": [{"a": 2}]})
    hub = RowSource("x", ("some/x", None), splits, None)
    assert list(hub.read("validation")) == [("some/x, validation row 1", {"a": 2})]
    assert hub.identity() == "hub some/x" != local.identity()


def test_a_missing_text_is_named() -> None:
    assert text_of({"a": " b "}, "a", "here") == "b"
    with pytest.raises(UsageError, match="here: no text 'c'"):
        text_of({"a": "b"}, "c", "here")


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(RunError, match=r"cannot load a/b from the hub \(no route\).*dataset.path"):
        load_hub("a/b")
