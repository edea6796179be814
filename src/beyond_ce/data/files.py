"""Finds and reads files of examples, plain or gzipped, and data sets on the hub."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beyond_ce.errors import RunError, UsageError, check_no_device, one_line
from beyond_ce.storage.content import remembered
from beyond_ce.storage.hub import hub_revision
from beyond_ce.storage.reading import parse_json

if TYPE_CHECKING:
    import datasets

ROOT_VARIABLE = "BEYOND_CE_DATA"
"""Environment variable: a folder that has one subfolder per data set."""


def data_folder(path: str | Path | None, name: str) -> Path | None:
    """The folder of a data set's files: `path`, else `$BEYOND_CE_DATA/<name>` if it exists.

    None means that the data comes from the hub.

    Raises:
        UsageError: `path` is given and is not a folder.
    """
    if path is not None:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise UsageError(
                f"dataset.path={path} is not a folder; give one with the files of {name}, or null"
            )
        return folder
    root = os.environ.get(ROOT_VARIABLE)
    if root and (Path(root) / name).is_dir():
        return Path(root) / name
    return None


def find_file(folder: Path, *names: str) -> Path:
    """The first existing file among `folder/<name>` and `folder/<name>.gz`, in order of the names.

    Raises:
        UsageError: none exists.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise UsageError(f"{folder} has no file {' or '.join(names)} (or the same with .gz)")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the number (from 1) and text of each line of a UTF-8 file; `.gz` files are unpacked.

    Raises:
        UsageError: the path is a pipe or a device.
        RunError: the file cannot be read to its end.
    """
    check_no_device(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8").rstrip("\r\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read ({one_line(error)}): fetch it again") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the line number and JSON object of each line that is not blank.

    Raises:
        RunError: the file cannot be read, or a line is not a JSON object.
    """
    for number, line in read_lines(path):
        if line.strip():
            try:
                row = parse_json(line)
                if not isinstance(row, dict):
                    raise ValueError("it is another value")
            except ValueError as error:
                raise RunError(
                    f"{path}, line {number} is not a JSON object ({one_line(error)[:160]}): "
                    "fetch the file again"
                ) from error
            yield number, row


def read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each row's location for messages, such as "books.parquet, row 3", and the row.

    Raises:
        UsageError: the path is a pipe or a device.
        RunError: the file cannot be read to its end.
    """
    import pyarrow as pa
    from pyarrow import parquet

    check_no_device(path)
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=100):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path} cannot be read ({one_line(error)}): fetch it again") from error


def content_digest(paths: Iterable[Path], cache_dir: Path | None = None) -> str:
    """Hex digest of the files' text; independent of their paths and of gzip."""
    paths = list(paths)
    return remembered(paths, "text", lambda: _content_digest(paths), cache_dir)


def _content_digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        for _, line in read_lines(path):
            digest.update(f"{line}\n".encode())
        digest.update(b"\0")
    return digest.hexdigest()


def hub_identity(name: str, *parts: object) -> str:
    """Identifies rows on the hub: by name, whatever else chooses them, and commit if it is known.

    Args:
        parts: such as the configuration; None is written like a name.
    """
    revision = hub_revision(name, "dataset")
    return " ".join(["hub", name, *map(str, parts), *([f"at {revision}"] if revision else [])])


class RowSource:
    """Where a data set's JSON rows come from: local files `<split>.jsonl`, or the hub.

    Args:
        name: the data set's name, and that of its folder under `$BEYOND_CE_DATA`.
        hub: name on the hub, and configuration.
        splits: maps the hub's split names to the names that a split's file may have.
        path: folder of the files; null as for `data_folder`.
        converted: the folder of the hub's copy in parquet to read there, see `load_hub_copy`.

    Raises:
        UsageError: the folder or a split's file is missing.
    """

    def __init__(
        self,
        name: str,
        hub: tuple[str, str | None],
        splits: Mapping[str, tuple[str, ...]],
        path: str | Path | None,
        converted: str | None = None,
    ) -> None:
        self.hub = hub
        self.converted = converted
        folder = data_folder(path, name)
        self.files: dict[str, Path] = {}
        if folder is not None:
            for split, stems in splits.items():
                self.files[split] = find_file(folder, *(f"{stem}.jsonl" for stem in stems))

    def identity(self, cache_dir: Path | None = None) -> str:
        """Identifies the rows: a digest of the files, or the name on the hub and its commit."""
        if self.files:
            return content_digest(self.files.values(), cache_dir)
        return hub_identity(*(part for part in self.hub if part))

    @property
    def hub_name(self) -> str | None:
        """The name on the hub if the rows come from there."""
        return None if self.files else self.hub[0]

    def read(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields each row's location for messages, such as "train.jsonl, line 3", and the row."""
        if self.files:
            path = self.files[split]
            number = 0
            for number, row in read_json_lines(path):
                yield f"{path}, line {number}", row
            if not number:
                raise RunError(f"{path} is empty: fetch it again")
        else:
            if self.converted is None:
                rows = load_hub(*self.hub)[split]
            else:
                rows = load_hub_copy(self.hub[0], self.converted, split)
            for number, row in enumerate(rows, start=1):
                yield f"{self.hub[0]}, {split} row {number}", row


def text_of(row: dict[str, Any], key: str, where: str) -> str:
    """The text at `key` without surrounding space.

    Raises:
        UsageError: the row has no text at `key`.
    """
    return exact_text_of(row, key, where).strip()


def exact_text_of(row: dict[str, Any], key: str, where: str) -> str:
    """The text at `key`, as `text_of` but with the space around it."""
    text = row.get(key)
    if not isinstance(text, str):
        raise UsageError(f"{where}: no text '{key}'; is this the right file?")
    return text


def load_hub(name: str, config: str | None = None) -> datasets.DatasetDict:
    """All splits of a data set on the Hugging Face hub, from the hub's local cache if possible.

    Raises:
        RunError: it cannot be loaded, for example without a network.
    """
    import datasets

    with _hub_errors(name):
        return datasets.load_dataset(name, config)


def load_hub_copy(name: str, folder: str, split: str) -> datasets.Dataset:
    """One split of a data set that has a script of its own, which is never run: the rows are those
    of the copy in parquet that the hub makes of it.

    Args:
        folder: that of its configuration in the copy; "*" for the only one.

    Raises:
        RunError: it cannot be loaded, for example without a network.
    """
    import datasets

    with _hub_errors(name):
        files = f"hf://datasets/{name}@refs/convert/parquet/{folder}/{split}/*.parquet"
        return datasets.load_dataset("parquet", data_files=files, split="train")


def hub_rows(name: str, config: str | None, split: str, stream: bool) -> Iterator[dict[str, Any]]:
    """The rows of one split of a data set on the hub.

    Args:
        stream: fetch rows as they are read and store nothing. Without it the whole split is first
            downloaded to the hub's local cache, where an interrupted download resumes.

    Raises:
        RunError: they cannot be loaded, for example without a network.
    """
    import datasets

    with _hub_errors(name):
        yield from datasets.load_dataset(name, config, split=split, streaming=stream)


def hub_file_rows(name: str, file: str) -> Iterator[dict[str, Any]]:
    """The rows of one file of JSON lines in a data set on the hub, whatever else is there.

    For data sets that come with a script of their own, which is never run.

    Raises:
        RunError: they cannot be loaded, for example without a network.
    """
    import datasets

    with _hub_errors(name):
        path = f"hf://datasets/{name}/{file}"
        yield from datasets.load_dataset("json", data_files=path, split="train")


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub's client has no common error class
        lines = str(error).splitlines() or [type(error).__name__]
        raise RunError(
            f"cannot load {name} from the hub ({lines[0]}); without a network, give a folder "
            f"with its files as dataset.path, or in ${ROOT_VARIABLE}"
        ) from error
