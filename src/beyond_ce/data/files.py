"""Finding and reading files of examples, plain or gzipped, and data sets on the hub."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beyond_ce.errors import RunError, UsageError, one_line

if TYPE_CHECKING:
    import datasets

ROOT_VARIABLE = "BEYOND_CE_DATA"
"""Environment variable: a folder with one folder of files for each data set."""


def data_folder(path: str | Path | None, name: str) -> Path | None:
    """Where a data set's files lie: `path` itself, else `$BEYOND_CE_DATA/<name>` if there is one.

    None means that the data come from the hub.

    Raises:
        UsageError: `path` is given and is no folder.
    """
    if path is not None:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise UsageError(
                f"dataset.path={path} is no folder; give one with the files of {name}, or null"
            )
        return folder
    root = os.environ.get(ROOT_VARIABLE)
    if root and (Path(root) / name).is_dir():
        return Path(root) / name
    return None


def find_file(folder: Path, *names: str) -> Path:
    """The first of `folder/<name>` and `folder/<name>.gz` that exists, in the order of the names.

    Raises:
        UsageError: there is none of them.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise UsageError(f"{folder} has no file {' or '.join(names)} (or the same with .gz)")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line of a UTF-8 file, gzipped if its name ends in .gz.

    Raises:
        RunError: the file cannot be read to its end.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8").rstrip("\r\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read ({one_line(error)}): fetch it again") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line that is not blank.

    Raises:
        RunError: the file cannot be read, or a line is no JSON object.
    """
    for number, line in read_lines(path):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise RunError(f"{path}, line {number} is no JSON object: fetch the file again")
            yield number, row


def read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a file after where it stands, for messages: "books.parquet, row 3".

    Raises:
        RunError: the file cannot be read to its end.
    """
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=100):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path} cannot be read ({one_line(error)}): fetch it again") from error


def content_digest(paths: Iterable[Path]) -> str:
    """Hex digest of the files' text: the same wherever they lie, and gzipped or not."""
    digest = hashlib.sha256()
    for path in paths:
        for _, line in read_lines(path):
            digest.update(f"{line}\n".encode())
        digest.update(b"\0")
    return digest.hexdigest()


class Rows:
    """The rows of a data set with JSON rows: of local files `<split>.jsonl`, or of the hub.

    Args:
        name: of the data set; its folder under `$BEYOND_CE_DATA`.
        hub: name on the hub, and configuration.
        splits: the hub's name of each split, and the names that its file may have.
        path: folder of the files; null as for `data_folder`.

    Raises:
        UsageError: the folder or a split's file is missing.
    """

    def __init__(
        self,
        name: str,
        hub: tuple[str, str | None],
        splits: Mapping[str, tuple[str, ...]],
        path: str | Path | None,
    ) -> None:
        self.hub = hub
        folder = data_folder(path, name)
        self.files: dict[str, Path] = {}
        if folder is not None:
            for split, stems in splits.items():
                self.files[split] = find_file(folder, *(f"{stem}.jsonl" for stem in stems))

    def identity(self) -> str:
        """What the rows are: the files' content, or the name on the hub."""
        if self.files:
            return content_digest(self.files.values())
        return "hub " + " ".join(part for part in self.hub if part)

    def read(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each row of a split after where it stands, for messages: "train.jsonl, line 3"."""
        if self.files:
            for number, row in read_json_lines(self.files[split]):
                yield f"{self.files[split]}, line {number}", row
        else:
            for number, row in enumerate(load_hub(*self.hub)[split], start=1):
                yield f"{self.hub[0]}, {split} row {number}", row


def text_of(row: dict[str, Any], key: str, where: str) -> str:
    """The text at `key` without surrounding space.

    Raises:
        UsageError: there is none.
    """
    text = row.get(key)
    if not isinstance(text, str):
        raise UsageError(f"{where}: no text '{key}'; is this the right file?")
    return text.strip()


def load_hub(name: str, config: str | None = None) -> datasets.DatasetDict:
    """All splits of a data set of the Hugging Face hub, from its own cache where it is there.

    Raises:
        RunError: it cannot be had, mostly for want of a network.
    """
    import datasets

    with _of_hub(name):
        return datasets.load_dataset(name, config)


def hub_rows(name: str, config: str | None, split: str, stream: bool) -> Iterator[dict[str, Any]]:
    """The rows of one split of a data set of the hub.

    Args:
        stream: fetch rows as they are asked for, and keep none; else all of the split is fetched
            first, into the hub's own cache, from where an interrupted download goes on.

    Raises:
        RunError: they cannot be had, mostly for want of a network.
    """
    import datasets

    with _of_hub(name):
        yield from datasets.load_dataset(name, config, split=split, streaming=stream)


@contextmanager
def _of_hub(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub's client has no common class for what can fail
        lines = str(error).splitlines() or [type(error).__name__]
        raise RunError(
            f"cannot load {name} from the hub ({lines[0]}); without a network, give a folder "
            f"with its files as dataset.path, or in ${ROOT_VARIABLE}"
        ) from error
