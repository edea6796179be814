from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pytest

from beyond_ce.errors import RunError
from beyond_ce.storage.shards import Shards

COLUMNS = {"problem": pa.string(), "sample": pa.int32(), "completion": pa.string()}


def rows(start: int, stop: int) -> list[dict[str, object]]:
    return [
        {"problem": f"p{i % 3}", "sample": i, "completion": "é\n" * i} for i in range(start, stop)
    ]


def test_batches_come_back_as_one_table_in_their_order(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "new", COLUMNS)
    assert shards.read().num_rows == 0
    assert shards.read().schema.equals(shards.schema)
    for start, stop in itertools.pairwise([0, 5, 6, 20]):
        shards.append(rows(start, stop))
        assert Shards(tmp_path / "new", COLUMNS).read().to_pylist() == rows(0, stop)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["000000.parquet", "000001.parquet", "000002.parquet"]


def test_a_batch_that_was_deleted_leaves_the_others(tmp_path: Path) -> None:
    shards = Shards(tmp_path, COLUMNS)
    for start in range(0, 20, 5):
        shards.append(rows(start, start + 5))
    (tmp_path / "000001.parquet").unlink()
    assert shards.read().to_pylist() == rows(0, 5) + rows(10, 20)
    shards.append(rows(5, 10))
    assert shards.read().to_pylist() == rows(0, 5) + rows(10, 20) + rows(5, 10)


def test_what_a_killed_writer_left_is_no_batch(tmp_path: Path) -> None:
    shards = Shards(tmp_path, COLUMNS)
    shards.append(rows(0, 5))
    (tmp_path / "000001.parquet.tmp").write_bytes(b"PAR1")
    assert shards.read().num_rows == 5
    shards.append(rows(5, 6))
    assert shards.read().num_rows == 6
    assert not (tmp_path / "000001.parquet.tmp").exists()


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    shards = Shards(tmp_path, COLUMNS)
    shards.append([{"problem": "p", "sample": 1, "completion": "return 1234567"}])
    path = tmp_path / "000000.parquet"
    content = bytearray(path.read_bytes())
    content[content.index(b"1234567")] ^= 1  # "0234567" is as good a text
    path.write_bytes(content)
    with pytest.raises(RunError, match="000000.parquet is damaged.*delete it and start"):
        shards.read()


def test_other_columns_are_refused(tmp_path: Path) -> None:
    Shards(tmp_path, {"problem": pa.string()}).append([{"problem": "a"}])
    with pytest.raises(RunError, match="000000.parquet is damaged .it has other columns.: delete"):
        Shards(tmp_path, COLUMNS).read()
