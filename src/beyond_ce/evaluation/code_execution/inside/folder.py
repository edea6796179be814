"""The folder that programs write to, one after another."""

from __future__ import annotations

import itertools
import os
import time

MOST_FILES = 20_000
"""Files and links that a program may have at once: their names are in the kernel's memory."""

_LOOK_S = 0.05  # bubblewrap cannot limit them, so one has to look


class Folder:
    """The working directory, as it is now: before there was a program."""

    def __init__(self) -> None:
        self.path = os.getcwd()
        self.times = os.stat(self.path).st_atime_ns, os.stat(self.path).st_mtime_ns
        self.content = set(os.listdir(self.path))
        self.rights = self._rights()
        # Without a sandbox the file system has files of others.
        self.is_apart = os.getpid() == 1
        self.files = self._files()

    def reset(self) -> bool:
        """Set the times back; whether all else is as it was, for all that a program can do.

        What would tell the next program how much an earlier one has written, such as the number of
        the next file, cannot be set back. It carries no text.
        """
        try:
            # Of very many files a few are enough.
            with os.scandir(self.path) as entries:
                found = {e.name for e in itertools.islice(entries, len(self.content) + 1)}
            os.utime(self.path, ns=self.times)
            return found == self.content and self._rights() == self.rights
        except OSError:  # it has taken the right to read it
            return False

    def is_crowded(self) -> bool:
        """Whether there are more files than a program may have."""
        return self.is_apart and self._files() > self.files + MOST_FILES

    def _files(self) -> int:
        status = os.statvfs(self.path)
        return status.f_files - status.f_ffree

    def _rights(self) -> tuple[object, ...]:
        """Who may do what in it, and what else was noted about it."""
        status = os.stat(self.path)
        try:
            attributes = os.listxattr(self.path)  # lists of rights among them
        except OSError:  # this file system has none
            attributes = []
        return status.st_mode, status.st_uid, status.st_gid, attributes


class Watch:
    """How long a program may go on."""

    def __init__(self, folder: Folder, deadline: float) -> None:
        self.folder, self.deadline = folder, deadline

    def left(self) -> float:
        """Seconds to wait until one looks again; 0 where the program is to be ended."""
        left = self.deadline - time.monotonic()
        return 0.0 if left <= 0 or self.folder.is_crowded() else min(left, _LOOK_S)
