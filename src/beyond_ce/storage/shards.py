"""Rows that come in batches over a long time, each batch a parquet file that is whole or not there.

So whoever is killed loses the batch in work, and reads the others when started again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beyond_ce.errors import check_no_device
from beyond_ce.storage.reading import damaged
from beyond_ce.storage.writing import replacing

if TYPE_CHECKING:
    import pyarrow as pa

_REMEDY = "delete it and start the same command again, which makes it anew"


class Shards:
    """A folder of parquet files with the same columns, numbered in the order they were written.

    For one writer at a time. Pages carry checksums, so that a flipped bit is noticed.

    Args:
        folder: made with the first batch.
        columns: names and Arrow types, such as `{"problem": pa.string()}`.
    """

    def __init__(self, folder: Path, columns: Mapping[str, pa.DataType]) -> None:
        import pyarrow as pa

        self.folder = folder
        self.schema = pa.schema(list(columns.items()))

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds a file with these rows.

        Raises:
            UsageError: the folder cannot be written.
            RunError: the disk is full.
        """
        import pyarrow as pa
        from pyarrow import parquet

        last = max((int(path.stem) for path in self._files()), default=-1)
        table = pa.Table.from_pylist(list(rows), self.schema)
        with replacing(self.folder / f"{last + 1:06}.parquet") as (file,):
            parquet.write_table(table, file, write_page_checksum=True)

    def read(self) -> pa.Table:
        """All rows, batch by batch in the order they were added.

        Raises:
            RunError: a file is damaged, or has other columns.
        """
        import pyarrow as pa

        return pa.concat_tables([self.schema.empty_table(), *map(self._read, self._files())])

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.glob("*.parquet") if path.stem.isdecimal())

    def _read(self, path: Path) -> pa.Table:
        from pyarrow import parquet

        check_no_device(path)
        try:
            table = parquet.ParquetFile(path, page_checksum_verification=True).read()
            table.validate(full=True)
        except Exception as error:  # Arrow has many errors for a file that is no parquet
            raise damaged(path, error, _REMEDY) from error
        if not table.schema.equals(self.schema):
            raise damaged(path, "it has other columns", _REMEDY)
        return table
