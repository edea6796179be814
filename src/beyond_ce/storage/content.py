"""Digests of what a run reads, computed once for as long as the files stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from beyond_ce.errors import RunError, UsageError, check_no_device, one_line
from beyond_ce.storage.digests import file_digest
from beyond_ce.storage.writing import write_atomically

_REMEMBERED = 2**20  # bytes; what is smaller is hashed about as fast as it is looked up
_SETTLED_S = 2  # a file written this recently may change again within its time stamp


def remembered(
    paths: Iterable[Path], what: str, digest: Callable[[], str], cache_dir: Path | None
) -> str:
    """`digest()` of large files, from `cache_dir` if it was computed before and no file changed.

    A file is taken for unchanged if its path, size, inode and times of change are the same. What
    cannot be remembered, as in a read-only cache, is computed each time.

    Args:
        what: everything besides the files that the digest depends on.
        digest: gives 64 hex digits.
        cache_dir: null to remember nothing.
    """
    paths = list(paths)
    key = None if cache_dir is None else _state(paths, what)
    if cache_dir is None or key is None:
        return digest()
    file = cache_dir / "digests" / key
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known = file.read_text(encoding="utf-8")
        if re.fullmatch("[0-9a-f]{64}", known):
            return known
    value = digest()
    if _state(paths, what) == key:  # unchanged while they were read
        with contextlib.suppress(UsageError, RunError):
            write_atomically(file, value)
    return value


def _state(paths: list[Path], what: str) -> str | None:
    """Identifies the files as they are now; None if they are small, new or not to be found."""
    try:
        files = [(str(path.resolve()), path.stat()) for path in paths]
    except OSError:
        return None
    newest = max((max(stat.st_mtime, stat.st_ctime) for _, stat in files), default=0)
    if sum(s.st_size for _, s in files) < _REMEMBERED or newest > time.time() - _SETTLED_S:
        return None
    state = [
        (path, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
        for path, stat in files
    ]
    return hashlib.sha256(json.dumps([what, state]).encode("utf-8", "surrogateescape")).hexdigest()


def bytes_digest(paths: Iterable[Path], cache_dir: Path | None = None) -> str:
    """Hex digest of the files' bytes; independent of their paths.

    Raises:
        UsageError: a path is a pipe or a device.
        RunError: a file cannot be read.
    """
    paths = list(paths)
    return remembered(paths, "bytes", lambda: _bytes_digest(paths), cache_dir)


def _bytes_digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        check_no_device(path)
        try:
            digest.update(bytes.fromhex(file_digest(path)))
        except OSError as error:
            raise RunError(f"{path} cannot be read ({one_line(error)}): fetch it again") from error
    return digest.hexdigest()
