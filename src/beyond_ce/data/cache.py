"""Data sets as folders of Arrow files: written once and atomically, then memory-mapped."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beyond_ce.errors import RunError, one_line
from beyond_ce.storage.reading import parse_json
from beyond_ce.storage.writing import new_folder

if TYPE_CHECKING:
    import datasets

_ROWS_PER_BATCH = 10_000

Splits = Iterator[tuple[str, Iterable[Any]]]
"""Name and rows of each split; a row has the columns as attributes (see `Example`)."""


def load_or_write(
    folder: Path,
    make_splits: Callable[[], Splits],
    columns: Sequence[str],
    rows_per_batch: int | None = None,
) -> dict[str, datasets.Dataset]:
    """Read the splits in `folder`; if it does not exist, first write what `make_splits` yields.

    Splits are streamed one by one into a temporary folder, which is renamed to `folder` when all
    are complete. If several processes want the same folder, one writes and the others wait.

    Args:
        columns: text columns; each row has them as attributes.
        rows_per_batch: rows held in memory and written together; None for the default, which
            suits short rows.

    Raises:
        RunError: the folder is damaged, or cannot be written.
    """
    if not folder.exists():
        from filelock import FileLock

        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f"{folder.name}.lock")):
                if not folder.exists():
                    batch = rows_per_batch or _ROWS_PER_BATCH
                    _write(folder, make_splits(), columns, batch)
        except OSError as error:
            raise RunError(
                f"cannot write the data to {folder}: {error}; free some space or choose "
                "another cache_dir"
            ) from error
    return _read(folder)


def _write(folder: Path, splits: Splits, columns: Sequence[str], rows_per_batch: int) -> None:
    with new_folder(folder) as partial:
        sizes = {}
        for name, examples in splits:
            path = partial / f"{name}.arrow"
            rows = _write_split(path, examples, columns, rows_per_batch)
            sizes[name] = {"rows": rows, "bytes": path.stat().st_size}
        text = json.dumps(sizes, indent=2) + "\n"
        (partial / "splits.json").write_text(text, encoding="utf-8")


def _write_split(
    path: Path, examples: Iterable[Any], columns: Sequence[str], rows_per_batch: int
) -> int:
    import pyarrow as pa

    schema = pa.schema([(column, pa.string()) for column in columns])
    rows, examples = 0, iter(examples)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while batch := list(itertools.islice(examples, rows_per_batch)):
            values = [[getattr(example, column) for example in batch] for column in columns]
            writer.write_batch(pa.record_batch(values, schema=schema))
            rows += len(batch)
    return rows


def _read(folder: Path) -> dict[str, datasets.Dataset]:
    import datasets

    try:
        splits = {}
        sizes = parse_json((folder / "splits.json").read_bytes())
        for name, size in sizes.items():
            path = folder / f"{name}.arrow"
            # An Arrow stream that was cut between two batches reads without an error.
            if path.stat().st_size != size["bytes"]:
                raise ValueError(f"{path.name} does not have the size it was written with")
            splits[name] = datasets.Dataset.from_file(str(path))
            if len(splits[name]) != size["rows"]:
                raise ValueError(f"{path.name} does not have as many rows as were written")
        return splits
    except Exception as error:  # Arrow has many errors for a file that is no Arrow
        raise RunError(
            f"the cached data in {folder} is damaged ({one_line(error)}); "
            "delete that folder and run again"
        ) from error
