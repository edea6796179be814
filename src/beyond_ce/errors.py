"""The kinds of failure a user meets, shown as one line; any other is a fault of ours."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KEPT, _REPORTED = "_beyond_ce_kept", "_beyond_ce_reported"  # attributes of an error


class UsageError(Exception):
    """The user asked for something that cannot be done: a wrong choice, key or path.

    The message is one line that says what is wrong and what to change. Exit code 2.
    """


class RunError(Exception):
    """Something broke while running: a corrupt checkpoint or cache, a full disk.

    The message is one line that says what is broken and how to continue. Exit code 1.
    """


class Stopped(RunError):
    """A signal stopped training after a checkpoint was saved; the same command continues there."""


def one_line(error: BaseException) -> str:
    """An error's text without line breaks, to quote in our own messages."""
    return " ".join(str(error).split())


@contextmanager
def keeping(what: str) -> Iterator[None]:
    """Errors that leave the block say what was kept, should they be a fault of ours.

    The innermost of several blocks counts.
    """
    try:
        yield
    except Exception as error:
        setattr(error, _KEPT, getattr(error, _KEPT, what))
        raise


def report_fault(error: BaseException) -> None:
    """Print the traceback of an error of ours, where to report it, and what was kept; only once."""
    if getattr(error, _REPORTED, False):
        return
    setattr(error, _REPORTED, True)  # a sweep's job passes it on to the parent
    traceback.print_exception(error)
    kept = getattr(error, _KEPT, None)
    print(
        "error: this is a fault of beyond-ce: please report it with the lines above, see 'If "
        f"something goes wrong' in README.md{f'; {kept}' if kept else ''}",
        file=sys.stderr,
    )


def check_no_device(path: Path) -> None:
    """Raises UsageError for a pipe, a socket or a device: reading one may never end.

    Passes for files and folders, and where there is nothing: opening that fails by itself.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UsageError(f"{path} is a pipe or a device: give a file")
