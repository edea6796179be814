"""Files and folders that count appear whole or not at all, whatever kills the writer.

New content is written beside its target and flushed to disk before it takes the target's place.
The name of what is written is always the same, so what a killed process left is written over, or
removed, when the same thing is started again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from beyond_ce.errors import RunError, UsageError, one_line

GO_ON = "free some space and start the same command again to continue"

# Not a matter of space: the user must choose another place.
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


@contextlib.contextmanager
def replacing(
    *paths: Path, remedy: str = GO_ON, place: str = "choose a writable folder"
) -> Iterator[tuple[Path, ...]]:
    """Gives a new path for each of `paths`, to be written in the block; then replaces them.

    The new files lie beside the old ones. Either all old files are replaced or, if anything goes
    wrong in the block, none, and nothing of the new ones stays.

    Args:
        paths: of files, whose folders are made if necessary.
        remedy: the end of the message if the disk is full, say.
        place: the end of the message if the place is read-only.

    Raises:
        UsageError: the folder cannot be written.
        RunError: the disk is full, or something else went wrong while writing.
    """
    new = tuple(path.with_name(f"{path.name}.tmp") for path in paths)
    try:
        with _one_line(paths[0], remedy, place):
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
            yield new
            for file in new:
                flush(file)
            for file, path in zip(new, paths, strict=True):
                os.replace(file, path)
            for folder in {path.parent for path in paths}:
                flush(folder)
    finally:
        for file in new:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def write_atomically(path: Path, text: str, remedy: str = GO_ON) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        UsageError: the folder cannot be written.
        RunError: the disk is full.
    """
    with replacing(path, remedy=remedy) as (new,):
        new.write_text(text, encoding="utf-8")


def check_writable(folder: Path, place: str) -> None:
    """Make a folder, and a file in it for a moment, before anything is computed for it.

    Args:
        place: the end of the message, if the folder is read-only.

    Raises:
        UsageError: it cannot be written.
        RunError: the disk is full, say.
    """
    with _one_line(folder, GO_ON, place):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile("w+b", dir=folder):
            pass


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder beside `path`, and removes it at the end of the block, Ctrl-C included.

    For one process at a time: what a killed one left is removed first. OSError is the caller's to
    handle.
    """
    remove_scratch(path)
    scratch = _scratch(path)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        remove_scratch(path)


def remove_scratch(path: Path) -> None:
    """Remove what a killed process left beside a complete `path`, where that can be done."""
    shutil.rmtree(_scratch(path), ignore_errors=True)


def _scratch(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a scratch folder that becomes `folder` at the end of the block."""
    with scratch_folder(folder) as scratch:
        yield scratch
        for path in scratch.rglob("*"):
            flush(path)
        os.replace(scratch, folder)


@contextlib.contextmanager
def replacing_in(folder: Path, last: str) -> Iterator[Path]:
    """Gives a scratch folder, whose files go into `folder` at the end of the block, one by one.

    Other files in `folder` stay.

    Args:
        last: name of the file that is moved last, as it says that the others are complete.
    """
    with scratch_folder(folder) as scratch:
        yield scratch
        files = [path for path in scratch.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path == scratch / last):
            target = folder / path.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            flush(path)
            os.replace(path, target)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do it, above all for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _one_line(path: Path, remedy: str, place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or one_line(error)[:160]
        if error.errno in _FORBIDDEN:
            raise UsageError(f"cannot write {path}: {reason}; {place}") from error
        raise RunError(f"cannot write {path}: {reason}; {remedy}") from error
