"""Which process works on a run: a file in its folder, which the process refreshes while it lives.

Creating the file and looking at its time is all that a shared file system must offer: many have no
`flock`. Whoever finds the file of a process on its own machine knows at once whether that lives. Of
one on another machine it waits for the next refreshment; if that does not come, it takes over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path

import psutil
from filelock import LeaseCompromise, SoftFileLease, Timeout

from beyond_ce.errors import UsageError

LEASE_S = 180.0  # NFS may show a file's time of a minute ago
HEARTBEAT_S = 20.0
_LOOK_EVERY_S = 0.5
_NAME = ".claim"


def claim(folder: Path) -> SoftFileLease:
    """Claims a run's folder for this process, until it is released; takes over from a dead process.

    Raises:
        UsageError: a process that lives works on it.
        OSError: the folder cannot be written.
    """
    lease = _lease(folder)
    seen: set[int] = set()
    while True:
        try:
            lease.acquire(timeout=0)
            return lease
        except Timeout:
            seen |= _times(folder)
        owner = lease.owner
        # A dead owner's file is gone after that attempt, and so is the file of one that has ended.
        here = owner is not None and owner.hostname == socket.gethostname()
        if owner is not None and ((here and psutil.pid_exists(owner.pid)) or len(seen) > 1):
            raise UsageError(
                f"another process is running {folder} (process {owner.pid} on {owner.hostname}): "
                "wait for it or stop it"
            )
        time.sleep(_LOOK_EVERY_S)


def is_claimed(folder: Path) -> bool:
    """Whether a process that lives works on the run, as far as its file tells."""
    owner = _lease(folder).owner
    if owner is None:
        return False
    # Even here: its number may belong to another process by now.
    refreshed = any(time.time() - when / 1e9 < LEASE_S for when in _times(folder))
    here = owner.hostname == socket.gethostname()
    return refreshed and (not here or psutil.pid_exists(owner.pid))


def remove_remains(folder: Path) -> None:
    """Remove what killed processes left, unless a process that lives has claimed the folder.

    Also called for finished runs, which nobody will claim again.
    """
    for path in folder.glob(f"{_NAME}*"):
        if not is_claimed(folder):
            with contextlib.suppress(OSError):  # in a folder that can only be read
                path.unlink()


def _lease(folder: Path) -> SoftFileLease:
    return SoftFileLease(
        folder / _NAME,
        lease_duration=LEASE_S,
        heartbeat_interval=HEARTBEAT_S,
        on_compromise=_end,
        thread_local=False,
    )


def _times(folder: Path) -> set[int]:
    """When the claim's file was refreshed, in nanoseconds; empty without a file."""
    try:
        return {(folder / _NAME).stat().st_mtime_ns}
    except OSError:
        return set()


def _end(lost: LeaseCompromise) -> None:
    """Another process has the run: whatever this one still wrote would be in its way."""
    print(
        f"error: {lost.lock_file} is not this process's any more ({lost.reason}): another one has "
        "taken over the run, as this one had stood still, or the folder was deleted",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
