"""The two kinds of failure a user meets; both are shown as one line without a traceback."""

from __future__ import annotations

from pathlib import Path


class UsageError(Exception):
    """The user asked for something that cannot be done: a wrong choice, key or path.

    The message is one line that says what is wrong and what to change. Exit code 2.
    """


class RunError(Exception):
    """Something broke while running: a corrupt checkpoint or cache, a full disk.

    The message is one line that says what is broken and how to continue. Exit code 1.
    """


def one_line(error: BaseException) -> str:
    """An error's text without line breaks, to quote in our own messages."""
    return " ".join(str(error).split())


def check_no_device(path: Path) -> None:
    """Raises UsageError for a pipe, a socket or a device: reading one may never end.

    Passes for files and folders, and where there is nothing: opening that fails by itself.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UsageError(f"{path} is a pipe or a device: give a file")
