"""Folders that cannot be written, for the superuser too: tests run as one in containers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_VERSION_3 = 0x20080522
_OVERRIDES = (1 << 1) | (1 << 2) | (1 << 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Takes the right to write from a folder and all that is in it, in this block and thread."""
    paths = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    modes = {path: path.stat().st_mode for path in paths}
    for path in reversed(paths):
        path.chmod(modes[path] & ~0o222)
    try:
        with _without_overrides():
            yield folder
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@contextlib.contextmanager
def _without_overrides() -> Iterator[None]:
    if os.geteuid() != 0 or sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, now, fewer = _Header(_VERSION_3, 0), (_Data * 2)(), (_Data * 2)()
    for data in (now, fewer):
        if libc.capget(ctypes.byref(header), data):
            raise OSError(ctypes.get_errno(), "capget")
    fewer[0].effective &= ~_OVERRIDES

    def set_to(data: ctypes.Array[_Data]) -> None:
        if libc.capset(ctypes.byref(header), data):
            raise OSError(ctypes.get_errno(), "capset")

    set_to(fewer)
    try:
        yield
    finally:
        set_to(now)
